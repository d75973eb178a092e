"""Scores of known quality over one set of graded pairs."""

import numpy as np
import pyarrow as pa

NUM_QUERIES, NUM_ITEMS = 80, 10
GAINS = [0.0, 0.01, 0.1, 1.0]


def grades() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, (NUM_QUERIES, NUM_ITEMS))


def scored(noise: float, seed: int) -> np.ndarray:
    """Scores that follow the grades as far as the noise lets them [queries, items]."""
    return grades() + np.random.default_rng(seed).normal(0, noise, (NUM_QUERIES, NUM_ITEMS))


def table(system: str, scores: np.ndarray) -> pa.Table:
    queries = np.repeat([f"q{n:02}" for n in range(len(scores))], NUM_ITEMS)
    items = np.tile([f"i{n}" for n in range(NUM_ITEMS)], len(scores))
    return pa.table({"system": [system] * scores.size, "query_id": queries, "item_id": items, "score": scores.ravel()})
