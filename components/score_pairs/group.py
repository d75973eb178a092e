"""Several tasks or pods on one table: who this is among them, and how helpers are started."""

import json
import os
import time
from contextlib import AbstractContextManager, nullcontext

from components.score_pairs.config import ScorePairsConfig
from components.shared import tables
from components.shared.leases import Worker
from components.shared.shards import ShardPlan

HELPER = "RELEVANCE_HELPER"  # set in helpers
POLL_S = 5.0
INDEX = "JOB_COMPLETION_INDEX"  # Kubernetes sets it in the pods of an Indexed Job


def worker_of(config: ScorePairsConfig) -> Worker | None:
    """Which worker of a group this process is; None where it works alone."""
    if config.group_workers == 1:
        return None
    index = int(os.environ[INDEX]) + 1 if is_helper() else config.member
    return Worker(index, config.group_workers, config.lease_s)


def is_helper() -> bool:
    """Whether this is a pod that `starting_helpers` made."""
    return os.environ.get(HELPER) == "1"


def starting_helpers(config: ScorePairsConfig, worker: Worker | None, given: dict[str, str]) -> AbstractContextManager[None]:
    """The Job with all other workers, for the first worker of a group that has to start them.

    Args:
        given: argument of the step -> URI.
    """
    if worker is None or worker.index > 0 or not config.start_helpers:
        return nullcontext()
    from components.shared.launch_kubernetes import Helpers, helping  # noqa: PLC0415 - only a cluster's image needs this client

    return helping(
        Helpers(
            place=given["scores"],
            count=worker.count - 1,
            command=["python", "-m", "components.score_pairs", *flags_of(config, given)],
            environment={HELPER: "1"},
            queue=config.queue,
            scheduling=config.scheduling.pod_spec(),
            deadline_s=config.deadline_s,
        )
    )


def flags_of(config: ScorePairsConfig, given: dict[str, str]) -> list[str]:
    """The step's settings and arguments as its command line takes them."""
    settings = {name: value for name, value in config.model_dump(mode="json").items() if name not in given}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in {**settings, **given}.items()}
    return [f"--{name.replace('_', '-')}={text}" for name, text in texts.items()]


def wait_for_first(plan: ShardPlan, worker: Worker) -> None:
    """Until the first worker has published the table, or for a lease; then whoever waited publishes it."""
    until = time.monotonic() + worker.lease_s
    while not tables.is_committed(plan.uri) and time.monotonic() < until:
        time.sleep(min(POLL_S, worker.lease_s / 10))
