"""On which nodes the pods that a task starts may run: what was asked for the task, as kfp's task config hands it over.

The task's own pod does not say it: an admission queue adds the nodes where it found room for that one pod, and a task that only waits for
its pods belongs on other nodes than they do.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Scheduling(BaseModel):
    """Fields of a pod, in Kubernetes' own form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tolerations: list[dict[str, Any]] = Field(default=[], description="Taints of nodes that do not keep the pods away.")
    node_selector: dict[str, str] = Field(default={}, description="Labels that their nodes must have.")
    affinity: dict[str, Any] = Field(default={}, description="Rules that nodes and pods beside them must meet.")

    def pod_spec(self) -> dict[str, Any]:
        """What is asked, by its name in a pod's spec."""
        asked = {"tolerations": self.tolerations, "nodeSelector": self.node_selector, "affinity": self.affinity}
        return {name: value for name, value in asked.items() if value}


def with_scheduling(config: Mapping[str, Any], task: Any) -> dict[str, Any]:
    """A step's settings with `scheduling` as asked for its task; what the settings say themselves stays.

    Args:
        task: `dsl.TaskConfig`, whose fields are None where nothing was asked, as on a laptop.
    """
    said = config.get("scheduling", {})
    found = {name: said.get(name) or getattr(task, name) for name in Scheduling.model_fields}
    return {**config, "scheduling": {name: value for name, value in found.items() if value}}
