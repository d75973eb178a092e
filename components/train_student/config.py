"""Settings of train_student (recipe sections `cross_encoder` and `bi_encoder`)."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from components.shared import storage
from components.shared.config import StepConfig


class TrainStudentConfig(StepConfig):
    """What is trained, on which targets, by which loss, for how long."""

    architecture: Literal["cross_encoder", "bi_encoder", "graph"] = Field(
        "cross_encoder",
        description="One text of query and item (cross_encoder), a vector for each and their cosine (bi_encoder), or the words of both "
        "beside their neighbors in the behavior graph (graph).",
    )
    graph_order: Literal[0, 1, 2] = Field(
        1, description="How far a graph student looks: 0 reads the two texts, 1 also their neighbors, 2 also the neighbors' neighbors."
    )
    num_neighbors: int = Field(3, ge=1, description="Neighbors of each kind that a graph student reads, at most.")
    loss: Literal["margin_mse", "pointwise_mse", "bce", "kl_listwise", "listnet", "ranknet"] = Field(
        "margin_mse", description="Distillation loss, by its published name."
    )
    pointwise_weight: float = Field(
        0.0, ge=0, description="Weight of pointwise MSE added to the loss; a small one keeps scores comparable across queries."
    )
    judgment_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of RankNet on human grades, for pairs of train queries that have one; 0 learns from the teacher alone.",
    )
    judgment_temperature: float = Field(
        1.0, gt=0, description="Score differences are divided by this before RankNet compares them with the order of human grades."
    )
    sub_judgment_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of the sub-judgments (does the category match, the brand, ...) that the student learns beside the score.",
    )
    sub_judgments: str = Field(
        "", description="URI of table `sub_judgments` (room annotate_pairs) of the pool's pairs; empty makes them by rules."
    )
    mark_terms: bool = Field(
        False,
        description="Whether words that name a brand, a color or a kind of item in the catalogue learn an embedding in common for that, "
        "beside their own; it is added to theirs at the end.",
    )
    uncertainty_weight: float = Field(
        0.0, ge=0, lt=1, description="How much less a pair teaches that the teacher is unsure of: it counts 1 - this x entropy."
    )
    disagreement_weight: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="How much less a pair teaches that shoppers order otherwise: it counts 1 - this x disagreement.",
    )
    target: Literal["logit", "probability"] = Field(
        "logit", description="What the student's raw score imitates: the logit of the teacher's expected gain, or the gain itself."
    )
    clip: float = Field(0.01, gt=0, lt=0.5, description="Expected gains are kept this far from 0 and 1 before their logit is taken.")
    temperature: float = Field(1.0, gt=0, description="Targets are divided by this; above 1 softens lists and shrinks margins.")
    adversarial_weight: float = Field(
        0.0, ge=0, description="Weight of the loss with embeddings pushed where it rises fastest; above 0 a step costs three times as much."
    )
    contrast_weight: float = Field(
        0.0, ge=0, description="Weight of the divergence between what the student says with and without that push; it costs as much."
    )
    adversarial_size: float = Field(5.0, gt=0, description="Length of the push, over all of a text's embeddings.")
    counterfactual_share: float = Field(
        0.0, ge=0, le=1, description="Share of relevant pairs that stand beside an edited copy which is worse for certain, in each step."
    )
    counterfactual_weight: float = Field(
        1.0, gt=0, description="Weight of the order between these pairs and their copies; judgment_temperature divides its margins too."
    )
    learning_rate: float = Field(5e-5, gt=0, description="Peak learning rate of AdamW; it rises over the warm-up and falls to 0.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW.")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="Share of steps over which the learning rate rises, 0 to 1.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are scaled down to at most this norm.")
    dropout: float | None = Field(None, ge=0, lt=1, description="Dropout of the encoder while training; null keeps the encoder's own.")
    trained_weight: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Weight of the trained network in the average with the one it started from (WiSE-FT, arXiv 2109.01903), 0 to 1; "
        "below 1 it keeps more of what it knew. Only for a bi_encoder.",
    )
    num_epochs: int = Field(1, ge=1, description="Passes over the training queries; each pass sees every pair once.")
    queries_per_batch: int = Field(8, ge=1, description="Queries of one training step, at most.")
    items_per_query: int = Field(16, ge=2, description="Items of a query that stand together in one step, at most.")
    batch_tokens: int = Field(2048, ge=8, description="Tokens of one forward pass, padding included; a step makes as many as it needs.")
    max_tokens: int = Field(128, ge=8, le=8192, description="Tokens kept of one text, at most.")
    max_pairs: int = Field(0, ge=0, description="Pairs to learn from, at most, taken as whole queries; 0 takes all.")
    exclude_splits: list[Literal["train", "dev", "test"]] = Field(
        ["dev", "test"], description="Queries of these splits are not learnt from, even if the pool holds them."
    )
    validation_share: float = Field(
        0.1, gt=0, le=0.5, description="Share of queries held out to compare the student with the teacher, 0 to 0.5."
    )
    calibration: Literal["none", "isotonic", "platt"] = Field(
        "none",
        description="Map from scores to gains, fitted for each query segment to judged train queries that the student did not learn from.",
    )
    calibration_error: float = Field(
        0.05, gt=0, lt=1, description="Share of a query's relevant items that may be hidden, and of the others that may pass as sure."
    )
    relevant_gain: float = Field(
        0.5, gt=0, le=1, description="Gain from which an item counts as relevant: a judged one for the bounds, the teacher's for copies."
    )
    export: list[Literal["onnx", "onnx_int8", "openvino_int8"]] = Field(
        [],
        description="Files that serving reads, written into the model folder: float32 (onnx), and 8 bits if they order alike: for ONNX "
        "Runtime (onnx_int8), for OpenVINO (openvino_int8, the fastest on a CPU).",
    )
    min_spearman: float = Field(
        0.99,
        gt=0,
        le=1,
        description="Rank correlation with float32, within queries and across, below which the export in 8 bits is refused.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "fp32", description="Arithmetic of the forward pass (auto: bf16 where the hardware has it); weights stay float32."
    )
    checkpoint_steps: int = Field(200, ge=0, description="Steps between checkpoints, from which a killed step goes on; 0 makes none.")
    seed: int = Field(13, ge=0, description="Seed of the head, of the order of queries and of dropout.")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, section: str) -> Self:
        """As every room's; in section `bi_encoder` the architecture is that, unless the section says otherwise."""
        given = {"architecture": "bi_encoder"} if section == "bi_encoder" else {}
        return super().from_mapping({**given, **mapping}, section=section)

    def references(self) -> dict[str, str]:
        """The table that `sub_judgments` names, so that a student is trained again when it was written again."""
        is_there = self.sub_judgments and storage.exists(self.sub_judgments)
        return {"sub_judgments": storage.listing_digest(self.sub_judgments)} if is_there else {}

    def score_is_logit(self) -> bool:
        """Whether the sigmoid of a raw score, times the temperature, is a gain; else the score is one over the temperature."""
        return self.target == "logit" or self.loss == "bce"

    def reach(self) -> tuple[int, int]:
        """(steps of the behavior graph, neighbors of each kind) that the student reads."""
        return (self.graph_order, self.num_neighbors) if self.architecture == "graph" and self.graph_order else (0, 0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.export and self.architecture == "graph":
            raise ValueError("a graph student reads neighbors, which no server has: set export: [], and let it teach a cross_encoder")
        if self.architecture != "bi_encoder" and self.trained_weight < 1:
            raise ValueError(f"trained_weight below 1 averages with a start; a {self.architecture}'s head has none worth keeping: set 1")
        if self.loss == "bce" and self.target != "probability":
            raise ValueError("loss 'bce' compares sigmoid(score) with a probability; set target: probability")
        if self.loss == "bce" and self.temperature != 1:
            raise ValueError(f"loss 'bce' compares with a probability, which temperature = {self.temperature:g} would scale; set 1")
        if self.architecture == "graph" and self.sub_judgment_weight:
            raise ValueError("a graph student has no heads for sub-judgments; set sub_judgment_weight to 0")
        if self.sub_judgments and not self.sub_judgment_weight:
            raise ValueError("sub_judgments names a table that weighs nothing; set sub_judgment_weight above 0")
        return self
