"""Rows of tiny UBI logs, and how they are written."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.shared import tables, text
from components.shared.report import Report

DATA = Path(__file__).parents[3] / "shared" / "data"
DAY = "2024-05-10"


def search(query_id: str, query: str | None, client: str = "c1", time: Any = f"{DAY}T10:00:00.000Z") -> dict[str, Any]:
    return {"query_id": query_id, "user_query": query, "client_id": client, "timestamp": time}


def event(query_id: str | None, item: str = "i1", action: str = "impression", position: Any = 1, **more: Any) -> dict[str, Any]:
    row = {"query_id": query_id, "action_name": action, "client_id": "c1", "session_id": "s1", "timestamp": f"{DAY}T10:00:01.000Z"}
    attributes: dict[str, Any] = {"object": {"object_id": item}}
    if position is not None:
        attributes["position"] = {"ordinal": position}
    return {**row, "event_attributes": attributes, **more}


def write_lines(file: Path, rows: list[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    content = b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


def judged_table(queries: dict[str, tuple[str, str]]) -> pa.Table:
    """query_id -> (text, split)."""
    texts = pa.array([one[0] for one in queries.values()], pa.string())
    columns = {"query_id": pa.array(list(queries), pa.string()), "query_text": texts, "query": text.normalise_query(texts)}
    columns["frequency"] = pa.array([0] * len(queries), pa.int64())
    columns["segment"] = pa.array(["unseen"] * len(queries), pa.string())
    columns["kind"] = pa.array([None] * len(queries), pa.string())
    columns["split"] = pa.array([one[1] for one in queries.values()], pa.string())
    return pa.table(columns)


@dataclass
class Extracted:
    """What one extraction gave."""

    report: Report
    folder: Path

    def table(self, name: str) -> list[dict[str, Any]]:
        return tables.read_table(str(self.folder / name), name).to_pylist()

    def digest(self, name: str) -> str:
        return tables.Manifest.read(str(self.folder / name)).digest


def write_inputs(folder: Path, root: Path, judged: dict[str, tuple[str, str]], **log: Any) -> dict[str, str]:
    """Card and judged queries; the arguments of `run`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = {"file": "absent", "columns": {}}
    card = {"name": "tiny", "root": str(root), "grades": {"E": {"grade": 0, "gain": 1.0}}, "items": file, "queries": file}
    card |= {"judgments": file, "log": {"queries": "ubi_queries", "events": "ubi_events", **log}}
    (folder / "card.json").write_text(json.dumps(card))
    tables.write_table(str(folder / "judged"), "queries", judged_table(judged))
    outputs = {name: str(folder / name) for name in ("events", "interactions", "queries", "reformulations", "lineage")}
    return {"card": str(folder / "card.json"), "judged_queries": str(folder / "judged"), **outputs}


def write_parquet(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
