"""Scores kept by what they depend on: the model, the version of the texts, the query and the item."""

import hashlib
from collections.abc import Sequence

import numpy as np
from cachetools import LRUCache

from components.shared.text import TEXT_VERSION

KEY_BYTES = 16


class ScoreCache:
    """The last used scores.

    A key holds the model's digest and the version of the texts, so that a new model never answers from an old one's scores, even where
    both share a cache.

    Args:
        max_scores: kept at most; about 200 bytes each.
    """

    def __init__(self, max_scores: int) -> None:
        self.scores: LRUCache[bytes, float] = LRUCache(max_scores)

    @staticmethod
    def keys(model_digest: str, left: Sequence[str], right: Sequence[str]) -> list[bytes]:
        """A key for each pair of model texts."""
        stem = hashlib.blake2b(f"{model_digest}\n{TEXT_VERSION}\n".encode(), digest_size=KEY_BYTES)
        of_query = {}
        for one in dict.fromkeys(left):
            of_query[one] = stem.copy()
            of_query[one].update(hashlib.blake2b(one.encode(), digest_size=KEY_BYTES).digest())
        found = []
        for query, item in zip(left, right, strict=True):
            key = of_query[query].copy()
            key.update(item.encode())
            found.append(key.digest())
        return found

    def get(self, keys: Sequence[bytes]) -> np.ndarray:
        """Scores [keys], float64; NaN where none is kept."""
        return np.array([self.scores.get(key, np.nan) for key in keys], np.float64)

    def put(self, keys: Sequence[bytes], scores: np.ndarray) -> None:
        if self.scores.maxsize:
            self.scores.update(zip(keys, scores.tolist(), strict=True))
