"""A TrainJob: what each release of Trainer gets, adopted by a retry, followed to its end, explained, and taken away."""

import logging
import os
import re
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_kubernetes import TASK, FakeKubernetes
from trainjob_schemas import SPECS, fault_of

from components.shared import launch_cluster, launch_trainjob
from components.shared.errors import InputError, TemporaryError
from components.shared.launch import refuse
from components.shared.launch_trainjob import PATCHES, Training, train_on_cluster, trainjob_of

FIELDS = {"2.0": "podSpecOverrides", "2.1": "podTemplateOverrides", "2.2": "runtimePatches", "2.3": "runtimePatches"}


@pytest.fixture
def training(tmp_path: Path, monkeypatch) -> Training:
    monkeypatch.setattr(launch_trainjob, "POLL_S", 0.01)
    return Training(
        place=str(tmp_path / "model-job"), module="components.train_teacher.trainer", arguments=["--job", "gs://b/model-job/job.json"],
        num_nodes=2, num_processes=8, resources={"nvidia.com/gpu": "8", "memory": "256Gi"}, runtime="torch-distributed", queue="relevance",
        deadline_s=3600, scheduling={"tolerations": [{"key": "spot", "operator": "Exists"}], "nodeSelector": {"pool": "gpu"}},
    )  # fmt: skip


def happen(cluster: FakeKubernetes, *events: Any, request: str = "GET trainjobs", after: int = 1) -> None:
    """Let one event happen before each such request, beginning after the first few; an event is called, or is a TrainJob's condition."""
    waiting, seen = list(events), 0

    def before(asked: str) -> None:
        nonlocal seen
        seen += asked == request
        if asked != request or seen <= after or not waiting:
            return
        event = waiting.pop(0)
        if callable(event):
            event()
        else:
            (trainjob,) = cluster.trainjobs.values()
            trainjob["status"]["conditions"] = [{"type": event, "status": "True", "reason": "R", "message": f"it is {event}"}]

    cluster.before = before


def node(cluster: FakeKubernetes, training: Training, index: int, phase: str, *lines: str) -> None:
    name = f"{training.name()}-node-0-{index}"
    labels = {"jobset.sigs.k8s.io/jobset-name": training.name(), "batch.kubernetes.io/job-completion-index": str(index)}
    cluster.pods[name] = {"metadata": {"name": name, "labels": labels}, "spec": {"containers": []}, "status": {"phase": phase}}
    cluster.logs[name] = [(f"2026-11-27T10:00:{second:02d}.000000000Z", line) for second, line in enumerate(lines)]


def kept_of(cluster: FakeKubernetes) -> list[dict[str, Any]]:
    """Every TrainJob that is made from now on, also those that are deleted again."""
    kept: list[dict[str, Any]] = []
    make = cluster._create_trainjob

    def create(body: dict[str, Any], query: Any) -> Any:
        kept.append(body)
        return make(body, query)

    cluster._create_trainjob = create
    return kept


@pytest.mark.parametrize("version", SPECS)
def test_each_release_gets_its_own_shape(cluster, training, version):
    cluster.trainer, made = version, kept_of(cluster)
    happen(cluster, "Complete")
    train_on_cluster(training, lambda: None)
    (trainjob,) = made
    assert fault_of(trainjob, version) == ""
    assert [field for field in PATCHES if field in trainjob["spec"]] == [FIELDS[version]]
    others = [trainjob_of(training, TASK, field) for field in PATCHES if field != FIELDS[version]]
    assert all("unexpected" in fault_of(one, version) for one in others)
    assert trainjob["spec"].get("activeDeadlineSeconds") == (3600 if version >= "2.2" else None)


