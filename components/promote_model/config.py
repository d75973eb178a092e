"""Settings of promote_model."""

from pydantic import Field

from components.shared.config import StepConfig


class PromoteModelConfig(StepConfig):
    """What the gate asks for, and under which names the model is kept."""

    system: str = Field("cross_encoder", min_length=1, description="System of the evaluation that the model is.")
    champion: str = Field("champion", min_length=1, description="System of the evaluation that serves now.")
    metric: str = Field("ndcg@10", min_length=1, description="Metric of the evaluation that decides.")
    floor_systems: list[str] = Field(["bm25", "untrained"], description="Systems that the model must beat with its whole interval.")
    first_needs_floor: bool = Field(True, description="Whether the first model, which meets no champion, must pass the floors.")
    min_gain: float = Field(0.0, ge=0, lt=1, description="The interval's lower end against the champion must exceed this, in metric units.")
    min_queries: int = Field(50, ge=2, description="Fewest common queries on which a comparison counts.")
    num_resamples: int = Field(2000, ge=100, le=100_000, description="Bootstrap resamples and sign flips of each comparison.")
    level: float = Field(0.95, gt=0.5, lt=1, description="Share of the bootstrap distribution that an interval covers.")
    seed: int = Field(17, ge=0, description="Seed of bootstrap and sign flips.")
    model_name: str = Field("relevance-student", description="Registered model in MLflow; empty: decide, register nothing.")
    champion_alias: str = Field("champion", min_length=1, description="Alias of the version that serves.")
    challenger_alias: str = Field("challenger", min_length=1, description="Alias of the last model that was healthy and above the floors.")
    previous_alias: str = Field("previous", min_length=1, description="Alias of the version that served before, to go back to.")
    licence: str = Field("other", min_length=1, description="Licence of the model, as a Hugging Face identifier, for the model card.")
    base_model: str = Field("", description="Model that training started from, for the model card; empty: not said.")
