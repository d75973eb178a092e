"""Where each task runs: image, size, retries, environment. One call places all tasks of a pipeline.

Secrets never pass through here: in a pod a task gets the *names* of a secret and a config map, whose content the cluster puts
into its environment.
"""

import os
import re
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from kfp import dsl, kubernetes
from kubernetes.utils.quantity import parse_quantity

from components.shared.errors import InputError
from components.shared.launch import SCRATCH_VOLUME

LAPTOP, ONE_GPU, CLUSTER = PROFILES = ("laptop", "single-gpu", "cluster")
MLFLOW_CONFIG_MAP = "mlflow"
MLFLOW_SECRET = "mlflow-credentials"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
CLIENT_SALT_SECRET = "log-client-salt"
LAST_STEP = "promote-model"
PREFLIGHT = "preflight"
ACCELERATOR = "nvidia.com/gpu"
USER = 10001  # of the images
SCRATCH = "/scratch"
WHERE = tuple(dsl.TaskConfigField[f"KUBERNETES_{what}"] for what in ("TOLERATIONS", "NODE_SELECTOR", "AFFINITY"))
NODE_LABEL = re.compile(r"([\w.\-]+/)?[\w.\-]+=[\w.\-]*")


@dataclass(frozen=True, kw_only=True)
class Place:
    """What one task gets in its pod."""

    cpu: str = "2"
    memory: str = "8Gi"
    gpus: int = 0
    starts_gpus: bool = False  # pods with GPUs are made like this one, which has none
    shared_memory: str = ""
    scratch: str = "20Gi"  # local disk; a task that writes more is evicted, instead of taking its node down
    timeout_s: int = 3600
    num_retries: int = 2

    @property
    def needs_gpus(self) -> bool:
        return bool(self.gpus or self.starts_gpus)


GPU = Place(cpu="8", memory="64Gi", gpus=1, shared_memory="16Gi", scratch="100Gi", timeout_s=12 * 3600)
TEACHER = "train-teacher"
# the pods that it starts have its scratch volume too, for checkpoints; it waits in Kueue's queue as well
TRAINJOB = Place(memory="16Gi", starts_gpus=True, shared_memory="64Gi", scratch="500Gi", timeout_s=48 * 3600)
PLACES: dict[str, Place] = {
    PREFLIGHT: Place(cpu="1", memory="4Gi", timeout_s=900),
    "simulate-shop": Place(cpu="1", memory="2Gi"),
    "import-dataset": Place(),
    "extract-logs": Place(cpu="8", memory="32Gi", scratch="200Gi"),
    "retrieve-neighbors": Place(cpu="8", memory="32Gi", scratch="200Gi"),
    "prepare-encoder": Place(memory="32Gi", scratch="100Gi"),
    TEACHER: Place(cpu="32", memory="256Gi", gpus=8, shared_memory="64Gi", scratch="500Gi", timeout_s=24 * 3600),
    "build-pool": Place(cpu="4", memory="32Gi"),
    "score-pairs": GPU,
    "train-student": GPU,
    "evaluate-rankings": Place(cpu="4", memory="16Gi"),
    "promote-model": Place(),
}


WORKSTATION = Place(cpu="4", memory="32Gi", gpus=1, shared_memory="8Gi", scratch="100Gi")  # the most that a task gets on one


@dataclass(frozen=True)
class Images:
    """Image references by kind of task, pinned by digest, because the same tag may hold other code tomorrow.

    And where those with GPUs find their nodes: `queue` is Kueue's local queue that their pods wait in (empty: they start at once),
    `nodes` the labels of their nodes as `key=value,key=value` (empty: any node with a GPU).
    """

    cpu: str
    gpu: str
    queue: str = ""
    nodes: str = ""

    def check(self) -> "Images":
        """Raises InputError unless both are pinned by digest, and labels of nodes are labels."""
        for label in self.labels():
            if not NODE_LABEL.fullmatch(label):
                raise InputError(f"'{label}' is no label of a node; give --gpu-nodes KEY=VALUE,KEY=VALUE")
        for kind, image in (("cpu", self.cpu), ("gpu", self.gpu)):
            if "@sha256:" not in image:
                raise InputError(f"{kind} image '{image}' is not pinned; give --{kind}-image REPOSITORY@sha256:DIGEST")
        return self

    def labels(self) -> list[str]:
        return [one for one in self.nodes.split(",") if one]


