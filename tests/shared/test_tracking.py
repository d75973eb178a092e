"""Spools, and what MLflow holds after they were sent: once, twice, in pieces, with the server away."""

import hashlib
import json
import math
import socket
import time
from pathlib import Path

import pytest

from components.shared import handover, spools, storage, tracking_mlflow
from components.shared.config import StepConfig
from components.shared.errors import InputError
from components.shared.tracking import NullTracker, SpoolTracker
from components.shared.tracking_mlflow import RUN_TAG, Sender, flatten, metric_name


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One SQLite store for all tests here; each test has a pipeline run of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def _no_mlflow_environment(monkeypatch):
    for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "RELEVANCE_TRACKING"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def client(store):
    from mlflow import MlflowClient

    return MlflowClient(store)


def spool_of(tmp_path: Path, run_id: str, section: str) -> SpoolTracker:
    return SpoolTracker(tmp_path / "tracking" / run_id / f"{section}.jsonl", section)


def write_evaluation(tmp_path: Path, run_id: str) -> Path:
    """A finished step with one of each: settings, a curve, headline numbers, a table, a report."""
    report = tmp_path / "report.html"
    report.write_text("<p>report</p>")
    tracker = spool_of(tmp_path, run_id, "evaluation")
    tracker.write("start", folder="somewhere")
    tracker.params({"at": 10, "intervals": {"level": 0.95, "num_resamples": 1000}})
    for step, loss in enumerate([0.5, 0.25]):
        tracker.metrics({"loss": loss}, step=step)
    tracker.headline({"cross_encoder.ndcg@10": 0.75})
    tracker.dataset("judgments", (tmp_path / "judgments").as_uri(), "d" * 64, 12)
    tracker.tags({"data.snapshot": "abc"})
    tracker.artifact(report.as_uri(), "report")
    tracker.write("end", status="FINISHED")
    return tmp_path / "tracking" / run_id


def runs_of(client, run_id: str, name: str = tracking_mlflow.EXPERIMENT):
    """(parent, children by section) of a pipeline run."""
    experiment = client.get_experiment_by_name(name).experiment_id
    (parent,) = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{run_id}'")
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return parent, {run.info.run_name: run for run in children}


def test_a_finished_step_becomes_a_child_with_all_it_said(tmp_path, store, client):
    outcome = Sender(write_evaluation(tmp_path, "r1"), store).send()
    parent, children = runs_of(client, "r1")
    child = children["evaluation"]
    assert (outcome.sent, outcome.unsent, outcome.trouble, outcome.parent) == (9, 0, "", parent.info.run_id)
    assert child.data.params == {
        "evaluation.at": "10",
        "evaluation.intervals.level": "0.95",
        "evaluation.intervals.num_resamples": "1000",
    }
    assert child.data.metrics == {"evaluation.loss": 0.25, "cross_encoder.ndcg_at_10": 0.75}
    curve = client.get_metric_history(child.info.run_id, "evaluation.loss")
    assert [(point.step, point.value) for point in curve] == [(0, 0.5), (1, 0.25)]
    (table,) = child.inputs.dataset_inputs
    assert (table.dataset.name, table.dataset.digest, json.loads(table.dataset.profile)["num_rows"]) == ("judgments", "d" * 36, 12)
    assert [file.path for file in client.list_artifacts(child.info.run_id, "report")] == ["report/report.html"]
    assert (table.dataset.source_type, json.loads(table.dataset.source)) == ("local", {"uri": (tmp_path / "judgments").as_uri()})
    assert [(tag.key, tag.value) for tag in table.tags] == [("mlflow.data.context", "evaluation")]
    assert child.info.status == "FINISHED"
    # without a place of its own the experiment would write artifacts into whatever folder the sender was started in
    place = client.get_experiment(child.info.experiment_id).artifact_location
    assert place == f"file://{Path(store.removeprefix('sqlite:///')).parent}/mlartifacts/{tracking_mlflow.EXPERIMENT}"


def test_headline_numbers_and_the_snapshot_stand_on_the_parent_and_it_stays_open(tmp_path, store, client):
    Sender(write_evaluation(tmp_path, "r2"), store).send()
    parent, _ = runs_of(client, "r2")
    assert parent.data.metrics == {"cross_encoder.ndcg_at_10": 0.75}
    assert parent.data.tags["data.snapshot"] == "abc"
    assert parent.info.status == "RUNNING"


def test_the_pipeline_spool_names_and_closes_the_parent(tmp_path, store, client):
    folder = write_evaluation(tmp_path, "r3")
    whole = SpoolTracker(folder / f"{spools.PIPELINE}.jsonl", spools.PIPELINE)
    whole.write("start")
    whole.tags({"recipe": "tiny", "mlflow.runName": "tiny tonight"})
    whole.write("end", status="FINISHED")
    Sender(folder, store).send()
    parent, children = runs_of(client, "r3")
    assert (parent.info.run_name, parent.data.tags["recipe"], parent.info.status) == ("tiny tonight", "tiny", "FINISHED")
    assert set(children) == {"evaluation"}


