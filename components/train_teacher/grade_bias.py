"""Whether a teacher grades too high or too low: measured before anything is done about it, because platforms err in opposite ways."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix

NUM_RESAMPLES = 1000


def confusion(judged: np.ndarray, predicted: np.ndarray, num_grades: int) -> np.ndarray:
    """Pairs by judged and predicted grade [judged grades, predicted grades]."""
    return confusion_matrix(judged, predicted, labels=np.arange(num_grades))


def ratio_of(over: ArrayLike, under: ArrayLike) -> np.ndarray:
    """Over/under ratio from counts: above 1 grades are too high, below 1 too low.

    Half a pair is added to both counts, which keeps the ratio finite where one is 0 (Haldane 1956, Anscombe 1956).
    """
    return (np.asarray(over) + 0.5) / (np.asarray(under) + 0.5)


def over_under_ratio(judged: np.ndarray, predicted: np.ndarray) -> float:
    """Pairs predicted above their judged grade over pairs predicted below [pairs], [pairs] -> number."""
    return float(ratio_of(np.sum(predicted > judged), np.sum(predicted < judged)))


def bias_metrics(judged: np.ndarray, predicted: np.ndarray, query_ids: np.ndarray, seed: int = 0) -> dict[str, float]:
    """over_share and under_share of the pairs, over_under_ratio, and its 95 % percentile bootstrap interval by query (`_low`, `_high`).

    Args:
        judged, predicted: grades [pairs]; query_ids: [pairs]; pairs of a query are resampled together, because their errors go together.
    """
    names, query = np.unique(query_ids, return_inverse=True)
    sides = np.stack([predicted > judged, predicted < judged], axis=1)
    counts = np.zeros((len(names), 2))
    np.add.at(counts, query, sides)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), NUM_RESAMPLES) @ counts
    low, high = np.quantile(ratio_of(drawn[:, 0], drawn[:, 1]), [0.025, 0.975])
    over, under = sides.mean(axis=0)
    ratio = over_under_ratio(judged, predicted)
    found = {"over_share": over, "under_share": under, "over_under_ratio": ratio, "over_under_ratio_low": low}
    return {name: float(value) for name, value in {**found, "over_under_ratio_high": high}.items()}


def biased_boundary(counts: np.ndarray) -> tuple[int, bool]:
    """(first grade above the boundary that errors cross most one-sidedly, whether they cross it upward) of a confusion table.

    At boundary b a pair crosses upward when it is judged below b and predicted at or above it.
    """
    grades = np.arange(len(counts))
    net = [counts[grades < b][:, grades >= b].sum() - counts[grades >= b][:, grades < b].sum() for b in grades[1:]]
    worst = int(np.argmax(np.abs(net)))
    return worst + 1, bool(net[worst] >= 0)


def boundary_precision(counts: np.ndarray, boundary: int, upward: bool) -> float:
    """Share of right answers among the pairs that are predicted on the side to which errors cross `boundary`; 1 where there are none.

    Args:
        upward: the side at or above the boundary; otherwise the side below.
    """
    grades = np.arange(len(counts))
    side = grades >= boundary if upward else grades < boundary
    predicted = counts[:, side].sum()
    return float(counts[side][:, side].sum() / predicted) if predicted else 1.0
