"""Settings of score_pairs: sections `scoring` (the teacher labels the pool) and `ranking_*` (a system ranks judged pairs)."""

from typing import Literal

from pydantic import Field

from components.shared.config import StepConfig
from components.shared.schema import SPLITS

DEFAULT_SPLITS = SPLITS[1:]


class ScorePairsConfig(StepConfig):
    """What to write, and how fast to make it."""

    output: Literal["soft_targets", "rankings", "trec"] = Field(
        "soft_targets", description="What is written: soft_targets (teacher only), rankings, or trec (a TREC run file)."
    )
    system: str = Field("system", min_length=1, pattern=r"^\S+$", description="Name of the model in rankings and in reports.")
    splits: list[Literal["train", "dev", "test"]] = Field(
        list(DEFAULT_SPLITS), min_length=1, description="Splits to score where `pairs` is a judgments table."
    )
    num_shards: int = Field(
        16, ge=1, le=100_000, description="Shards, cut by query, where the pairs bring none; a kill costs one shard of work."
    )
    batch_tokens: int = Field(8192, ge=16, description="Tokens computed at once, padding included.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "fp32", description="Number format of the model's arithmetic; bf16 moves scores a little; 'auto' is bf16 where the hardware has it."
    )
    method: Literal["auto", "plain", "prefix_cache", "packed"] = Field(
        "auto",
        description="How a decoder reads pairs that share a prefix; 'auto' measures some hundred pairs and keeps the fastest. "
        "Methods differ by rounding, below 0.0001 in fp32.",
    )
    model: str = Field("", description="Model folder or models:/<name>@<alias>, where no model is given as an input.")
    missing_model: Literal["error", "empty"] = Field(
        "error",
        description="What to do when there is no model, or none that can be read: stop, or write an empty table (no champion on the first "
        "night; a champion of another text version).",
    )
    num_threads: int = Field(0, ge=0, description="Threads of each scoring process; 0 lets torch choose.")
    num_workers: int = Field(1, ge=1, le=64, description="Scoring processes on this machine; each loads the model.")
