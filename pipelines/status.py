"""Which runs a workspace holds, from their spools alone; or which a Kubeflow holds."""

from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from rich.table import Table

from components.shared import spools
from components.shared.errors import InputError
from pipelines.kubeflow import Kubeflow, arguments_of, version_of
from pipelines.sync import run_folders

NEWEST = 50


def table(workspace: str) -> Table:
    """One row per run, oldest first."""
    shown = Table("run", "started (UTC)", "status", "steps", "reused", "failed", "unsent")
    for folder in sorted(run_folders(workspace), key=lambda folder: folder.name):
        shown.add_row(*row(folder))
    return shown


def server_table(server: Kubeflow, experiment: str) -> Table:
    """The newest runs of an experiment on a Kubeflow, newest first; unlike `submit`, this does not make the experiment.

    Raises:
        InputError: when there is no such experiment.
    """
    found = server.find_experiment(experiment)
    if not found:
        raise InputError(f"{server.host}: no experiment '{experiment}'; give --experiment NAME, and --namespace on a multi-user Kubeflow")
    shown = Table("run", "name", "state", "date", "created (UTC)", "version")
    for run in islice(server.runs(found), NEWEST):
        created = f"{run.created_at:%Y-%m-%d %H:%M:%S}" if run.created_at else ""
        day = str(arguments_of(run).get("date", ""))
        shown.add_row(run.run_id, run.display_name, run.state or "PENDING", day, created, version_of(run)[1])
    return shown


def row(folder: Path) -> list[str]:
    """Run id, start, status, number of ended steps, how many were reused, which failed, lines that MLflow has not got."""
    lines = {spool.stem: spools.read(spool) for spool in spools.spools(folder)}
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
