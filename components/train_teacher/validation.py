"""How good the teacher is on judgments that it has not seen, and what its training looked like."""

import io

import numpy as np
import pyarrow as pa
from matplotlib import rc_context
from matplotlib.figure import Figure
from sklearn.metrics import f1_score

from components.shared import metrics
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.training import Curve
from components.train_teacher.examples import Tables
from components.train_teacher.similarity import cross_fitted


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


def validate(model: str, tables: Tables, precision: str) -> dict[str, float]:
    """Metrics of the saved model on the held-out queries, under `validation.`; empty without such queries.

    Grades of a teacher that reads separately were fitted to these very queries: its figures about grades are cross-fitted (and absent
    where only one query is held out).
    """
    pairs: pa.Table = tables.validation
    if not len(pairs):
        return {}
    scorer = Scorer(model, precision=precision)
    texts = model_texts(scorer.spec, pairs, tables.queries, tables.items, tables.neighbors)
    grades, query_ids, gains = pairs["grade"].to_numpy(), pairs["query_id"].to_numpy(), np.asarray(scorer.spec.gains)
    if scorer.spec.reads_jointly():
        probabilities = scorer.probabilities(*texts)
        order = probabilities @ gains
    else:
        order = scorer.cosines(*texts)[:, 0].astype(np.float64)
        probabilities = cross_fitted(order, grades, query_ids, len(gains))
    found = {"pairs": float(len(pairs)), **order_metrics(order, np.asarray(tables.card.gains())[grades], query_ids)}
    if len(probabilities):
        found |= grade_metrics(probabilities, grades, gains)
    return {f"validation.{name}": value for name, value in found.items()}


def curve_plot(curve: Curve, window: int = 20) -> bytes:
    """The loss of every step and its moving mean, as SVG; equal curves give equal bytes."""
    losses = np.asarray(curve.losses)
    width = max(1, min(window, len(losses)))
    mean = np.convolve(losses, np.ones(width) / width, mode="valid")
    with rc_context({"svg.hashsalt": "relevance-distillery", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 3.5))
        axes = figure.subplots()
        axes.plot(np.arange(1, len(losses) + 1), losses, color="0.8", label="step")
        axes.plot(np.arange(width, len(losses) + 1), mean, color="C0", label=f"mean of {width} steps")
        axes.set(xlabel="step", ylabel="loss", title="Teacher training loss")
        axes.legend(frameon=False)
        target = io.BytesIO()
        figure.savefig(target, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return target.getvalue()
