"""Settings of score_pairs: sections `scoring` (the teacher labels the pool) and `ranking_*` (a system ranks judged pairs)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from components.shared.config import NOT_SHAPING, StepConfig
from components.shared.scheduling import Scheduling
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
    edits: list[
        Literal[
            "typo", "word_swap", "dropped_word", "converted_unit", "keyword_stuffing", "instruction_injection",
            "attribute", "number", "unit", "negation", "accessory_for",
        ]
    ] = Field(
        [], description="Edits that every pair of rankings is scored with once more each, for the report on robustness (`shared/edits.py`)."
    )  # fmt: skip
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
    steps: bool = Field(
        True,
        description="Whether a teacher that was taught to reason writes its steps first; false reads its grade at once, which is faster.",
    )
    engine: Literal["transformers", "onnx", "openvino", "vllm", "endpoint"] = Field(
        "transformers",
        description="Who computes: transformers; 'onnx' (ONNX Runtime) or 'openvino' (faster on a CPU) for encoders that read jointly, "
        "'vllm' for decoders (own image), 'endpoint' for a generative grader that is asked over HTTP.",
    )
    drift_pairs: int = Field(
        0, ge=0, description="Pairs that the reference (transformers, plain, fp32) scores too, to report how far the engine is from it."
    )
    model: str = Field("", description="Model folder or models:/<name>@<alias>, where no model is given as an input.")
    missing_model: Literal["error", "empty"] = Field(
        "error",
        description="What to do when there is no model, or none that can be read: stop, or write an empty table (no champion on the first "
        "night; a champion of another text version).",
    )
    num_threads: int = Field(0, ge=0, description="Threads of each scoring process; 0: torch chooses, other engines take all cores.")
    num_workers: int = Field(
        1, ge=1, le=64, description="Scoring processes on this machine; each loads the model.", json_schema_extra=NOT_SHAPING
    )
    group_workers: int = Field(
        1,
        ge=1,
        le=10_000,
        description="Machines that score one table together: this task and helpers, which take shards by leases; 1 works alone.",
        json_schema_extra=NOT_SHAPING,
    )
    member: int = Field(
        0,
        ge=0,
        description="Number of this task among `group_workers` tasks; the others wait for 0 to publish.",
        json_schema_extra=NOT_SHAPING,
    )
    start_helpers: bool = Field(
        True,
        description="Whether the task starts its helpers as an Indexed Job on Kubernetes; false where the pipeline has helper tasks.",
        json_schema_extra=NOT_SHAPING,
    )
    scheduling: Scheduling = Field(
        Scheduling(),
        description="On which nodes helpers may run: tolerations, node_selector, affinity, in Kubernetes' form. "
        "The pipeline fills it with the task's own.",
        json_schema_extra=NOT_SHAPING,
    )
    queue: str = Field("", description="Kueue queue of the helpers; empty starts them at once.", json_schema_extra=NOT_SHAPING)
    lease_s: float = Field(
        1800.0,
        gt=0,
        description="Seconds after which a worker that has not committed its shard counts as dead.",
        json_schema_extra=NOT_SHAPING,
    )
    deadline_s: int = Field(43_200, ge=60, description="Seconds after which helpers are ended.", json_schema_extra=NOT_SHAPING)
    min_impressions: int = Field(
        20, ge=1, description="Impressions from which a pair's clicks say whether shoppers agree with the teacher."
    )
    device_hour_price: float = Field(
        0.0, ge=0, description="Price of a scoring machine for an hour, in `currency`; 0: no cost is shown.", json_schema_extra=NOT_SHAPING
    )
    currency: str = Field("EUR", min_length=1, description="Currency of price and budget.", json_schema_extra=NOT_SHAPING)
    budget: float = Field(
        0.0,
        ge=0,
        description="Most that scoring may cost, in `currency`, earlier runs included; then it stops before the next shard, and with a "
        "larger budget it goes on where it was; 0: no limit.",
        json_schema_extra=NOT_SHAPING,
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.edits and self.output != "rankings":
            raise ValueError(f"key 'edits' goes with output rankings, which evaluate_rankings reports on; output is {self.output}")
        if self.engine == "endpoint" and self.drift_pairs:
            raise ValueError(f"key 'drift_pairs' = {self.drift_pairs}: a grader that is asked over HTTP has no reference here; set 0")
        if self.budget and not self.device_hour_price and self.engine != "endpoint":
            raise ValueError(f"key 'budget' = {self.budget:g} needs 'device_hour_price', or the cost is not known")
        if self.member >= self.group_workers:
            raise ValueError(f"key 'member' = {self.member} is not below 'group_workers' = {self.group_workers}")
        if self.group_workers > 1 and (self.num_workers > 1 or self.output == "trec"):
            raise ValueError(f"key 'group_workers' = {self.group_workers} goes with one process a machine (num_workers) and not with trec")
        return self