@pytest.mark.parametrize(
    ("field", "place"),
    [
        ("podSpecOverrides", lambda patch: {"spec": patch}),
        ("podTemplateOverrides", lambda patch: patch),
        (
            "runtimePatches",
            lambda patch: patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"],
        ),
    ],
)
def test_pods_of_a_cluster_wide_runtime_get_what_the_task_has(training, field, place):
    (patch,) = trainjob_of(training, TASK, field)["spec"][field]
    template = place(patch)
    if field != "podSpecOverrides":  # in 2.0 nothing can be said of a pod's labels
        assert template["metadata"]["labels"] == {"app.kubernetes.io/component": "trainer"}
    pod = template["spec"]
    assert (pod["serviceAccountName"], pod["nodeSelector"]) == ("relevance-pipeline", {"pool": "gpu"})
    assert pod["tolerations"] == [{"key": "spot", "operator": "Exists"}]  # not those of the task, which waits elsewhere
    assert pod["volumes"] == [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}}]
    assert pod["containers"] == [{"name": "node", "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}]}]


def test_what_runs_in_a_trainjob(training):
    made = trainjob_of(training, TASK, "runtimePatches")
    trainer = made["spec"]["trainer"]
    assert (trainer["command"], trainer["args"]) == (
        ["torchrun"],
        ["-m", "components.train_teacher.trainer", "--job", "gs://b/model-job/job.json"],
    )
    assert (trainer["image"], trainer["numNodes"], trainer["numProcPerNode"]) == ("gpu@sha256:ab", 2, 8)
    assert trainer["resourcesPerNode"] == {side: {"nvidia.com/gpu": "8", "memory": "256Gi"} for side in ("requests", "limits")}
    assert [one["name"] for one in trainer["env"]] == ["HF_HUB_OFFLINE"]  # neither Argo's variables nor the tracking server's password
    assert (made["spec"]["suspend"], made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]) == (True, "relevance")
    assert made["spec"]["runtimeRef"]["kind"] == "ClusterTrainingRuntime"
    at_once = trainjob_of(replace(training, queue=""), TASK, "runtimePatches")
    assert (at_once["spec"]["suspend"], "kueue.x-k8s.io/queue-name" in at_once["metadata"]["labels"]) == (False, False)


def test_a_runtime_of_the_namespace_says_all_of_its_pods_but_where_they_run(training):
    own = replace(training, runtime="TrainingRuntime/relevance-teacher")
    spec = trainjob_of(own, TASK, "podTemplateOverrides")["spec"]
    assert spec["runtimeRef"] == {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": "relevance-teacher"}
    assert spec["podTemplateOverrides"][0]["spec"] == own.scheduling
    assert not PATCHES.keys() & trainjob_of(replace(own, scheduling={}), TASK, "podTemplateOverrides")["spec"].keys()


def test_the_run_owns_the_trainjob_so_that_it_outlives_one_try(training):
    assert trainjob_of(training, TASK, "runtimePatches")["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": "task-1", "uid": "u-1"}
    ]
    workflow = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "w", "uid": "u-0", "controller": True}
    of_argo = {**TASK, "metadata": {**TASK["metadata"], "ownerReferences": [workflow]}}
    assert trainjob_of(training, of_argo, "runtimePatches")["metadata"]["ownerReferences"] == [
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "w", "uid": "u-0"}
    ]


def test_a_trainjob_is_named_by_its_place(training):
    assert re.fullmatch(r"teacher-[0-9a-f]{16}", training.name())
    assert replace(training, num_nodes=9).name() == training.name()
    assert replace(training, place=training.place + "x").name() != training.name()


def test_it_is_followed_to_its_end_and_taken_away(cluster, training, caplog):
    caplog.set_level(logging.INFO, logger="components.shared")
    told = []
    # `Running` never comes, as with a TrainJob that Kueue resumed (kubeflow/sdk#803)
    happen(
        cluster, "Suspended", lambda: node(cluster, training, 0, "Running", "step 1", "step 2"),
        lambda: cluster.logs[f"{training.name()}-node-0-0"].append(("2026-11-27T10:01:00.000000000Z", "step 3: größer")), "Complete",
    )  # fmt: skip
    train_on_cluster(training, lambda: told.append(len(cluster.trainjobs)))
    said = [one.message for one in caplog.records if one.message.startswith("node 0: ")]
    assert said == ["node 0: step 1", "node 0: step 2", "node 0: step 3: größer"]  # each once
    assert set(told) == {1}
    assert cluster.trainjobs == {}
    assert cluster.requests[-1] == "DELETE trainjobs Background"


def test_a_retry_goes_on_with_the_trainjob_that_is_there(cluster, training, caplog):
    caplog.set_level(logging.INFO, logger="components.shared")
    cluster.trainjobs[training.name()] = {**trainjob_of(training, TASK, "runtimePatches"), "status": {}}
    happen(cluster, "Complete")
    train_on_cluster(training, lambda: None)
    assert f"TrainJob {training.name()} is there already and goes on" in caplog.text
    assert "POST trainjobs" not in cluster.requests


