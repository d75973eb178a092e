"""What was found, how bad it is, what to ask the administrator for; and the judgments that need nothing but what was read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.preflight.config import Need, Right

OK, WARNING, MISSING = "ok", "warning", "missing"
MARKS = {OK: "ok", WARNING: "look", MISSING: "MISSING"}


@dataclass(frozen=True)
class Finding:
    """One check. A `warning` may be right or may pass; what is `missing` would stop a task later, and dearly."""

    check: str
    state: str
    found: str
    ask: str = ""


def of_quota(needs: Sequence[Need], quotas: Sequence[Mapping[str, Any]], accelerator: str) -> Finding:
    """ResourceQuotas of the namespace against the largest task; a request above the limit is never admitted.

    Helpers that are never admitted make a task slow, so they are worth a warning.
    """
    key, most, least = f"requests.{accelerator}", max(one.gpus * one.pods for one in needs), max(one.gpus_needed() for one in needs)
    limits = [one for one in quotas if key in one.get("status", {}).get("hard", {})]
    if not limits:
        return Finding("quota", OK, f"no ResourceQuota limits {accelerator}")
    hard, free = (min(figure(one, key) for one in limits) for figure in (_hard, _free))
    said = f"{hard} {accelerator} allowed, {free} free, the largest task asks for {most}"
    if hard < most:
        ask = f"raise `{key}` of the ResourceQuota of this namespace to at least {most}"
        return Finding("quota", MISSING if hard < least else WARNING, said, ask)
    return Finding("quota", OK if free >= most else WARNING, said, "" if free >= most else "somebody else uses it now; the task will wait")


def _hard(quota: Mapping[str, Any], key: str) -> int:
    return int(quota["status"]["hard"][key])


def _free(quota: Mapping[str, Any], key: str) -> int:
    return _hard(quota, key) - int(quota["status"].get("used", {}).get(key, 0))


def of_queue(queue: str, found: Mapping[str, Any] | None, accelerator: str) -> Finding:
    """Kueue's local queue: there, active, and leading to GPUs."""
    if found is None:
        return Finding(
            "queue", MISSING, f"no LocalQueue '{queue}' in this namespace", f"create LocalQueue '{queue}' (infra/base/queues.yaml)"
        )
    status = found.get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions", [])}
    if conditions.get("Active", {}).get("status", "True") != "True":
        why = f"LocalQueue '{queue}' is not active: {conditions['Active'].get('message', '')}"
        return Finding("queue", MISSING, why, "mend its ClusterQueue; `kubectl get clusterqueue -o yaml` says what it lacks")
    covered = {resource["name"] for flavor in status.get("flavorsReservation", []) for resource in flavor.get("resources", [])}
    if covered and accelerator not in covered:
        return Finding(
            "queue", MISSING, f"LocalQueue '{queue}' covers {', '.join(sorted(covered))}", f"let its ClusterQueue cover {accelerator}"
        )
    return Finding("queue", OK, f"LocalQueue '{queue}' is active, {status.get('pendingWorkloads', 0)} workloads wait")


def of_nodes(needs: Sequence[Need], nodes: Sequence[Mapping[str, Any]], accelerator: str) -> Finding:
    """The largest pod against the nodes that are there; an autoscaler may bring others."""
    largest = max(one.gpus for one in needs)
    sizes = [int(one["status"]["allocatable"].get(accelerator, 0)) for one in nodes if not one.get("spec", {}).get("unschedulable")]
    best = max(sizes, default=0)
    said = f"of {len(sizes)} nodes the best has {best} {accelerator}, the largest pod asks for {largest}"
    if best >= largest:
        return Finding("accelerator", OK, said)
    return Finding("accelerator", WARNING, said, f"is there a node pool, now at 0, whose nodes have {largest} {accelerator}?")


def of_image(wanted: str, running: str, cuda: str | None) -> Finding:
    """This task runs in the image of the GPU tasks, so that the image could be pulled; its torch must be built for GPUs."""
    if wanted not in running and running.partition("@")[2] != wanted.partition("@")[2]:
        return Finding("image", MISSING, f"this task runs in {running}, GPU tasks in {wanted}", "compile and submit the pipeline again")
    if cuda is None:
        return Finding("image", MISSING, "torch in the GPU image is built for the CPU", "build images/gpu with TORCH_INDEX=.../whl/cu130")
    return Finding("image", OK, f"pulled; torch is built for CUDA {cuda}")


def of_right(right: Right, allowed: bool) -> Finding:
    what = f"{right.verb} {right.resource}.{right.group}".rstrip(".")
    if allowed:
        return Finding("rights", OK, f"may {what}")
    return Finding(
        "rights", MISSING, f"may not {what}", f"let the pipeline's service account {what} in this namespace (infra/base/access.yaml)"
    )


def missing(findings: Sequence[Finding]) -> list[Finding]:
    return [one for one in findings if one.state == MISSING]


def page(findings: Sequence[Finding], run_id: str) -> str:
    """One page of Markdown: what was looked at, and one list to send to the administrator."""
    rows = "\n".join(f"| {one.check} | {MARKS[one.state]} | {_cell(one.found)} |" for one in findings)
    asked = [f"- **{one.check}**: {_cell(one.ask)}" for state in (MISSING, WARNING) for one in findings if one.state == state and one.ask]
    wishes = "\n".join(asked) or "Nothing."
    num_missing = len(missing(findings))
    verdict = f"{num_missing} of {len(findings)} checks found something missing" if num_missing else "ready for GPU tasks"
    table = f"| check | | found |\n|---|---|---|\n{rows}"
    return f"# preflight: {verdict}\n\nRun {run_id}.\n\n{table}\n\n## To ask the administrator for\n\n{wishes}\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").replace("<", "&lt;").split())
