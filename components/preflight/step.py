"""Looks before the dear tasks start: is all there that they will need? Costs seconds on a small machine, and writes one page."""

import contextlib
import importlib.util
import os
import uuid
from collections.abc import Callable, Iterator

from components.preflight import findings
from components.preflight.cluster import Looker
from components.preflight.config import PreflightConfig
from components.preflight.findings import MISSING, OK, WARNING, Finding
from components.shared import storage
from components.shared.errors import InputError, TemporaryError
from components.shared.report import Report
from components.shared.tracking import Tracker
from components.shared.tracking_mlflow import refusal

Check = Callable[[], Finding]


def run(config: PreflightConfig, *, workspace: str, page: str, tracker: Tracker, run_id: str = "by hand") -> Report:
    """Check all, write the page, and only then complain.

    Args:
        workspace: where the tasks will write.
        page: file for the page, on this disk.

    Raises:
        InputError: when something is missing that would stop a task; the message has one sentence per thing.
    """
    found = list(examine(config, workspace))
    text = findings.page(found, run_id)
    storage.write_bytes(page, text.encode())
    tracker.tags({"preflight": text})
    with contextlib.suppress(InputError, TemporaryError, OSError):  # kfp's launcher uploads no page of a task that failed
        storage.write_bytes(storage.join(workspace, "preflight", f"{run_id}.md"), text.encode())
    if lacking := findings.missing(found):
        raise InputError("; ".join(f"{one.check}: {one.found}; ask: {one.ask}" for one in lacking))
    return Report(metrics={"checks": len(found), "warnings": sum(one.state == WARNING for one in found)}, notes={"page": page})


def examine(config: PreflightConfig, workspace: str) -> Iterator[Finding]:
    """All findings; what may not be looked at is a warning, never the end of the check."""
    yield check_workspace(workspace)
    yield check_mlflow(config.mlflow_timeout_s)
    if not (config.needs or config.rights or config.image):
        return
    try:
        looker = Looker.of_this_task()
    except InputError as error:
        yield Finding("cluster", WARNING, str(error))
        return
    yield from (looker.right(one) for one in config.rights)
    if config.image:
        yield _seen("image", lambda: findings.of_image(config.image, looker.image(), cuda_of_torch()))
    if config.needs:
        yield _seen("quota", lambda: findings.of_quota(config.needs, looker.quotas(), config.accelerator))
        yield _seen("accelerator", lambda: findings.of_nodes(config.needs, looker.nodes(), config.accelerator))
    for queue in config.queues:
        yield _seen("queue", lambda name=queue: findings.of_queue(name, looker.queue(name), config.accelerator))


def check_workspace(workspace: str) -> Finding:
    """Write, read, create once and only once, delete: what every step relies on."""
    place = storage.join(workspace, "preflight", f"probe-{uuid.uuid4().hex}")
    ask = f"let the pipeline's service account read and write objects of {workspace} (roles/storage.objectUser)"
    try:
        first, second = storage.create_once(place, b"1"), storage.create_once(place, b"2")
        kept = storage.read_bytes(place)
        storage.remove(place)
    except (InputError, TemporaryError, OSError) as error:
        return Finding("workspace", MISSING, str(error), ask)
    if (first, second, kept) != (True, False, b"1"):
        return Finding("workspace", MISSING, "an object that was there was written over", "use a bucket of Google Cloud Storage itself")
    return Finding("workspace", OK, f"{workspace} can be written, read and deleted, and a second writer is refused")


def check_mlflow(timeout_s: float) -> Finding:
    """MLflow that is away is no reason to wait, since runs are sent later; MLflow that refuses will refuse the gate too."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        return Finding("mlflow", WARNING, "MLFLOW_TRACKING_URI is not set", "config map `mlflow` with key `tracking_uri` in this namespace")
    trouble, refused = refusal(timeout_s)
    if not trouble:
        return Finding("mlflow", OK, "answers, and lets us in")
    ask = "secret `mlflow-credentials` of a user that exists, and this host name in --allowed-hosts" if refused else "is MLflow up?"
    return Finding("mlflow", MISSING if refused else WARNING, trouble, ask)


def cuda_of_torch() -> str | None:
    """The CUDA version that torch here is built for; None for a CPU build."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch  # noqa: PLC0415 - seconds, and only the GPU image has to have it

    return torch.version.cuda


def _seen(check: str, look: Check) -> Finding:
    try:
        return look()
    except (InputError, TemporaryError) as error:
        return Finding(check, WARNING, str(error), f"look at it by hand, or let the account read it ({check})")
