"""A teacher that reads query and item separately: it orders by cosine, and its grades are fitted to the cosine afterwards.

An encoder that was pretrained to embed texts one by one already orders items well. A joint reader with a fresh head forgets that and
needs far more judgments than a small shop has to win it back; this one starts from all that the encoder knows.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from components.shared.cross_fitting import cross_fitted
from components.shared.models.pooling import mean_pool
from components.shared.models.scoring import grade_logits

MARGIN_SCALE = 20.0
"""Cosines times this are RankNet's scores, as in the ranking losses of sentence-transformers."""
LEAST_SLOPE = 1e-3
SLOPE_SPREAD = 100.0
"""Standard deviation of the slope's normal prior: it only keeps the slope finite where the cosine tells grades apart without error."""


class SeparateReader(torch.nn.Module):
    """`logits` [rows, 1]: scaled cosine of each row's two texts, every distinct text read once, in one of the parts `texts`."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, left: torch.Tensor, right: torch.Tensor, texts: list[dict[str, torch.Tensor]]) -> SimpleNamespace:
        vectors = torch.cat([mean_pool(self.network(**one).last_hidden_state.float(), one["attention_mask"]) for one in texts])
        return SimpleNamespace(logits=MARGIN_SCALE * (vectors[left] * vectors[right]).sum(-1, keepdim=True))


def fit_grades(cosines: np.ndarray, grades: np.ndarray, num_grades: int) -> tuple[float, list[float]]:
    """(slope, offset of each grade) of the adjacent-category model that makes `grades` likeliest given their `cosines` [pairs].

    Each grade also counts once at the mean cosine, so that one that was never seen keeps a probability. The slope is at least
    LEAST_SLOPE: the order of the cosine is never turned around.
    """
    rows = np.concatenate([cosines, np.full(num_grades, cosines.mean())])[:, None]
    truth = np.concatenate([grades, np.arange(num_grades)])

    def cost(values: np.ndarray) -> float:
        likely = log_softmax(grade_logits(rows, values[0], values[1:]).astype(np.float64), axis=1)
        return float(-likely[np.arange(len(truth)), truth].sum() + (values[0] / SLOPE_SPREAD) ** 2 / 2)

    def gradient(values: np.ndarray) -> np.ndarray:
        surplus = np.exp(log_softmax(grade_logits(rows, values[0], values[1:]).astype(np.float64), axis=1)) - np.eye(num_grades)[truth]
        slope = (surplus * np.arange(num_grades) * rows).sum() + values[0] / SLOPE_SPREAD**2
        return np.concatenate([[slope], surplus.sum(axis=0)])

    bounds = [(LEAST_SLOPE, None), *[(None, None)] * num_grades]
    found = minimize(cost, np.r_[1.0, np.zeros(num_grades)], jac=gradient, method="L-BFGS-B", bounds=bounds)
    return float(found.x[0]), (found.x[1:] - found.x[1:].mean()).tolist()


def cross_fitted_grades(cosines: np.ndarray, grades: np.ndarray, query_ids: np.ndarray, num_grades: int) -> np.ndarray:
    """Probability of each grade [pairs, grades] of every pair, by grades that were fitted to other queries; see `cross_fitted`."""

    def answers(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
        return softmax(grade_logits(cosines[asked][:, None], *fit_grades(cosines[known], grades[known], num_grades)), axis=1)

    return cross_fitted(query_ids, answers)
