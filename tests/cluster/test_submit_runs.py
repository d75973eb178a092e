"""`submit`, `backfill`, `resume` and `status --host`: kfp's own client against a server that is as strict as the real one."""

import os
import socket
import subprocess
import sys

import pytest
from submission_case import CPU, REVISION, WHAT

from components.shared import storage
from components.shared.errors import InputError
from pipelines import recipe, submit
from pipelines.kubeflow import Kubeflow

DAYS = ["--from", "2026-11-01", "--to", "2026-11-03"]


def test_submit_creates_pipeline_version_and_run_with_our_arguments(server, terminal):
    shown = terminal.ok("submit", *WHAT, "--date", "2026-11-20", "--set", "teacher.num_epochs=7")
    assert server.writes() == ["POST pipelines", "POST pipelines/upload_version", "POST experiments", "POST runs"]
    (pipeline,), (version,), (run,) = (server.stored[table] for table in ("pipelines", "versions", "runs"))
    assert pipeline["display_name"] == server.stored["experiments"][0]["display_name"] == "relevance-distillation"
    settings = recipe.load("tiny", ["teacher.num_epochs=7"])
    assert run["runtime_config"]["parameters"] == {**settings, "workspace": "gs://bucket/nightly", "data": "", "date": "2026-11-20"}
    assert run["pipeline_version_reference"] == {
        "pipeline_id": pipeline["pipeline_id"],
        "pipeline_version_id": version["pipeline_version_id"],
    }
    assert run["experiment_id"] == server.stored["experiments"][0]["experiment_id"]
    assert run["display_name"] == "tiny 2026-11-20"
    tag = version["display_name"]
    assert shown.splitlines() == [f"{run['run_id']}: version {tag}", f"{server.host}/#/runs/details/{run['run_id']}"]


def test_runs_have_the_account_that_is_named_or_the_servers_own_choice(server, terminal, monkeypatch):
    terminal.ok("submit", *WHAT)
    monkeypatch.setenv("RELEVANCE_SERVICE_ACCOUNT", "relevance-pipeline")
    terminal.ok("submit", *WHAT)
    terminal.ok("backfill", *WHAT, *DAYS[:2], "--to", "2026-11-01", "--service-account", "other")
    assert [run.get("service_account") for run in server.stored["runs"]] == [None, "relevance-pipeline", "other"]


