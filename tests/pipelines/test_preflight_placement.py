"""Where preflight stands in the compiled pipeline, and what it is told to look for."""

import pytest
import yaml

from components.preflight.config import PreflightConfig
from pipelines import ir, recipe
from pipelines.placement import Images, in_queue

CPU, GPU = "registry.example/cpu@sha256:" + "a" * 64, "registry.example/gpu@sha256:" + "b" * 64


def compiled(tmp_path, name="cluster", overrides=(), profile="cluster", queue=""):
    arguments = {**recipe.load(name, list(overrides)), "workspace": "gs://bucket/w"}
    file = ir.compile_pipeline(tmp_path / "p.yaml", arguments, profile, Images(CPU, GPU, queue))
    return list(yaml.safe_load_all(file.read_text()))


def settings(document) -> PreflightConfig:
    task = ir.tasks_of(document)["preflight"]
    return PreflightConfig.from_mapping(task["inputs"]["parameters"]["config"]["runtimeValue"]["constant"], section="preflight")


def test_every_task_with_gpus_and_no_other_waits_for_it(tmp_path):
    document = compiled(tmp_path)[0]
    waiting = {name for name, task in ir.tasks_of(document).items() if "preflight" in task.get("dependentTasks", [])}
    asking = {
        name
        for name, task in ir.tasks_of(document).items()
        if "accelerator" in document["deploymentSpec"]["executors"][f"exec-{name}"]["container"]["resources"]
    }
    assert waiting == asking != set()


def test_it_runs_in_the_image_of_the_gpu_tasks_on_a_small_machine(tmp_path):
    document, platform = compiled(tmp_path)
    container = document["deploymentSpec"]["executors"]["exec-preflight"]["container"]
    assert container["image"] == GPU
    assert "accelerator" not in container["resources"]
    placed = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-preflight"]
    assert placed["activeDeadlineSeconds"] == "900"
    assert "tolerations" not in placed


def test_a_laptop_has_none(tmp_path):
    assert "preflight" not in ir.tasks_of(compiled(tmp_path, profile="laptop")[0])


def test_it_knows_what_will_be_asked_for(tmp_path):
    found = settings(compiled(tmp_path)[0])
    assert {(need.task, need.gpus, need.pods) for need in found.needs} == {
        ("train-teacher", 8, 1),
        ("score-pairs", 1, 1),
        ("train-student", 1, 1),
    }
    assert (found.image, found.rights, found.queues) == (GPU, [], [])


@pytest.mark.parametrize(
    ("name", "overrides", "need", "right"),
    [
        ("decoder_nodes", ["teacher.num_nodes=3"], ("train-teacher", 8, 3), "trainjobs"),
        ("cluster", ["scoring.group_workers=5"], ("score-pairs", 1, 5), "jobs"),
    ],
)
def test_pods_that_tasks_start_count_and_need_a_right(tmp_path, name, overrides, need, right):
    found = settings(compiled(tmp_path, name, overrides)[0])
    assert need in {(one.task, one.gpus, one.pods) for one in found.needs}
    assert [(one.verb, one.resource) for one in found.rights] == [("create", right)]


def test_pods_with_gpus_wait_in_the_queue_that_is_named(tmp_path):
    document, platform = compiled(tmp_path, queue="relevance")
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    labelled = {label for label, one in executors.items() if one.get("podMetadata", {}).get("labels")}
    assert labelled == {label for label in executors if label.startswith(("exec-train-", "exec-score-"))}
    assert executors["exec-train-teacher"]["podMetadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "relevance"}
    assert settings(document).queues == ["relevance"]


@pytest.mark.parametrize(
    ("overrides", "queues"),
    [
        (["teacher.launcher=trainjob", "teacher.queue=teachers"], ["relevance", "teachers"]),
        (["teacher.queue=teachers", "scoring.queue=helpers"], ["relevance"]),  # nothing that they start would wait there
        (["scoring.group_workers=3", "scoring.queue=helpers"], ["relevance", "helpers"]),
        (["scoring.group_workers=3", "scoring.queue=helpers", "scoring.start_helpers=false"], ["relevance"]),
    ],
)
def test_the_queues_of_pods_that_tasks_start_are_looked_at_too(tmp_path, overrides, queues):
    assert settings(compiled(tmp_path, overrides=overrides, queue="relevance")[0]).queues == queues


def test_pods_that_tasks_start_wait_in_the_queue_of_their_tasks_unless_told_otherwise():
    arguments = recipe.load("cluster", ["scoring.queue=helpers"])
    found = in_queue(arguments, Images(CPU, GPU, "relevance"))
    assert (found["teacher"]["queue"], found["scoring"]["queue"]) == ("relevance", "helpers")
    assert in_queue(arguments, None) == arguments
