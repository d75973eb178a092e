"""Settings of evaluate_rankings."""

from typing import Literal, Self

from pydantic import Field, model_validator

from components.shared.config import StepConfig


class EvaluateRankingsConfig(StepConfig):
    """What is measured, on which queries, against whom."""

    splits: list[Literal["train", "dev", "test"]] = Field(["dev", "test"], description="Splits of the judgments that are evaluated.")
    cutoff: int = Field(10, ge=1, le=1000, description="How many items from the top count in ndcg.")
    positive_grade: int | None = Field(None, ge=1, description="Lowest grade that is a positive for auc; empty: the top grade.")
    lexical_baseline: bool = Field(True, description="Whether a system `bm25` is added when queries and items are given.")
    challenger: str = Field("cross_encoder", min_length=1, description="System that wants to be deployed.")
    teacher: str = Field("teacher", min_length=1, description="System that the challenger learnt from.")
    champion: str = Field("champion", min_length=1, description="System that is deployed now.")
    baselines: list[str] = Field(["bm25", "untrained"], description="Systems that every other one is compared with.")
    num_resamples: int = Field(2000, ge=100, le=100_000, description="Bootstrap resamples and sign flips of each interval.")
    level: float = Field(0.95, gt=0.5, lt=1, description="Share of the bootstrap distribution that an interval covers.")
    seed: int = Field(17, ge=0, description="Seed of bootstrap and sign flips.")
    min_slice_queries: int = Field(5, ge=2, description="Slices with fewer queries are counted, not reported.")
    num_listed_queries: int = Field(10, ge=0, le=200, description="Lost and won queries that the report lists, each.")
    num_listed_items: int = Field(5, ge=1, le=50, description="Top items shown per listed query and system.")

    @model_validator(mode="after")
    def _something_is_evaluated(self) -> Self:
        if not self.splits:
            raise ValueError("splits is empty; name at least one of train, dev, test")
        return self
