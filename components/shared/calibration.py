"""Scores that mean the same everywhere: from a student's score to the gain that people would give, and what may be hidden by it.

A student that learns margins spends nothing on a query's own offset (`losses.margin_mse`), so one threshold on its scores says nothing.
The maps here rise strictly and there is one per segment of queries; a query has one segment, so its order stays as it was.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

NUM_BINS = 10
MIN_PAIRS = 50  # judged pairs of a segment; with fewer it is mapped as all pairs together
TIE = 1e-6  # by which scores stay apart that the labels do not tell apart
EVERYWHERE = ""


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


def isotonic_map(scores: np.ndarray, gains: np.ndarray) -> dict[str, list[float]]:
    """Knots of centred isotonic regression: the blocks of pool-adjacent-violators, each at its mean score (Oron and Flournoy 2017).

    Between knots the map is linear, so unlike the step function it rises; a map of one knot says that scores tell nothing.
    """
    # takes a second, and serving, which applies maps, fits none
    from sklearn.isotonic import isotonic_regression  # noqa: PLC0415

    distinct, number, counts = np.unique(scores, return_inverse=True, return_counts=True)
    levels, block = np.unique(isotonic_regression(np.bincount(number, gains) / counts, sample_weight=counts), return_inverse=True)
    centers = np.bincount(block, distinct * counts) / np.bincount(block, counts)
    return {"scores": centers.tolist(), "gains": levels.tolist()}


def platt_map(scores: np.ndarray, gains: np.ndarray) -> dict[str, list[float]]:
    """Slope and offset of sigmoid(slope x score + offset) by cross-entropy with the gains (Platt 1999); the slope is above 0.

    Temperature scaling (Guo et al. 2017, arXiv 1706.04599) with an offset, which scores of a margin loss need.
    """
    scale = max(float(scores.std()), 1e-12)
    centred = (scores - scores.mean()) / scale

    def cost(given: np.ndarray) -> tuple[float, np.ndarray]:
        rise = np.exp(given[0])
        logits = rise * centred + given[1]
        residual = expit(logits) - gains
        return float((np.logaddexp(0.0, logits) - gains * logits).mean()), np.array([(residual * centred).mean() * rise, residual.mean()])

    rise, offset = minimize(cost, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-12.0, 12.0), (-30.0, 30.0)]).x
    slope = float(np.exp(rise)) / scale
    return {"slope": [slope], "offset": [float(offset) - slope * float(scores.mean())]}


MAPS = {"isotonic": isotonic_map, "platt": platt_map}


@dataclass(frozen=True)
class Calibration:
    """Maps by segment, and the bounds below which an item may be hidden and above which it is surely good.

    Attributes:
        maps: segment -> what one of MAPS gave; EVERYWHERE serves the other segments.
        hide_below, sure_above: gains; None where the pairs are too few for the stated error.
        error: what either bound may err by, 0 to 1.
    """

    maps: dict[str, dict[str, list[float]]]
    hide_below: float | None = None
    sure_above: float | None = None
    error: float = 0.0

    @staticmethod
    def fit(scores: np.ndarray, gains: np.ndarray, segments: np.ndarray, method: str) -> "Calibration":
        """Args: scores, gains (0 to 1), segments: of judged pairs that the student has not learnt from [pairs]; method: one of MAPS."""
        maps = {EVERYWHERE: MAPS[method](scores, gains)}
        for segment in np.unique(segments):
            chosen = segments == segment
            if chosen.sum() >= MIN_PAIRS:
                maps[str(segment)] = MAPS[method](scores[chosen], gains[chosen])
        return Calibration(maps)

    def gains(self, scores: np.ndarray, segments: np.ndarray) -> np.ndarray:
        """The gain to expect [rows], in (0, 1) but for TIE, strictly rising in the score within a segment."""
        out = np.empty(len(scores))
        for segment in np.unique(segments):
            chosen = segments == segment
            out[chosen] = _apply(self.maps.get(str(segment), self.maps[EVERYWHERE]), scores[chosen])
        return out + TIE * scores / (1.0 + np.abs(scores))

    def verdicts(self, gains: np.ndarray) -> dict[str, np.ndarray]:
        """Which items [rows] may be hidden, are surely good, or want a person's look: `hidden`, `sure`, `uncertain`."""
        hidden = gains < (-np.inf if self.hide_below is None else self.hide_below)
        sure = ~hidden & (gains > (np.inf if self.sure_above is None else self.sure_above))
        return {"hidden": hidden, "sure": sure, "uncertain": ~hidden & ~sure}

    def safe_verdicts(self, scores: np.ndarray, segments: np.ndarray) -> dict[str, np.ndarray]:
        """`verdicts` of scores where a query's segment may be unknown (EVERYWHERE, or one without a map) [rows].

        There an item is hidden, or sure, only where every segment's map says so, and so its own: the stated error, which is one over all
        queries and not within each segment, holds as if the segments were known.
        """
        found = self.verdicts(self.gains(scores, segments))
        unknown = ~np.isin(segments, [name for name in self.maps if name != EVERYWHERE])
        by_segment = [self.verdicts(self.gains(scores[unknown], np.full(unknown.sum(), name, object))) for name in self.maps]
        for name in ("hidden", "sure"):
            found[name][unknown] = np.all([one[name] for one in by_segment], axis=0)
        return {**found, "uncertain": ~found["hidden"] & ~found["sure"]}

    def to_json(self) -> dict[str, Any]:
        return vars(self)

    @staticmethod
    def from_json(given: dict[str, Any]) -> "Calibration":
        return Calibration(**given)


def _apply(one: dict[str, list[float]], scores: np.ndarray) -> np.ndarray:
    if "slope" in one:
        return expit(one["slope"][0] * scores + one["offset"][0])
    return np.interp(scores, one["scores"], one["gains"])


def controlled_bound(values: np.ndarray, queries: np.ndarray, error: float) -> float | None:
    """The highest bound such that of a new query's items of this kind at most `error` lie below it, in expectation over queries.

    Conformal risk control (Angelopoulos et al. 2022, arXiv 2208.02814, theorem 1) with the share of a query's items as its loss: the
    bound is the highest with (sum over queries of shares + 1) / (queries + 1) <= error. Queries and not pairs are exchangeable, because
    items of one query resemble each other.

    Args:
        values: of the items of this kind [pairs]; queries: their query's number [pairs].

    Returns:
        None when the queries are fewer than 1 / error - 1.
    """
    if not len(values):
        return None
    _, number, sizes = np.unique(queries, return_inverse=True, return_counts=True)
    order = np.argsort(values, kind="stable")
    below = np.cumsum(1.0 / sizes[number[order]])  # sum of shares when the bound lies just above each value
    allowed = error * (len(sizes) + 1) - 1.0
    if allowed < 0:
        return None
    held = int(np.searchsorted(below, allowed + 1e-9, side="right"))  # so many values may lie below the bound
    return float(values[order[held]]) if held < len(values) else float(np.nextafter(values[order[-1]], np.inf))
