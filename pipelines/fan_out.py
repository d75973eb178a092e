"""Helper tasks for the scoring of the pool, where the pipeline's account may not create Jobs: a loop beside the task, not in the DAG file.

A recipe asks for them with `scoring.group_workers` above 1 and `scoring.start_helpers: false`. They take shards by the same leases as the
pods of an Indexed Job would.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from kfp import dsl

from components.score_pairs.component import score_pairs
from components.shared.errors import InputError
from pipelines.placement import CLUSTER

MOST = 64  # Kubeflow's loops become unreliable with more (kubeflow/pipelines#12131)
SECTION = "scoring"


def num_helpers(arguments: Mapping[str, Any], profile: str) -> int:
    """How many helper tasks a pipeline gets.

    Raises:
        InputError: for more than a loop can hold, or for one machine, where tasks run one after another.
    """
    settings = arguments.get(SECTION, {})
    count = settings.get("group_workers", 1) if not settings.get("start_helpers", True) else 1
    if count > 1 and profile != CLUSTER:
        raise InputError(f"recipe section '{SECTION}': group_workers = {count} needs a cluster; here set num_workers instead")
    if count > MOST:
        raise InputError(
            f"recipe section '{SECTION}': group_workers = {count} is above {MOST}, what a loop can hold; lower it or set start_helpers"
        )
    return count - 1


def add_helpers(tasks: Iterable[dsl.PipelineTask], count: int) -> None:
    """Put the helper tasks beside the scoring task, with its inputs."""
    if not count:
        return
    (scoring,) = (task for task in tasks if task.component_spec.name == "score-pairs" and task.inputs["section"] == SECTION)
    given = {name: value for name, value in scoring.inputs.items() if name != "member"}
    with dsl.ParallelFor([str(member) for member in range(1, count + 1)], name="scoring-helpers", parallelism=count) as member:
        score_pairs(**given, member=member).set_display_name("Helper")
