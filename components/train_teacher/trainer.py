"""The teacher's training on several processes: what `torchrun -m components.train_teacher.trainer --job job.json` runs.

DeepSpeed shards optimizer state (ZeRO 1), gradients (2) and weights (3). Data, losses, schedule and the checkpoint format are those of
one process, so a run may go on with another number of processes.
"""

import argparse
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed import ops
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_get_local_fp32_param,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from deepspeed.utils.mixed_precision_linkage import lazy_init_hp_params_optimizer_state
from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

from components.shared import storage
from components.shared.errors import InputError, TemporaryError
from components.shared.launch import ERROR_FILE, refuse
from components.shared.models.arithmetic import resolve_precision
from components.shared.models.folder import fetch
from components.shared.tracking import NullTracker
from components.shared.training import decay_groups
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Sources, read_tables
from components.train_teacher.fine_tuning import fine_tune, out_of_memory
from components.train_teacher.processes import LOG_FORMAT, LineTracker, Outcome
from components.train_teacher.validation import validate
from components.train_teacher.world import World

COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # all wait while the first process exports, so not shorter
MOMENTS = ("exp_avg", "exp_avg_sq")
BUCKET = 50_000_000  # numbers sent at once; ZeRO-3 sets memory for them aside, and DeepSpeed's default is ten times as many


def zero_settings(config: TrainTeacherConfig) -> dict[str, Any]:
    """DeepSpeed's settings. We cut batches and set the learning rate ourselves, so the batch size here is a formality."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.max_grad_norm,
        "zero_optimization": {"stage": max(1, config.zero_stage), "reduce_bucket_size": BUCKET, "allgather_bucket_size": BUCKET},
        "bf16": {"enabled": resolve_precision(config.precision) == "bf16"},
        "zero_allow_untested_optimizer": True,  # torch's AdamW: DeepSpeed's own would be compiled on first use, which wants a compiler
        "steps_per_print": 10**9,
    }


class ZeroStepper:
    """A DeepSpeed engine behind the `Stepper` interface."""

    def __init__(self, engine: Any, named: dict[str, torch.nn.Parameter], stage: int) -> None:
        self.engine, self.named, self.stage = engine, named, stage

    def step(self, loss: torch.Tensor, learning_rate: float) -> tuple[float, float]:
        total = loss.detach().float().clone()
        torch.distributed.all_reduce(total)
        value = float(total) / torch.distributed.get_world_size()
        if not math.isfinite(value):
            return value, math.nan
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self.engine.backward(loss)
        self.engine.step()
        norm = float(self.engine.get_global_grad_norm() or 0.0)
        return value, norm if norm >= 0 else math.nan  # DeepSpeed has -1 for a norm that is no number

    def tensors(self, *, moments: bool = True) -> dict[str, torch.Tensor]:
        """Whole float32 tensors, which the first process gets; every process must call.

        One after another, because a device that holds a share of the weights cannot hold all of them.
        """
        self._link_moments()
        kept: dict[str, torch.Tensor] = {}
        for name, value in self.named.items():
            for key in ("weights", *MOMENTS) if moments else ("weights",):
                whole: Any = safe_get_full_fp32_param(value) if key == "weights" else safe_get_full_optimizer_state(value, key)
                if torch.distributed.get_rank() == 0:
                    kept[f"{key}/{name}"] = whole.detach().float().cpu().clone()
        return kept

    def restore(self, tensors: dict[str, torch.Tensor], step: int) -> None:
        """`tensors` are read from the first process's; every process must call."""
        self._make_moments(step)
        for name, value in self.named.items():
            kept = {key: self._sent(tensors.get(f"{key}/{name}"), value) for key in ("weights", *MOMENTS)}
            if self.stage == 3:
                self._restore_partition(value, kept)
                continue
            value.data.copy_(kept["weights"])
            safe_set_full_fp32_param(value, kept["weights"])
            for key in MOMENTS:
                safe_set_full_optimizer_state(value, kept[key], key)

    def _sent(self, mine: torch.Tensor | None, like: torch.nn.Parameter) -> torch.Tensor:
        """The first process's tensor, on this device."""
        size = getattr(like, "ds_shape", like.shape)
        sent = (
            torch.zeros(size, device=self.engine.device) if mine is None else mine.to(self.engine.device)
        )  # what never learnt has no moments
        torch.distributed.broadcast(sent, src=0)
        return sent

    def _make_moments(self, step: int) -> None:
        """DeepSpeed makes optimizer state at the first step; a resumed run needs it before."""
        outer = self.engine.optimizer
        flat = outer.fp32_partitioned_groups_flat if self.stage == 3 else outer.single_partition_of_fp32_groups
        for partition in flat:
            moments = {key: torch.zeros_like(partition) for key in MOMENTS}
            outer.optimizer.state[partition] = {"step": torch.tensor(float(step), device=partition.device), **moments}
        self._link_moments()

    def _link_moments(self) -> None:
        """DeepSpeed 0.19 links weights to their optimizer state when the first parameter group has moved, so never for the second."""
        outer = self.engine.optimizer
        for index, partition in enumerate(outer.single_partition_of_fp32_groups if self.stage < 3 else []):
            lazy_init_hp_params_optimizer_state(outer.bit16_groups[index], partition, outer.optimizer.state)

    def _restore_partition(self, value: torch.nn.Parameter, kept: Mapping[str, torch.Tensor]) -> None:
        with deepspeed.zero.GatheredParameters([value], modifier_rank=0):
            if torch.distributed.get_rank() == 0:
                value.data.copy_(kept["weights"])
        size = safe_get_local_fp32_param(value).numel()
        start = size * torch.distributed.get_rank()
        for key, whole in kept.items():
            padded = torch.zeros(size * torch.distributed.get_world_size(), device=whole.device)
            padded[: whole.numel()] = whole.flatten()
            part = padded[start : start + size]
            if key == "weights":
                safe_set_local_fp32_param(value, part)
            else:
                safe_set_local_optimizer_state(value, part, key)


