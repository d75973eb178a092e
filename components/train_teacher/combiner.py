"""How much each stage's answer counts: fitted to held-out queries, because what training has seen it answers too surely."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from components.shared.models.stages import combined_logits

PRIOR_SPREAD = 1.0
"""Standard deviation of the normal prior around the plain average: few held-out pairs leave the combiner there."""


@dataclass(frozen=True)
class Combiner:
    """Weight of each stage [stages] and offset of each grade [grades] in `combined_logits`."""

    weights: np.ndarray
    offsets: np.ndarray

    @staticmethod
    def mean(num_stages: int, num_grades: int) -> "Combiner":
        return Combiner(np.full(num_stages, 1 / num_stages), np.zeros(num_grades))

    def probabilities(self, stage_logits: np.ndarray) -> np.ndarray:
        """[stages, pairs, grades] -> [pairs, grades]."""
        return softmax(combined_logits(stage_logits, self.weights, self.offsets).astype(np.float64), axis=1)


def fit_combiner(stage_logits: np.ndarray, grades: np.ndarray) -> Combiner:
    """The weights, none below 0, and offsets that make `grades` [pairs] likeliest under the prior; the problem is convex.

    Args:
        stage_logits: [stages, pairs, grades].
    """
    log_p = log_softmax(stage_logits.astype(np.float64), axis=-1)
    num_stages, num_pairs, num_grades = log_p.shape
    prior = np.concatenate([np.full(num_stages, 1 / num_stages), np.zeros(num_grades)])
    truth = np.eye(num_grades)[grades]

    def cost(values: np.ndarray) -> tuple[float, np.ndarray]:
        likely = log_softmax(np.tensordot(values[:num_stages], log_p, axes=1) + values[num_stages:], axis=1)
        surplus, apart = np.exp(likely) - truth, (values - prior) / PRIOR_SPREAD**2
        slopes = np.concatenate([np.einsum("pg,spg->s", surplus, log_p), surplus.sum(axis=0)])
        return float(-likely[np.arange(num_pairs), grades].sum() + apart @ (values - prior) / 2), slopes + apart

    bounds = [(0.0, None)] * num_stages + [(None, None)] * num_grades
    found = minimize(cost, prior, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Combiner(found[:num_stages], found[num_stages:])
