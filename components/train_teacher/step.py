"""Train the teacher on human judgments and behavior neighbors; report on training queries that were held out."""

import json
import logging
import tempfile
from pathlib import Path

import torch

from components.shared import storage
from components.shared.launch import launch
from components.shared.models import folder
from components.shared.models.arithmetic import resolve_precision
from components.shared.report import Report
from components.shared.tables import Manifest
from components.shared.tracking import Tracker
from components.shared.training import Curve
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Sources, Tables, read_tables
from components.train_teacher.figures import calibration_plot, curve_plot
from components.train_teacher.fine_tuning import fine_tune, out_of_memory
from components.train_teacher.network import teacher_spec
from components.train_teacher.validation import validate
from components.train_teacher.world import World

logger = logging.getLogger(__name__)

PLOT, CALIBRATION_PLOT = "loss_curve.svg", "calibration.svg"


def run(
    config: TrainTeacherConfig,
    *,
    card: str,
    encoder: str,
    items: str,
    queries: str,
    judgments: str,
    model: str,
    tracker: Tracker,
    neighbors: str = "",
) -> Report:
    """Write a model folder of kind `teacher`, with plots of its loss and its calibration beside it.

    Args:
        card: resolved data card (JSON). encoder: model folder to start from. items, queries, judgments: tables.
        neighbors: table; needed when `num_neighbors` is above 0.
        model: model folder to write; `<model>-checkpoints` holds what a killed run goes on from, and is removed at the end.

    Raises:
        InputError: for settings or inputs that do not fit, or a loss that is not finite.
        TemporaryError: when a training process died.
    """
    sources = Sources(card, encoder, items, queries, judgments, neighbors)
    tables = read_tables(sources, config)
    teacher_spec(folder.fetch(encoder), config, tables.card.gains())
    if not judgments.endswith(".parquet"):
        tracker.dataset("judgments", judgments, Manifest.read(judgments).digest, len(tables.training) + len(tables.validation))
    if config.distributed():
        curve = _train_on_many(config, sources, model, tracker)
    else:
        curve = _train_here(config, sources, model, tracker, tables)
    validation = validate(model, tables, resolve_precision(config.precision))
    metrics = {**curve.metrics(), **validation.metrics}
    pictures = {PLOT: curve_plot(curve), **({CALIBRATION_PLOT: calibration_plot(validation.bins)} if validation.bins else {})}
    for name, content in pictures.items():
        place = f"{storage.normalise(model)}-{name}"
        storage.write_bytes(place, content)
        tracker.artifact(place)
    storage.remove(model + "-checkpoints")
    logger.info("teacher trained: %s", metrics)
    return _report(tables, metrics, config)


def _train_here(config: TrainTeacherConfig, sources: Sources, model: str, tracker: Tracker, tables: Tables) -> Curve:
    try:
        return fine_tune(config, sources, model, tracker, World(), tables)
    except torch.OutOfMemoryError as error:
        raise out_of_memory(error) from None


def _report(tables: Tables, metrics: dict[str, float], config: TrainTeacherConfig) -> Report:
    training, held_out = len(tables.training), len(tables.validation)
    dropped = {"held_out_for_validation": held_out, "other_split": tables.num_other_split}
    notes = {"precision": resolve_precision(config.precision), "processes": str(config.num_processes)}
    return Report(read=training + sum(dropped.values()), kept=training, dropped=dropped, metrics=metrics, notes=notes)


def _train_on_many(config: TrainTeacherConfig, sources: Sources, model: str, tracker: Tracker) -> Curve:
    """Train in processes of their own and pass their metrics on while they work."""
    with tempfile.TemporaryDirectory(prefix="teacher-") as name:
        place = Path(name)
        job = {"config": config.model_dump(mode="json"), "sources": vars(sources), "model": model}
        (place / "job.json").write_text(json.dumps(job), encoding="utf-8")
        told = 0

        def tell() -> None:
            nonlocal told
            file = place / "metrics.jsonl"
            lines = [line for line in file.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")] if file.is_file() else []
            for line in lines[told:]:
                point = json.loads(line)
                tracker.metrics(point["values"], step=point["step"])
            told = len(lines)

        try:
            launch(
                "components.train_teacher.trainer", ["--job", str(place / "job.json")], num_processes=config.num_processes,
                folder=place, timeout_s=config.timeout_s, accelerator=torch.cuda.is_available(), on_wait=tell,
            )  # fmt: skip
        finally:
            log = place / "processes.log"
            if log.is_file():
                storage.write_bytes(storage.normalise(model) + "-processes.log", log.read_bytes())
        return Curve(**json.loads((place / "curve.json").read_text("utf-8")))
