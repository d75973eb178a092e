"""How far the newest snapshot reaches: neighbors per key, evidence against its threshold, queries by how often they are typed."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.evidence import is_accepted
from components.retrieve_neighbors.ranking import FIRST_ORDER
from components.shared.schema import SEGMENTS

NUM_BINS = 40


@dataclass(frozen=True)
class Coverage:
    """Counts of the newest snapshot, first order.

    Attributes:
        listed: side -> [num_neighbors + 2] known queries (items) with 0, 1, ... neighbors.
        segments: head, torso, tail or unseen -> (queries with a neighbor, known queries).
        edges: [bins + 1] of the strength (lower bound, or published rate) of clicked pairs.
        accepted: [bins] clicked pairs that are neighbors, before each list is cut.
        refused: [bins] clicked pairs that are not.
    """

    listed: dict[str, np.ndarray]
    segments: dict[str, tuple[int, int]]
    edges: np.ndarray
    accepted: np.ndarray
    refused: np.ndarray

    def metrics(self) -> dict[str, float]:
        """coverage.<segment>: share of its known queries that have a neighbor, 0 to 1; segments without a query are left out."""
        return {f"coverage.{name}": have / known for name, (have, known) in self.segments.items() if known}


def measure(newest: pa.Table, evidence: pa.Table, queries: pa.Table, items: pa.Table, config: RetrieveNeighborsConfig) -> Coverage:
    """Of table `neighbors` of one snapshot, the evidence it was chosen from, and tables `queries` and `items`."""
    keys = {"query": pc.unique(queries["query"]), "item": items["item_id"]}
    counts = {side: pc.value_counts(newest.filter(pc.equal(newest["side"], side))["key"]) for side in FIRST_ORDER}
    listed = {side: _listed(counts[side].field("counts"), len(keys[side]), config.num_neighbors) for side in FIRST_ORDER}
    clicked = pc.greater(evidence["clicks"], 0)
    strength, kept = (evidence.filter(clicked)["strength"].to_numpy(), is_accepted(evidence, config).filter(clicked).to_numpy())
    edges = np.linspace(0, max(strength.max(initial=0), 1.25 * threshold(config), 0.01), NUM_BINS + 1)
    accepted, refused = (np.histogram(strength[rows], edges)[0] for rows in (kept, ~kept))
    return Coverage(listed, _segments(queries, counts["query"].field("values")), edges, accepted, refused)


def threshold(config: RetrieveNeighborsConfig) -> float:
    """Least strength of a neighbor."""
    return config.min_rate if config.rule == "published" else config.min_lower_bound


def _listed(counts: pa.Array, num_keys: int, num_neighbors: int) -> np.ndarray:
    found = np.bincount(counts.to_numpy(), minlength=num_neighbors + 2)
    found[0] = num_keys - len(counts)
    return found


def _segments(queries: pa.Table, having: pa.Array) -> dict[str, tuple[int, int]]:
    """Several judged queries may be one text: it counts once."""
    known = queries.group_by(["query", "segment"]).aggregate([])
    has = pc.is_in(known["query"], having)
    ours = {name: pc.equal(known["segment"], name) for name in SEGMENTS}
    return {name: (pc.sum(pc.and_(has, mine)).as_py() or 0, pc.sum(mine).as_py() or 0) for name, mine in ours.items()}
