"""How good predicted grades are, and the order that they give to a query's items."""

import numpy as np
from sklearn.metrics import f1_score

from components.shared import metrics


def grade_metrics(probabilities: np.ndarray, grades: np.ndarray, gains: np.ndarray) -> dict[str, float]:
    """Quality of predicted grades.

    Args:
        probabilities: [pairs, grades]; grades: [pairs]; gains: [grades].

    Returns:
        cross_entropy, accuracy, macro_f1 (mean over grades that occur), mse of the expected gain, and mse_over_variance: below 1 the
        teacher is better than always answering the mean (a public rebuild of arXiv 2505.07105 is at 1.06).
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


def spread_within(scores: np.ndarray, query_ids: np.ndarray) -> dict[str, float]:
    """std_within_queries, the standard deviation of the scores around the mean of their query; empty where no query has two items.

    Args:
        scores, query_ids: [pairs].
    """
    _, query, size = np.unique(query_ids, return_inverse=True, return_counts=True)
    centred = (scores - (np.bincount(query, scores) / size)[query])[size[query] > 1]
    return {"std_within_queries": float(np.sqrt(np.mean(centred**2)))} if len(centred) else {}
