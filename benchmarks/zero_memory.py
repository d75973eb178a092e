"""Peak memory of each of two processes that train one decoder, by ZeRO stage: `python benchmarks/zero_memory.py --out FILE`.

Each stage runs in processes of its own, through torchrun on CPUs in float32. `state_bytes` are all tensors that live between two steps
(weights, gradients, optimizer state and DeepSpeed's buffers); `peak_bytes` is what resident memory grew by between the imports and its peak
in three steps. The estimate is `components.train_teacher.cost`. Called by `train_teacher.py`.
"""

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

STAGES = (1, 2, 3)
NUM_PROCESSES = 2
STEPS = 3
SIZES = {"hidden_size": 768, "num_hidden_layers": 8, "num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 64}


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def child(stage: int, out: Path) -> None:
    """One of the processes: three steps on prompts of 64 tokens."""
    import deepspeed
    import torch
    from deepspeed import ops
    from transformers import AutoModelForSequenceClassification, Qwen3Config

    from components.shared.training import decay_groups
    from components.train_teacher.config import TrainTeacherConfig
    from components.train_teacher.cost import Shape, estimate
    from components.train_teacher.trainer import loading_in_parts, zero_settings

    ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", verbose=False)
    config = TrainTeacherConfig(num_processes=NUM_PROCESSES, zero_stage=stage, batch_size=16, precision="fp32")
    settings = zero_settings(config)
    shape = Qwen3Config(**SIZES, intermediate_size=2048, vocab_size=16384, pad_token_id=0)
    shape.num_labels = 4
    torch.distributed.barrier()
    before = resident_bytes()
    with loading_in_parts(settings):
        network = AutoModelForSequenceClassification.from_config(shape)
    cost = estimate(Shape.of(network, shape, config), config, num_tokens=1e6, mean_tokens=64.0, peak=1e12)
    optimizer = torch.optim.AdamW(decay_groups(dict(network.named_parameters()), 0.01), lr=1e-5)
    engine, *_ = deepspeed.initialize(model=network, optimizer=optimizer, config=settings)
    ids = torch.randint(1, 16384, (8, 64), generator=torch.Generator().manual_seed(torch.distributed.get_rank()))
    for _ in range(STEPS):
        engine.backward(engine(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.logsumexp(-1).mean())
        engine.step()
    states = {"weights": cost.weights, "gradients": cost.gradients, "optimizer": cost.optimizer, "activations": cost.activations}
    storages = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in gc.get_objects() if isinstance(one, torch.Tensor)
    }
    grown = torch.tensor([float(peak_bytes() - before), float(sum(storages.values()))])
    torch.distributed.all_reduce(grown, op=torch.distributed.ReduceOp.MAX)
    if torch.distributed.get_rank() == 0:
        found = {"peak_bytes": float(grown[0]), "state_bytes": float(grown[1]), "estimated_bytes": cost.memory, "estimate": states}
        out.write_text(json.dumps(found))
    torch.distributed.barrier()  # a process that leaves while another still talks to it aborts that one
    torch.distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stage", type=int, help="only for the processes that this script starts")
    given = parser.parse_args()
    if given.stage is not None:
        child(given.stage, given.out)
        return

    from components.shared.launch import environment, free_port

    found = {}
    with tempfile.TemporaryDirectory() as where:
        for stage in STAGES:
            part = Path(where) / f"{stage}.json"
            command = [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--nproc-per-node",
                str(NUM_PROCESSES),
                "--master-port",
                str(free_port()),
            ]
            environ = environment(NUM_PROCESSES, accelerator=False)
            subprocess.run([*command, __file__, "--out", str(part), "--stage", str(stage)], check=True, env=environ)
            found[str(stage)] = json.loads(part.read_text())
    given.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
