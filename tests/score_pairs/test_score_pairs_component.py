"""The kfp door: which arguments reach the step, and that it runs in kfp's local runner with and without a model."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from kfp import dsl

from components.score_pairs.component import score_pairs
from components.shared import storage, tables
from components.shared.errors import InputError


def artifact(path: Path, uri: str = ""):
    made = SimpleNamespace(path=str(path), metadata={})
    if uri:
        digest = tables.Manifest.read(uri).digest if tables.is_committed(uri) else storage.content_digest(uri)
        storage.write_json(str(path), {"uri": storage.normalise(uri), "digest": digest, "rows": 0})
    return made


@pytest.fixture
def task(shop, tmp_path):
    """A function that runs the component; returns its (scores artifact, summary text)."""

    def run_task(config, system="", task=dsl.TaskConfig(), **more):  # noqa: B008  it is not written to
        given = {name: artifact(tmp_path / "in" / name, getattr(shop, name)) for name in ("queries", "items")}
        given["pairs"] = artifact(tmp_path / "in" / "pairs", shop.judgments if config.get("output") == "rankings" else shop.pairs)
        given |= {name: artifact(tmp_path / "in" / name, uri) for name, uri in more.items()}
        scores, summary = artifact(tmp_path / "out" / "scores"), artifact(tmp_path / "out" / "summary")
        score_pairs.python_func(
            config=config,
            section="ranking",
            workspace=str(tmp_path / "w"),
            run_id="r",
            system=system,
            scores=scores,
            summary=summary,
            task=task,
            **given,
        )
        return scores, Path(summary.path).read_text()

    return run_task


def test_system_of_the_task_wins_over_the_recipe(task, model_folders):
    scores, summary = task({"output": "rankings", "system": "x", "num_shards": 2.0}, system="bi_encoder", model=model_folders["bi_encoder"])
    rows = tables.read_table(scores.metadata["uri"], "rankings")
    assert set(rows["system"].to_pylist()) == {"bi_encoder"}
    assert scores.metadata["rows"] == len(rows) == 15
    assert "| kept | 15 |" in summary
    assert "| system | bi_encoder |" in summary


def test_teacher_with_neighbors_labels_the_pool(task, model_folders, shop):
    scores, _ = task({}, model=model_folders["with_neighbors"], neighbors=shop.neighbors)
    assert tables.read_table(scores.metadata["uri"], "soft_targets").num_rows == 20


def test_model_of_the_recipe_is_part_of_the_fingerprint(task, model_folders):
    first, _ = task({"output": "rankings", "model": model_folders["bi_encoder"]})
    second, _ = task({"output": "rankings", "model": model_folders["encoder"]})
    assert first.metadata["uri"] != second.metadata["uri"]


def test_helpers_run_where_the_task_was_asked_to_run(task, model_folders, cluster, monkeypatch):
    monkeypatch.setattr("components.score_pairs.group.POLL_S", 0.05)
    made = []
    cluster.before = lambda request: made.extend(cluster.jobs.values()) if request == "DELETE jobs" else None
    asked = dsl.TaskConfig(node_selector={"pool": "gpu"}, resources={"limits": {"memory": "8Gi"}})
    scores, _ = task({"group_workers": 2.0}, model=model_folders["teacher"], task=asked)
    (pod,) = [job["spec"]["template"]["spec"] for job in made]
    assert (pod["nodeSelector"], "tolerations" in pod) == ({"pool": "gpu"}, False)  # its pod has a toleration, by whomever
    again, _ = task({}, model=model_folders["teacher"])
    assert again.metadata["uri"] == scores.metadata["uri"]  # where it runs does not shape what is written


def test_champion_of_the_first_night_is_absent(task, monkeypatch):
    monkeypatch.setattr("components.shared.registry.resolve", lambda address: "")
    monkeypatch.setattr("components.score_pairs.step.resolve", lambda address: "")
    config = {"output": "rankings", "model": "models:/shop@champion"}
    scores, summary = task({**config, "missing_model": "empty"}, system="champion")
    assert tables.read_table(scores.metadata["uri"], "rankings").num_rows == 0
    assert "nothing was scored" in summary
    with pytest.raises(InputError, match="'models:/shop@champion' is not registered"):
        task(config, system="champion")


PIPELINE = """
import json, sys
from kfp import compiler, dsl, local
from kfp.dsl import Dataset, Model, Output
from components.score_pairs.component import score_pairs

@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])
def tables_of(shop: dict, queries: Output[Dataset], items: Output[Dataset], pairs: Output[Dataset], model: Output[Model]):
    from components.shared import storage
    for name, made in (("queries", queries), ("items", items), ("pairs", pairs), ("model", model)):
        storage.write_json(made.path, {"uri": storage.normalise(shop[name]), "digest": name, "rows": 0})

@dsl.pipeline
def two(shop: dict, config: dict, workspace: str):
    made = tables_of(shop=shop).outputs
    common = {"config": config, "workspace": workspace, "run_id": "r"} | {name: made[name] for name in ("queries", "items", "pairs")}
    score_pairs(section="a", system="given", model=made["model"], **common)
    score_pairs(section="b", system="named", **common)

if __name__ == "__main__":
    folder, shop, config = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=folder + "/runs", raise_on_error=True)
    two(shop=shop, config=config, workspace=folder + "/w")
"""


def test_runs_in_kfp_local_with_and_without_a_model(shop, model_folders, tmp_path):
    (tmp_path / "two.py").write_text(PIPELINE)
    given = {**vars(shop), "pairs": shop.judgments, "model": model_folders["bi_encoder"]}
    config = {"output": "rankings", "model": model_folders["encoder"], "num_shards": 2}
    command = [sys.executable, "two.py", str(tmp_path), json.dumps(given), json.dumps(config)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for section, system in (("a", "given"), ("b", "named")):
        folder = next((tmp_path / "w" / section).iterdir())
        rows = tables.read_table(str(folder / "scores"), "rankings")
        assert (len(rows), set(rows["system"].to_pylist())) == (15, {system})