@pytest.mark.parametrize("forget", [False, True])
def test_sending_twice_adds_nothing_even_when_the_offset_is_lost(tmp_path, store, client, forget):
    run_id = f"twice-{forget}"
    folder = write_evaluation(tmp_path, run_id)
    Sender(folder, store).send()
    if forget:
        (folder / "evaluation.sent").unlink()
    again = Sender(folder, store).send()
    assert (again.sent, again.trouble) == (9 if forget else 0, "")
    _, children = runs_of(client, run_id)
    child = children["evaluation"]
    assert len(client.get_metric_history(child.info.run_id, "evaluation.loss")) == 2
    assert len(child.inputs.dataset_inputs) == 1
    assert len(client.list_artifacts(child.info.run_id, "report")) == 1


def test_lines_that_come_later_and_half_a_line_are_sent_when_they_are_whole(tmp_path, store, client):
    tracker = spool_of(tmp_path, "r4", "teacher")
    tracker.metrics({"loss": 1.0}, step=0)
    whole = tracker.file.read_bytes()
    tracker.metrics({"loss": 0.5}, step=1)
    second = tracker.file.read_bytes()[len(whole) :]
    tracker.file.write_bytes(whole + second[:20])
    sender = Sender(tracker.file.parent, store)
    assert sender.send().sent == 1
    with tracker.file.open("ab") as handle:
        handle.write(second[20:])
    assert sender.send().sent == 1
    _, children = runs_of(client, "r4")
    assert len(client.get_metric_history(children["teacher"].info.run_id, "teacher.loss")) == 2


def test_a_retry_with_changed_settings_keeps_the_first_ones_and_ends_finished(tmp_path, store, client):
    """MLflow refuses to change a parameter; the second attempt must not fail for that."""
    tracker = spool_of(tmp_path, "r5", "teacher")
    tracker.write("start")
    tracker.params({"learning_rate": 0.1})
    tracker.write("end", status="FAILED", error="components.shared.errors.InputError: grade 7 is not on the card")
    Sender(tracker.file.parent, store).send()
    parent, children = runs_of(client, "r5")
    assert (parent.info.status, children["teacher"].info.status) == ("FAILED", "FAILED")
    assert "grade 7" in parent.data.tags["error"]
    tracker.write("start")
    tracker.params({"learning_rate": 0.2, "epochs": 1})
    tracker.write("end", status="FINISHED")
    assert Sender(tracker.file.parent, store).send().trouble == ""
    _, children = runs_of(client, "r5")
    assert children["teacher"].data.params == {"teacher.learning_rate": "0.1", "teacher.epochs": "1"}
    assert children["teacher"].info.status == "FINISHED"


def test_a_step_that_runs_again_is_shown_as_running(tmp_path, store, client):
    tracker = spool_of(tmp_path, "again", "teacher")
    for kind in ({"kind": "start"}, {"kind": "end", "status": "FAILED", "error": "e" * 9000}, {"kind": "start"}):
        tracker.write(**kind)
        assert Sender(tracker.file.parent, store, budget_s=60).send().trouble == ""
    parent, children = runs_of(client, "again")
    assert children["teacher"].info.status == "RUNNING"
    assert parent.data.tags["error"] == "e" * 5000  # MLflow takes no longer tag


def test_more_than_one_call_may_carry_arrives_whole(tmp_path, store, client):
    tracker = spool_of(tmp_path, "many", "pool")
    tracker.params({f"p{n}": n for n in range(150)})
    tracker.tags({f"t{n}": str(n) for n in range(150)})
    tracker.metrics({f"m{n}": n for n in range(1100)})
    for step in range(1000):
        tracker.metrics({"loss": 1.0}, step=step)
    assert Sender(tracker.file.parent, store, budget_s=60).send().sent == 1003
    parent, children = runs_of(client, "many")
    child = children["pool"]
    assert (len(child.data.params), child.data.params["pool.p149"]) == (150, "149")
    assert child.data.tags["t149"] == "149"
    assert child.data.metrics["pool.m1099"] == 1099.0
    assert len(client.get_metric_history(child.info.run_id, "pool.loss")) == 1000
    assert "t0" not in parent.data.tags  # only what describes the data, and errors, stands on the parent