FAILED = {"status": {"conditions": [{"type": "Failed", "status": "True"}]}}


@pytest.mark.parametrize("left", [FAILED, {"deletionTimestamp": "t"}, {**FAILED, "deletionTimestamp": "t"}])
def test_what_an_earlier_try_left_is_replaced(cluster, training, left):
    old = trainjob_of(training, TASK, "runtimePatches")
    metadata = {**old["metadata"], **({"deletionTimestamp": "t"} if "deletionTimestamp" in left else {})}
    cluster.trainjobs[training.name()] = {**old, "status": {}, **left, "metadata": metadata}
    refuse(training.place, InputError("of the earlier try"))
    made = kept_of(cluster)
    gone = (lambda: cluster.trainjobs.clear()) if "deletionTimestamp" in left else (lambda: None)
    happen(cluster, gone, lambda: None, "Complete")
    train_on_cluster(training, lambda: None)
    assert len(made) == 1
    # what is being deleted is not deleted again, only the new one at its end
    assert cluster.requests.count("DELETE trainjobs Background") == (1 if "deletionTimestamp" in left else 2)


def test_a_failure_ends_with_the_last_lines_of_the_failed_nodes(cluster, training):
    def fail() -> None:
        node(cluster, training, 0, "Running", "step 1", "waiting")
        node(cluster, training, 1, "Failed", *["step 1"] * 50, "torch.OutOfMemoryError: no room left", "ChildFailedError: rank 9")

    happen(cluster, fail, "Failed")
    with pytest.raises(TemporaryError, match=r"failed \(it is Failed\); node 1: torch.OutOfMemoryError: no room left$"):
        train_on_cluster(training, lambda: None)
    assert cluster.trainjobs == {}


def test_the_node_that_failed_first_is_told_first_and_those_that_it_left_alone_last(cluster, training, caplog):
    def fail() -> None:
        for index, second in enumerate((3, 9, 4, 8)):
            said = "KeyError: 'grade'" if index == 3 else "RuntimeError: Connection closed by peer"
            node(
                cluster, training, index, "Failed", *[f"step {number}" for number in range(60)], said if index != 2 else "OSError: no room"
            )
            ended = {"state": {"terminated": {"exitCode": 1, "finishedAt": f"2026-11-27T10:00:0{second}Z"}}}
            told = {"name": "node", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, **ended}
            cluster.pods[f"{training.name()}-node-0-{index}"]["status"]["containerStatuses"] = [told]

    happen(cluster, fail, "Failed")
    with caplog.at_level(logging.ERROR), pytest.raises(TemporaryError) as caught:
        train_on_cluster(training, lambda: None)
    told = str(caught.value).partition("; ")[2].split("; ")
    assert told == ["node 2: OSError: no room", "node 3: KeyError: 'grade'", "node 0: RuntimeError: Connection closed by peer"]
    logged = [one.getMessage().splitlines() for one in caplog.records]
    assert [lines[0] for lines in logged] == [f"node {index} ended; its last lines:" for index in (0, 2, 3, 1)]
    assert all(len(lines) == 62 for lines in logged)


def test_a_refused_input_ends_it_before_its_restarts_do(cluster, training):
    happen(cluster, lambda: refuse(training.place, InputError("column 'grade' has 9; correct it")))
    with pytest.raises(InputError, match=r"^column 'grade' has 9; correct it$"):
        train_on_cluster(training, lambda: None)
    assert cluster.trainjobs == {}


def test_trouble_that_may_pass_is_left_to_its_restarts(cluster, training):
    happen(cluster, lambda: refuse(training.place, TemporaryError("storage did not answer")), lambda: None, "Failed")
    with pytest.raises(TemporaryError, match=r"^storage did not answer$"):
        train_on_cluster(training, lambda: None)
    happen(cluster, lambda: refuse(training.place, TemporaryError("storage did not answer")), lambda: None, "Complete")
    train_on_cluster(training, lambda: None)


