"""Reading tracking spools: which lines of `<workspace>/tracking/<run_id>/<section>.jsonl` were not sent yet.

How far a spool was sent stands beside it, in `<section>.sent`, with a digest of its first line: a step that runs again may write
its spool afresh, and then it counts as unsent from the start.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from components.shared import storage

INJECTION_BYTES = 200  # more than that line has
PIPELINE = "_pipeline"  # spool of the whole run: its tags and final status, written by whoever runs the pipeline


def spools(folder: Path) -> list[Path]:
    """All spools of one run, the run's own first."""
    return sorted(folder.glob("*.jsonl"), key=lambda spool: (spool.stem != PIPELINE, spool.name))


def read(spool: Path) -> list[dict[str, Any]]:
    """All whole lines of a spool, sent or not; a line still being written waits."""
    # bytes, because str.splitlines also cuts at rarer separators inside a user's text
    return [json.loads(line) for line in spool.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def unread(spool: Path, limit: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """At most `limit` whole lines that were not sent, and the state to note once they are; a line still being written waits."""
    lines: list[dict[str, Any]] = []
    with spool.open("rb") as handle:
        first = hashlib.sha256(handle.readline()).hexdigest()
        offset = _offset(spool, first)
        handle.seek(offset)
        while len(lines) < limit and (line := handle.readline()).endswith(b"\n"):
            lines.append(json.loads(line))
            offset += len(line)
    return lines, {"first": first, "offset": offset}


def injection(run_id: str) -> bytes:
    """A line that tells a later sender into which run of MLflow a spool belongs; nothing where kfp's plugin injected none."""
    return json.dumps({"kind": "injected", "time": time.time(), "run_id": run_id}).encode() + b"\n" if run_id else b""


def injected(spool: Path) -> str:
    """The run that `injection` named, in the last line; empty where it did not."""
    with spool.open("rb") as handle:
        handle.seek(max(0, spool.stat().st_size - INJECTION_BYTES))
        last = handle.read().splitlines()[-1:]
    return json.loads(last[0])["run_id"] if last and last[0].startswith(b'{"kind": "injected"') else ""


def mark(spool: Path, state: dict[str, Any]) -> None:
    """Note that a spool was sent up to `state`."""
    storage.write_json(str(_state_file(spool)), state)


def num_unread(folder: Path) -> int:
    """Lines of all spools of a folder that were not sent yet."""
    return sum(len(unread(spool, limit=1 << 60)[0]) for spool in spools(folder))


def fetch(workspace: str, into: Path) -> list[Path]:
    """Folders with the spools of a workspace: its own, or copies of what tasks left on remote storage."""
    if storage.is_local(workspace):
        root = storage.local_path(workspace) / "tracking"
        return sorted(path for path in root.glob("*") if path.is_dir())
    found = [uri.split("/")[-2:] for uri in storage.list_files(storage.join(workspace, "tracking")) if uri.endswith(".jsonl")]
    for run_id, name in found:
        copy = into / run_id / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(storage.read_bytes(storage.join(workspace, "tracking", run_id, name)))
    return sorted({into / run_id for run_id, _ in found})


def forget(workspace: str, folder: Path) -> None:
    """Delete what `fetch` copied from remote storage, once it was sent; a workspace on this disk keeps its spools."""
    if not storage.is_local(workspace):
        for spool in spools(folder):
            storage.remove(storage.join(workspace, "tracking", folder.name, spool.name))


def _state_file(spool: Path) -> Path:
    return spool.with_suffix(".sent")


def _offset(spool: Path, first: str) -> int:
    file = _state_file(spool)
    state = json.loads(file.read_text()) if file.exists() else {}
    return state["offset"] if state.get("first") == first and state["offset"] <= spool.stat().st_size else 0
