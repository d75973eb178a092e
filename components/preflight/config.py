"""Settings of preflight."""

from pydantic import BaseModel, ConfigDict, Field

from components.shared.config import StepConfig


class Need(BaseModel):
    """What one task will ask the cluster for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(description="Name of the task.")
    gpus: int = Field(ge=1, description="GPUs per pod.")
    pods: int = Field(default=1, ge=1, description="Pods at the same time.")
    needed: int = Field(default=0, ge=0, description="Pods without which the task waits; 0: all of them.")

    def gpus_needed(self) -> int:
        """GPUs without which the task waits."""
        return self.gpus * (self.needed or self.pods)


class Right(BaseModel):
    """What the pipeline's account must be allowed to do in its namespace."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verb: str = Field(description="Such as create.")
    group: str = Field(description="API group, such as batch.")
    resource: str = Field(description="Such as jobs.")


class PreflightConfig(StepConfig):
    """Made where the pipeline is compiled; no recipe section."""

    needs: list[Need] = Field(default=[], description="Tasks that will ask for GPUs.")
    rights: list[Right] = Field(default=[], description="What tasks will do through the Kubernetes API.")
    image: str = Field(default="", description="Image of the GPU tasks, which this task must run in; empty: not looked at.")
    queues: list[str] = Field(default=[], description="Kueue's local queues that pods with GPUs wait in.")
    mlflow_timeout_s: float = Field(default=10.0, gt=0, description="Seconds that MLflow gets to answer.")
    accelerator: str = Field(default="nvidia.com/gpu", description="Resource name of a GPU.")
