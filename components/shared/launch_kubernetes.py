"""Helpers of a task on Kubernetes: an Indexed Job whose pods are copies of the task's own pod with another command.

The task works beside them, so nothing waits for a queue that is full, and the helpers only have to be started and taken away. A task that
is tried again finds the Job by its name and goes on with it. Where the account may not create Jobs, the pipeline is compiled with
helper tasks instead (`pipelines/fan_out.py`).
"""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from components.shared.errors import EXIT_INPUT, InputError, TemporaryError

logger = logging.getLogger(__name__)

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
MAIN = "main"  # the container in which Argo runs a task
RETRIES_PER_INDEX = 5  # preemptions included
KEPT = ("image", "imagePullPolicy", "envFrom", "resources", "securityContext")  # of the task's container
KEPT_OF_POD = ("serviceAccountName", "imagePullSecrets", "nodeSelector", "tolerations", "securityContext", "priorityClassName")
INTERNAL = ("ARGO_", "KFP_", "ML_PIPELINE", "RELEVANCE_LAST_STEP")  # variables of the task that mean nothing to a helper


@dataclass(frozen=True, kw_only=True)
class Helpers:
    """What is started.

    Args:
        place: URI that the work goes to; with the same place the same Job is found again.
        count: pods.
        command: of each pod; it reads its number in JOB_COMPLETION_INDEX.
        environment: more variables.
        queue: Kueue's local queue; empty starts the pods at once.
        deadline_s: after which Kubernetes ends them.
    """

    place: str
    count: int
    command: list[str]
    environment: dict[str, str]
    queue: str
    deadline_s: int

    def name(self) -> str:
        return f"relevance-{hashlib.sha256(self.place.encode()).hexdigest()[:16]}"


@contextmanager
def helping(helpers: Helpers) -> Iterator[None]:
    """While open, the Job is there; it is deleted at the end, with its pods.

    Raises:
        InputError: outside a cluster, or when the account may not do this.
        TemporaryError: when the API server does not answer.
    """
    namespace = _namespace()
    jobs, pods = client.BatchV1Api(), client.CoreV1Api()
    # a host name is the pod's name cut to 63 letters, so kfp's own word comes first
    name = os.environ.get("KFP_POD_NAME") or os.environ.get("HOSTNAME", "")
    own: Any = client.ApiClient().sanitize_for_serialization(_asked(lambda: pods.read_namespaced_pod(name, namespace), namespace))
    body = job_of(helpers, own)
    _create_or_adopt(jobs, namespace, body)
    try:
        yield
    finally:
        _take_away(jobs, namespace, helpers.name())


def job_of(helpers: Helpers, pod: dict[str, Any]) -> dict[str, Any]:
    """The Job, as batch/v1 JSON, from the task's own pod."""
    spec = pod["spec"]
    main = next((one for one in spec["containers"] if one["name"] == MAIN), spec["containers"][0])
    memory = [one for one in spec.get("volumes", []) if "emptyDir" in one and one["emptyDir"].get("medium") == "Memory"]
    mounts = [one for one in main.get("volumeMounts", []) if one["name"] in {volume["name"] for volume in memory}]
    container = {
        "name": "helper",
        **{name: main[name] for name in KEPT if name in main},
        "command": helpers.command,
        "env": [one for one in main.get("env", []) if not one["name"].startswith(INTERNAL)]
        + [{"name": name, "value": value} for name, value in helpers.environment.items()],
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
                "spec": {**template, "restartPolicy": "Never", "containers": [container], "volumes": memory},
            },
        },
    }


def _namespace() -> str:
    """Log in as this pod, or by KUBECONFIG where that is set."""
    file = os.environ.get("KUBECONFIG", "")
    try:
        config.load_kube_config(file) if file else config.load_incluster_config()
    except config.ConfigException:
        raise InputError(
            "this is no task on Kubernetes, so no helpers can be started; set group_workers to 1 and use num_workers"
        ) from None
    return config.list_kube_config_contexts(file)[1]["context"]["namespace"] if file else NAMESPACE_FILE.read_text().strip()


def _asked(action: Any, namespace: str) -> Any:
    """The answer of the API server; 409 is left to the caller."""
    try:
        return action()
    except ApiException as error:
        if error.status == 409:
            raise
        if error.status == 429 or (error.status or 500) >= 500:
            raise TemporaryError(f"Kubernetes answers {error.status} {error.reason}; try again") from error
        raise InputError(
            f"Kubernetes refuses with {error.status} {error.reason} in namespace '{namespace}'; let the task's account get pods and "
            "create, get and delete jobs (infra/base/access.yaml), compile with helper tasks, or set group_workers to 1"
        ) from error
    except HTTPError as error:
        raise TemporaryError(f"Kubernetes does not answer ({error}); try again") from error


def _create_or_adopt(jobs: client.BatchV1Api, namespace: str, body: dict[str, Any]) -> None:
    name = body["metadata"]["name"]
    try:
        _asked(lambda: jobs.create_namespaced_job(namespace, body), namespace)
        logger.info("started %d helpers, job %s", body["spec"]["completions"], name)
    except ApiException:
        logger.info("job %s is there already: its helpers go on", name)


def _take_away(jobs: client.BatchV1Api, namespace: str, name: str) -> None:
    """Trouble here must not undo work that is done: the Job ends by itself, or with its task."""
    try:
        status: Any = jobs.read_namespaced_job(name, namespace)
        failed = [one.message for one in status.status.conditions or [] if one.type == "Failed"]
        if failed:
            logger.warning("helpers of job %s failed: %s", name, failed[0])
        jobs.delete_namespaced_job(name, namespace, propagation_policy="Background")
    except (ApiException, HTTPError) as error:
        logger.warning("job %s could not be taken away: %s", name, error)
