"""A small shop's tables, written where a step can read them."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from neighbor_shop import Rows, arrow

from components.shared.tables import write_table


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Writes the four inputs; items, queries and days of judgment are made from the interactions unless given."""
    count = iter(range(100))

    def _write(
        interactions: Rows, items: list[str] | None = None, queries: list[str] | None = None, judged: tuple[date | None, ...] = ()
    ) -> dict[str, str]:
        items = items if items is not None else sorted({row["item_id"] for row in interactions})
        queries = queries if queries is not None else sorted({row["query"] for row in interactions})
        rows = {
            "interactions": interactions,
            "items": [{"item_id": item, "title": f"Title of {item}"} for item in items],
            "queries": [{"query_id": f"q-{q}", "query_text": q, "query": q, "frequency": 1, "segment": "head"} for q in queries],
            "judgments": [
                {"query_id": "q", "item_id": f"i{n}", "grade": 1, "gain": 1.0, "judged_at": day, "split": "train"}
                for n, day in enumerate(judged)
            ],
        }
        folder = tmp_path / f"given-{next(count)}"
        for name, table in rows.items():
            write_table(str(folder / name), name, arrow(name, table))
        return {name: str(folder / name) for name in rows}

    return _write
