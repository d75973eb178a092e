"""Rows and Arrow tables of a small shop."""

from datetime import date
from typing import Any

import pyarrow as pa

from components.shared.schema import TABLES

Rows = list[dict[str, Any]]
FIRST_DAY = date(2026, 9, 1)


def shown(
    query: str, item: str, day: date, impressions: int, clicks: int, corrected: float | None = None, clients: int = 9
) -> dict[str, Any]:
    """One row of `interactions`; corrected impressions equal impressions unless given."""
    return {
        "query": query, "item_id": item, "day": day, "impressions": impressions, "clicks": clicks, "add_to_carts": 0, "purchases": 0,
        "clients": clients, "corrected_impressions": float(impressions) if corrected is None else corrected,
    }  # fmt: skip


def arrow(name: str, rows: Rows) -> pa.Table:
    schema = TABLES[name].schema
    return pa.Table.from_pylist([{column: row.get(column) for column in schema.names} for row in rows], schema)
