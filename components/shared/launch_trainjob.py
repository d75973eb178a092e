"""Training processes on many nodes: a Kubeflow TrainJob that runs the module which torchrun also runs on one machine.

The task that starts it follows it: conditions, the first node's log, and what the module writes below `place`. A task that is tried again
finds the TrainJob by its name and goes on with it; a task that ends, or is cancelled, takes it away. The runtime must be one of torch,
whose controller tells torchrun its world by PET_* variables: neither ssh nor MPI is needed.
"""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from components.shared import storage
from components.shared.errors import InputError, TemporaryError
from components.shared.launch import ERROR_FILE, last_words, reason_of, too_slow
from components.shared.launch_cluster import (
    QUEUE_LABEL,
    Cluster,
    State,
    UnansweredError,
    as_json,
    create_or_adopt,
    environment_of,
    main_container,
    shared_memory,
    stopped_by_sigterm,
)

logger = logging.getLogger(__name__)

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
POLL_S = 5.0
PATIENCE_S = 600.0  # the API server may be away for so long before the task gives up; training goes on meanwhile
NODE = "node"  # of the torch runtimes: the replicated job, and its container
LABEL = {"app.kubernetes.io/component": "trainer"}  # with it network policies let ranks talk; 2.0 cannot put it on pods, its runtime must
JOBSET_LABEL, INDEX_LABEL = "jobset.sigs.k8s.io/jobset-name", "batch.kubernetes.io/job-completion-index"
TOLD_NODES, TOLD_LINES = 3, 200
# what a rank says whose partner has died
LEFT_ALONE = re.compile(r"connection (closed|reset|refused)|broken pipe|NCCL error|watchdog|heartbeat", re.IGNORECASE)
OUTSIDE = "no TrainJob can be started; set launcher to local"
REMEDY = (
    "let the task's account get, list and log pods and create, get and delete trainjobs (infra/base/access.yaml), or set launcher to local"
)

