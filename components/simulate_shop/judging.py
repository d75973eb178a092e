"""Which items of a query are judged, by whom the grades are blurred, and which split a query is in."""

import numpy as np

from components.simulate_shop.catalogue import DEPARTMENT_OF, Catalogue
from components.simulate_shop.queries import Needs
from components.simulate_shop.relevance import GAINS, grade_items

CHUNK = 64  # queries graded at once
MATCHING_SHARE, NEAR_SHARE = 0.35, 0.45  # of the judged items; the rest is random


def choose_judged(
    needs: Needs, catalogue: Catalogue, per_query: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query rows, item rows and true grades of the judged pairs, ordered by query and item."""
    per_query = min(per_query, len(catalogue))
    quotas = [round(per_query * MATCHING_SHARE), round(per_query * NEAR_SHARE)]
    parts = []
    for start in range(0, len(needs), CHUNK):
        some = needs.take(np.arange(start, min(start + CHUNK, len(needs))))
        grades = grade_items(some, catalogue)
        near = DEPARTMENT_OF[catalogue.category] == DEPARTMENT_OF[some.category][:, None]
        bucket = np.where(grades >= 3, 0, np.where((grades > 0) | near, 1, 2))
        items = np.sort(_fill(bucket, quotas, per_query, rng), axis=1)
        rows = np.repeat(start + np.arange(len(some)), per_query)
        parts.append((rows, items.ravel(), np.take_along_axis(grades, items, 1).ravel()))
    rows, items, grades = (np.concatenate(column) for column in zip(*parts, strict=True))
    return rows, items, grades


def _fill(bucket: np.ndarray, quotas: list[int], per_query: int, rng: np.random.Generator) -> np.ndarray:
    """`per_query` columns of each row: random within a bucket, each bucket up to its quota, then the last bucket, then any."""
    key = rng.random(bucket.shape)
    last = len(quotas)
    priority = np.where(bucket == last, 1.0, 2.0) + key
    for place, quota in enumerate(quotas):
        within = np.where(bucket == place, key, np.inf)
        limit = np.partition(within, quota - 1, axis=1)[:, quota - 1 : quota]
        priority = np.where((within <= limit) & np.isfinite(within), key, priority)
    return np.argpartition(priority, per_query - 1, axis=1)[:, :per_query]


def blur_grades(grades: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Grades of which the share `noise` is one off, up or down (at the ends inwards)."""
    top = len(GAINS) - 1
    step = np.where(rng.random(len(grades)) < 0.5, 1, -1)
    step = np.where(grades == 0, 1, np.where(grades == top, -1, step))
    return np.where(rng.random(len(grades)) < noise, grades + step, grades).astype(np.int8)


def split_queries(num_queries: int, train_share: float, dev_share: float, rng: np.random.Generator) -> np.ndarray:
    """`train`, `dev` or `test` of each query; the shares are met exactly, up to rounding."""
    place = rng.permutation(num_queries) / num_queries
    return np.where(place < train_share, "train", np.where(place < train_share + dev_share, "dev", "test"))
