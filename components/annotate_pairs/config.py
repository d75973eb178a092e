"""Settings of annotate_pairs."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from components.shared.config import StepConfig
from components.shared.schema import SPLITS


class AnnotatorConfig(BaseModel):
    """One annotator: rules and dictionaries, a language model behind an endpoint, or a generative teacher."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["rules", "endpoint", "teacher"] = Field("rules", description="Who annotates.")
    url: str = Field("", description="Address of an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1.")
    model: str = Field("", description="The endpoint's model, or the teacher's model folder.")
    requests_per_minute: float = Field(0.0, ge=0, description="Most questions to the endpoint a minute; 0 for no limit.")
    parallel_requests: int = Field(4, ge=1, description="Questions that wait for the endpoint's answers at once.")
    max_tokens: int = Field(200, ge=16, description="Longest answer of the endpoint, in tokens.")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.kind == "endpoint" and not (self.url and self.model):
            raise ValueError("an endpoint needs 'url' and 'model'")
        if self.kind == "teacher" and not self.model:
            raise ValueError("a teacher needs 'model', its folder")
        return self


class AnnotatePairsConfig(StepConfig):
    """Who annotates which pairs."""

    annotators: list[AnnotatorConfig] = Field(
        [AnnotatorConfig.model_validate({})],
        min_length=1,
        max_length=4,
        description="Annotators; a step is kept where all of them give the same verdict.",
    )
    splits: list[Literal["train", "dev", "test"]] = Field(
        [SPLITS[0]], min_length=1, description="Splits to annotate where `pairs` is a judgments table."
    )
    batch_pairs: int = Field(65_536, ge=1, description="Pairs that are annotated and written together; bounds memory.")

    @model_validator(mode="after")
    def _nobody_agrees_with_himself(self) -> Self:
        if len(set(self.annotators)) < len(self.annotators):
            raise ValueError("an annotator is named twice; its agreement with itself says nothing")
        return self
