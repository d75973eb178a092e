"""What two processes check together, started by torchrun: the weights that are gathered and exported are those that DeepSpeed holds, the
gradient's norm is that of one process, and a gradient that is no number changes nothing.

`torchrun --nproc-per-node 2 zero_world.py STAGE FOLDER`: trains a small network for some steps, exports it, and leaves its answers.
"""

import math
import sys
from pathlib import Path

import deepspeed
import torch
from deepspeed import ops
from transformers import AutoModelForSequenceClassification, Qwen3Config

from components.shared.training import decay_groups
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.trainer import MOMENTS, ZeroStepper, loading_in_parts, zero_settings

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 30}
ROWS = torch.arange(24).reshape(4, 6) % 30


def main(stage: int, place: Path) -> None:
    ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", verbose=False)
    settings = zero_settings(TrainTeacherConfig(num_processes=2, zero_stage=stage, precision="fp32"))
    torch.manual_seed(0)
    shape = Qwen3Config(**SIZES, intermediate_size=32, num_labels=3, pad_token_id=0)
    with loading_in_parts(settings):
        network = AutoModelForSequenceClassification.from_config(shape)
    named = dict(network.named_parameters())
    engine, *_ = deepspeed.initialize(model=network, optimizer=torch.optim.AdamW(decay_groups(named, 0.01), lr=0.0), config=settings)
    stepper = ZeroStepper(engine, named, stage)
    rank = torch.distributed.get_rank()
    for step in range(3):
        loss = torch.nn.functional.cross_entropy(engine(input_ids=ROWS).logits, torch.tensor([0, 1, 2, (rank + step) % 3]))
        stepper.step(loss, 0.01)
    tensors = stepper.tensors()
    assert tensors.keys() == ({f"{key}/{name}" for name in named for key in ("weights", *MOMENTS)} if rank == 0 else set())
    for name, value in named.items():
        with deepspeed.zero.GatheredParameters([value], enabled=stage == 3):
            if rank == 0:
                torch.testing.assert_close(tensors[f"weights/{name}"], value.data.float().cpu(), rtol=0, atol=0)
    with torch.no_grad():
        answers = engine(input_ids=ROWS).logits
    # zero, of which the square root has no slope: the loss is a number and its gradient is none
    loss, norm = stepper.step(torch.sqrt((engine(input_ids=ROWS).logits * 0).sum()), 0.01)
    assert (loss, math.isfinite(norm)) == (0.0, False)
    after = stepper.tensors(moments=False)
    assert after.keys() == {key for key in tensors if key.startswith("weights/")}
    assert all(torch.equal(value, tensors[key]) for key, value in after.items())
    loss = torch.nn.functional.cross_entropy(engine(input_ids=ROWS).logits, torch.tensor([0, 1, 2, rank]))
    norm = stepper.step(loss, 0.0)[1]
    # moved on by one more step, then put back; a weight that had never learnt has no moments in a checkpoint of one process
    absent = f"exp_avg/{next(iter(named))}"
    stepper.restore({key: value for key, value in tensors.items() if key != absent}, 3)
    again = stepper.tensors()
    assert again.keys() == tensors.keys()
    assert all(torch.equal(value, torch.zeros_like(value) if key == absent else tensors[key]) for key, value in again.items())
    if rank == 0:
        whole = AutoModelForSequenceClassification.from_config(shape)
        whole.load_state_dict({name: tensors[f"weights/{name}"] for name in named}, strict=False)
        logits = whole(input_ids=ROWS).logits
        sum(torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, one])) for one in (0, 1)).div(2).backward()
        alone = torch.linalg.vector_norm(torch.stack([value.grad.norm() for value in whole.parameters() if value.grad is not None]))
        assert abs(norm - float(alone)) < 1e-4 * float(alone)
        whole.save_pretrained(place)
        torch.save(answers, place / "answers.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