def test_an_artifact_that_is_gone_or_too_large_stops_no_other(tmp_path, store, client, bucket, monkeypatch, caplog):
    monkeypatch.setattr(tracking_mlflow, "MAX_ARTIFACT_BYTES", 3)
    for name, content in (("small.txt", b"abc"), ("large.txt", b"abcd")):
        storage.write_bytes(f"{bucket}/{name}", content)
    storage.write_bytes(str(tmp_path / "plots" / "a.svg"), b"<svg/>")
    tracker = spool_of(tmp_path, "gone", "evaluation")
    for uri in (str(tmp_path / "gone.html"), f"{bucket}/large.txt", f"{bucket}/small.txt", str(tmp_path / "plots")):
        tracker.artifact(uri, "kept")
    assert Sender(tracker.file.parent, store, budget_s=60).send().unsent == 0
    _, children = runs_of(client, "gone")
    files = client.list_artifacts(children["evaluation"].info.run_id, "kept")
    assert [file.path for file in files] == ["kept/a.svg", "kept/small.txt"]
    assert "gone.html is gone; not sent" in caplog.text
    assert "large.txt is over 3 bytes; not sent" in caplog.text


@pytest.mark.parametrize("by", ["MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"])
def test_a_run_goes_into_the_experiment_that_is_named(tmp_path, store, client, monkeypatch, by):
    experiment = client.create_experiment(by, artifact_location=(tmp_path / "artifacts").as_uri())
    monkeypatch.setenv(by, by if by.endswith("NAME") else experiment)
    tracker = spool_of(tmp_path, by, "pool")
    tracker.write("start")
    assert Sender(tracker.file.parent, store, budget_s=60).send().trouble == ""
    assert set(runs_of(client, by, by)[1]) == {"pool"}


def test_a_step_that_fails_on_a_cluster_is_told_before_its_task_ends(tmp_path, store, client, monkeypatch):
    def fails(config, *, tracker):
        raise InputError("grade 7 is not on the card")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    with pytest.raises(InputError):
        handover.perform(fails, StepConfig, section="pool", config={}, workspace=str(tmp_path), run_id="told", inputs={}, outputs={})
    parent, children = runs_of(client, "told")
    assert (parent.info.status, children["pool"].info.status) == ("FAILED", "FAILED")
    assert parent.data.tags["error"] == "components.shared.errors.InputError: grade 7 is not on the card"
    page = (tmp_path / "failures/told/pool/attempt-1.md").read_text()
    assert children["pool"].data.tags["failure"] == parent.data.tags["failure"] == page
    assert [file.path for file in client.list_artifacts(children["pool"].info.run_id)] == ["attempt-1.md"]


def test_reading_a_spool_stops_at_its_limit_and_starts_over_when_it_was_cut(tmp_path):
    tracker = spool_of(tmp_path, "r", "pool")
    for value in range(3):
        tracker.metrics({"read": value})
    lines, state = spools.unread(tracker.file, 2)
    assert [line["values"]["pool.read"] for line in lines] == [0.0, 1.0]
    spools.mark(tracker.file, state)
    assert [line["values"]["pool.read"] for line in spools.unread(tracker.file, 2)[0]] == [2.0]
    tracker.file.write_bytes(tracker.file.read_bytes().splitlines(keepends=True)[0])  # a replay may be shorter than what it replaces
    assert spools.num_unread(tracker.file.parent) == 1


def test_a_spool_written_afresh_counts_as_unsent(tmp_path, store):
    tracker = spool_of(tmp_path, "r6", "pool")
    tracker.metrics({"read": 1.0})
    Sender(tracker.file.parent, store).send()
    assert spools.num_unread(tracker.file.parent) == 0
    tracker.file.unlink()
    tracker.metrics({"read": 1.0})
    tracker.metrics({"kept": 1.0})
    assert spools.num_unread(tracker.file.parent) == 2


def test_one_line_that_mlflow_never_accepts_does_not_block_the_rest(tmp_path, store, client, caplog):
    tracker = spool_of(tmp_path, "r7", "pool")
    tracker.metrics({"x" * 300: 1.0})
    tracker.write("end", status="FINISHED")
    outcome = Sender(tracker.file.parent, store).send()
    _, children = runs_of(client, "r7")
    assert (outcome.unsent, children["pool"].info.status) == (0, "FINISHED")
    assert "MLflow refuses" in caplog.text


