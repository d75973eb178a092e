"""The task that looks before the dear ones start: beside the DAG file where tasks run in pods; every task with GPUs waits for it."""

from collections.abc import Mapping, Sequence
from typing import Any

from kfp import dsl

from components.preflight.component import preflight
from pipelines.placement import ACCELERATOR, PREFLIGHT, TEACHER, Images, place_of

TRAINJOB = {"verb": "create", "group": "trainer.kubeflow.org", "resource": "trainjobs"}
HELPERS = {"verb": "create", "group": "batch", "resource": "jobs"}


def add_preflight(tasks: Sequence[dsl.PipelineTask], arguments: Mapping[str, Any], images: Images) -> dsl.PipelineTask:
    """Make the task; those that ask for GPUs, or start pods that do, run after it."""
    dear = [task for task in tasks if place_of(task.component_spec.name, arguments).needs_gpus]
    given: Any = {name: dear[0].inputs[name] for name in ("workspace", "run_id")}
    ahead: Any = preflight(config=settings_of(dear, arguments, images), section=PREFLIGHT, **given)
    ahead.set_display_name("Preflight")
    for task in dear:
        task.after(ahead)
    return ahead


def settings_of(dear: Sequence[dsl.PipelineTask], arguments: Mapping[str, Any], images: Images) -> dict[str, Any]:
    """What preflight looks for: the largest need of each room, the rights of what is started through Kubernetes, image and queues."""
    needs = {task.component_spec.name: need_of(task.component_spec.name, arguments) for task in dear}
    scoring, in_pods = arguments.get("scoring", {}), arguments.get("teacher", {}).get("launcher") == "trainjob"
    helped = scoring.get("group_workers", 1) > 1 and scoring.get("start_helpers", True)
    queues = [images.queue, arguments.get("teacher", {}).get("queue", "") if in_pods else "", scoring.get("queue", "") if helped else ""]
    rights = [right for right, wanted in ((TRAINJOB, in_pods), (HELPERS, helped)) if wanted]
    named = [one for one in dict.fromkeys(queues) if one]
    return {"needs": list(needs.values()), "rights": rights, "image": images.gpu, "queues": named}


def need_of(room: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """GPUs per pod and pods of one room's task."""
    teacher, pods = arguments.get("teacher", {}), 1
    if room == TEACHER and teacher.get("launcher") == "trainjob":
        gpus, pods = int(teacher.get("resources_per_node", {}).get(ACCELERATOR, 8)), teacher.get("num_nodes", 1)
    else:
        gpus = place_of(room, arguments).gpus
    if room == "score-pairs":  # a pool is scored by however many pods there are
        return {"task": room, "gpus": gpus, "pods": arguments.get("scoring", {}).get("group_workers", 1), "needed": 1}
    return {"task": room, "gpus": gpus, "pods": pods}