# field of the TrainJob that adapts pods -> (first release with it, what its pods take from the task's); the API packages of these say so
PATCHES: dict[str, tuple[str, tuple[str, ...]]] = {
    "podSpecOverrides": ("2.0", ("serviceAccountName",)),
    "podTemplateOverrides": ("2.1", ("serviceAccountName", "imagePullSecrets")),
    "runtimePatches": ("2.2", ("serviceAccountName", "imagePullSecrets", "securityContext")),
}


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is started.

    Args:
        place: URI of the folder that the processes read and write; with the same place the same TrainJob is found again.
        module, arguments: what torchrun runs in every process.
        num_nodes, num_processes: pods, and processes in each.
        resources: of each pod, requested and at the same time its limit, such as {"nvidia.com/gpu": "8"}.
        runtime: name of a ClusterTrainingRuntime, whose pods get `scheduling`, this task's account and its shared memory; or
            `TrainingRuntime/<name>` of the namespace, which says all but `scheduling` itself.
        queue: Kueue's local queue; empty starts the pods at once.
        scheduling: fields of a pod that say on which nodes it may run.
        deadline_s: longest time to run, waiting in the queue not counted.
        version: of the cluster's Kubeflow Trainer, `2.0`, `2.1` or `2.2` for all later ones; `auto` asks the API server.
    """

    place: str
    module: str
    arguments: list[str]
    num_nodes: int
    num_processes: int
    resources: Mapping[str, str]
    runtime: str
    queue: str
    scheduling: Mapping[str, Any]
    deadline_s: int
    version: str = "auto"

    def name(self) -> str:
        return f"teacher-{hashlib.sha256(storage.normalise(self.place).encode()).hexdigest()[:16]}"


def train_on_cluster(training: Training, on_wait: Callable[[], None]) -> None:
    """Start the TrainJob, or go on with the one that is there, and wait for its end; it is deleted then, and on SIGTERM or Ctrl-C.

    Where the API server is away for too long it is left running, for another try to adopt.

    Args:
        on_wait: called every few seconds while waiting.

    Raises:
        InputError: outside a cluster, when the account may not do this, or when a process refused its input; with its message.
        TemporaryError: when it failed otherwise, with the last lines of the failed nodes; when time ran out; when the API server was away.
    """
    cluster = Cluster.of_this_task(OUTSIDE, REMEDY)
    field = _patch_field(cluster, training.version)
    body = trainjob_of(training, cluster.own_pod(), field)
    name, is_left = training.name(), False
    with stopped_by_sigterm():
        try:
            is_there = create_or_adopt(
                f"TrainJob {name}", lambda: _state(cluster, name), lambda: _create(cluster, body, training),
                lambda: _delete(cluster, name), POLL_S,
            )  # fmt: skip
            if not is_there:
                raise TemporaryError(f"TrainJob {name} of an earlier try is still not gone; try again, or delete it")
            _follow(cluster, training, on_wait)
        except UnansweredError:
            is_left = True
            raise
        finally:
            if not is_left:
                _delete(cluster, name)


def trainjob_of(training: Training, pod: dict[str, Any], field: str) -> dict[str, Any]:
    """The TrainJob, as JSON, from the task's own pod. `field` is the one of PATCHES that the cluster knows."""
    kind, _, runtime = training.runtime.rpartition("/")
    amounts = dict(training.resources)
    trainer = {
        "image": main_container(pod)["image"],
        "command": ["torchrun"],
        "args": ["-m", training.module, *training.arguments],
        "numNodes": training.num_nodes,
        "numProcPerNode": training.num_processes,  # without it a pod without GPUs gets a process for each CPU
        "resourcesPerNode": {"requests": amounts, "limits": amounts},
        "env": environment_of(pod, without=("MLFLOW_",)),  # processes report to us, so they need no way to the tracking server
    }
    asked = {**training.scheduling, **({} if kind else _like(pod, field))}  # a runtime of the namespace says all else itself
    patches = {field: _patches(field, asked)} if asked else {}
    deadline = {"activeDeadlineSeconds": training.deadline_s} if field == "runtimePatches" else {}
    queue = {QUEUE_LABEL: training.queue} if training.queue else {}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {
            "name": training.name(),
            "labels": {**LABEL, **queue},
            "ownerReferences": [_owner(pod)],
        },
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": kind or "ClusterTrainingRuntime", "name": runtime},
            "trainer": trainer,
            "suspend": bool(training.queue),  # Kueue starts it when there is room
            **patches,
            **deadline,
        },
    }


def _like(pod: dict[str, Any], field: str) -> dict[str, Any]:
    """What pods take from the task's: its account, as far as the release lets it be said, and its volumes."""
    volumes, mounts = shared_memory(pod)
    spec: dict[str, Any] = {name: pod["spec"][name] for name in PATCHES[field][1] if name in pod["spec"]}
    return spec | ({"volumes": volumes, "containers": [{"name": NODE, "volumeMounts": mounts}]} if volumes else {})


def _patches(field: str, spec: dict[str, Any]) -> list[dict[str, Any]]:
    if field == "podSpecOverrides":
        return [{"targetJobs": [{"name": NODE}], **spec}]
    template = {"metadata": {"labels": LABEL}, "spec": spec}
    if field == "podTemplateOverrides":
        return [{"targetJobs": [{"name": NODE}], **template}]
    job = {"name": NODE, "template": {"spec": {"template": template}}}
    manager = "relevance-distillery/train-teacher"
    return [{"manager": manager, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}}}]


def _owner(pod: dict[str, Any]) -> dict[str, Any]:
    """With this Kubernetes removes the TrainJob: the run rather than this try of the task, so that another try can adopt it."""
    runs = pod["metadata"].get("ownerReferences") or [{"apiVersion": "v1", "kind": "Pod", **pod["metadata"]}]
    return {key: runs[0][key] for key in ("apiVersion", "kind", "name", "uid")}


