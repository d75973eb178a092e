"""Where pods of a task may run: read from what kfp's driver injects, said of a pod in Kubernetes' names."""

from pathlib import Path

import pytest
from kfp import dsl
from kfp.dsl.executor import Executor
from pydantic import ValidationError

from components.shared.scheduling import Scheduling, with_scheduling
from pipelines import recipe

TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
AFFINITY = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
# as `TaskConfig` of the backend's driver writes it (backend/src/v2/driver/driver.go)
INJECTED = {"tolerations": [TOLERATION], "nodeSelector": {"pool": "gpu"}, "affinity": AFFINITY, "resources": {"limits": {"memory": "8Gi"}}}


@pytest.mark.parametrize(
    ("injected", "expected"),
    [(INJECTED, {"tolerations": [TOLERATION], "nodeSelector": {"pool": "gpu"}, "affinity": AFFINITY}), ({}, {}), (None, {})],
)
def test_what_the_driver_injects_is_said_of_a_pod(injected, expected, tmp_path: Path):
    found = []

    def door(task: dsl.TaskConfig):
        found.append(Scheduling(**with_scheduling({}, task)["scheduling"]).pod_spec())

    given = {} if injected is None else {"task": injected}
    outputs = {"outputFile": str(tmp_path / "output.json")}
    Executor(executor_input={"inputs": {"parameterValues": given}, "outputs": outputs}, function_to_execute=door).execute()
    assert found == [expected]


def test_what_a_recipe_says_itself_stays():
    task = dsl.TaskConfig(node_selector={"pool": "gpu"}, tolerations=[TOLERATION])
    section = recipe.load("cluster", ["teacher.scheduling={node_selector: {pool: h100}}"])["teacher"]  # with empty lists for the rest
    assert with_scheduling(section, task) == {**section, "scheduling": {"node_selector": {"pool": "h100"}, "tolerations": [TOLERATION]}}


def test_a_field_of_a_pod_that_is_no_scheduling_is_refused():
    with pytest.raises(ValidationError, match="hostNetwork"):
        Scheduling.model_validate({"hostNetwork": True})