def test_a_version_carries_revision_digest_images_and_its_recipe_as_defaults_but_no_date(server, terminal):
    terminal.ok("submit", *WHAT, "--date", "2026-11-20")
    (version,) = server.stored["versions"]
    revision, digest = version["display_name"].split("-")
    assert revision == REVISION[:12]
    assert f"git {REVISION}, content sha256:{digest}" in version["description"]
    assert version["description"].endswith("code c0de, recipe tiny, profile cluster")
    spec = version["pipeline_spec"]
    assert spec["pipeline_spec"]["deploymentSpec"]["executors"]["exec-build-pool"]["container"]["image"] == CPU
    assert "kubernetes" in spec["platform_spec"]["platforms"]
    parameters = spec["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert parameters["teacher"]["defaultValue"]["num_epochs"] == recipe.load("tiny")["teacher"]["num_epochs"]
    assert parameters["date"].get("defaultValue", "") == ""


def test_unchanged_content_is_uploaded_once_whatever_the_date(server, terminal):
    for extra in ("2026-11-20", "2026-11-21"):
        terminal.ok("submit", *WHAT, "--date", extra)
    assert [len(server.stored[table]) for table in ("pipelines", "experiments", "versions", "runs")] == [1, 1, 1, 2]
    assert len({run["pipeline_version_reference"]["pipeline_version_id"] for run in server.stored["runs"]}) == 1


def test_changed_content_makes_a_version_of_its_own_and_old_ones_are_found_behind_the_first_page(server, terminal):
    for epochs in (1, 2, 3, 1):
        terminal.ok("submit", *WHAT, "--set", f"teacher.num_epochs={epochs}")
    assert len(server.stored["versions"]) == 3
    used = [run["pipeline_version_reference"]["pipeline_version_id"] for run in server.stored["runs"]]
    assert used[0] == used[3]
    assert len(set(used)) == 3


def test_another_revision_makes_another_version(server, terminal, monkeypatch):
    terminal.ok("submit", *WHAT)
    monkeypatch.setattr("pipelines.run_local.git_revision", lambda: "f" * 40 + "-dirty")
    terminal.ok("submit", *WHAT)
    assert [one["display_name"].rpartition("-")[0] for one in server.stored["versions"]] == [REVISION[:12], "f" * 12 + "-dirty"]


def test_profile_laptop_takes_any_workspace_and_needs_no_image(server, terminal, monkeypatch, tmp_path):
    monkeypatch.delenv("RELEVANCE_CPU_IMAGE")
    terminal.ok("submit", "--profile", "laptop", "--workspace", str(tmp_path))
    (run,) = server.stored["runs"]
    assert run["runtime_config"]["parameters"]["workspace"] == f"file://{tmp_path}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit", *WHAT, "--recipe", "huge"], "recipe 'huge' is not known; use one of"),
        (["submit", *WHAT, "--set", "teacher.num_epochs=none"], "num_epochs"),
        (["submit", *WHAT, "--cpu-image", "registry.example/cpu:latest"], "is not pinned; give --cpu-image REPOSITORY@sha256:DIGEST"),
        (["submit", *WHAT, "--date", "yesterday"], "date 'yesterday' is not a day; write YYYY-MM-DD"),
        (["submit", *WHAT, "--date", "2999-01-01"], "not between 2000-01-01 and today"),
        (["submit", "--workspace", "runs/x"], "give --workspace gs://BUCKET/FOLDER"),
        (["submit", "--workspace", "gs://"], "give --workspace gs://BUCKET/FOLDER"),
        (["submit"], "no workspace is given; give --workspace"),
        (["submit", *WHAT, "--data", "/data/esci"], "copy it to a bucket and give --data gs://"),
        (["submit", *WHAT, "--host", "kubeflow.example"], "write http://HOST:PORT or https://HOST/pipeline"),
        (["submit", *WHAT, "--host", "https://me:secret@kubeflow.example"], "holds a user or password; put a token into $KFP_TOKEN"),
        (["backfill", *WHAT, "--from", "2026-11-03", "--to", "2026-11-01"], "--from 2026-11-03 is after --to 2026-11-01; swap them"),
        (["backfill", *WHAT, "--from", "2026-01-01", "--to", "2026-11-01"], "is 305 runs at once; ask for at most 100 days"),
        (["backfill", *WHAT, "--from", "", "--to", "2026-11-01"], "give --from YYYY-MM-DD --to YYYY-MM-DD"),
        (["backfill", "--workspace", "runs/x", *DAYS], "give --workspace gs://BUCKET/FOLDER"),
    ],
)
def test_nothing_is_sent_when_something_is_wrong_here(server, terminal, arguments, message):
    code, line = terminal.fails(*arguments)
    assert code == 2
    assert message in line
    assert "secret" not in line
    assert server.requests == []


def test_without_a_host_nothing_is_asked(server, terminal, monkeypatch):
    monkeypatch.delenv("KFP_HOST")
    assert terminal.fails("submit", *WHAT) == (2, "error: no Kubeflow is named; give --host https://HOST/pipeline or set KFP_HOST")


def test_the_token_comes_from_the_environment(server, terminal, monkeypatch):
    monkeypatch.setenv("KFP_TOKEN", "t0ken")
    terminal.ok("submit", *WHAT)
    assert set(server.tokens) == {"Bearer t0ken"}
    assert "t0ken" not in str(server.stored)


