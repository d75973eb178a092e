"""Honest figures of what is fitted to the very queries that it is measured on."""

from collections.abc import Callable

import numpy as np

NUM_PARTS = 5


def cross_fitted(query_ids: np.ndarray, answers: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """What is answered about every pair [pairs, grades] by a fit to other queries; one query alone has no answer: [0, 0].

    Queries are dealt into NUM_PARTS parts and each part is answered by the fit to the others (Chernozhukov et al. 2018, Double/debiased
    machine learning, section 3).

    Args:
        query_ids: [pairs]; answers: (pairs to fit to, pairs to answer about), both masks [pairs] -> [pairs to answer about, grades].
    """
    distinct, query = np.unique(query_ids, return_inverse=True)
    if len(distinct) < 2:
        return np.zeros((0, 0))
    part = query % min(NUM_PARTS, len(distinct))
    parts = [(part == number, answers(part != number, part == number)) for number in np.unique(part)]
    found = np.zeros((len(query_ids), parts[0][1].shape[1]))
    for here, answer in parts:
        found[here] = answer
    return found
