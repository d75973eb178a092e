"""The teacher's network: a classifier over the grades or a reader of single texts, how much of it learns, and its folder."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.arithmetic import resolve_precision
from components.shared.models.generative import AT_ONCE, Wording
from components.train_teacher import targets
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.similarity import SeparateReader

LORA_DROPOUT = 0.05


def teacher_spec(path: Path, config: TrainTeacherConfig, gains: list[float]) -> folder.ModelSpec:
    """What the trained folder will say of itself.

    Raises:
        InputError: when the encoder cannot read `max_tokens`, is no encoder, or has a decoder behind it.
    """
    given = folder.read_spec(path)
    if given.kind not in ("encoder", "teacher"):
        raise InputError(f"encoder '{path}' is a {given.kind}; a teacher starts from an encoder (or from another teacher)")
    if config.reading == "separate" and given.kind != "encoder" and not given.offsets:
        raise InputError(f"key 'reading': '{path}' is a {given.kind} that reads jointly; set 'joint', or start from an encoder")
    limit = _reads_at_most(path, with_head=config.reading == "joint" and config.form == "head")
    if config.max_tokens > limit:
        raise InputError(f"key 'max_tokens' = {config.max_tokens}: the encoder '{path}' reads at most {limit} tokens; lower it")
    if config.form == "generative":
        _check_writes(path, config, len(gains), limit)
    return folder.ModelSpec(
        "teacher",
        config.max_tokens,
        gains=targets.folded_gains(gains, config.folding),
        num_neighbors=config.num_neighbors,
        source=given.source,
        stages=list(config.stages),
        stage_weights=[1 / len(config.stages)] * len(config.stages) if config.stages else [],
        stage_offsets=[0.0] * len(gains) if config.stages else [],
        decoder=config.reading == "joint" and folder.is_decoder(path),
        replies=_replies(config) if config.form == "generative" else [],
        step_tokens=config.step_tokens if config.form == "generative" else 0,
    )


def _reads_at_most(path: Path, *, with_head: bool) -> float:
    """Tokens of one text; infinite where positions have no end, as with ALiBi or XLNet."""
    given = folder.AutoConfig.from_pretrained(path, trust_remote_code=False)
    if type(given) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        raise InputError(
            f"encoder '{path}' is a {given.model_type}, an encoder and a decoder in one; give an encoder (as BERT) or a decoder (as Qwen3)"
        )
    if with_head:
        check_head(given)
    found = getattr(given.get_text_config(), "max_position_embeddings", None) or 0
    return found if found > 0 else math.inf


def check_head(settings: Any) -> None:
    """Raises InputError for the Hugging Face config of a family that has no classifier."""
    if type(settings) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise InputError(
            f"the encoder is a {settings.model_type}, to which transformers puts no head that grades; give another (as Qwen3), or for a "
            "decoder set form 'generative'"
        )


def _replies(config: TrainTeacherConfig) -> list[str]:
    """What the teacher is taught; the first is what it scores by."""
    taught = [AT_ONCE, *config.reasoning]
    return sorted(taught, key=lambda task: task not in ("explain", "rules")) if config.steps else taught


def _check_writes(path: Path, config: TrainTeacherConfig, num_grades: int, limit: float) -> None:
    if not folder.is_decoder(path):
        raise InputError(f"key 'form' = 'generative': '{path}' is no decoder and cannot write; set 'head'")
    wording = Wording(folder.load_tokenizer(path), num_grades)
    reply = max(len(wording.task_ids(task)) for task in _replies(config)) + config.step_tokens + len(wording.grade.prefix) + 1
    if config.max_tokens + reply > limit:
        raise InputError(
            f"key 'max_tokens' = {config.max_tokens}: with {reply} tokens of task and reply it is more than the {limit} that '{path}' "
            "reads; lower it or step_tokens"
        )


def build_network(path: Path, spec: folder.ModelSpec, config: TrainTeacherConfig) -> Any:
    """The classifier with a head drawn from `config.seed`, wrapped in LoRA adapters or with a frozen backbone where asked for.

    Raises:
        InputError: for a decoder whose head scoring could not read.
    """
    torch.manual_seed(config.seed)
    if config.reading == "separate":
        network: Any = SeparateReader(folder.load_model(path, replace(spec, kind="encoder")))
    else:
        network = folder.load_model(path, spec)
    if spec.classifies_as_decoder() and not hasattr(network, "score"):
        raise InputError(
            f"encoder '{path}' is a {network.config.model_type}, whose head is not the one matrix that scoring reads; "
            "give another decoder (as Qwen3)"
        )
    return ready_to_learn(network, config)


def ready_to_learn(network: Any, config: TrainTeacherConfig) -> Any:
    """The network with adapters, frozen weights and checkpointing as configured."""
    if config.activation_checkpointing:
        backbone: Any = getattr(network, "network", network)
        backbone.gradient_checkpointing_enable()
        backbone.enable_input_require_grads()
    if config.freeze_backbone:
        for name, value in network.named_parameters():
            value.requires_grad_(not name.startswith(f"{network.base_model_prefix}.") or ".pooler." in name)
    if config.lora_rank:
        network = _with_adapters(network, config)
    if not config.distributed() and resolve_precision(config.precision) == "bf16":
        for value in network.parameters():  # what learns stays float32: AdamW's steps are smaller than bf16 can hold
            value.data = value.data.to(torch.float32 if value.requires_grad else torch.bfloat16)
    return network


def _with_adapters(network: Any, config: TrainTeacherConfig) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model  # noqa: PLC0415 - loads slowly and only LoRA needs it

    adapters = LoraConfig(
        task_type=TaskType.SEQ_CLS if config.form == "head" else None,
        r=config.lora_rank,
        lora_alpha=2 * config.lora_rank,
        lora_dropout=LORA_DROPOUT,
        target_modules="all-linear",
    )
    # adapters in another dtype than the head break ZeRO-3's flat buffers (deepspeed#8072)
    return get_peft_model(network, adapters, autocast_adapter_dtype=False)


def rebuild(path: Path, spec: folder.ModelSpec, config: TrainTeacherConfig, weights: dict[str, torch.Tensor]) -> Any:
    """The network again, whole and in this process, from the encoder and the trained weights that were gathered."""
    network = build_network(path, spec, config)
    named = dict(network.named_parameters())
    with torch.no_grad():
        for key, value in weights.items():
            if key.startswith("weights/"):
                named[key.removeprefix("weights/")].copy_(value)
    return network


def export(model: str, network: Any, tokenizer: Any, spec: folder.ModelSpec) -> None:
    """Write the model folder, with adapters merged into the weights."""
    network = getattr(network, "network", network) if spec.offsets else network
    whole = network.merge_and_unload() if hasattr(network, "merge_and_unload") else network
    folder.save(model, whole.cpu(), tokenizer, spec)
