"""Fine-tuning itself, the same on one process and on many."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.arithmetic import pick_device, resolve_precision
from components.shared.models.batches import token_batches
from components.shared.models.inputs import model_texts
from components.shared.tracking import Tracker
from components.shared.training import Checkpoints, Curve, EncodedApart, Stepper, fit
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.cost import Estimate, Shape, device_memory, estimate, measured_peak
from components.train_teacher.examples import Examples, Sources, Tables, identity_of, read_tables
from components.train_teacher.network import build_network, export, rebuild, teacher_spec
from components.train_teacher.objective import Objective
from components.train_teacher.similarity import MARGIN_SCALE, SeparateReader, fit_grades

logger = logging.getLogger(__name__)

FIT_REMEDY = "lower batch_tokens, set activation_checkpointing or lora_rank, or raise num_processes and zero_stage"


@dataclass(frozen=True)
class World:
    """The processes that train together. `wrap` turns a network into (what is called in the loss, how it is updated)."""

    rank: int = 0
    size: int = 1
    device: torch.device | None = None
    wrap: Callable[[torch.nn.Module], tuple[torch.nn.Module, Stepper]] | None = None
    before_export: Callable[[], None] = lambda: None

    def share_of(self, batch: np.ndarray) -> tuple[np.ndarray, float]:
        """This process's part of a batch of rows, and the weight that makes the mean over processes the mean over the batch."""
        mine = batch[self.rank :: self.size]
        return mine if len(mine) else batch[:1], len(mine) * self.size / len(batch)


def fine_tune(
    config: TrainTeacherConfig, sources: Sources, model: str, tracker: Tracker, world: World, tables: Tables | None = None
) -> Curve:
    """Train and write the model folder `model` (by the first process); checkpoints go to `<model>-checkpoints`."""
    tables = tables or read_tables(sources, config)
    path = folder.fetch(sources.encoder)
    spec = teacher_spec(path, config, tables.card.gains())
    tokenizer = folder.load_tokenizer(path)
    examples = Examples.of(tables, spec, tokenizer, config)
    device = world.device or pick_device()
    network = build_network(path, spec, config).to(device)
    cost = estimate_of(network, examples, config, device)
    if world.rank == 0:
        announce(cost, device)
    trained, stepper = world.wrap(network) if world.wrap else (network, None)
    objective = Objective(examples, spec.gains, config, device)

    def loss_of(called: torch.nn.Module, batch: np.ndarray) -> torch.Tensor:
        mine, weight = world.share_of(batch)
        return objective(called, mine) * weight

    num_steps = sum(len(examples.batches(epoch, config)) for epoch in range(config.num_epochs))
    curve = fit(
        trained, lambda epoch: examples.batches(epoch, config), loss_of,
        num_steps=num_steps, tokens_of=lambda batch: int(examples.encoded.lengths[batch].sum()), utilisation=cost.utilisation,
        learning_rate=config.learning_rate, warmup_share=config.warmup_share, weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm, precision=config.precision, seed=config.seed, tracker=tracker, log_steps=config.log_steps,
        checkpoints=Checkpoints(model + "-checkpoints", identity_of(sources, config), writes=world.rank == 0),
        checkpoint_steps=config.checkpoint_steps, stepper=stepper,
    )  # fmt: skip
    weights = stepper.tensors() if stepper else None
    if world.rank == 0:
        world.before_export()
        if isinstance(network, SeparateReader):
            spec = _with_grades(network, spec, tokenizer, tables, config)
        export(model, network if weights is None else rebuild(path, spec, config, weights), tokenizer, spec)
    return curve


def estimate_of(network: Any, examples: Examples, config: TrainTeacherConfig, device: torch.device) -> Estimate:
    """What this training will cost on devices like this one; call it before weights are shared out."""
    lengths = examples.encoded.lengths[: len(examples.grades)]
    shape = Shape.of(network, getattr(network, "network", network).config, config)
    peak = measured_peak(device, config.precision)
    return estimate(shape, config, num_tokens=float(lengths.sum()) * config.num_epochs, mean_tokens=float(lengths.mean()), peak=peak)


def out_of_memory(error: torch.OutOfMemoryError) -> InputError:
    return InputError(f"the device's memory is too small ({str(error).split('. ')[0]}); {FIT_REMEDY}")


def announce(cost: Estimate, device: torch.device) -> None:
    """Say what is to come, and warn where it will not fit."""
    logger.info(cost.sentence())
    available = device_memory(device)
    if available and cost.memory > available:
        logger.warning("the device has %.0f GiB, less than estimated: %s", available / 2**30, FIT_REMEDY)


def _with_grades(
    network: SeparateReader, spec: folder.ModelSpec, tokenizer: Any, tables: Tables, config: TrainTeacherConfig
) -> folder.ModelSpec:
    """The spec with grades fitted to the cosines of the held-out queries, which training has not pulled apart; else of all."""
    judged = tables.validation if len(tables.validation) else tables.training
    texts = EncodedApart.of(
        tokenizer, *model_texts(spec, judged, tables.queries, tables.items, tables.neighbors), max_tokens=spec.max_tokens
    )
    rows, device = np.arange(len(judged)), next(network.parameters()).device
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=resolve_precision(config.precision) == "bf16"):
        parts = [rows[chosen] for chosen in token_batches(texts.lengths, config.batch_tokens)]
        cosines = torch.cat([network(**texts.batch(part, device)).logits[:, 0].float() for part in parts]).cpu().numpy() / MARGIN_SCALE
    grades = judged["grade"].to_numpy()[np.concatenate(parts)]
    slope, offsets = fit_grades(cosines.astype(np.float64), grades, len(spec.gains))
    return replace(spec, slope=slope, offsets=offsets)
