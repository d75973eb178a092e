"""The newest finished run is found by what its tasks noted, wherever the workspace lies now."""

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from components.shared import spools, storage
from components.shared.errors import InputError
from components.shared.tables import write_table
from components.shared.tracking import SpoolTracker
from pipelines.finished_run import finished_run

REPORT = {"read": 3, "kept": 2, "dropped": {"bot": 1}, "quarantined": 0, "metrics": {"days": 2.0}, "notes": {}}


def note_run(workspace: Path, run_id: str, status: str, fingerprint: str) -> None:
    """A run with one section, whose step began twice."""
    whole = SpoolTracker(workspace / "tracking" / run_id / f"{spools.PIPELINE}.jsonl", spools.PIPELINE)
    whole.write("start")
    logs = SpoolTracker(workspace / "tracking" / run_id / "logs.jsonl", "logs")
    for folder in ("killed", fingerprint):
        logs.write("start", folder=f"file://{workspace}/logs/{folder}")
        logs.params({"min_clients": 5, "client_salt_variable": "SALT"})
    logs.write("end", status=status)
    whole.write("end", status=status)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Two finished runs and a newer failed one; the first wrote a table."""
    place = tmp_path / "work"
    for run_id, status, fingerprint in (("r1", "FINISHED", "aa"), ("r2", "FINISHED", "bb"), ("r3", "FAILED", "cc")):
        note_run(place, run_id, status, fingerprint)
        storage.write_json(f"{place}/logs/{fingerprint}/finished.json", {"report": REPORT, "seconds": 1.0})
    seen = pa.table({"query": ["red"], "next_query": ["red shoes"], "times": [4], "clients": [3], "satisfied": [1]})
    write_table(f"{place}/logs/aa/reformulations", "reformulations", seen)
    return place


def test_the_newest_finished_run_counts_unless_another_is_named(workspace: Path):
    newest = finished_run(str(workspace))
    assert (newest.run_id, newest.folders) == ("r2", {"logs": f"file://{workspace}/logs/bb"})
    assert newest.settings["logs"] == {"min_clients": 5, "client_salt_variable": "SALT"}
    assert (newest.report("logs").dropped, newest.report("logs").metrics) == ({"bot": 1}, {"days": 2.0})
    named = finished_run(str(workspace), "r1")
    assert named.table("logs", "reformulations").to_pylist()[0]["next_query"] == "red shoes"


def test_a_workspace_can_be_looked_at_where_it_was_copied_to(workspace: Path, tmp_path: Path):
    shutil.move(workspace, tmp_path / "copy")
    assert finished_run(str(tmp_path / "copy"), "r1").table("logs", "reformulations").num_rows == 1


def test_what_is_not_there_is_said(workspace: Path, tmp_path: Path):
    with pytest.raises(InputError, match="run 'r2' has no section 'teacher'; it has logs"):
        finished_run(str(workspace)).place("teacher", "model")
    with pytest.raises(InputError, match="has no finished run 'r3'"):
        finished_run(str(workspace), "r3")
    with pytest.raises(InputError, match="has no finished run;"):
        finished_run(str(tmp_path / "empty"))
    with pytest.raises(InputError, match="workspace 'gs://bucket/work' is remote"):
        finished_run("gs://bucket/work")
