"""kfp's own MLflow plugin: tasks that it told of its runs join them, all others make one tree; variables and tags are those it sets.

The plugin (kfp 2.17, `plugins.mlflow` of the API server) opens a run per pipeline run, tagged `kfp.pipeline_run_id`,
`kfp.pipeline_run_url`, `kfp.pipeline_id` and `kfp.pipeline_version_id`, and one below it per task; with `injectUserEnvVars` the task gets
MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_ID and, as MLFLOW_RUN_ID, its own run.
"""

import os

import pytest
from pydantic import Field

from components.shared import storage
from components.shared.config import StepConfig
from components.shared.errors import InputError
from components.shared.handover import perform
from components.shared.report import Report
from components.shared.tracking import SpoolTracker
from components.shared.tracking_mlflow import EXPERIMENT, PARENT_TAG, RUN_TAG, send_at_task_end
from pipelines import sync

SET_BY_PLUGIN = ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_WORKSPACE")
SET_BY_US = ("MLFLOW_EXPERIMENT_NAME", "RELEVANCE_TRACKING", "RELEVANCE_LAST_STEP")


class Settings(StepConfig):
    depth: int = Field(2, description="Layers.")


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def client(uri, monkeypatch):
    from mlflow import MlflowClient

    for name in (*SET_BY_PLUGIN, *SET_BY_US):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return MlflowClient(uri)


class Plugin:
    """The runs that the plugin has open for one pipeline run."""

    def __init__(self, client, tmp_path, run_id: str, experiment: str) -> None:
        self.client, self.run_id = client, run_id
        self.experiment = client.create_experiment(experiment, artifact_location=(tmp_path / "artifacts").as_uri())
        about = {RUN_TAG: run_id, "kfp.pipeline_run_url": "https://kfp/runs/1", "kfp.pipeline_id": "p", "kfp.pipeline_version_id": "v"}
        self.parent = client.create_run(self.experiment, tags=about, run_name="night").info.run_id
        self.tasks: dict[str, str] = {}

    def inject(self, monkeypatch, task: str) -> None:
        tags = {PARENT_TAG: self.parent, RUN_TAG: self.run_id}
        self.tasks[task] = self.tasks.get(task) or self.client.create_run(self.experiment, tags=tags, run_name=task).info.run_id
        monkeypatch.setenv("MLFLOW_RUN_ID", self.tasks[task])
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", self.experiment)

    def runs(self) -> dict:
        return {run.info.run_id: run for run in self.client.search_runs([self.experiment])}


def task(tmp_path, section: str, run_id: str, error: Exception | None = None, **config) -> None:
    def run(settings, *, model, tracker):
        if error:
            raise error
        storage.write_json(f"{model}/m.json", settings.depth)
        tracker.headline({f"{section}.auc": 0.5})
        return Report(metrics={"loss": 0.25})

    artifact = type("Artifact", (), {"path": str(tmp_path / "kfp" / section), "metadata": {}})()
    given = {"workspace": str(tmp_path / "w"), "run_id": run_id, "inputs": {}, "outputs": {"model": artifact}}
    perform(run, Settings, section=section, config=config, **given)


def test_tasks_write_into_the_runs_that_were_injected_and_open_none(tmp_path, client, monkeypatch):
    plugin = Plugin(client, tmp_path, "k1", "joined")
    for section in ("pool", "teacher"):
        plugin.inject(monkeypatch, section)
        task(tmp_path, section, "k1")
        assert os.environ["MLFLOW_RUN_ID"] == plugin.tasks[section]  # MLflow's fluent API would have taken it away (mlflow/mlflow#15713)
    runs = plugin.runs()
    assert set(runs) == {plugin.parent, *plugin.tasks.values()}
    for section, run_id in plugin.tasks.items():
        assert runs[run_id].data.params == {f"{section}.depth": "2"}
        assert runs[run_id].data.metrics[f"{section}.loss"] == 0.25
    assert set(runs[plugin.parent].data.metrics) == {"pool.auc", "teacher.auc"}
    assert client.get_experiment_by_name(EXPERIMENT) is None