def train(place: str, job: dict[str, Any]) -> None:
    """Train in a world that torchrun has set up; the first process writes the model, looks at it, and leaves the outcome in `place`."""
    config = TrainTeacherConfig.from_mapping(job["config"], section="teacher")
    # without this DeepSpeed compiles a communication kernel on CPU, and ends where there is no compiler
    ops.__compatible_ops__["deepspeed_shm_comm"] = False
    on_gpu = torch.cuda.is_available()
    deepspeed.init_distributed("nccl" if on_gpu else "gloo", verbose=False, timeout=COLLECTIVE_TIMEOUT)
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}") if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)  # objects are gathered through the current one
    settings = zero_settings(config)

    def wrap(network: torch.nn.Module) -> tuple[torch.nn.Module, ZeroStepper]:
        named = {name: value for name, value in network.named_parameters() if value.requires_grad}
        optimizer = torch.optim.AdamW(decay_groups(named, config.weight_decay), lr=0.0)
        engine, *_ = deepspeed.initialize(model=network, optimizer=optimizer, config=settings)
        return engine, ZeroStepper(engine, named, max(1, config.zero_stage))

    told = LineTracker(place) if rank == 0 else None
    if rank == 0:
        storage.remove(storage.join(place, ERROR_FILE))  # of an earlier life of these pods

    def gather(one: Any) -> list[Any]:
        every: list[Any] = [None] * size
        torch.distributed.all_gather_object(every, one)
        return every

    world = World(rank, size, device, wrap, lambda: loading_in_parts(settings), gather, lambda uri: fetch_on_node(uri, gather))
    sources = Sources(**job["sources"])
    try:
        curve = fine_tune(config, sources, job["model"], told or NullTracker(), world)
    finally:
        if told:
            told.write()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    if rank == 0:  # here and not in the task that launched us, which may have no GPU
        Outcome(curve, validate(job["model"], read_tables(sources, config), config)).write(place)


@contextmanager
def loading_in_parts(settings: dict[str, Any]) -> Iterator[None]:
    """While open, transformers shares out each weight that it loads or makes, where `settings` ask for ZeRO 3.

    No longer: a network of two layers that `cost.py` looks at, and the one that is exported, have to be whole.
    """
    told = HfDeepSpeedConfig(settings) if settings["zero_optimization"]["stage"] == 3 else None  # it is seen as long as it lives
    try:
        yield
    finally:
        del told
        unset_hf_deepspeed_config()


def fetch_on_node(uri: str, gather: Callable[[Any], list[Any]]) -> Path:
    """The model's folder, which one process of each node reads for all of that node."""
    node = os.environ["GROUP_RANK"]
    mine = str(fetch(uri)) if os.environ["LOCAL_RANK"] == "0" else ""
    return Path(next(place for other, place in gather((node, mine)) if other == node and place))


def main() -> int:
    parser = argparse.ArgumentParser(prog="components.train_teacher.trainer", description=__doc__)
    parser.add_argument("--job", required=True, metavar="URI", help="JSON file with config, sources and model")
    file = storage.normalise(parser.parse_args().job)
    place = file.rpartition("/")[0]
    logging.basicConfig(level=logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING, format=LOG_FORMAT)
    try:
        train(place, storage.read_json(file))
    except (InputError, TemporaryError) as error:
        return refuse(place, error)
    except torch.OutOfMemoryError as error:
        return refuse(place, out_of_memory(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
