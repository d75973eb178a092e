"""Rows and Arrow tables of a small shop."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.counts import advance, begin
from components.retrieve_neighbors.evidence import collect_evidence
from components.retrieve_neighbors.snapshots import make_snapshots
from components.shared.schema import TABLES
from components.shared.warehouse import Warehouse

Rows = list[dict[str, Any]]
FIRST_DAY = date(2026, 9, 1)


def shown(
    query: str,
    item: str,
    day: date,
    impressions: int,
    clicks: int,
    corrected: float | None = None,
    clients: int = 9,
    credit: float | None = None,
) -> dict[str, Any]:
    """One row of `interactions`; corrected impressions and clicks equal the counted ones unless given."""
    return {
        "query": query, "item_id": item, "day": day, "impressions": impressions, "clicks": clicks, "add_to_carts": 0, "purchases": 0,
        "clients": clients, "corrected_impressions": float(impressions) if corrected is None else corrected,
        "corrected_clicks": float(clicks) if credit is None else credit,
    }  # fmt: skip


def arrow(name: str, rows: Rows) -> pa.Table:
    schema = TABLES[name].schema
    return pa.Table.from_pylist([{column: row.get(column) for column in schema.names} for row in rows], schema)


def random_log(seed: int, num_days: int) -> Rows:
    """120 pairs on each day, shown up to 59 times, clicked at 0.15."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(num_days):
        for query in range(12):
            for item in range(10):
                seen = int(rng.integers(1, 60))
                rows.append(
                    shown(
                        f"q{query}",
                        f"i{item}",
                        FIRST_DAY + timedelta(days=number),
                        seen,
                        int(rng.binomial(seen, 0.15)),
                        corrected=seen * float(rng.random()),
                    )
                )
    return rows


def evidence_of(rows: Rows, config: RetrieveNeighborsConfig, until: date = FIRST_DAY + timedelta(days=1)) -> pa.Table:
    """Evidence of all pairs from the days before `until`."""
    names = [({row["item_id"] for row in rows}, True), ({row["query"] for row in rows}, False)]
    known = [{"is_item": is_item, "name": name} for found, is_item in names for name in found]
    with duckdb.connect() as connection:
        warehouse = Warehouse(connection)
        warehouse.put("interactions", arrow("interactions", rows))
        warehouse.put("texts", pa.Table.from_pylist(known))
        advance(warehouse, begin(warehouse, FIRST_DAY, config.half_life_days), until)
        return collect_evidence(warehouse, config)


def snapshot_of(
    rows: Rows, config: RetrieveNeighborsConfig, queries: Iterable[str] | None = None, items: Iterable[str] | None = None
) -> pa.Table:
    """Table `neighbors` of the morning after the first day, without files; known is what the rows name unless given."""
    items = sorted({row["item_id"] for row in rows} if items is None else items)
    queries = sorted({row["query"] for row in rows} if queries is None else queries)
    texts = [{"is_item": True, "name": one, "text": f"Title of {one}"} for one in items]
    texts += [{"is_item": False, "name": one, "text": one} for one in queries]
    with duckdb.connect() as connection:
        warehouse = Warehouse(connection)
        warehouse.put("interactions", arrow("interactions", rows))
        warehouse.put("texts", pa.Table.from_pylist(texts))
        span = begin(warehouse, FIRST_DAY, config.half_life_days)
        return make_snapshots(warehouse, span, [FIRST_DAY + timedelta(days=1)], config)[1][0]
