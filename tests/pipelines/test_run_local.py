"""What is refused before anything starts, and the small commands around a run."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from components.shared import spools
from components.shared.errors import InputError
from components.shared.tracking import SpoolTracker
from components.shared.tracking_mlflow import Outcome
from pipelines import outcome, status, sync
from pipelines.__main__ import main
from pipelines.run_local import Request, check, check_data, check_date, code_digest, git_revision

ROOT = Path(__file__).parents[2]


def shown(table) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    return [" ".join(line.split()) for line in out.getvalue().splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "/nowhere"], "data folder '/nowhere' does not exist; give the folder that holds dataset.yaml"),
        (["--recipe", "huge"], "recipe 'huge' is not known; use one of cluster, esci_cpu, single_gpu, tiny"),
        (["--set", "teacher.epochs=3"], "unknown key 'epochs'; known keys"),
        (["--date", "yesterday"], "date 'yesterday' is not a day; write YYYY-MM-DD"),
        (["--workspace", "gs://bucket/x"], "is not on this machine's disk"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2_before_anything_starts(tmp_path, options, message):
    command = [sys.executable, "-m", "pipelines", "run", "--workspace", str(tmp_path / "work"), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "work").exists()


def processes_mentioning(text: str) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text in (place / "cmdline").read_text() and int(place.name) != os.getpid():
                found.append(int(place.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_a_stopped_run_leaves_no_process_behind_and_says_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "pipelines", "run", "--workspace", str(tmp_path / "work"), "--set", "shop.num_sessions=200000"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as running:
        assert running.stdout is not None
        assert any("Shop" in line for line in running.stdout)
        running.send_signal(signal.SIGTERM)  # becomes what Ctrl-C is
        rest, errors = running.communicate(timeout=90)
    assert (running.returncode, errors) == (130, "")
    assert rest.splitlines()[-1] == "interrupted; run it again to go on: what is finished is reused"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and processes_mentioning(str(tmp_path)):
        time.sleep(0.2)
    assert processes_mentioning(str(tmp_path)) == []
    ((row),) = [status.row(folder) for folder in sync.run_folders(str(tmp_path / "work"))]
    assert row[2] == "FAILED"


def test_a_folder_without_a_card_names_the_shapes_that_are_known(tmp_path):
    with pytest.raises(InputError, match="empty"):
        check_data(str(tmp_path))
    (tmp_path / "clicks.csv").write_text("a,b\n")
    with pytest.raises(InputError, match=r"has no dataset.yaml and its files fit no known shape: esci"):
        check_data(str(tmp_path))
    with pytest.raises(InputError, match="is a file"):
        check_data(str(tmp_path / "clicks.csv"))
    assert check_data("") == ""


@pytest.mark.parametrize("day", ["1999-12-31", (datetime.now(UTC) + timedelta(days=2)).date().isoformat()])
def test_a_date_out_of_bounds_is_refused(day):
    with pytest.raises(InputError, match=f"date '{day}' is not between 2000-01-01 and today"):
        check_date(day)


@pytest.mark.parametrize("day", ["[[ScheduledTime.2006-01-02]]", "{{$.scheduledTime}}", "2026-13-01"])
def test_a_macro_that_nobody_filled_in_is_refused(day):
    with pytest.raises(InputError, match="is not a day"):
        check_date(day)
    assert check_date("2026-09-07") == "2026-09-07"


def test_text_that_kfp_local_would_replace_is_refused(tmp_path):
    with pytest.raises(InputError, match="python3"):
        check(Request(workspace=str(tmp_path / "python3.11" / "work")))


def test_arguments_are_the_resolved_recipe_and_addresses(tmp_path):
    arguments = check(Request(workspace=str(tmp_path), overrides=["teacher.num_epochs=9"], date="2026-09-05"))
    assert arguments["teacher"]["num_epochs"] == 9
    assert (arguments["workspace"], arguments["data"], arguments["date"]) == (tmp_path.as_uri(), "", "2026-09-05")


def test_what_made_a_run_is_named():
    assert code_digest() == code_digest()
    assert len(code_digest()) == 16
    assert len(git_revision().removesuffix("-dirty")) in (0, 40)


def test_headline_metrics_become_a_row_per_system_with_intervals(tmp_path):
    tracker = SpoolTracker(tmp_path / "evaluation.jsonl", "evaluation")
    tracker.headline(
        {"teacher.ndcg@10": 0.9, "teacher.ndcg@10.low": 0.85, "teacher.ndcg@10.high": 0.95, "bm25.ndcg@10": 0.5, "bm25.auc": 1}
    )
    lines = shown(outcome.table_of(outcome.headline(tmp_path)))
    assert lines[0] == "system ndcg@10 auc"
    assert lines[-2:] == ["teacher 0.900 (0.850-0.950)", "bm25 0.500 1.000"]


def write_run(workspace: Path, run_id: str, end: str) -> None:
    whole = SpoolTracker(workspace / "tracking" / run_id / f"{spools.PIPELINE}.jsonl", spools.PIPELINE)
    whole.write("start")
    for section, ended in (("shop", "FINISHED"), ("teacher", end)):
        step = SpoolTracker(workspace / "tracking" / run_id / f"{section}.jsonl", section)
        step.write("start")
        step.write("end", status=ended)
    SpoolTracker(workspace / "tracking" / run_id / "shop.jsonl", "shop").tags({"reused": "true"})
    whole.write("end", status=end)


@pytest.mark.parametrize("place", ["", "tiny"])
def test_status_lists_runs_of_a_workspace_or_of_a_folder_of_workspaces(tmp_path, place):
    write_run(tmp_path / "tiny", "20260901-000000-tiny", "FINISHED")
    write_run(tmp_path / "tiny", "20260902-000000-tiny", "FAILED")
    rows = [status.row(folder) for folder in sync.run_folders(str(tmp_path / place))]
    assert [[row[0], *row[2:]] for row in rows] == [
        ["20260901-000000-tiny", "FINISHED", "2", "1", "", "7"],
        ["20260902-000000-tiny", "FAILED", "2", "1", "teacher", "7"],
    ]
    assert status.table(str(tmp_path / place)).row_count == 2


def test_sync_sends_what_waits_once_and_follow_ends_with_its_input(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    write_run(tmp_path / "tiny", "20260901-000000-tiny", "FINISHED")
    followed = sync.follow(str(tmp_path / "tiny"), "20260901-000000-tiny", io.StringIO(""))
    assert (followed.sent, followed.unsent, followed.trouble) == (7, 0, "")
    write_run(tmp_path / "tiny", "20260902-000000-tiny", "FAILED")
    assert main(["sync", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "7 lines sent, 0 wait\n"
    assert main(["sync", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "0 lines sent, 0 wait\n"


def test_sync_says_what_waits_when_the_server_is_away(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    write_run(tmp_path / "tiny", "20260901-000000-tiny", "FINISHED")
    assert main(["sync", str(tmp_path)]) == 75
    assert capsys.readouterr().out.startswith("0 lines sent, 7 wait MlflowException")


def test_what_tasks_left_on_remote_storage_is_sent_and_then_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    write_run(tmp_path / "remote", "20260901-000000-cluster", "FINISHED")
    monkeypatch.setattr("components.shared.storage.is_local", lambda uri: "remote" not in uri)
    with pytest.raises(InputError, match="is remote"):
        status.table(str(tmp_path / "remote"))
    assert sync.send_all(str(tmp_path / "remote")) == Outcome(7, 0)
    assert not list((tmp_path / "remote").rglob("*.jsonl"))
    assert sync.send_all(str(tmp_path / "remote")) == Outcome(0, 0)


def test_compile_and_lint_from_the_command_line(tmp_path, capsys):
    target = tmp_path / "p.yaml"
    assert main(["compile", "--recipe", "tiny", "--output", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert main(["lint", str(target)]) == 0
    target.write_text(
        target.read_text().replace("componentRef:\n          name: comp-build-pool", "componentRef:\n          name: comp-pool")
    )
    assert main(["lint", str(target)]) == 1
    assert "component 'comp-pool' does not exist" in capsys.readouterr().out
    assert main(["compile", "--profile", "cluster", "--output", str(target), "--cpu-image", "x:latest"]) == 2


def test_show_prints_a_recipe_that_loads_again(tmp_path, capsys):
    assert main(["show", "--recipe", "esci_cpu", "--set", "teacher.seed=5"]) == 0
    (tmp_path / "again.yaml").write_text(capsys.readouterr().out)
    assert main(["show", "--recipe", str(tmp_path / "again.yaml")]) == 0
    assert "seed: 5" in capsys.readouterr().out
