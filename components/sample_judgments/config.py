"""Settings of sample_judgments."""

from pydantic import Field

from components.shared.config import StepConfig


class SampleJudgmentsConfig(StepConfig):
    """How many pairs people are asked about."""

    num_pairs: int = Field(200, ge=1, description="Pairs on the sheet, at most.")
    pairs_per_query: int = Field(5, ge=1, description="Pairs of one query, at most, so that people see many queries.")
