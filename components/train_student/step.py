"""Train a student on a teacher's soft targets."""

import hashlib
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from components.shared import storage
from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.arithmetic import pick_device, resolve_precision
from components.shared.models.batches import grouped_batches
from components.shared.models.inputs import model_texts
from components.shared.report import Report
from components.shared.schema import ASPECTS
from components.shared.tables import read_table
from components.shared.tracking import Tracker
from components.shared.training import Checkpoints, Curve, fit
from components.train_student.agreement import agreement
from components.train_student.calibrating import calibrate, unlearnt
from components.train_student.config import TrainStudentConfig
from components.train_student.counterfactuals import make_copies, share_falling
from components.train_student.exporting import check_exporter, export
from components.train_student.objective import batch_loss, score_loss
from components.train_student.students import BiEncoder, CrossEncoder, GraphStudent, Student, average_with, save_student, set_dropout
from components.train_student.sub_judgments import head_accuracy, sub_judgments_of
from components.train_student.targets import Lessons, doubt_columns, make_lessons
from components.train_student.terms import fold_marks, mark_terms

logger = logging.getLogger(__name__)

BASES = {
    "cross_encoder": ("encoder", "cross_encoder"),
    "bi_encoder": ("encoder", "bi_encoder"),
    "graph": ("encoder", "bi_encoder", "graph"),
}


def run(
    config: TrainStudentConfig,
    *,
    encoder: str,
    items: str,
    queries: str,
    pairs: str,
    soft_targets: str,
    model: str,
    tracker: Tracker,
    judgments: str = "",
    neighbors: str = "",
) -> Report:
    """Fit `config.architecture`, starting from `encoder`, to the soft targets of `pairs`, and write the model folder.

    Args:
        judgments: table; needed when `judgment_weight` is above 0 or scores are calibrated, and only then read.
        neighbors: table; needed by a graph student of order 1 or 2, and only then read.

    Raises:
        InputError: for tables or models that do not fit together, training that diverges, or a student that has collapsed.
    """
    check_exporter(config)
    source = folder.fetch(encoder)
    base = folder.read_spec(source)
    if base.kind not in BASES[config.architecture]:
        raise InputError(
            f"encoder '{encoder}' is a {base.kind}; a {config.architecture} starts from {' or '.join(BASES[config.architecture])}"
        )
    query_table = read_table(queries, "queries")
    pool = read_table(pairs, "pairs", ["pair_id", "query_id", "item_id"])
    labels = read_table(soft_targets, "soft_targets", ["pair_id", "query_id", "item_id", "score", *doubt_columns(config)])
    item_table, judgment_table = read_table(items, "items"), _judgments(config, judgments)
    lessons = make_lessons(config, pool, labels, query_table, judgment_table if config.judgment_weight else None)
    judged = None if config.calibration == "none" or judgment_table is None else unlearnt(judgment_table, lessons)
    if config.sub_judgment_weight:
        lessons = replace(lessons, met=sub_judgments_of(config, lessons.pairs, query_table, item_table, judgment_table))
    order, num_neighbors = config.reach()
    limit = min(config.max_tokens, base.max_tokens)
    spec = folder.ModelSpec(config.architecture, limit, source=base.source, graph_order=order, num_neighbors=num_neighbors)
    if spec.kind in folder.LOGIT_KINDS:
        spec = replace(spec, target="logit" if config.score_is_logit() else "probability", temperature=config.temperature)
    near = read_table(neighbors, "neighbors") if neighbors and spec.num_neighbors else None
    texts = model_texts(spec, lessons.pairs, query_table, item_table, near)
    if config.counterfactual_share:
        copies, edited = make_copies(config, spec, lessons, query_table, item_table, near)
        lessons, texts = replace(lessons, copies=copies), (texts[0] + edited[0], texts[1] + edited[1])
    torch.manual_seed(config.seed)
    tokenizer, network = folder.load_tokenizer(source), folder.load_model(source, spec)
    start = {name: value.detach().clone() for name, value in network.state_dict().items()} if config.trained_weight < 1 else {}
    marked = {"marked_tokens": float(mark_terms(network, tokenizer, item_table))} if config.mark_terms else {}
    student = _build(config, spec, network, tokenizer, texts, lessons)
    logger.info("%d pairs to learn from, %d held out", len(lessons.training()), len(lessons.validation()))
    read = (
        [judgments] * (judgment_table is not None) + [config.sub_judgments] * bool(config.sub_judgments) + [neighbors] * (near is not None)
    )
    identity = _identity(config, encoder, items, queries, pairs, soft_targets, *read)
    checkpoints = Checkpoints(storage.normalise(model) + ".checkpoints", identity)
    curve = _train(config, student, lessons, checkpoints, tracker)
    fold_marks(network)
    average_with(network, start, config.trained_weight)
    final = marked | _validate(config, student, lessons)
    save_student(model, student, tokenizer, spec)
    if judged is not None:
        final |= calibrate(config, model, judged, query_table, item_table, near, tracker)
    final |= export(config, model, texts, lessons)
    storage.remove(checkpoints.uri)
    return _report(pool, lessons, curve, final, student)