def test_runs_of_the_plugin_are_never_ended_by_us_whatever_happens(tmp_path, client, monkeypatch):
    plugin = Plugin(client, tmp_path, "k2", "open")
    plugin.inject(monkeypatch, "pool")
    with pytest.raises(InputError):
        task(tmp_path, "pool", "k2", InputError("grade 7 is not on the card"))
    monkeypatch.setenv("RELEVANCE_LAST_STEP", "1")
    plugin.inject(monkeypatch, "promotion")
    task(tmp_path, "promotion", "k2")
    runs = plugin.runs()
    assert {run.info.status for run in runs.values()} == {"RUNNING"}
    for told in (plugin.tasks["pool"], plugin.parent):
        assert "grade 7 is not on the card" in runs[told].data.tags["failure"]


def test_a_retried_task_keeps_its_run_and_the_settings_that_it_has(tmp_path, client, monkeypatch):
    plugin = Plugin(client, tmp_path, "k3", "retried")
    for depth in (2, 3):  # MLflow refuses another value of a parameter
        plugin.inject(monkeypatch, "pool")
        task(tmp_path, "pool", "k3", depth=depth)
    run = plugin.runs()[plugin.tasks["pool"]]
    assert run.data.params == {"pool.depth": "2"}
    assert run.data.metrics["pool.loss"] == 0.25


def test_what_is_sent_later_from_elsewhere_lands_in_the_run_that_was_injected(tmp_path, client, monkeypatch, bucket, uri):
    plugin = Plugin(client, tmp_path, "k6", "later")
    plugin.inject(monkeypatch, "pool")
    spool = SpoolTracker(tmp_path / "task" / "k6" / "pool.jsonl", "pool")
    spool.params({"depth": 2})
    spool.headline({"pool.auc": 0.5})
    monkeypatch.setenv("RELEVANCE_TRACKING_BUDGET_S", "-1")  # MLflow was away for as long as the task could wait
    send_at_task_end(spool.file, f"{bucket}/w")
    monkeypatch.delenv("MLFLOW_RUN_ID")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    assert sync.send_all(f"{bucket}/w").unsent == 0
    runs = plugin.runs()
    assert set(runs) == {plugin.parent, plugin.tasks["pool"]}
    assert runs[plugin.tasks["pool"]].data.params == {"pool.depth": "2"}
    assert runs[plugin.parent].data.metrics == {"pool.auc": 0.5}
    assert client.get_experiment_by_name(EXPERIMENT) is None


def test_a_plugin_that_injects_nothing_is_joined_by_its_tag_where_its_experiment_is_named(tmp_path, client, monkeypatch):
    plugin = Plugin(client, tmp_path, "k4", "KFP-Default")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "KFP-Default")
    monkeypatch.setenv("RELEVANCE_LAST_STEP", "1")
    task(tmp_path, "pool", "k4")
    runs = plugin.runs()
    (child,) = (run for run in runs.values() if run.data.tags.get(PARENT_TAG) == plugin.parent)
    assert len(runs) == 2
    assert (child.info.run_name, child.info.status) == ("pool", "FINISHED")  # ours, so we end it
    assert runs[plugin.parent].info.status == "RUNNING"


def test_without_the_plugin_all_tasks_make_one_tree_of_their_own(tmp_path, client, monkeypatch):
    task(tmp_path, "pool", "k5")
    monkeypatch.setenv("RELEVANCE_LAST_STEP", "1")
    task(tmp_path, "promotion", "k5")
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    (parent,) = (run for run in runs if PARENT_TAG not in run.data.tags)
    assert parent.data.tags[RUN_TAG] == "k5"
    assert parent.info.status == "FINISHED"
    children = {run.info.run_name: run.info.status for run in runs if run.data.tags.get(PARENT_TAG) == parent.info.run_id}
    assert children == {"pool": "FINISHED", "promotion": "FINISHED"}
