"""Helpers of a task: the Job that Kubernetes gets, adopted by a retry, taken away at the end, refused with a remedy."""

import copy
import logging
import os
import signal
import time
from pathlib import Path

import pytest
import yaml
from fake_kubernetes import TASK

from components.shared import launch_cluster, launch_kubernetes
from components.shared.errors import InputError, TemporaryError
from components.shared.launch_kubernetes import Helpers, helping

HELPERS = Helpers(
    place="gs://bucket/scoring/0123/scores", count=7, command=["python", "-m", "components.score_pairs", "--x=1"],
    environment={"RELEVANCE_HELPER": "1"}, queue="relevance", deadline_s=3600,
    scheduling={"tolerations": [{"key": "spot", "operator": "Exists"}], "nodeSelector": {"pool": "gpu"}},
)  # fmt: skip


def test_helpers_are_copies_of_the_task_with_another_command(cluster):
    with helping(HELPERS):
        (job,) = cluster.jobs.values()
    assert job["metadata"]["name"] == HELPERS.name()
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "relevance"
    assert job["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Pod", "name": "task-1", "uid": "u-1"}]
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"], spec["suspend"]) == ("Indexed", 7, 7, True)
    assert (spec["backoffLimitPerIndex"], spec["activeDeadlineSeconds"]) == (5, 3600)
    assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == ["FailJob", "Ignore"]
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert (pod["restartPolicy"], pod["serviceAccountName"]) == ("Never", "relevance-pipeline")
    assert (pod["tolerations"], pod["nodeSelector"]) == ([{"key": "spot", "operator": "Exists"}], {"pool": "gpu"})  # not its own pod's
    assert (container["image"], container["command"]) == ("gpu@sha256:ab", HELPERS.command)
    assert container["resources"] == TASK["spec"]["containers"][1]["resources"]
    assert [one["name"] for one in container["env"]] == ["HF_HUB_OFFLINE", "MLFLOW_TRACKING_PASSWORD", "RELEVANCE_HELPER"]
    assert container["env"][1]["valueFrom"] == {"secretKeyRef": {"name": "mlflow-credentials", "key": "password"}}
    assert ([one["name"] for one in pod["volumes"]], container["volumeMounts"]) == (["shm"], [{"name": "shm", "mountPath": "/dev/shm"}])


@pytest.mark.parametrize("fails", [False, True])
def test_the_job_is_taken_away_whatever_happened(cluster, fails):
    try:
        with helping(HELPERS):
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert cluster.jobs == {}
    assert cluster.requests == ["GET pods", "GET jobs", "POST jobs", "GET jobs", "DELETE jobs Background"]


def test_a_retry_goes_on_with_the_job_that_is_there(cluster, caplog):
    cluster.jobs[HELPERS.name()] = {**launch_kubernetes.job_of(HELPERS, TASK), "status": {}, "mark": "first"}
    with caplog.at_level(logging.INFO, logger="components.shared"), helping(HELPERS):
        assert cluster.jobs[HELPERS.name()]["mark"] == "first"
    assert f"job {HELPERS.name()} is there already" in caplog.text
    assert Helpers(**{**vars(HELPERS), "place": "gs://bucket/scoring/4567/scores"}).name() != HELPERS.name()


def test_a_job_that_failed_is_made_anew(cluster, caplog, monkeypatch):
    monkeypatch.setattr(launch_kubernetes, "POLL_S", 0.01)
    failed = {"conditions": [{"type": "Failed", "status": "True", "message": "Job was active longer than specified deadline"}]}
    cluster.jobs[HELPERS.name()] = {**launch_kubernetes.job_of(HELPERS, TASK), "status": failed, "mark": "first"}
    with helping(HELPERS):
        assert "mark" not in cluster.jobs[HELPERS.name()]
    assert "active longer than specified deadline" in caplog.text