def place(
    tasks: Iterable[dsl.PipelineTask],
    profile: str,
    images: Images | None = None,
    tags: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Place all tasks. kfp's own cache is off everywhere: its key sees the image's name, not the code in it.

    Args:
        settings: recipe section -> its keys; a teacher that trains in a TrainJob needs no GPU for the task that starts it.
    """
    if profile not in PROFILES:
        raise InputError(f"profile '{profile}' is not known; use one of {', '.join(PROFILES)}")
    if in_pods(profile) and images is None:
        raise InputError(f"profile '{profile}' needs images; give --cpu-image and --gpu-image")
    for task in tasks:
        task.set_caching_options(False)
        if images is not None and in_pods(profile):
            _place_in_pod(task, place_of(task.component_spec.name, settings or {}, profile), images.check(), tags or {})


def in_queue(arguments: Mapping[str, Any], images: Images | None) -> dict[str, Any]:
    """A pipeline's arguments where pods that tasks start wait in the tasks' own queue, unless the recipe names another."""
    queue = images.queue if images else ""
    unnamed = [name for name in ("teacher", "scoring") if queue and not arguments[name].get("queue")]
    return {**arguments, **{name: {**arguments[name], "queue": queue} for name in unnamed}}


def in_pods(profile: str) -> bool:
    """Whether tasks run on a Kubernetes, be it one machine or many."""
    return profile != LAPTOP


def place_of(room: str, settings: Mapping[str, Any], profile: str = CLUSTER) -> Place:
    """What a room's task gets.

    Raises:
        InputError: for a teacher that wants more than the profile's machines have.
    """
    wanted = _place_of_teacher(settings.get("teacher", {})) if room == TEACHER else PLACES[room]
    if profile != ONE_GPU:
        return wanted
    if not _fits(wanted):
        raise InputError(f"profile '{profile}' has one GPU; set teacher.num_processes=1 and teacher.launcher=local, or use '{CLUSTER}'")
    names = ("cpu", "memory", "shared_memory", "scratch")
    least = {name: min(getattr(wanted, name), getattr(WORKSTATION, name), key=_amount) for name in names}
    return replace(wanted, **least)


def profiles_of(settings: Mapping[str, Any]) -> list[str]:
    """Profiles whose machines are large enough for a recipe's teacher: a workstation may be too small.

    Raises:
        InputError: for a teacher that is too large for every machine.
    """
    wanted = place_of(TEACHER, settings)
    return [profile for profile in PROFILES if profile != ONE_GPU or _fits(wanted)]


def _fits(wanted: Place) -> bool:
    """Whether a workstation has the GPUs."""
    return wanted.gpus <= WORKSTATION.gpus and not wanted.starts_gpus


def _amount(quantity: str) -> Any:
    return parse_quantity(quantity or "0")


def _place_of_teacher(teacher: Mapping[str, Any]) -> Place:
    """As many GPUs as it has processes, and its share of the machine that eight of them fill."""
    full = PLACES[TEACHER]
    if teacher.get("launcher") == "trainjob":
        return TRAINJOB
    num_gpus = teacher.get("num_processes", full.gpus)
    if num_gpus > full.gpus:
        raise InputError(
            f"teacher.num_processes = {num_gpus} is more than the {full.gpus} GPUs of a machine; use teacher.launcher=trainjob"
        )
    share = {"cpu": str(4 * num_gpus), "memory": f"{32 * num_gpus}Gi"} if num_gpus > 1 else {"cpu": GPU.cpu, "memory": GPU.memory}
    return replace(full, gpus=num_gpus, **share)


def _place_in_pod(task: dsl.PipelineTask, wanted: Place, images: Images, tags: Mapping[str, str]) -> None:
    room = task.component_spec.name
    on_gpus = wanted.needs_gpus
    # preflight proves that the GPU image can be pulled, on a node that costs little
    task.set_container_image(images.gpu if on_gpus or room == PREFLIGHT else images.cpu)
    task.set_cpu_request(wanted.cpu).set_memory_request(wanted.memory).set_memory_limit(wanted.memory)
    # an abrupt pod deletion is retried only where the cluster's retryPolicy says so (kubeflow/pipelines#14266); steps resume by themselves
    task.set_retry(num_retries=wanted.num_retries, backoff_duration="60s", backoff_factor=2, backoff_max_duration="600s")
    kubernetes.set_timeout(task, wanted.timeout_s)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    # kfp knows no request for local disk; a volume at least has a limit
    kubernetes.empty_dir_mount(task, volume_name=SCRATCH_VOLUME, mount_path=SCRATCH, size_limit=wanted.scratch)
    if on_gpus:
        _place_on_gpus(task, wanted, images)
    kubernetes.use_config_map_as_env(task, MLFLOW_CONFIG_MAP, {"tracking_uri": "MLFLOW_TRACKING_URI"}, optional=True)
    credentials = {"username": "MLFLOW_TRACKING_USERNAME", "password": "MLFLOW_TRACKING_PASSWORD"}
    kubernetes.use_secret_as_env(task, MLFLOW_SECRET, credentials, optional=True)
    if room == "extract-logs":
        kubernetes.use_secret_as_env(task, CLIENT_SALT_SECRET, {"salt": "LOG_CLIENT_SALT"}, optional=False)
    hub = {} if room == "prepare-encoder" else {"HF_HUB_OFFLINE": "1"}
    for name, value in {**hub, "TOKENIZERS_PARALLELISM": "false", "TMPDIR": SCRATCH, **tags}.items():
        task.set_env_variable(name, value)
    if room == LAST_STEP:
        task.set_env_variable("RELEVANCE_LAST_STEP", "1")


def _place_on_gpus(task: dsl.PipelineTask, wanted: Place, images: Images) -> None:
    """A task that only starts pods with GPUs has their shared memory, which they copy, and hands on where they may run; it stays away."""
    kubernetes.add_toleration(task, key=ACCELERATOR, operator="Exists", effect="NoSchedule")
    kubernetes.empty_dir_mount(task, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit=wanted.shared_memory)
    for label in images.labels():
        kubernetes.add_node_selector(task, *label.split("=", 1))
    if not wanted.gpus:
        spec = copy(task.component_spec)  # all tasks of a room share one
        handed = spec.task_config_passthroughs or []
        spec.task_config_passthroughs = [replace(one, apply_to_task=one.field not in WHERE) for one in handed]
        task.component_spec = spec
        return
    task.set_accelerator_type(ACCELERATOR).set_accelerator_limit(wanted.gpus)
    if images.queue:
        kubernetes.add_pod_label(task, QUEUE_LABEL, images.queue)


def images_of_environment() -> Images:
    """Images named by the environment of whoever compiles; empty where unset."""
    named = (os.environ.get(f"RELEVANCE_{what}", "") for what in ("CPU_IMAGE", "GPU_IMAGE", "GPU_QUEUE", "GPU_NODES"))
    return Images(*named)
