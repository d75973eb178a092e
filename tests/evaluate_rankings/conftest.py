"""The judged shop on disk."""

import numpy as np
import pyarrow as pa
import pytest
from judged_shop import EVIL, GAINS, NUM_ITEMS, NUM_QUERIES, card_of, grades, ranking

from components.shared import storage, tables
from components.shared.schema import ITEMS, JUDGMENTS, QUERIES, RANKINGS


@pytest.fixture
def shop(tmp_path):
    """URIs of card, judgments, queries, items and of rankings by system."""
    pairs = ranking("x", 0)
    grade = pa.array(grades().ravel(), pa.int32())
    split = np.where(np.arange(NUM_QUERIES) < 4, "train", np.where(np.arange(NUM_QUERIES) < 12, "dev", "test"))
    judged = {
        "query_id": pairs["query_id"], "item_id": pairs["item_id"], "grade": grade, "gain": pa.array(GAINS).take(grade),
        "judged_at": pa.nulls(len(grade), pa.date32()), "split": np.repeat(split, NUM_ITEMS),
        "votes": pa.nulls(len(grade), JUDGMENTS.schema.field("votes").type),
    }  # fmt: skip
    queries = [
        {"query_id": f"q{n:02}", "query_text": f"{EVIL} {n}", "query": f"red shoe {n % NUM_ITEMS}", "frequency": n,
         "segment": "head" if n % 2 else "tail", "kind": "negation" if n % 3 == 0 else None, "split": None}
        for n in range(NUM_QUERIES)
    ]  # fmt: skip
    items = [{**dict.fromkeys(ITEMS.schema.names), "item_id": f"i{n}", "title": f"{EVIL} number {n}"} for n in range(NUM_ITEMS)]
    places = {name: str(tmp_path / name) for name in ("judgments", "queries", "items")}
    tables.write_table(places["judgments"], "judgments", pa.table(judged, schema=JUDGMENTS.schema))
    tables.write_table(places["queries"], "queries", pa.Table.from_pylist(queries, schema=QUERIES.schema))
    tables.write_table(places["items"], "items", pa.Table.from_pylist(items, schema=ITEMS.schema))
    for system, noise in (("cross_encoder", 0.5), ("teacher", 0.2), ("untrained", 50.0)):
        places[system] = str(tmp_path / system)
        tables.write_table(places[system], "rankings", ranking(system, noise))
    places["champion"] = str(tmp_path / "champion")
    tables.write_table(places["champion"], "rankings", RANKINGS.schema.empty_table())
    places["card"] = str(tmp_path / "card.json")
    storage.write_json(places["card"], card_of())
    return places