def test_the_token_of_a_pod_comes_from_its_file(server, terminal, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("projected")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    terminal.ok("unschedule")
    assert set(server.tokens) == {"Bearer projected"}


def test_a_backfill_makes_one_run_per_day_with_that_day_as_its_date(server, terminal):
    lines = terminal.ok("backfill", *WHAT, *DAYS).splitlines()
    runs = server.stored["runs"]
    assert [run["runtime_config"]["parameters"]["date"] for run in runs] == ["2026-11-01", "2026-11-02", "2026-11-03"]
    assert [run["display_name"] for run in runs] == ["tiny 2026-11-01", "tiny 2026-11-02", "tiny 2026-11-03"]
    assert len(server.stored["versions"]) == 1
    days = [run["runtime_config"]["parameters"]["date"] for run in runs]
    assert lines == [f"{day} submitted {server.host}/#/runs/details/{run['run_id']}" for day, run in zip(days, runs, strict=True)]


def test_a_second_backfill_repeats_only_days_that_failed(server, terminal):
    terminal.ok("backfill", *WHAT, *DAYS)
    first, second, third = server.stored["runs"]
    first["state"], second["state"], third["state"] = "SUCCEEDED", "FAILED", "RUNNING"
    lines = terminal.ok("backfill", *WHAT, *DAYS).splitlines()
    assert [line.split()[:2] for line in lines] == [["2026-11-01", "SUCCEEDED"], ["2026-11-02", "submitted"], ["2026-11-03", "RUNNING"]]
    assert [run["runtime_config"]["parameters"]["date"] for run in server.stored["runs"][3:]] == ["2026-11-02"]
    terminal.ok("backfill", *WHAT, *DAYS)
    assert len(server.stored["runs"]) == 4


def test_a_backfill_with_other_settings_is_another_one(server, terminal):
    terminal.ok("backfill", *WHAT, *DAYS)
    terminal.ok("backfill", *WHAT, *DAYS, "--set", "teacher.num_epochs=9")
    assert len(server.stored["runs"]) == 6


def test_resume_submits_the_same_version_with_the_same_arguments(server, terminal):
    terminal.ok("submit", *WHAT, "--date", "2026-11-20", "--experiment", "trial")
    (failed,) = server.stored["runs"]
    failed["state"], failed["service_account"] = "FAILED", "night"
    terminal.ok("submit", *WHAT, "--set", "teacher.num_epochs=9")  # a newer version, which must not be taken
    shown = terminal.ok("resume", failed["run_id"])
    again = server.stored["runs"][-1]
    for key in ("pipeline_version_reference", "runtime_config", "experiment_id", "service_account"):
        assert again[key] == failed[key]
    assert again["display_name"] == "tiny 2026-11-20 (resumed)"
    assert shown.splitlines() == [again["run_id"], f"{server.host}/#/runs/details/{again['run_id']}"]
    assert len(server.stored["versions"]) == 2
    again["state"] = "CANCELED"
    terminal.ok("resume", again["run_id"])
    assert server.stored["runs"][-1]["display_name"] == "tiny 2026-11-20 (resumed)"


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "SUCCEEDED"])
def test_a_run_that_goes_on_or_succeeded_is_not_resumed(server, terminal, state):
    terminal.ok("submit", *WHAT)
    server.stored["runs"][0]["state"] = state
    code, line = terminal.fails("resume", server.stored["runs"][0]["run_id"])
    assert (code, f"is {state}; only one that failed or was canceled" in line) == (2, True)
    assert len(server.stored["runs"]) == 1


def test_a_run_made_from_a_file_is_not_resumed(server, terminal):
    terminal.ok("submit", *WHAT)
    (run,) = server.stored["runs"]
    run["state"] = "FAILED"
    del run["pipeline_version_reference"]
    code, line = terminal.fails("resume", run["run_id"])
    assert (code, "submit it again with `submit`" in line) == (2, True)


def test_status_lists_the_runs_there_and_makes_nothing(server, terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    terminal.ok("backfill", *WHAT, *DAYS)
    server.stored["runs"][1]["state"] = "FAILED"
    server.requests.clear()
    shown = terminal.ok("status", "--host")
    rows = [line for line in shown.splitlines() if "tiny 2026" in line]
    assert [("FAILED" in row, "2026-11-22 02:30:00" in row) for row in rows] == [(False, True), (True, True), (False, True)]
    newest = server.stored["runs"][-1]
    assert newest["run_id"] in rows[0]
    assert newest["pipeline_version_reference"]["pipeline_version_id"] in rows[0]
    assert server.writes() == []


def test_status_of_an_experiment_that_is_not_there_names_the_remedy(server, terminal):
    code, line = terminal.fails("status", "--host", server.host, "--experiment", "nights")
    assert (code, "no experiment 'nights'; give --experiment NAME" in line) == (2, True)
    assert server.writes() == []


def test_a_server_that_is_away_is_one_line_and_75(server, terminal, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("KFP_HOST", f"http://127.0.0.1:{free.getsockname()[1]}")
    code, line = terminal.fails("submit", *WHAT)
    assert code == 75
    assert "nobody answers (NewConnectionError); check --host, or try later" in line


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("place", ["healthz", "pipelines", "runs"])
def test_trouble_of_the_server_is_75_wherever_it_strikes(server, terminal, status, place):
    server.trouble = lambda method, path: status if path.endswith(f"/{place}") else 0
    code, line = terminal.fails("submit", *WHAT)
    assert code == 75
    assert f"it answers {status} (told to answer {status}); try later" in line


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "put a valid token into $KFP_TOKEN"), (403, "--namespace that may do this"), (404, "check --host")]
)
def test_a_refusal_is_2_with_its_remedy(server, terminal, status, remedy):
    server.trouble = lambda method, path: status
    code, line = terminal.fails("submit", *WHAT)
    assert code == 2
    assert f"it answers {status}" in line
    assert remedy in line


