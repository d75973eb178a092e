"""A tiny data folder, in any of the file kinds, that tests then spoil."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from components.import_dataset.config import ImportDatasetConfig
from components.import_dataset.step import run
from components.shared.report import Report
from components.shared.tables import read_table
from components.shared.tracking import NullTracker

CARD = """\
name: tiny
grades:
  bad: {grade: 0, gain: 0.0}
  good: {grade: 1, gain: 1.0}
judged_at: 2026-09-30
items: {file: items, columns: {item_id: sku, title: name, attributes: [size, fabric]}}
queries: {file: queries, columns: {query_id: id, query_text: text}}
judgments: {file: judgments, columns: {query_id: id, item_id: sku, grade: label}}
log: {queries: searches, events: events}
"""
ITEMS = [
    {"sku": "007", "name": "Red  shoe", "size": "42", "fabric": "canvas"},
    {"sku": "1", "name": "Blue\tboot", "size": None, "fabric": "wool"},
    {"sku": "2", "name": "Sock", "size": None, "fabric": None},
]
QUERIES = [{"id": "q1", "text": " Red SHOE "}, {"id": "q2", "text": "boots"}]
JUDGMENTS = [
    {"id": "q1", "sku": "007", "label": "good"},
    {"id": "q1", "sku": "1", "label": "bad"},
    {"id": "q2", "sku": "1", "label": "good"},
]


def write_rows(place: Path, rows: list[dict[str, Any]]) -> None:
    """Rows in the kind that the suffix names."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), place)
    elif place.suffix == ".csv":
        pacsv.write_csv(pa.Table.from_pylist(rows), place)
    else:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        place.write_bytes(gzip.compress(lines) if place.suffix == ".gz" else lines)


@dataclass(frozen=True)
class Folder:
    """A data folder and where its import goes."""

    root: Path
    out: Path

    def write(self, suffix: str = ".parquet", card: str | None = CARD, **tables: list[dict[str, Any]]) -> "Folder":
        for name, rows in {"items": ITEMS, "queries": QUERIES, "judgments": JUDGMENTS, **tables}.items():
            write_rows(self.root / f"{name}{suffix}", rows)
        for name in ("searches", "events"):
            write_rows(self.root / name / "dt=2026-09-01" / "part-0.parquet", [{"query_id": "a"}])
        if card is not None:
            (self.root / "dataset.yaml").write_text(card)
        return self

    def run(self, **settings: Any) -> Report:
        return run(ImportDatasetConfig(**settings), dataset=str(self.root), tracker=NullTracker(), **self.places())

    def places(self) -> dict[str, str]:
        return {name: str(self.out / name) for name in ("card", "items", "judged_queries", "judgments")}

    def rows(self, name: str, *columns: str) -> list[tuple[Any, ...]]:
        schema = "queries" if name == "judged_queries" else name
        table = read_table(str(self.out / name), schema).select(list(columns))
        return list(zip(*table.to_pydict().values(), strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Folder]:
    return Folder(tmp_path / "data", tmp_path / "out").write
