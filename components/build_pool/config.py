"""Settings of build_pool (recipe section `pool`)."""

from typing import Self

from pydantic import Field, model_validator

from components.shared.config import StepConfig


class BuildPoolConfig(StepConfig):
    """How many queries, how many items of each source per query, and how the pool is cut."""

    max_queries: int = Field(2000, ge=0, description="Most queries of the log that nobody judged, the most frequent first.")
    num_impressions: int = Field(20, ge=0, description="Items per query that the log shows, most shown first.")
    num_lexical: int = Field(20, ge=0, description="Items per query from the top of the lexical ranking.")
    num_nearest: int = Field(
        0, ge=0, description="Items per query whose vectors are nearest to its own, by `bi_encoder`; none while there is no such model."
    )
    bi_encoder: str = Field("", description="Model folder or models:/<name>@<alias> of the encoder or bi-encoder that `num_nearest` asks.")
    num_co_engagement: int = Field(
        0, ge=0, description="Items per query that a walk over clicks reaches (query, item, another query, item) and nobody clicked for it."
    )
    num_hard: int = Field(10, ge=0, description="Items per query from deep in the lexical ranking.")
    hard_first_rank: int = Field(30, ge=1, description="First lexical rank that `num_hard` draws from.")
    hard_last_rank: int = Field(100, ge=1, description="Last lexical rank that `num_hard` draws from.")
    num_same_category: int = Field(5, ge=0, description="Items per query that share a category with a clicked one but were not clicked.")
    num_random: int = Field(5, ge=0, description="Random items per query.")
    size_factor: float = Field(16.0, ge=1, description="Largest pool, in multiples of the train judgments.")
    max_pairs: int = Field(2_000_000, ge=1, description="Largest pool, in pairs.")
    num_shards: int = Field(16, ge=1, le=100_000, description="Shards of the plan; a query lies in one of them whole.")
    seed: int = Field(13, ge=0, description="Seed of all draws.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hard_first_rank > self.hard_last_rank:
            raise ValueError(f"key 'hard_first_rank' = {self.hard_first_rank} is above 'hard_last_rank' = {self.hard_last_rank}")
        if self.num_nearest and not self.bi_encoder:
            raise ValueError(f"key 'num_nearest' = {self.num_nearest} needs 'bi_encoder', the model that knows what is near")
        return self
