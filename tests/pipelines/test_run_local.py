"""What is refused before anything starts, and the small commands around a run."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from components.shared import spools, storage
from components.shared.errors import InputError
from components.shared.tracking import SpoolTracker
from components.shared.tracking_mlflow import Outcome
from pipelines import ir, outcome, recipe, run_local, status, sync
from pipelines.__main__ import main
from pipelines.progress import Progress
from pipelines.run_local import Places, Request, check, check_data, check_date, code_digest, git_revision

ROOT = Path(__file__).parents[2]


def shown(table) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    return [" ".join(line.split()) for line in out.getvalue().splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "/nowhere"], "data folder '/nowhere' does not exist; give the folder that holds dataset.yaml"),
        (["--recipe", "huge"], "recipe 'huge' is not known; use one of cluster, decoder_gpu, decoder_nodes, decoder_tiny"),
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


def test_the_first_day_and_today_are_days_that_count():
    today = datetime.now(UTC).date().isoformat()
    assert [check_date(day) for day in ("2000-01-01", today, "")] == ["2000-01-01", today, ""]


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


def test_the_digest_of_the_code_follows_names_and_content_of_python_files(tmp_path, monkeypatch):
    monkeypatch.setattr(run_local, "ROOT", tmp_path)
    place = tmp_path / "components" / "room"
    place.mkdir(parents=True)
    (place / "step.py").write_text("a")
    digests = [code_digest()]
    (place / "README.md").write_text("no code")
    assert code_digest() == digests[0]
    (place / "step.py").write_text("b")
    digests.append(code_digest())
    (place / "step.py").rename(place / "trainer.py")
    digests.append(code_digest())
    assert len(set(digests)) == 3


def test_a_run_without_a_workspace_lies_below_runs_by_the_name_of_its_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Request(recipe="somewhere/mine.yaml").place == tmp_path / "runs" / "mine"
    assert Request(recipe="tiny", workspace="w").place == tmp_path / "w"


def test_a_compiled_pipeline_with_a_fault_is_not_started(tmp_path, monkeypatch):
    monkeypatch.setattr(run_local, "_sender", lambda *_: pytest.fail("the run was started"))
    leak = "promotion.base_model=hf" + "_" + "a" * 20
    with pytest.raises(InputError, match=r"pipeline.yaml is unsound: default of parameter 'promotion.base_model' looks like a secret"):
        run_local.run_local(Request(workspace=str(tmp_path), overrides=[leak]), Console(file=io.StringIO()))
    assert not (tmp_path / "tracking").exists()


def test_what_the_user_put_into_the_environment_stays(monkeypatch):
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    defaults = run_local._defaults()
    assert "OMP_WAIT_POLICY" not in defaults
    assert defaults["DS_ACCELERATOR"] == "cpu"


@pytest.mark.parametrize(("raised", "code", "last"), [("ValueError: x [/b]", 1, "failed in teacher: ValueError: x [/b]"),
                                                      ("InputError: no card", 2, "error in teacher: no card")])  # fmt: skip
def test_a_failed_run_ends_with_where_and_why_and_what_waits(tmp_path, raised, code, last):
    places, out = Places(tmp_path, "r1"), io.StringIO()
    SpoolTracker(places.tracking / "teacher.jsonl", "teacher").write("start")
    progress = Progress(Console(file=io.StringIO()), {"train-teacher": ("Teacher", "teacher")}, lambda _: False)
    progress.feed("15:02:23.414 - INFO - Executing task 'train-teacher'\n")
    progress.feed(f"    {raised}\n")
    progress.close()
    for section in ("teacher", "other"):
        storage.write_bytes(str(places.failures / section / "attempt-1.md"), b"why")
    assert run_local._conclude(code, progress, places, Console(file=out, width=200)) == code
    lines = out.getvalue().splitlines()
    assert lines[0] == f"tracking: 1 lines wait; send them with `make sync` or `python -m pipelines sync {tmp_path}`"
    assert lines[1:] == [f"log: {tmp_path}/kfp/r1/run.log", f"page: {tmp_path}/failures/r1/teacher/attempt-1.md", last]


def test_a_finished_run_tells_the_decision_and_where_the_report_lies(tmp_path):
    storage.write_json(str(tmp_path / "decided.json"), {"outcome": "refuse", "reason": "does not beat [b]bm25[/b]"})
    for task, output, uri in (("promote-model", "promotion", "decided.json"), ("evaluate-rankings", "evaluation", "evaluated")):
        storage.write_json(str(tmp_path / "kfp/p" / task / output), {"uri": f"file://{tmp_path}/{uri}"})
    out = io.StringIO()
    outcome.show(tmp_path / "tracking", tmp_path / "kfp", Console(file=out, width=200))
    assert out.getvalue().splitlines()[-2:] == [
        "promotion: refuse: does not beat [b]bm25[/b]",
        f"report: {tmp_path}/evaluated/report.html",
    ]
    assert outcome.address_of(tmp_path / "kfp", "model") == ""


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


def test_status_of_a_run_that_goes_on_counts_what_ended_at_last(tmp_path):
    # an error may quote a text of the shop; U+2028 and U+0085 end no line of a spool, and half a line is still being written
    teacher = [
        {"kind": "start", "time": 86400.0}, {"kind": "end", "time": 86401.0, "status": "FAILED", "error": "query 'a\u2028b\x85c'"},
        {"kind": "start", "time": 86402.0}, {"kind": "end", "time": 86403.0, "status": "FINISHED"},
    ]  # fmt: skip
    folder = tmp_path / "tracking" / "r1"
    folder.mkdir(parents=True)
    written = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in teacher)
    (folder / "teacher.jsonl").write_text(written + '{"kind": "hea', encoding="utf-8")
    (folder / "pool.jsonl").write_text(json.dumps({"kind": "start", "time": 90000.0}) + "\n")
    assert status.row(folder) == ["r1", "1970-01-02 00:00:00", "RUNNING", "1", "0", "", "5"]
    assert outcome.headline(folder) == {}


def test_only_the_run_that_is_named_is_sent_and_its_spools_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    for run_id in ("r1", "r2"):
        write_run(tmp_path / "tiny", run_id, "FINISHED")
    assert sync.send_all(str(tmp_path / "tiny"), "r2") == Outcome(7, 0)
    unread = {folder.name: spools.num_unread(folder) for folder in sync.run_folders(str(tmp_path / "tiny"))}
    assert unread == {"r1": 7, "r2": 0}
    assert status.row(tmp_path / "tiny/tracking/r2")[2] == "FINISHED"  # a local spool is the run's own record


def test_following_a_run_ends_although_the_server_stays_away(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(sync, "ROUND_S", 0.01)
    write_run(tmp_path, "r1", "FINISHED")
    followed = sync.follow(str(tmp_path), "r1", io.StringIO(""))
    assert (followed.sent, followed.unsent, followed.trouble.split(":")[0]) == (0, 7, "MlflowException")


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
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        away.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        assert sync.send_all(str(tmp_path / "remote")).unsent == 7
    assert len(list((tmp_path / "remote").rglob("*.jsonl"))) == 3  # nobody else has these lines
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


def test_compile_for_a_cluster_takes_images_from_flags_before_the_environment_and_names_the_code(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RELEVANCE_CPU_IMAGE", "env/cpu@sha256:1")
    monkeypatch.setenv("RELEVANCE_GPU_IMAGE", "env/gpu@sha256:2")
    target = tmp_path / "c.yaml"
    options = ["compile", "--recipe", "cluster", "--profile", "cluster", "--output", str(target), "--workspace", "gs://b/w"]
    assert main([*options, "--gpu-image", "flag/gpu@sha256:3"]) == 0, capsys.readouterr().out
    containers = [one["container"] for one in ir.read_ir(target)["deploymentSpec"]["executors"].values()]
    assert {container["image"] for container in containers} == {"env/cpu@sha256:1", "flag/gpu@sha256:3"}
    for container in containers:
        tags = {one["name"]: one["value"] for one in container["env"]}
        assert (tags["RELEVANCE_RECIPE"], tags["RELEVANCE_CODE_DIGEST"]) == ("cluster", code_digest())
        assert tags.get("RELEVANCE_GIT_REVISION") == git_revision()


def test_lint_of_several_files_fails_when_any_of_them_does(tmp_path, capsys):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    ir.compile_pipeline(good, {**recipe.load("tiny"), "workspace": "w"})
    bad.write_text(yaml.safe_dump({**ir.read_ir(good), "schemaVersion": "2.0.0"}))
    assert main(["lint", str(bad), str(good)]) == 1
    assert capsys.readouterr().out == f"{bad}: schemaVersion '2.0.0' is not 2.1.0; the API server refuses it\n"


def test_storage_that_does_not_answer_ends_a_command_with_the_code_for_trying_again(monkeypatch, capsys):
    class Away:
        def find(self, path):
            raise ConnectionError(f"no route to {path}")

    monkeypatch.setattr(storage, "filesystem", lambda scheme: Away())
    assert main(["sync", "gs://bucket/w"]) == 75
    assert capsys.readouterr().err == (
        "temporary trouble: 'gs://bucket/w/tracking': storage did not answer (no route to bucket/w/tracking); try again\n"
    )


def test_show_prints_a_recipe_that_loads_again(tmp_path, capsys):
    assert main(["show", "--recipe", "esci_cpu", "--set", "teacher.seed=5"]) == 0
    (tmp_path / "again.yaml").write_text(capsys.readouterr().out)
    assert main(["show", "--recipe", str(tmp_path / "again.yaml")]) == 0
    assert "seed: 5" in capsys.readouterr().out