def test_an_experiment_that_was_deleted_and_a_run_that_never_was_are_404_with_remedy(server, terminal):
    terminal.ok("submit", *WHAT)
    run = server.stored["runs"][0]
    run["state"] = "FAILED"
    server.stored["experiments"].clear()
    for wanted in (run["run_id"], "nonsense"):
        code, line = terminal.fails("resume", wanted)
        assert code == 2
        assert "it answers 404" in line
        assert "`status --host` lists the runs that there are" in line


def test_a_host_that_is_no_kubeflow_is_2(server, terminal, monkeypatch):
    server.kind = "text/html"
    code, line = terminal.fails("submit", *WHAT)
    assert code == 2
    assert "it answers with text/html, not as Kubeflow Pipelines; give its API's address, or sign in ($KFP_TOKEN)" in line


def test_a_server_that_never_answers_is_given_up(server, terminal, monkeypatch):
    monkeypatch.setattr("pipelines.kubeflow.TIMEOUT_S", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("KFP_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        code, line = terminal.fails("submit", *WHAT)
    assert (code, "nobody answers (ReadTimeoutError)" in line) == (75, True)


def test_the_servers_own_reason_for_refusing_arguments_reaches_the_user(server):
    kubeflow = Kubeflow(server.host)
    with pytest.raises(InputError, match=r"it answers 404.*versions v not found"):
        submit._run(kubeflow, kubeflow.experiment_id("e"), "name", "p", "v", {})


def test_in_a_process_of_its_own_a_server_in_trouble_is_one_line_without_warnings(server, tmp_path):
    server.trouble = lambda method, path: 503
    command = [sys.executable, "-m", "pipelines", "unschedule"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HOME": str(tmp_path)}, check=False)
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr == f"temporary trouble: {server.host}: cannot connect, it answers 503 (told to answer 503); try later\n"


def _night(workspace, date, status, number=0):
    """What the last step of a run leaves in the workspace."""
    notes = {"decision": "refuse", "date": date, "last_day": date, "last_day.status": status}
    storage.write_json(f"{workspace}/promotion/{date}-{number}/finished.json", {"report": {"notes": notes}, "seconds": 1.0})


def test_a_backfill_fills_only_days_without_a_finished_run(server, terminal):
    _night("gs://bucket/nightly", "2026-11-02", "partial")
    _night("gs://bucket/nightly", "2026-12-01", "complete")  # another day
    _night("gs://bucket/other", "2026-11-03", "complete")  # another workspace
    lines = terminal.ok("backfill", *WHAT, *DAYS).splitlines()
    assert [line.split()[:2] for line in lines] == [["2026-11-01", "submitted"], ["2026-11-02", "finished,"], ["2026-11-03", "submitted"]]
    assert lines[1] == "2026-11-02 finished, its last day is partial"
    assert [run["runtime_config"]["parameters"]["date"] for run in server.stored["runs"]] == ["2026-11-01", "2026-11-03"]
    terminal.ok("backfill", *WHAT, *DAYS, "--again")
    assert [run["runtime_config"]["parameters"]["date"] for run in server.stored["runs"][2:]] == ["2026-11-02"]


def test_a_backfill_with_nothing_missing_makes_nothing(server, terminal):
    for number, status in enumerate(("partial", "complete", "empty")):
        for day in ("2026-11-01", "2026-11-02", "2026-11-03"):
            _night("gs://bucket/nightly", day, status, number)
    lines = terminal.ok("backfill", *WHAT, *DAYS).splitlines()
    assert lines == [f"2026-11-0{day} finished, its last day is complete" for day in (1, 2, 3)]
    assert server.writes() == []


def test_a_listing_asks_no_server_and_knows_runs_on_this_machine(terminal, tmp_path, monkeypatch):
    monkeypatch.delenv("KFP_HOST", raising=False)
    _night(str(tmp_path), "2026-11-01", "complete")
    (tmp_path / "promotion/unfinished").mkdir()
    shown = terminal.ok("backfill", "--list", "--profile", "laptop", "--workspace", str(tmp_path), *DAYS)
    assert shown.splitlines() == ["2026-11-01 finished, its last day is complete", "2026-11-02 missing", "2026-11-03 missing"]
