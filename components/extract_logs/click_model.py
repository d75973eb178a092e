"""The position-based click model, fitted to counts by expectation maximisation.

An item that is relevant to a query (with probability relevance[group]) is clicked at position k with probability relevant[k], another
one with probability irrelevant[k]. Without trust irrelevant is 0 and relevant[k] is the examination of k: the model of Craswell et al.
(WSDM 2008). With it the two are examination times the trust of position k, Agarwal et al., "Addressing Trust Bias for Unbiased
Learning-to-Rank" (WWW 2019), formula 5.
"""

import logging
from dataclasses import dataclass

import numpy as np

TOLERANCE, MAX_STEPS, LOG_EVERY = 1e-6, 2000, 200
_LEAST = 1e-9
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlacedCounts:
    """Impressions and clicks [cells] of a group (a pair, or a query) at a position, both counted from 0; sorted, so that sums repeat."""

    group: np.ndarray
    position: np.ndarray
    impressions: np.ndarray
    clicks: np.ndarray

    def up_to(self, position: int) -> "PlacedCounts":
        """The cells of the first `position` positions, with groups numbered anew."""
        rows = self.position < position
        _, group = np.unique(self.group[rows], return_inverse=True)
        return PlacedCounts(group, self.position[rows], self.impressions[rows], self.clicks[rows])


def fit_click_model(counts: PlacedCounts, *, trust: bool) -> tuple[np.ndarray, np.ndarray]:
    """(slope [positions], base [positions]): a click at k has probability base[k] + slope[k] * attraction of the item.

    Whether the item of an impression is relevant is the hidden variable. With r the probability that it is, given click or no click,
    the maximising step is relevance = mean r over the group's impressions and relevant[k] = (r of clicks) / (r of impressions) at k;
    irrelevant[k] the same with 1 - r. Examination is summed out of the E-step of Wang et al. (WSDM 2018, "Position Bias Estimation
    for Unbiased Learning to Rank in Personal Search", formulas 3 and 4), which leaves the likelihood as it is and saves most steps.

    Clicks fix attraction only up to scale and shift. Scale: slope[0] is 1, so attraction is the click rate at position 1. Shift: the
    deeper half of the positions has no trust bias on average; the base of the others is what they have beyond it.
    Groups with few impressions fit their own noise: leave them out.

    Args:
        counts: every position needs a click.
        trust: whether an irrelevant item may be clicked; without, base is 0.
    """
    positions, groups = counts.position, counts.group
    clicked, passed = counts.clicks.astype(float), (counts.impressions - counts.clicks).astype(float)
    shown = np.bincount(groups, counts.impressions)
    rate = np.bincount(positions, clicked) / np.bincount(positions, counts.impressions)
    relevant = 0.9 * rate / rate.max()
    irrelevant = relevant * (0.05 if trust else 0.0)
    relevance = np.clip(2 * (np.bincount(groups, clicked) + 0.5) / (shown + 1), _LEAST, 0.9)
    step, change = 0, np.inf
    while change > TOLERANCE and step < MAX_STEPS:
        step += 1
        by_click = _posterior(relevance[groups], relevant[positions], irrelevant[positions]) * clicked
        by_pass = _posterior(relevance[groups], 1 - relevant[positions], 1 - irrelevant[positions]) * passed
        relevance = np.clip(np.bincount(groups, by_click + by_pass) / shown, _LEAST, 1 - _LEAST)
        before = relevant / relevant[0]
        relevant = _share(positions, by_click, by_pass)
        if trust:
            irrelevant = _share(positions, clicked - by_click, passed - by_pass)
        change = float(np.abs(relevant / relevant[0] - before).max())
        if step % LOG_EVERY == 0:
            logger.info("click model: step %d, examination moves by %.1e", step, change)
    if change > TOLERANCE:
        logger.warning("click model: examination still moves by %.1e after %d steps", change, step)
    return _identify(relevant, irrelevant, np.bincount(positions, counts.impressions))


def _posterior(relevance: np.ndarray, relevant: np.ndarray, irrelevant: np.ndarray) -> np.ndarray:
    """Probability of relevance [cells] when something was seen that relevant items show with `relevant`, others with `irrelevant`."""
    joint = relevance * relevant
    return joint / np.maximum(joint + (1 - relevance) * irrelevant, np.finfo(float).tiny)


def _share(positions: np.ndarray, clicked: np.ndarray, passed: np.ndarray) -> np.ndarray:
    """Clicks per impression [positions] of expected counts [cells]."""
    clicks = np.bincount(positions, clicked)
    return clicks / np.maximum(clicks + np.bincount(positions, passed), _LEAST)


def _identify(relevant: np.ndarray, irrelevant: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    slope, deep = relevant - irrelevant, slice(len(shown) // 2, None)
    shift = (irrelevant[deep] * shown[deep]).sum() / (slope[deep] * shown[deep]).sum()
    return slope / slope[0], irrelevant - shift * slope