def _patch_field(cluster: Cluster, version: str) -> str:
    """The field that adapts pods, which has another name in each minor release up to 2.2.

    The API server publishes every resource's schema to every account, so no right to read definitions is needed.
    """
    if version != "auto":
        return next(field for field, (first, _) in PATCHES.items() if first == version)
    try:
        answer: Any = cluster.ask(
            lambda: client.ApiClient().call_api(
                f"/openapi/v3/apis/{GROUP}/{VERSION}", "GET", header_params={"Accept": "application/json"}, response_type="object",
                auth_settings=["BearerToken"], _return_http_data_only=True,
            ), expected=(403, 404),
        )  # fmt: skip
    except ApiException as error:
        if error.status == 403:
            raise InputError("this account may not read the cluster's API schema; say trainer_version, see `kubectl explain`") from error
        raise InputError(f"this cluster knows no {GROUP}/{VERSION}; install Kubeflow Trainer 2, or set launcher to local") from error
    schemas = answer["components"]["schemas"].values()
    kinds = {kind["kind"]: one for one in schemas for kind in one.get("x-kubernetes-group-version-kind", [])}
    known = kinds["TrainJob"]["properties"]["spec"]["properties"]
    found = next((field for field in PATCHES if field in known), None)
    if found is None:
        raise InputError(
            f"the cluster's TrainJob has none of {', '.join(PATCHES)}: not a Kubeflow Trainer of 2.0 to 2.3; say trainer_version"
        )
    return found


def _state(cluster: Cluster, name: str) -> State:
    there = _read(cluster, name)
    if there is None:
        return "absent"
    if "deletionTimestamp" in there["metadata"]:
        return "going"
    return "failed" if "Failed" in _conditions(there) else "there"


def _create(cluster: Cluster, body: dict[str, Any], training: Training) -> bool:
    """Whether it was made; False where somebody else was faster."""
    storage.remove(storage.join(training.place, ERROR_FILE))
    try:
        cluster.ask(lambda: _trainjobs().create_namespaced_custom_object(*_where(cluster), body, field_validation="Strict"))
    except ApiException:
        return False
    logger.info("started TrainJob %s: %d nodes with %d processes each", training.name(), training.num_nodes, training.num_processes)
    return True


def _follow(cluster: Cluster, training: Training, on_wait: Callable[[], None]) -> None:
    log = _Log(cluster, training.name())
    heard = began = time.monotonic()
    while True:
        time.sleep(POLL_S)
        on_wait()
        now = time.monotonic()
        try:
            there = _read(cluster, training.name())
        except UnansweredError:
            if now - heard > PATIENCE_S:
                raise
            continue
        heard = now
        log.pass_on()
        if there is None:
            raise TemporaryError(f"TrainJob {training.name()} was deleted by somebody else; try again")
        conditions = _conditions(there)
        if "Complete" in conditions:
            on_wait()
            return
        reason = _reason(training)
        if "Failed" in conditions:
            raise reason or TemporaryError(f"TrainJob {training.name()} failed ({conditions['Failed']}); {log.of_failed_nodes()}")
        if isinstance(reason, InputError):  # the same on every try, so its restarts are not waited for
            raise reason
        began = now if "Suspended" in conditions else began
        if now - began > training.deadline_s:
            raise TemporaryError(f"TrainJob {training.name()} {too_slow(training.deadline_s)}")


def _reason(training: Training) -> InputError | TemporaryError | None:
    """What a process said before it left; storage in trouble is asked again next time."""
    try:
        return reason_of(training.place)
    except TemporaryError:
        return None