@pytest.mark.parametrize(
    ("request_", "status", "kind", "message"),
    [
        ("POST trainjobs", 403, InputError, r"refuses with 403 .*'relevance'; let the task's account .* trainjobs .*access.yaml"),
        ("GET pods", 403, InputError, "refuses with 403"),
        ("POST trainjobs", 503, TemporaryError, "answers 503"),
        ("GET trainjobs", 429, TemporaryError, "answers 429"),
        ("GET openapi", 403, InputError, "say trainer_version"),
    ],
)
def test_refusals(cluster, training, request_, status, kind, message):
    cluster.refuses[request_] = status
    with pytest.raises(kind, match=message):
        train_on_cluster(training, lambda: None)
    assert cluster.trainjobs == {}


def test_a_cluster_without_trainer_is_named(cluster, training):
    cluster.trainer = ""
    with pytest.raises(InputError, match=r"knows no trainer\.kubeflow\.org/v1alpha1; install Kubeflow Trainer 2"):
        train_on_cluster(training, lambda: None)


def test_a_release_that_was_said_is_not_asked_for_and_a_wrong_one_is_refused(cluster, training):
    cluster.trainer = "2.1"
    with pytest.raises(InputError, match=r"refuses with 400 .*: .*runtimePatches.* unexpected"):
        train_on_cluster(replace(training, version="2.2"), lambda: None)
    happen(cluster, "Complete")
    train_on_cluster(replace(training, version="2.1"), lambda: None)
    assert "GET openapi" not in cluster.requests


def test_time_in_the_queue_is_not_counted(cluster, training, monkeypatch):
    clock = iter(range(0, 100_000, 1000))
    monkeypatch.setattr("components.shared.launch_trainjob.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(launch_cluster, "GONE_S", 1e9)
    happen(cluster, *["Suspended"] * 8, "Running")
    with pytest.raises(
        TemporaryError, match="did not end within 3600 s and was stopped; the next try goes on from its last checkpoint, or raise timeout_s"
    ):
        train_on_cluster(training, lambda: None)
    assert cluster.requests.count("GET trainjobs") > 8
    assert cluster.trainjobs == {}


def test_an_api_server_that_is_away_for_a_while_costs_nothing(cluster, training, monkeypatch):
    away = lambda: cluster.refuses.update({"GET trainjobs": 503})  # noqa: E731
    happen(cluster, away, lambda: None, cluster.refuses.clear, "Complete")
    train_on_cluster(training, lambda: None)
    monkeypatch.setattr(launch_trainjob, "PATIENCE_S", 0.0)
    happen(cluster, away)
    with pytest.raises(TemporaryError, match="answers 503"):
        train_on_cluster(training, lambda: None)
    assert training.name() in cluster.trainjobs  # another try adopts it


def test_storage_in_trouble_does_not_end_a_training(cluster, training, monkeypatch):
    def away(place):
        raise TemporaryError("storage did not answer")

    monkeypatch.setattr(launch_trainjob, "reason_of", away)
    happen(cluster, lambda: None, "Complete")
    train_on_cluster(training, lambda: None)
    happen(cluster, "Failed")
    with pytest.raises(TemporaryError, match=r"failed .it is Failed.; its pods are gone"):
        train_on_cluster(training, lambda: None)


def test_a_trainjob_that_somebody_deleted_is_said(cluster, training):
    happen(cluster, cluster.trainjobs.clear)
    with pytest.raises(TemporaryError, match="was deleted by somebody else"):
        train_on_cluster(training, lambda: None)


def test_a_cancelled_task_takes_its_trainjob_away(cluster, training):
    happen(cluster, lambda: os.kill(os.getpid(), signal.SIGTERM))
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train_on_cluster(training, lambda: None)
    assert cluster.trainjobs == {}
    assert signal.getsignal(signal.SIGTERM) is handler


def test_it_can_be_followed_from_another_thread(cluster, training):
    happen(cluster, "Complete")
    thread = threading.Thread(target=train_on_cluster, args=(training, lambda: None))
    thread.start()
    thread.join()
    assert "DELETE trainjobs Background" in cluster.requests


def test_a_result_survives_a_trainjob_that_cannot_be_deleted(cluster, training, caplog):
    cluster.refuses["DELETE trainjobs"] = 500
    happen(cluster, "Complete")
    train_on_cluster(training, lambda: None)
    assert "could not be deleted" in caplog.text


def test_outside_a_cluster_nothing_is_started(training, monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InputError, match=r"no task on Kubernetes.*set launcher to local"):
        train_on_cluster(training, lambda: None)
