"""What the log's days have in common: who asks what how often, and what the shop's engine would answer."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from components.simulate_shop.catalogue import Catalogue, item_ids
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.judging import CHUNK
from components.simulate_shop.queries import Queries
from components.simulate_shop.relevance import GAINS, grade_items

SPARE_CANDIDATES = 15  # beyond one page
ENGINE_ERROR = 0.25  # spread of the engine's lasting mistake about a (query, item), in units of gain
CLIENTS_PER_SESSION = 0.6


@dataclass(frozen=True)
class World:
    """Arrays over queries: `candidates`, their true `grades` and `appeal` to the engine [queries, candidates]; `cumulative` popularity.

    `members[family_start[f] : family_start[f] + family_size[f]]` are the typed queries of family f.
    """

    item_ids: pa.Array
    text: pa.Array
    candidates: np.ndarray
    grades: np.ndarray
    appeal: np.ndarray
    cumulative: np.ndarray
    family: np.ndarray
    members: np.ndarray
    family_start: np.ndarray
    family_size: np.ndarray
    num_clients: int


def make_world(config: SimulateShopConfig, catalogue: Catalogue, queries: Queries, rng: np.random.Generator) -> World:
    """Draw the popularity of queries and the engine's view of them."""
    weights = popularity(config, queries, rng)
    candidates, grades, appeal = find_candidates(queries, catalogue, config.page_size, rng)
    typed = np.flatnonzero(weights > 0)
    members = typed[np.argsort(queries.family[typed], kind="stable")]
    sizes = np.bincount(queries.family[typed], minlength=queries.family.max() + 1)
    return World(
        item_ids=item_ids(len(catalogue)),
        text=queries.text,
        candidates=candidates,
        grades=grades,
        appeal=appeal,
        cumulative=np.cumsum(weights) / weights.sum(),
        family=queries.family,
        members=members,
        family_start=np.cumsum(sizes) - sizes,
        family_size=sizes,
        num_clients=max(10, int(CLIENTS_PER_SESSION * config.num_sessions)),
    )


def popularity(config: SimulateShopConfig, queries: Queries, rng: np.random.Generator) -> np.ndarray:
    """Relative frequency of each query as the first of a need: Zipf within judged and within log-only queries; 0 for the cold ones."""
    num_judged, num_other = queries.num_judged, len(queries) - queries.num_judged
    judged = _zipf(num_judged, config.zipf, rng)
    judged[rng.permutation(num_judged)[: int(config.cold_share * num_judged)]] = 0
    share = config.judged_traffic if num_other else 1.0
    others = _zipf(num_other, config.zipf, rng)
    return np.concatenate([share * judged / judged.sum(), (1 - share) * others / max(others.sum(), 1e-12)])


def _zipf(count: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    return (rng.permutation(count) + 1.0) ** -exponent


def find_candidates(
    queries: Queries, catalogue: Catalogue, page_size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The items that the engine finds best for each query, with true grades and the engine's scores."""
    width = min(len(catalogue), page_size + SPARE_CANDIDATES)
    parts = []
    for start in range(0, len(queries), CHUNK):
        grades = grade_items(queries.needs.take(np.arange(start, min(start + CHUNK, len(queries)))), catalogue)
        score = np.array(GAINS, np.float32)[grades] + ENGINE_ERROR * rng.standard_normal(grades.shape, np.float32)
        best = np.sort(np.argpartition(-score, width - 1, axis=1)[:, :width], axis=1)
        parts.append((best.astype(np.int32), np.take_along_axis(grades, best, 1), np.take_along_axis(score, best, 1)))
    candidates, grades, appeal = (np.concatenate(column) for column in zip(*parts, strict=True))
    return candidates, grades, appeal
