"""Settings of retrieve_neighbors (recipe section `neighbors`)."""

from typing import Literal

from pydantic import Field

from components.shared.config import StepConfig


class RetrieveNeighborsConfig(StepConfig):
    """Which (query, item) pairs count as accepted by shoppers, and how many of them are kept."""

    rule: Literal["lower_bound", "published"] = Field(
        "lower_bound", description="`lower_bound`: bound of the corrected click rate; `published`: ProRBP's fixed cut on the raw rate."
    )
    order: Literal[1, 2] = Field(
        1,
        description="1: items of a query and queries of an item; 2: also queries of a query and items of an item, through what they share.",
    )
    hop_size: int = Field(
        100, ge=1, description="Second order: best queries of an item (items of a query) that a path may go on to (count)."
    )
    num_neighbors: int = Field(
        3, ge=1, le=900, description="Neighbors that a model reads per side; one more is kept, for when the judged pair is taken out."
    )
    history: Literal["window", "nights"] = Field(
        "window",
        description="In the pipeline: `window` counts all days of the log each night; `nights` adds its new days to the night before.",
    )
    half_life_days: float = Field(
        0, ge=0, description="Days after which an impression or a click counts half, under `lower_bound`; 0 forgets nothing."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="One-sided confidence of the lower and of the upper bound, 0.5 to 1.")
    prior_strength: float = Field(10.0, gt=0, description="Weight of the log's mean rate, in corrected impressions.")
    min_lower_bound: float = Field(0.05, ge=0, le=1, description="Least lower bound of the corrected click rate, clicks per impression.")
    min_impressions: int = Field(5, ge=0, description="Least impressions of a pair over all its days.")
    min_clients: int = Field(2, ge=0, description="Least clients that saw the pair on its busiest day: no single shopper makes evidence.")
    min_exposures: int = Field(100, ge=0, description="Least impressions of a pair under the rule `published`.")
    min_rate: float = Field(0.2, ge=0, le=1, description="Least raw clicks per impression under the rule `published`.")
    max_snapshots: int = Field(60, ge=1, description="Most snapshot days; more distinct days of judgment inside the log are refused.")