class _Log:
    """What the pods of a TrainJob write. Trouble here is left alone: training does not depend on being heard."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.told, self.asked = "", 0.0  # stamp of the last line that was passed on; when the log was read

    def pass_on(self) -> None:
        """Log the first node's new lines; its local ranks share one log."""
        now = time.monotonic()
        span = {"since_seconds": int(now - self.asked + PATIENCE_S)} if self.asked else {}
        for pod in [one for one in self._pods() if _index(one) == 0][-1:]:
            for line in self._lines(pod, timestamps=True, **span):
                stamp, _, text = line.partition(" ")
                if stamp > self.told:
                    logger.info("node 0: %s", text)
                    self.told = stamp
            self.asked = now

    def of_failed_nodes(self) -> str:
        """What a few pods that failed said last, or all where none failed: first those that ended first, because the others ended for
        want of them. The last lines of every one go to the log."""
        pods = self._pods()
        failed = sorted([one for one in pods if one["status"].get("phase") == "Failed"] or pods, key=_ended_at)
        said = []
        for pod in failed:
            lines = self._lines(pod, tail_lines=TOLD_LINES)
            logger.error("node %d ended; its last lines:\n%s", _index(pod), "\n".join(lines))
            said.append(f"node {_index(pod)}: {last_words(chr(10).join(lines))}")
        said.sort(key=lambda one: bool(LEFT_ALONE.search(one)))
        return "; ".join(said[:TOLD_NODES]) or "its pods are gone"

    def _pods(self) -> list[dict[str, Any]]:
        """In order of their node and age."""
        try:
            found = client.CoreV1Api().list_namespaced_pod(self.cluster.namespace, label_selector=f"{JOBSET_LABEL}={self.name}")
        except (ApiException, HTTPError) as error:
            logger.debug("pods of %s cannot be listed now: %s", self.name, error)
            return []
        return sorted(as_json(found)["items"], key=lambda one: (_index(one), one["metadata"].get("creationTimestamp", "")))

    def _lines(self, pod: dict[str, Any], **which: Any) -> list[str]:
        name = pod["metadata"]["name"]
        try:  # the client's own decoding of a log turns bytes into their Python spelling
            answer = client.CoreV1Api().read_namespaced_pod_log(
                name, self.cluster.namespace, container=NODE, _preload_content=False, **which
            )
        except (ApiException, HTTPError) as error:  # usual while the container starts
            logger.debug("the log of %s cannot be read now: %s", name, error)
            return []
        return answer.data.decode("utf-8", errors="replace").splitlines()


def _index(pod: dict[str, Any]) -> int:
    return int(pod["metadata"].get("labels", {}).get(INDEX_LABEL, 0))


def _ended_at(pod: dict[str, Any]) -> str:
    """When its container ended, as Kubernetes writes times; what has not ended comes last."""
    states = [one["state"]["terminated"] for one in pod["status"].get("containerStatuses") or [] if "terminated" in one.get("state", {})]
    return min((one.get("finishedAt") or "~" for one in states), default="~")


def _trainjobs() -> client.CustomObjectsApi:
    return client.CustomObjectsApi()


def _where(cluster: Cluster) -> tuple[str, str, str, str]:
    return GROUP, VERSION, cluster.namespace, PLURAL


def _read(cluster: Cluster, name: str) -> Any | None:
    try:
        return cluster.ask(lambda: _trainjobs().get_namespaced_custom_object(*_where(cluster), name), expected=(404,))
    except ApiException:
        return None


def _conditions(trainjob: dict[str, Any]) -> dict[str, str]:
    """Condition that holds -> its message. `Running` is not among them in every release, so nothing waits for it."""
    found = trainjob.get("status", {}).get("conditions") or []
    return {one["type"]: one.get("message", "") for one in found if one["status"] == "True"}


def _delete(cluster: Cluster, name: str) -> None:
    """Trouble here must not undo work that is done: the TrainJob ends by itself, or with its run."""
    try:
        _trainjobs().delete_namespaced_custom_object(*_where(cluster), name, propagation_policy="Background")
        logger.info("deleted TrainJob %s", name)
    except (ApiException, HTTPError) as error:
        logger.warning("TrainJob %s could not be deleted: %s", name, error)
