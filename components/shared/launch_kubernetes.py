"""Helpers of a task on Kubernetes: an Indexed Job whose pods are copies of the task's own pod with another command.

The task works beside them, so nothing waits for a queue that is full, and the helpers only have to be started and taken away. A task that
is tried again finds the Job by its name and goes on with it. Where the account may not create Jobs, the pipeline is compiled with
helper tasks instead (`pipelines/fan_out.py`).
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from components.shared.errors import EXIT_INPUT
from components.shared.launch_cluster import (
    QUEUE_LABEL,
    Cluster,
    State,
    create_or_adopt,
    environment_of,
    main_container,
    shared_memory,
    stopped_by_sigterm,
)

logger = logging.getLogger(__name__)

POLL_S = 2.0
RETRIES_PER_INDEX = 5  # preemptions included
KEPT = ("image", "imagePullPolicy", "envFrom", "resources", "securityContext")  # of the task's container
KEPT_OF_POD = ("serviceAccountName", "imagePullSecrets", "securityContext", "priorityClassName")
OUTSIDE = "no helpers can be started; set group_workers to 1 and use num_workers"
REMEDY = (
    "let the task's account get pods and create, get and delete jobs (infra/base/access.yaml), compile with helper tasks, or set "
    "group_workers to 1"
)


@dataclass(frozen=True, kw_only=True)
class Helpers:
    """What is started.

    Args:
        place: URI that the work goes to; with the same place the same Job is found again.
        count: pods.
        command: of each pod; it reads its number in JOB_COMPLETION_INDEX.
        environment: more variables.
        queue: Kueue's local queue; empty starts the pods at once.
        scheduling: fields of a pod that say on which nodes it may run.
        deadline_s: after which Kubernetes ends them.
    """

    place: str
    count: int
    command: list[str]
    environment: dict[str, str]
    queue: str
    scheduling: Mapping[str, Any]
    deadline_s: int

    def name(self) -> str:
        return f"relevance-{hashlib.sha256(self.place.encode()).hexdigest()[:16]}"


@contextmanager
def helping(helpers: Helpers) -> Iterator[None]:
    """While open, the Job is there; it is deleted at the end, with its pods, and on SIGTERM or Ctrl-C.

    Raises:
        InputError: outside a cluster, or when the account may not do this.
        TemporaryError: when the API server does not answer.
    """
    cluster, name = Cluster.of_this_task(OUTSIDE, REMEDY), helpers.name()
    with stopped_by_sigterm():
        body = job_of(helpers, cluster.own_pod())
        is_there = create_or_adopt(
            f"job {name}", lambda: _state(cluster, name), lambda: _create(cluster, body),
            lambda: _take_away(cluster.namespace, name), POLL_S,
        )  # fmt: skip
        if not is_there:
            logger.warning("job %s of an earlier try is still not gone: going on without helpers", name)
        try:
            yield
        finally:
            _take_away(cluster.namespace, name)


def job_of(helpers: Helpers, pod: dict[str, Any]) -> dict[str, Any]:
    """The Job, as batch/v1 JSON, from the task's own pod."""
    spec, main = pod["spec"], main_container(pod)
    memory, mounts = shared_memory(pod)
    container = {
        "name": "helper",
        **{name: main[name] for name in KEPT if name in main},
        "command": helpers.command,
        "env": environment_of(pod) + [{"name": name, "value": value} for name, value in helpers.environment.items()],
        "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    template = {name: spec[name] for name in KEPT_OF_POD if name in spec}
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    queue = {QUEUE_LABEL: helpers.queue} if helpers.queue else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        # without its task nobody would take the Job away, so Kubernetes does
        "metadata": {"name": helpers.name(), "labels": {"app.kubernetes.io/component": "helper", **queue}, "ownerReferences": [owner]},
        "spec": {
            "completionMode": "Indexed",
            "completions": helpers.count,
            "parallelism": helpers.count,
            "suspend": bool(helpers.queue),  # Kueue starts it when there is room
            "backoffLimitPerIndex": RETRIES_PER_INDEX,
            "activeDeadlineSeconds": helpers.deadline_s,
            # a mistake of settings or data is the same on every try; a preempted pod is no failed try
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onExitCodes": {"containerName": "helper", "operator": "In", "values": [EXIT_INPUT]}},
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {
                "metadata": {"labels": {"app.kubernetes.io/component": "helper"}},
                "spec": {**template, **helpers.scheduling, "restartPolicy": "Never", "containers": [container], "volumes": memory},
            },
        },
    }


def _create(cluster: Cluster, body: dict[str, Any]) -> bool:
    try:
        cluster.ask(lambda: client.BatchV1Api().create_namespaced_job(cluster.namespace, body))
    except ApiException:
        return False
    logger.info("started %d helpers, job %s", body["spec"]["completions"], body["metadata"]["name"])
    return True


def _state(cluster: Cluster, name: str) -> State:
    try:
        there: Any = cluster.ask(lambda: client.BatchV1Api().read_namespaced_job(name, cluster.namespace), expected=(404,))
    except ApiException:
        return "absent"
    if there.metadata.deletion_timestamp:
        return "going"
    return "failed" if _why_failed(there) else "there"


def _why_failed(job: Any) -> str:
    """What Kubernetes says of a Job that has failed; empty for others."""
    return next((one.message or one.reason or "failed" for one in job.status.conditions or [] if one.type == "Failed"), "")


def _take_away(namespace: str, name: str) -> None:
    """Trouble here must not undo work that is done: the Job ends by itself, or with its task."""
    jobs = client.BatchV1Api()
    try:
        status: Any = jobs.read_namespaced_job(name, namespace)
        if why := _why_failed(status):
            logger.warning("helpers of job %s failed: %s", name, why)
        jobs.delete_namespaced_job(name, namespace, propagation_policy="Background")
    except (ApiException, HTTPError) as error:
        logger.warning("job %s could not be taken away: %s", name, error)
