"""Which runs a workspace holds, from their spools alone: no server is asked."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from components.shared import spools
from pipelines.sync import run_folders


def table(workspace: str) -> Table:
    """One row per run, oldest first."""
    shown = Table("run", "started (UTC)", "status", "steps", "reused", "failed", "unsent")
    for folder in sorted(run_folders(workspace), key=lambda folder: folder.name):
        shown.add_row(*row(folder))
    return shown


def row(folder: Path) -> list[str]:
    """Run id, start, status, number of ended steps, how many were reused, which failed, lines that MLflow has not got."""
    lines = {spool.stem: [json.loads(line) for line in spool.read_text(encoding="utf-8").splitlines()] for spool in spools.spools(folder)}
    whole = lines.pop(spools.PIPELINE, [])
    ends = {section: _last(content, "end").get("status", "RUNNING") for section, content in lines.items()}
    reused = sum(any(line["kind"] == "tags" and "reused" in line["values"] for line in content) for content in lines.values())
    failed = ", ".join(section for section, ended in ends.items() if ended == "FAILED")
    first = min((line["time"] for content in [whole, *lines.values()] for line in content), default=0.0)
    started = datetime.fromtimestamp(whole[0]["time"] if whole else first, UTC)
    status = _last(whole, "end").get("status", "RUNNING")
    num_ended = sum(ended != "RUNNING" for ended in ends.values())
    return [folder.name, f"{started:%Y-%m-%d %H:%M:%S}", status, str(num_ended), str(reused), failed, str(spools.num_unread(folder))]


def _last(lines: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next((line for line in reversed(lines) if line["kind"] == kind), {})
