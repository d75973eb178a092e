"""How good the teacher is on judgments that it has not seen."""

import logging
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import softmax

from components.shared.calibration import Bins
from components.shared.models import folder
from components.shared.models.arithmetic import resolve_precision
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.schema import SEGMENTS
from components.shared.text import EVIDENCE_ON_ITEMS, EVIDENCE_ON_QUERIES, SEPARATOR
from components.train_teacher.ablation import LEARNED, MEAN, ablation_metrics, ablation_rows, stage_answers
from components.train_teacher.combiner import fit_combiner
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Tables
from components.train_teacher.grade_bias import bias_metrics, confusion
from components.train_teacher.grading import grade_metrics, order_metrics, spread_within
from components.train_teacher.similarity import cross_fitted_grades

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Validation:
    """Metrics under `validation.`; where there are grades to predict, the bins of the calibration plot, and pairs by judged and predicted
    grade [grades, grades].

    Of a teacher that is asked in stages also the rows of `ablation.ablation_rows`.
    """

    metrics: dict[str, float]
    bins: Bins | None = None
    ablation: list[dict[str, Any]] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)


def validate(model: str, tables: Tables, config: TrainTeacherConfig) -> Validation:
    """The saved model on the held-out queries, as a whole and by slice; empty without such queries.

    What combines stages is learned from these very queries and put into the model's folder here. Grades of a teacher that reads separately
    were fitted to them too: the figures of both are cross-fitted (the plain average's, or absent, where only one query is held out).
    """
    pairs: pa.Table = tables.validation
    if not len(pairs):
        return Validation({})
    scorer = Scorer(model, precision=resolve_precision(config.precision))
    texts = model_texts(scorer.spec, pairs, tables.queries, tables.items, tables.neighbors)
    grades, query_ids, gains = pairs["grade"].to_numpy(), pairs["query_id"].to_numpy(), np.asarray(scorer.spec.gains)
    given = _asked(scorer, texts, grades, query_ids, config)
    if given.spec:
        logger.info("stages %s count %s", given.spec.stages, given.spec.stage_weights)
        folder.write_spec(model, given.spec)
    truth = np.asarray(tables.card.gains())[grades]
    found = {"pairs": float(len(pairs)), **given.extra, **order_metrics(given.order, truth, query_ids)}
    found |= spread_within(given.order, query_ids)
    parts = slices(pairs, tables, texts)
    for name, chosen in parts.items():
        own = order_metrics(given.order[chosen], truth[chosen], query_ids[chosen])
        found |= {f"{name}.{metric}": value for metric, value in own.items()} | {f"{name}.pairs": float(chosen.sum())}
    bins, ablation, counts = None, [], []
    if len(given.probabilities):
        bins = Bins.of(given.probabilities @ gains, gains[grades])
        found |= grade_metrics(given.probabilities, grades, gains) | {"calibration_error": bins.error()}
        predicted = given.probabilities.argmax(axis=1)
        found |= bias_metrics(grades, predicted, query_ids)
        counts = confusion(grades, predicted, len(gains)).tolist()
    if given.by_stage:
        ablation = ablation_rows(given.by_stage, grades, query_ids, gains, parts | kinds(pairs, tables))
        found |= ablation_metrics(ablation)
    return Validation({f"validation.{name}": value for name, value in found.items()}, bins, ablation, counts)


@dataclass(frozen=True)
class Answers:
    """What a teacher says: a score to order by [pairs], probabilities [pairs, grades], those of each stage, a spec with their combiner.

    `extra` are further metrics.
    """

    order: np.ndarray
    probabilities: np.ndarray
    by_stage: dict[str, np.ndarray] = field(default_factory=dict)
    spec: folder.ModelSpec | None = None
    extra: dict[str, float] = field(default_factory=dict)


def _asked(
    scorer: Scorer, texts: tuple[list[str], list[str]], grades: np.ndarray, query_ids: np.ndarray, config: TrainTeacherConfig
) -> Answers:
    spec, gains = scorer.spec, np.asarray(scorer.spec.gains)
    if spec.stages:
        stage_logits = scorer.stage_logits(*texts)
        by_stage = stage_answers(spec.stages, stage_logits, grades, query_ids)
        if config.combiner != LEARNED or LEARNED not in by_stage:
            return Answers(by_stage[MEAN] @ gains, by_stage[MEAN], by_stage)
        combiner = fit_combiner(stage_logits, grades)
        learned = replace(spec, stage_weights=combiner.weights.tolist(), stage_offsets=combiner.offsets.tolist())
        return Answers(by_stage[LEARNED] @ gains, by_stage[LEARNED], by_stage, learned)
    if scorer.writer:
        written = scorer.writer.write(*texts)
        probabilities = softmax(written.logits, axis=1)
        return Answers(probabilities @ gains, probabilities, extra={"malformed_share": written.malformed.total() / len(grades)})
    if spec.reads_jointly():
        probabilities = scorer.probabilities(*texts)
        return Answers(probabilities @ gains, probabilities)
    order = scorer.cosines(*texts)[:, 0].astype(np.float64)
    return Answers(order, cross_fitted_grades(order, grades, query_ids, len(gains)))


def slices(pairs: pa.Table, tables: Tables, texts: tuple[list[str], list[str]]) -> dict[str, np.ndarray]:
    """Name -> which pairs [pairs], for slices that hold some but not all: how often a query is asked, and whether evidence was shown."""
    segment = tables.queries["segment"].take(pc.index_in(pairs["query_id"], value_set=tables.queries["query_id"].combine_chunks()))
    found = {f"segment_{name}": pc.equal(segment, name).to_numpy() for name in SEGMENTS}
    on_query, on_item = (f"{SEPARATOR}{name}: " for name in (EVIDENCE_ON_QUERIES, EVIDENCE_ON_ITEMS))
    shown = np.fromiter((on_query in left or on_item in right for left, right in zip(*texts, strict=True)), bool)
    found |= {"with_evidence": shown, "without_evidence": ~shown}
    return {name: chosen for name, chosen in found.items() if 0 < chosen.sum() < len(pairs)}


def kinds(pairs: pa.Table, tables: Tables) -> dict[str, np.ndarray]:
    """`kind_<kind>` -> which pairs [pairs] are about queries of that kind, where the data tells kinds apart."""
    kind = tables.queries["kind"].take(pc.index_in(pairs["query_id"], value_set=tables.queries["query_id"].combine_chunks()))
    return {f"kind_{one}": pc.fill_null(pc.equal(kind, one), False).to_numpy() for one in sorted(pc.unique(kind.drop_null()).to_pylist())}