@pytest.mark.parametrize("conditions", [[], [{"type": "Failed", "status": "True", "message": "it failed"}]])
def test_a_job_that_is_being_deleted_is_waited_for_and_not_for_ever(cluster, caplog, monkeypatch, conditions):
    monkeypatch.setattr(launch_kubernetes, "POLL_S", 0.01)
    monkeypatch.setattr(launch_cluster, "GONE_S", 0.2)
    old = launch_kubernetes.job_of(HELPERS, TASK)
    old["metadata"]["deletionTimestamp"] = "2026-11-27T10:00:00Z"
    cluster.jobs[HELPERS.name()] = {**old, "status": {"conditions": conditions}, "mark": "first"}
    with helping(HELPERS):
        assert cluster.jobs[HELPERS.name()]["mark"] == "first"
        assert "DELETE jobs Background" not in cluster.requests
    assert "still not gone: going on without helpers" in caplog.text


def test_a_cancelled_task_takes_its_helpers_away(cluster):
    with pytest.raises(KeyboardInterrupt), helping(HELPERS):  # noqa: PT012  the signal comes while it works
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert cluster.jobs == {}


def test_helpers_that_failed_are_said(cluster, caplog):
    failed = {"conditions": [{"type": "Failed", "status": "True", "message": "Container helper exited with exit code 2"}]}
    with helping(HELPERS):
        cluster.jobs[HELPERS.name()]["status"] = failed
    assert "failed: Container helper exited with exit code 2" in caplog.text


@pytest.mark.parametrize(
    ("refused", "status", "kind", "message"),
    [
        (
            "POST jobs",
            403,
            InputError,
            "refuses with 403 .* in namespace 'relevance'; let the task's account .*, or set group_workers to 1",
        ),
        ("GET pods", 403, InputError, "refuses with 403"),
        ("POST jobs", 503, TemporaryError, "answers 503 .*; try again"),
        ("POST jobs", 429, TemporaryError, "answers 429"),
    ],
)
def test_refusals(cluster, refused, status, kind, message):
    cluster.refuses[refused] = status
    with pytest.raises(kind, match=message), helping(HELPERS):
        pass
    assert cluster.jobs == {}


def test_work_that_is_done_survives_a_job_that_cannot_be_taken_away(cluster, caplog):
    with helping(HELPERS):
        cluster.refuses["DELETE jobs"] = 500
    assert "could not be taken away" in caplog.text


@pytest.mark.parametrize("kubeconfig", ["", "/nowhere"])
def test_without_a_cluster_there_are_no_helpers(monkeypatch, kubeconfig):
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InputError, match=r"no task on Kubernetes.*set group_workers to 1"), helping(HELPERS):
        pass


def test_a_context_without_a_namespace_is_in_default(cluster, tmp_path, monkeypatch):
    settings = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    del settings["contexts"][0]["context"]["namespace"]
    (tmp_path / "own").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "own"))
    assert launch_kubernetes.Cluster.of_this_task("", "").namespace == "default"


def test_without_a_queue_pods_start_at_once():
    job = launch_kubernetes.job_of(Helpers(**{**vars(HELPERS), "queue": ""}), TASK)
    assert job["spec"]["suspend"] is False
    assert launch_kubernetes.QUEUE_LABEL not in job["metadata"]["labels"]


def test_helpers_have_a_place_for_temporary_files_where_the_task_has_one():
    pod = copy.deepcopy(TASK)
    pod["spec"]["volumes"].append({"name": "scratch", "emptyDir": {"sizeLimit": "100Gi"}})
    pod["spec"]["containers"][1]["volumeMounts"].append({"name": "scratch", "mountPath": "/scratch"})
    helpers = Helpers(**{**vars(HELPERS), "queue": ""})
    made = launch_kubernetes.job_of(helpers, pod)["spec"]["template"]["spec"]
    assert [one["name"] for one in made["volumes"]] == ["shm", "scratch"]
    assert {"name": "scratch", "mountPath": "/scratch"} in made["containers"][0]["volumeMounts"]
