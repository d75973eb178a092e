"""How good the teacher is on judgments that it has not seen."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import softmax
from sklearn.metrics import f1_score

from components.shared import metrics
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.schema import SEGMENTS
from components.shared.text import EVIDENCE_ON_ITEMS, EVIDENCE_ON_QUERIES, SEPARATOR
from components.train_teacher.examples import Tables
from components.train_teacher.similarity import cross_fitted

NUM_BINS = 10


def grade_metrics(probabilities: np.ndarray, grades: np.ndarray, gains: np.ndarray) -> dict[str, float]:
    """Quality of predicted grades.

    Args:
        probabilities: [pairs, grades]; grades: [pairs]; gains: [grades].

    Returns:
        cross_entropy, accuracy, macro_f1 (mean over grades that occur), mse of the expected gain, and mse_over_variance: below 1 the
        teacher is better than always answering the mean (a published teacher is at 1.06, `papers.md` A.8).
    """
    chosen = probabilities[np.arange(len(grades)), grades]
    guessed = probabilities.argmax(axis=1)
    truth = gains[grades]
    mse = float(np.mean((probabilities @ gains - truth) ** 2))
    variance = float(truth.var())
    found = {
        "cross_entropy": float(-np.log(np.maximum(chosen, 1e-12)).mean()),
        "accuracy": float((guessed == grades).mean()),
        "macro_f1": float(f1_score(grades, guessed, labels=np.unique(grades), average="macro")),
        "mse": mse,
    }
    return found | ({"mse_over_variance": mse / variance} if variance else {})


def order_metrics(scores: np.ndarray, truth: np.ndarray, query_ids: np.ndarray) -> dict[str, float]:
    """pairwise_accuracy, the mean over queries of the share of item pairs of different gain that the scores order right; 0.5 is chance.

    Args:
        scores, truth: expected and judged gain [pairs]; query_ids: [pairs], ascending.
    """
    names, query = np.unique(query_ids, return_inverse=True)
    wins, pairs = metrics.count_ordered_pairs(query, scores, truth, len(names))
    return {"pairwise_accuracy": float((wins[pairs > 0] / pairs[pairs > 0]).mean())} if pairs.any() else {}


@dataclass(frozen=True)
class Bins:
    """Pairs in order of their predicted gain, cut into bins of equally many: mean predicted and judged gain, and pairs [bins]."""

    predicted: np.ndarray
    judged: np.ndarray
    counts: np.ndarray

    @staticmethod
    def of(predicted: np.ndarray, judged: np.ndarray, num_bins: int = NUM_BINS) -> "Bins":
        order = np.argsort(predicted, kind="stable")
        parts = [part for part in np.array_split(order, num_bins) if len(part)]
        of_predicted, of_judged = (np.array([values[part].mean() for part in parts]) for values in (predicted, judged))
        return Bins(of_predicted, of_judged, np.array([len(part) for part in parts]))

    def error(self) -> float:
        """Expected calibration error: mean over the pairs of their bin's distance from the diagonal (Naeini et al. 2015, AAAI)."""
        return float(np.average(np.abs(self.predicted - self.judged), weights=self.counts))


@dataclass(frozen=True)
class Validation:
    """Metrics under `validation.`, and the bins of the calibration plot where there are grades to predict."""

    metrics: dict[str, float]
    bins: Bins | None = None


def validate(model: str, tables: Tables, precision: str) -> Validation:
    """The saved model on the held-out queries, as a whole and by slice; empty without such queries.

    Grades of a teacher that reads separately were fitted to these very queries: its figures about grades are cross-fitted (and absent
    where only one query is held out).
    """
    pairs: pa.Table = tables.validation
    if not len(pairs):
        return Validation({})
    scorer = Scorer(model, precision=precision)
    texts = model_texts(scorer.spec, pairs, tables.queries, tables.items, tables.neighbors)
    grades, query_ids, gains = pairs["grade"].to_numpy(), pairs["query_id"].to_numpy(), np.asarray(scorer.spec.gains)
    found = {"pairs": float(len(pairs))}
    if scorer.writer:
        written = scorer.writer.write(*texts)
        probabilities = softmax(written.logits, axis=1)
        order = probabilities @ gains
        found["malformed_share"] = written.malformed.total() / len(pairs)
    elif scorer.spec.reads_jointly():
        probabilities = scorer.probabilities(*texts)
        order = probabilities @ gains
    else:
        order = scorer.cosines(*texts)[:, 0].astype(np.float64)
        probabilities = cross_fitted(order, grades, query_ids, len(gains))
    truth = np.asarray(tables.card.gains())[grades]
    found |= order_metrics(order, truth, query_ids)
    for name, chosen in slices(pairs, tables, texts).items():
        own = order_metrics(order[chosen], truth[chosen], query_ids[chosen])
        found |= {f"{name}.{metric}": value for metric, value in own.items()} | {f"{name}.pairs": float(chosen.sum())}
    bins = None
    if len(probabilities):
        bins = Bins.of(probabilities @ gains, gains[grades])
        found |= grade_metrics(probabilities, grades, gains) | {"calibration_error": bins.error()}
    return Validation({f"validation.{name}": value for name, value in found.items()}, bins)


def slices(pairs: pa.Table, tables: Tables, texts: tuple[list[str], list[str]]) -> dict[str, np.ndarray]:
    """Name -> which pairs [pairs], for slices that hold some but not all: how often a query is asked, and whether evidence was shown."""
    segment = tables.queries["segment"].take(pc.index_in(pairs["query_id"], value_set=tables.queries["query_id"].combine_chunks()))
    found = {f"segment_{name}": pc.equal(segment, name).to_numpy() for name in SEGMENTS}
    on_query, on_item = (f"{SEPARATOR}{name}: " for name in (EVIDENCE_ON_QUERIES, EVIDENCE_ON_ITEMS))
    shown = np.fromiter((on_query in left or on_item in right for left, right in zip(*texts, strict=True)), bool)
    found |= {"with_evidence": shown, "without_evidence": ~shown}
    return {name: chosen for name, chosen in found.items() if 0 < chosen.sum() < len(pairs)}