def _judgments(config: TrainStudentConfig, judgments: str) -> pa.Table | None:
    wanted = [f"judgment_weight = {config.judgment_weight:g}"] * (config.judgment_weight > 0)
    wanted += [f"calibration = {config.calibration}"] * (config.calibration != "none")
    by_rules = config.sub_judgment_weight and not config.sub_judgments  # which learn from them, but do without
    if not wanted and not (by_rules and judgments):
        return None
    if not judgments:
        raise InputError(f"{wanted[0]} needs human grades; give the judgments table (--judgments)")
    return read_table(judgments, "judgments", ["query_id", "item_id", "gain", "split"])


def _build(config: TrainStudentConfig, spec: folder.ModelSpec, network: Any, tokenizer: Any, texts: tuple, lessons: Lessons) -> Student:
    if config.dropout is not None:
        set_dropout(network, config.dropout)
    limits = {"max_tokens": spec.max_tokens, "batch_tokens": config.batch_tokens, "num_heads": 0 if lessons.met is None else len(ASPECTS)}
    if spec.kind == "cross_encoder":
        student: Student = CrossEncoder(network, tokenizer, texts, **limits)
    elif spec.kind == "graph":
        student = GraphStudent(network, tokenizer, texts, spec=spec, batch_tokens=config.batch_tokens, scale=lessons.spread())
    else:
        student = BiEncoder(network, tokenizer, texts, **limits, scale=lessons.spread())
    return student.to(pick_device())


def _train(config: TrainStudentConfig, student: Student, lessons: Lessons, checkpoints: Checkpoints, tracker: Tracker) -> Curve:
    rows = lessons.training()

    def batches_of_epoch(epoch: int) -> list[np.ndarray]:
        return grouped_batches(
            lessons.query, rows, epoch,
            queries_per_batch=config.queries_per_batch, items_per_query=config.items_per_query, seed=config.seed,
        )  # fmt: skip

    steps_of_epoch = len(batches_of_epoch(0))
    num_steps = steps_of_epoch * config.num_epochs

    def at_epoch_end(step: int) -> None:
        if step % steps_of_epoch == 0 and step < num_steps:
            tracker.metrics(_validate(config, student, lessons), step=step)

    return fit(
        student,
        batches_of_epoch,
        lambda _, chosen: batch_loss(config, student, lessons, chosen),
        num_steps=num_steps,
        learning_rate=config.learning_rate,
        warmup_share=config.warmup_share,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        precision=config.precision,
        seed=config.seed,
        tracker=tracker,
        on_step=at_epoch_end,
        checkpoints=checkpoints,
        checkpoint_steps=config.checkpoint_steps,
    )


def _validate(config: TrainStudentConfig, student: Student, lessons: Lessons) -> dict[str, float]:
    """Loss and agreement with the teacher on queries that the student has not seen."""
    rows = lessons.validation()
    answers = student.predict(rows)
    scores, logits = answers[:, 0], answers[:, 1:]
    loss = float(score_loss(config, torch.from_numpy(scores).float(), lessons, rows))
    found = {"loss": loss, **agreement(scores, lessons.gains[rows].astype(np.float64), lessons.query[rows])}
    if lessons.met is not None:
        found |= {f"sub_judgments.{name}": value for name, value in head_accuracy(logits, lessons.met[rows]).items()}
    if lessons.copies is not None:
        found |= {f"falls.{kind}": value for kind, value in share_falling(student, scores, lessons.copies[rows]).items()}
    logger.info("validation: %s", ", ".join(f"{name} {value:.4f}" for name, value in found.items()))
    return {f"validation.{name}": value for name, value in found.items()}


def _identity(config: TrainStudentConfig, *uris: str) -> str:
    """What a checkpoint must have been made from to be used again."""
    resolved = config.model_copy(update={"precision": resolve_precision(config.precision)})  # of the machine that the retry lands on
    parts = [resolved.model_dump_json(), *(storage.listing_digest(uri) for uri in uris)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _report(pool: pa.Table, lessons: Lessons, curve: Curve, final: dict[str, float], student: Student) -> Report:
    counts = {"num_validation_pairs": float(len(lessons.validation())), "num_judged_pairs": float(np.isfinite(lessons.judged).sum())}
    metrics = {**curve.metrics(), **final, **counts}
    if isinstance(student, BiEncoder):
        metrics["scale"] = float(student.scale().detach())
    if isinstance(student, GraphStudent):
        metrics |= {f"weight.{name}": value for name, value in student.head.readable().items()}
    return Report(read=pool.num_rows, kept=lessons.pairs.num_rows, dropped=lessons.dropped, metrics=metrics)
