"""Fine-tuning itself, the same on one process and on many."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.arithmetic import pick_device
from components.shared.models.batches import padding_share
from components.shared.tracking import Tracker
from components.shared.training import Checkpoints, Curve, fit
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.cost import Estimate, Shape, device_memory, estimate, measured_peak
from components.train_teacher.examples import Examples, Sources, Tables, identity_of, read_tables
from components.train_teacher.held_out import HeldOut
from components.train_teacher.network import build_network, export, rebuild, teacher_spec
from components.train_teacher.objective import Objective
from components.train_teacher.similarity import MARGIN_SCALE, SeparateReader, fit_grades
from components.train_teacher.world import World
from components.train_teacher.writing import WritingExamples, WritingObjective

logger = logging.getLogger(__name__)

MAX_IDLE = 0.05  # of the turns of all processes; the last batch of an epoch may well be small
FIT_REMEDY = "lower batch_tokens, set activation_checkpointing or lora_rank, or raise num_processes and zero_stage"


def fine_tune(
    config: TrainTeacherConfig, sources: Sources, model: str, tracker: Tracker, world: World, tables: Tables | None = None
) -> Curve:
    """Train and write the model folder `model` (by the first process); checkpoints go to `<model>-checkpoints`."""
    tables = tables or read_tables(sources, config)
    path = world.fetch(sources.encoder)
    spec = teacher_spec(path, config, tables.card.gains())
    tokenizer = folder.load_tokenizer(path)
    examples: Examples | WritingExamples = Examples.of(tables, spec, tokenizer, config)
    if spec.replies:
        examples = WritingExamples.of(examples, tables, spec, tokenizer, config)
    device = world.device or pick_device()
    with world.loading():
        network = build_network(path, spec, config)
    network = network.to(device)
    cost = estimate_of(network, examples, config, device)
    if world.rank == 0:
        announce(cost, device)
    trained, stepper = world.wrap(network) if world.wrap else (network, None)
    objective = objective_of(examples, spec, config, device)

    query = examples.query if isinstance(examples, Examples) and config.compares_items() else None

    def groups(batch: np.ndarray) -> np.ndarray | None:
        return None if query is None else query[examples.pairs_of(batch)]

    def share_of(batch: np.ndarray) -> tuple[np.ndarray, int]:
        return world.share_of(batch, groups(batch))

    def loss_of(called: torch.nn.Module, batch: np.ndarray) -> torch.Tensor:
        mine, weight = share_of(batch)
        return objective(called, mine, batch) * weight

    if world.rank == 0:
        warn_of_idle(world.idle_share([(batch, groups(batch)) for batch in examples.batches(0, config)]))
    epoch_ends = np.cumsum([len(examples.batches(epoch, config)) for epoch in range(config.num_epochs)]).tolist()
    # grades are best fitted to pairs that training has not pulled apart
    judged = tables.validation if len(tables.validation) else tables.training
    is_looked_at = len(tables.validation) > 0
    held_out = (
        HeldOut(judged, tables, spec, tokenizer, config, world=world, device=device)
        if is_looked_at or config.reading == "separate"
        else None
    )

    def look(step: int) -> None:
        if held_out and is_looked_at and step in epoch_ends:
            found = held_out.metrics(trained)
            logger.info("epoch %d of %d: %s", epoch_ends.index(step) + 1, config.num_epochs, found)
            tracker.metrics(found, step=step)

    curve = fit(
        trained, lambda epoch: examples.batches(epoch, config), loss_of,
        num_steps=epoch_ends[-1], on_step=look,
        tokens_of=lambda batch: int(examples.encoded.lengths[batch].sum()), utilisation=cost.utilisation,
        learning_rate=config.learning_rate, warmup_share=config.warmup_share, weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm, precision=config.precision, seed=config.seed, tracker=tracker, log_steps=config.log_steps,
        checkpoints=Checkpoints(model + "-checkpoints", identity_of(sources, config), writes=world.rank == 0),
        checkpoint_steps=config.checkpoint_steps, stepper=stepper,
    )  # fmt: skip
    parts = [part for batch in examples.batches(0, config) for part in objective.passes(share_of(batch)[0])]
    curve.padding_share = padding_share(objective.lengths, parts)
    weights = stepper.tensors(moments=False) if stepper else None
    if world.rank == 0:
        if held_out and isinstance(network, SeparateReader):
            spec = with_grades(network, spec, held_out)
        export(model, network if weights is None else rebuild(path, spec, config, weights), tokenizer, spec)
    return curve


def objective_of(
    examples: Examples | WritingExamples, spec: folder.ModelSpec, config: TrainTeacherConfig, device: torch.device
) -> Objective | WritingObjective:
    if isinstance(examples, WritingExamples):
        return WritingObjective(examples, device)
    return Objective(examples, spec.gains, config, device)


def estimate_of(network: Any, examples: Examples | WritingExamples, config: TrainTeacherConfig, device: torch.device) -> Estimate:
    """What this training will cost on devices like this one; call it before weights are shared out."""
    lengths = examples.mean_lengths()
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


def warn_of_idle(share: float) -> None:
    if share > MAX_IDLE:
        logger.warning(
            "%.0f%% of the processes' turns bring them no pair: raise batch_tokens or batch_size, or lower num_processes", 100 * share
        )


def with_grades(network: SeparateReader, spec: folder.ModelSpec, judged: HeldOut) -> folder.ModelSpec:
    """The spec with grades fitted to the cosines of `judged`."""
    cosines = judged.outputs(network)[:, 0] / MARGIN_SCALE
    slope, offsets = fit_grades(cosines, judged.grades, len(spec.gains))
    return replace(spec, slope=slope, offsets=offsets)
