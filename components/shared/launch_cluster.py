"""What launchers on Kubernetes share: this task's login and its own pod, the parts that copies of it keep, and how refusals read."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from components.shared.errors import InputError, TemporaryError
from components.shared.launch import SCRATCH_VOLUME

logger = logging.getLogger(__name__)

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
GONE_S = 120.0  # within which what is being deleted has to be gone
MAIN = "main"  # the container in which Argo runs a task
INTERNAL = ("ARGO_", "KFP_", "ML_PIPELINE", "RELEVANCE_LAST_STEP")  # variables of the task that mean nothing to its copies
T = TypeVar("T")
State = Literal["absent", "there", "failed", "going"]


class UnansweredError(TemporaryError):
    """The API server gave no answer; what runs on the cluster goes on."""


@dataclass(frozen=True)
class Cluster:
    """This task's place on Kubernetes. `remedy` ends the sentence that says that its account was refused."""

    namespace: str
    remedy: str

    @staticmethod
    def of_this_task(outside: str, remedy: str) -> "Cluster":
        """Log in as this pod, or by KUBECONFIG where that is set.

        Raises:
            InputError: outside a cluster; `outside` says what cannot be done and what to set instead.
        """
        file = os.environ.get("KUBECONFIG", "")
        try:
            config.load_kube_config(file) if file else config.load_incluster_config()
        except config.ConfigException:
            raise InputError(f"this is no task on Kubernetes, so {outside}") from None
        namespace = (
            config.list_kube_config_contexts(file)[1]["context"].get("namespace", "default") if file else NAMESPACE_FILE.read_text().strip()
        )
        return Cluster(namespace, remedy)

    def ask(self, action: Callable[[], T], expected: tuple[int, ...] = (409,)) -> T:
        """The answer of the API server; an ApiException whose status is `expected` is left to the caller.

        Raises:
            InputError: when the account may not do this, or the request is wrong.
            UnansweredError: when the server does not answer, or says that it cannot now.
        """
        try:
            return action()
        except ApiException as error:
            if error.status in expected:
                raise
            if error.status == 429 or (error.status or 500) >= 500:
                raise UnansweredError(f"Kubernetes answers {error.status} {error.reason}; try again") from error
            said = f": {_message(error)}" if error.status in (400, 422) else ""
            raise InputError(
                f"Kubernetes refuses with {error.status} {error.reason} in namespace '{self.namespace}'{said}; {self.remedy}"
            ) from error
        except HTTPError as error:
            raise UnansweredError(f"Kubernetes does not answer ({error}); try again") from error

    def own_pod(self) -> dict[str, Any]:
        """This task's pod, as core/v1 JSON."""
        # a host name is the pod's name cut to 63 letters, so kfp's own word comes first
        name = os.environ.get("KFP_POD_NAME") or os.environ.get("HOSTNAME", "")
        return as_json(self.ask(lambda: client.CoreV1Api().read_namespaced_pod(name, self.namespace)))


def create_or_adopt(what: str, state: Callable[[], State], create: Callable[[], bool], delete: Callable[[], None], poll_s: float) -> bool:
    """Whether the thing is there within `GONE_S`: made, or of an earlier try and going on; one that failed makes room first.

    Args:
        state: what the API server says of it now; `going` is being deleted.
        create: whether it was made; False where somebody else was faster.
    """
    until = time.monotonic() + GONE_S
    while time.monotonic() < until:
        now = state()
        if now == "there":
            logger.info("%s is there already and goes on", what)
        if now == "there" or (now == "absent" and create()):
            return True
        if now == "failed":
            delete()
        time.sleep(poll_s)
    return False


def as_json(made: Any) -> Any:
    return client.ApiClient().sanitize_for_serialization(made)


def main_container(pod: dict[str, Any]) -> dict[str, Any]:
    """The container that runs the task."""
    containers = pod["spec"]["containers"]
    return next((one for one in containers if one["name"] == MAIN), containers[0])


def shared_memory(pod: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(volumes in memory and for temporary files, where the task's container mounts them); Argo's own volumes are left out."""
    volumes = [one for one in pod["spec"].get("volumes", []) if _is_ours(one)]
    names = {one["name"] for one in volumes}
    return volumes, [one for one in main_container(pod).get("volumeMounts", []) if one["name"] in names]


def _is_ours(volume: dict[str, Any]) -> bool:
    return volume.get("emptyDir", {}).get("medium") == "Memory" or volume["name"] == SCRATCH_VOLUME


def environment_of(pod: dict[str, Any], without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The task's variables, secrets by reference; those that mean something only to the task, or start with `without`, are left out."""
    return [one for one in main_container(pod).get("env", []) if not one["name"].startswith((*INTERNAL, *without))]


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Kubernetes cancels a task by SIGTERM, on which Python would leave without cleaning up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt  # and not SIGINT, which a process started in the background ignores

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _message(error: ApiException) -> str:
    return " ".join(str(error.body).split())[:300]
