"""Train the teacher on human judgments and behavior neighbors; report on training queries that were held out."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import torch

from components.shared import storage
from components.shared.errors import InputError
from components.shared.figures import calibration_plot
from components.shared.models import folder
from components.shared.models.arithmetic import resolve_precision
from components.shared.report import Report
from components.shared.tables import Manifest
from components.shared.tracking import NullTracker, Tracker
from components.shared.training import Curve
from components.train_teacher.ablation import to_csv
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Sources, Tables, identity_of, read_tables
from components.train_teacher.figures import confusion_plot, curve_plot
from components.train_teacher.fine_tuning import fine_tune, out_of_memory
from components.train_teacher.model_card import write_card
from components.train_teacher.network import teacher_spec
from components.train_teacher.preference_tuning import prefer
from components.train_teacher.processes import Outcome, train_on_many
from components.train_teacher.selectors import select
from components.train_teacher.validation import validate
from components.train_teacher.world import World

logger = logging.getLogger(__name__)

PLOT, CALIBRATION_PLOT, CONFUSION_PLOT, ABLATION, CARD = "loss_curve.svg", "calibration.svg", "confusion.svg", "stages.csv", "card.md"
MIN_STD = 1e-7  # float32 tells gains near 1 apart by 6e-8
REFERENCE, DONE = "-reference", "-reference-done.json"
WORK = ("-checkpoints", "-selectors", REFERENCE, f"{REFERENCE}-checkpoints", DONE, "-preference-checkpoints")


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
    """Write a model folder of kind `teacher`, with plots of its loss and its calibration and its card beside it.

    Args:
        card: resolved data card (JSON). encoder: model folder to start from. items, queries, judgments: tables.
        neighbors: table; needed when `num_neighbors` is above 0.
        model: model folder to write; beside it is what a killed run goes on from (`<model>-checkpoints` and others of WORK), which is
            removed at the end.

    Raises:
        InputError: for settings or inputs that do not fit, a loss that is not finite, or a teacher that has collapsed.
        TemporaryError: when a training process died.
    """
    sources = Sources(card, encoder, items, queries, judgments, neighbors)
    tables = read_tables(sources, config)
    spec = teacher_spec(folder.fetch(encoder), config, tables.card.gains())
    if not judgments.endswith(".parquet"):
        tracker.dataset("judgments", judgments, Manifest.read(judgments).digest, len(tables.training) + len(tables.validation))
    dropped: Mapping[str, int] = {}
    if config.selection == "hard_and_clean":
        sources, dropped = select(config, sources, tables, model, _train_selector)
        tables = read_tables(sources, config)
        tracker.artifact(sources.selection)
    outcome = _train(config, sources, tables, model, tracker)
    metrics = {**outcome.curve.metrics(), **outcome.validation.metrics}
    beside = _beside(outcome, tables.card.labels())
    _publish(beside, model, tracker)
    try:
        doubt = doubt_of(outcome.validation.metrics, config.min_pairwise_accuracy)
    except InputError:
        tracker.metrics(metrics)  # there will be no report that tells them
        raise
    if doubt:
        logger.warning(doubt)
    _publish({CARD: write_card(config, tables, spec, outcome, sorted(beside)).encode()}, model, tracker)
    for name in WORK:
        storage.remove(model + name)
    logger.info("teacher trained: %s", metrics)
    return _report(tables, dropped, metrics, config, {"warning": doubt} if doubt else {})


def doubt_of(metrics: dict[str, float], min_pairwise_accuracy: float) -> str:
    """What speaks against the gains of a teacher with these metrics; empty where nothing does.

    Raises:
        InputError: when it tells no two items of a query apart, or knows neither gains nor order.
    """
    spread, share = metrics.get("validation.std_within_queries", 1.0), metrics.get("validation.mse_over_variance", 0.0)
    if not spread >= MIN_STD:
        raise InputError(
            f"the teacher gives all items of a query the same score (std {spread:.3g} within held-out queries): it has collapsed; "
            "lower learning_rate, check that texts and grades differ between items"
        )
    if share < 1:
        return ""
    said = f"the teacher knows no more than the mean grade (mse_over_variance {share:.3g} on held-out queries)"
    order = metrics.get("validation.pairwise_accuracy", 1.0)
    if 0 < min_pairwise_accuracy >= order:
        raise InputError(
            f"{said} and orders {order:.3g} of the item pairs right, where chance is 0.5: no pool should be labelled with it; give more "
            "judgments, more epochs, another learning_rate or a pretrained encoder, or lower min_pairwise_accuracy"
        )
    return (
        f"{said}: take its order ({order:.3g} of the item pairs are right) and not its gains; more judgments or more epochs may mend them"
    )


def _publish(files: Mapping[str, bytes], model: str, tracker: Tracker) -> None:
    """Put files beside the model, by the end of their names, and keep them with the run."""
    for name, content in files.items():
        place = f"{storage.normalise(model)}-{name}"
        storage.write_bytes(place, content)
        tracker.artifact(place)


def _beside(outcome: Outcome, labels: list[str]) -> dict[str, bytes]:
    """What lies beside the model folder, by the end of its name."""
    validation = outcome.validation
    found = {PLOT: curve_plot(outcome.curve)}
    if validation.bins:
        found[CALIBRATION_PLOT] = calibration_plot({"teacher": validation.bins})
    if validation.confusion:
        found[CONFUSION_PLOT] = confusion_plot(validation.confusion, labels)
    if validation.ablation:
        found[ABLATION] = to_csv(validation.ablation)
    return found


def _train(config: TrainTeacherConfig, sources: Sources, tables: Tables, model: str, tracker: Tracker) -> Outcome:
    """Train, tune preferences where asked for, and look at the held-out queries; tuning starts from `<model>-reference`."""
    if config.distributed():
        return train_on_many(config, sources, model, tracker)
    tuned: dict[str, float] = {}
    try:
        if config.preference_epochs:
            curve = _reference(config, sources, tables, model, tracker)
            tuned = prefer(config, sources, tables, model + REFERENCE, model, tracker)
        else:
            curve = fine_tune(config, sources, model, tracker, World(), tables)
        validation = validate(model, tables, config)
    except torch.OutOfMemoryError as error:
        raise out_of_memory(error) from None
    return Outcome(curve, replace(validation, metrics=validation.metrics | tuned))


def _reference(config: TrainTeacherConfig, sources: Sources, tables: Tables, model: str, tracker: Tracker) -> Curve:
    """Train what tuning starts from, or go on with that of a run which was killed while it tuned."""
    done, identity = model + DONE, identity_of(sources, config)
    found = storage.read_json(done) if storage.exists(done) else {}
    if found.get("identity") == identity:
        logger.info("preference tuning starts from %s, which stands", model + REFERENCE)
        return Curve(**found["curve"])
    storage.remove(done)  # of other settings, whose model this training writes over
    curve = fine_tune(config, sources, model + REFERENCE, tracker, World(), tables)
    storage.write_json(done, {"identity": identity, "curve": vars(curve)})
    return curve


def _train_selector(config: TrainTeacherConfig, sources: Sources, model: str) -> None:
    _train(config, sources, read_tables(sources, config), model, NullTracker())


def _report(
    tables: Tables, not_selected: Mapping[str, int], metrics: dict[str, float], config: TrainTeacherConfig, warnings: dict[str, str]
) -> Report:
    training, held_out = len(tables.training), len(tables.validation)
    dropped = {"held_out_for_validation": held_out, "other_split": tables.num_other_split, **not_selected}
    notes = {"precision": resolve_precision(config.precision), "processes": str(config.world_size()), **warnings}
    if "preference.accepted" in metrics:
        notes["preference"] = "tuned model accepted" if metrics["preference.accepted"] else "tuned model dropped, the one before it is kept"
    return Report(read=training + sum(dropped.values()), kept=training, dropped=dropped, metrics=metrics, notes=notes)