@pytest.mark.parametrize("with_parent", [True, False])
def test_an_injected_run_is_joined_and_never_closed_by_us(tmp_path, store, client, monkeypatch, with_parent):
    """kfp's plugin injects the task's run (it has a parent) or the pipeline's: no second tree in either case."""
    name = f"plugin-{with_parent}"
    experiment = client.create_experiment(name, artifact_location=(tmp_path / "artifacts").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "must-not-be-made")
    outer = client.create_run(experiment, tags={RUN_TAG: name})
    inner = client.create_run(experiment, tags={"mlflow.parentRunId": outer.info.run_id}, run_name="task")
    monkeypatch.setenv("MLFLOW_RUN_ID", inner.info.run_id if with_parent else outer.info.run_id)
    outcome = Sender(write_evaluation(tmp_path, name), store).send()
    parent, children = runs_of(client, name, name)
    assert outcome.parent == parent.info.run_id == outer.info.run_id
    assert parent.data.metrics["cross_encoder.ndcg_at_10"] == 0.75
    assert parent.info.status == "RUNNING"
    assert set(children) == ({"task"} if with_parent else {"task", "evaluation"})
    assert children["task"].info.status == "RUNNING"
    assert ("evaluation.at" in children["task"].data.params) is with_parent
    assert client.get_experiment_by_name("must-not-be-made") is None


def test_two_parents_made_at_once_become_one(tmp_path, store, client, monkeypatch):
    folder = write_evaluation(tmp_path, "race")
    sender = Sender(folder, store)
    sender._connect()
    create = sender._client.create_run

    def create_twice(*args, **kwargs):
        create(*args, **{**kwargs, "start_time": 1})  # the other task was a moment faster
        return create(*args, **kwargs)

    monkeypatch.setattr(sender._client, "create_run", lambda *a, **k: (create_twice if RUN_TAG in k["tags"] else create)(*a, **k))
    assert sender.send().trouble == ""
    parent, children = runs_of(client, "race")
    assert parent.info.start_time == 1
    assert set(children) == {"evaluation"}


@pytest.mark.parametrize("answers", ["refused", "silent"])
def test_a_server_that_is_away_costs_the_budget_and_loses_nothing(tmp_path, store, monkeypatch, answers):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = write_evaluation(tmp_path, f"away-{answers}")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if answers == "silent":
            listener.listen()
        began = time.monotonic()
        outcome = Sender(folder, f"http://127.0.0.1:{listener.getsockname()[1]}", budget_s=1).send()
    assert time.monotonic() - began < 5
    assert (outcome.sent, outcome.unsent) == (0, 9)
    assert outcome.trouble
    assert Sender(folder, store).send().sent == 9


def test_a_spent_budget_leaves_the_rest_for_the_next_round(tmp_path, store):
    folder = write_evaluation(tmp_path, "slow")
    outcome = Sender(folder, store, budget_s=-1).send()
    assert (outcome.sent, outcome.unsent) == (0, 9)
    assert "budget" in outcome.trouble


def test_the_hook_at_a_tasks_end_is_silent_where_a_sender_runs_or_no_server_is_named(tmp_path, store, client, monkeypatch):
    spool = write_evaluation(tmp_path, "hook") / "evaluation.jsonl"
    assert tracking_mlflow.send_at_task_end(spool, str(tmp_path)) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("RELEVANCE_TRACKING", "spool")
    assert tracking_mlflow.send_at_task_end(spool, str(tmp_path)) is None
    monkeypatch.delenv("RELEVANCE_TRACKING")
    monkeypatch.setenv("RELEVANCE_LAST_STEP", "1")
    monkeypatch.setenv("RELEVANCE_RECIPE", "cluster")
    outcome = tracking_mlflow.send_at_task_end(spool, str(tmp_path))
    assert outcome is not None
    assert outcome.unsent == 0
    parent, _ = runs_of(client, "hook")
    assert (parent.info.status, parent.data.tags["recipe"]) == ("FINISHED", "cluster")


def test_spools_of_a_workspace_are_found_by_run(tmp_path):
    folders = [write_evaluation(tmp_path, run_id) for run_id in ("b", "a")]
    assert spools.fetch(str(tmp_path), tmp_path / "copies") == sorted(folders)
    assert spools.fetch(str(tmp_path / "nothing"), tmp_path / "copies") == []


def test_long_settings_are_cut_with_a_digest_and_names_fit():
    flat = flatten({"prompt": "x" * 7000, "rates": [1, 2], "empty": {}})
    assert len(flat["prompt"]) == 6000
    assert flat["prompt"].endswith("sha256:" + hashlib.sha256(b"x" * 7000).hexdigest())
    assert (flat["rates"], flat["empty"]) == ("[1, 2]", "{}")
    assert metric_name("cross_encoder.ndcg@10") == "cross_encoder.ndcg_at_10"
    assert metric_name("kind=negation") == "kind_negation"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_not_finite_is_an_error_not_a_metric(tmp_path, value):
    tracker = spool_of(tmp_path, "r", "teacher")
    for call in (tracker.metrics, tracker.headline, NullTracker().metrics, NullTracker().headline):
        with pytest.raises(InputError, match="'loss'"):
            call({"loss": value})
    assert not tracker.file.exists()
