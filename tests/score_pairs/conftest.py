"""A shop of four queries and five items, and one random model of each kind."""

from datetime import date
from types import SimpleNamespace

import pyarrow as pa
import pytest
from encoder_folders import make_model

from components.shared import tables
from components.shared.models import folder

QUERIES = {"q1": "red shoes", "q2": "kettle", "q3": "garden hose", "q4": "blue sneakers"}
ITEMS = {"i1": "red running shoes", "i2": "blue kettle", "i3": "garden hose green", "i4": "blue sneakers", "i5": "red kettle"}


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    made = {kind: make_model(str(base / kind), kind) for kind in folder.KINDS}
    made["broken"] = make_model(str(base / "broken"), "cross_encoder", broken=True)
    made["with_neighbors"] = make_model(str(base / "with_neighbors"), "teacher", num_neighbors=2)
    return made


@pytest.fixture
def shop(tmp_path):
    """URIs of queries, items, pairs (3 shards), judgments and neighbors."""
    places = {name: str(tmp_path / name) for name in ("queries", "items", "pairs", "judgments", "neighbors")}
    none4, none5 = pa.nulls(4, pa.string()), pa.nulls(5, pa.string())
    names = list(QUERIES.values())
    queries = {"query_id": list(QUERIES), "query_text": names, "query": names, "frequency": [9, 5, 1, 0]}
    tables.write_table(places["queries"], "queries", pa.table({**queries, "segment": ["head"] * 4, "kind": none4, "split": none4}))
    items = {"item_id": list(ITEMS), "title": list(ITEMS.values()), "brand": none5, "category": none5, "color": none5}
    tables.write_table(places["items"], "items", pa.table({**items, "attributes": none5, "description": none5}))
    grid = [(query, item) for query in QUERIES for item in ITEMS]
    shard = {"q1": 0, "q2": 1, "q3": 2, "q4": 0}
    pairs = {
        "pair_id": [f"p{place:02d}" for place in range(len(grid))], "query_id": [one for one, _ in grid],
        "item_id": [two for _, two in grid], "source": ["lexical"] * len(grid),
        "shard": pa.array([shard[one] for one, _ in grid], pa.int32()),
    }  # fmt: skip
    tables.write_table(places["pairs"], "pairs", pa.table(pairs))
    split = {"q1": "train", "q2": "dev", "q3": "test", "q4": "test"}
    judgments = {
        "query_id": pairs["query_id"], "item_id": pairs["item_id"], "grade": pa.array([0] * 20, pa.int32()), "gain": [0.0] * 20,
        "judged_at": pa.nulls(20, pa.date32()), "split": [split[one] for one, _ in grid],
    }  # fmt: skip
    tables.write_table(places["judgments"], "judgments", pa.table(judgments))
    neighbors = {
        "snapshot": [date(2026, 1, 1)] * 2, "side": ["query", "item"], "key": ["red shoes", "i4"], "rank": pa.array([1, 1], pa.int32()),
        "neighbor": ["i4", "red shoes"], "text": ["blue sneakers", "red shoes"], "corrected_impressions": [9.0, 9.0],
        "clicks": [5, 5], "clients": [4, 4], "rate": [0.5, 0.5], "lower_bound": [0.3, 0.3],
        "left_out": ["", ""], "upper_bound": [0.7, 0.7],
    }  # fmt: skip
    tables.write_table(places["neighbors"], "neighbors", pa.table(neighbors))
    return SimpleNamespace(**places)
