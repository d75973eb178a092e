"""A model is a Hugging Face folder with safetensors plus `relevance.json` (`spec.py`), which says what kind it is and what it reads."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from components.shared import storage
from components.shared.errors import InputError
from components.shared.models.spec import (
    JOINT_KINDS,
    KINDS,
    LOGIT_KINDS,
    SPEC,
    ModelSpec,
    OutdatedModelError,
    check_safe,
    fetch,
    read_written_spec,
    write_spec,
)

# one name for the folder and what it says, for those who load the network as well
__all__ = ["JOINT_KINDS", "KINDS", "LOGIT_KINDS", "SPEC", "ModelSpec", "OutdatedModelError", "check_safe", "fetch", "is_decoder",
           "load_model", "load_tokenizer", "publish", "read_spec", "save", "write_spec"]  # fmt: skip

transformers_logging.disable_progress_bar()  # a bar per loaded model drowns a task's log


def read_spec(folder: Path) -> ModelSpec:
    """The spec of a folder; one without `relevance.json` is taken for what its config says.

    Raises:
        InputError: for a file that is no spec, or an unknown kind.
        OutdatedModelError: for texts of another version than this code builds.
    """
    return read_written_spec(folder) if (folder / SPEC).is_file() else _inferred(folder)


def _inferred(folder: Path) -> ModelSpec:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    max_tokens = min(int(getattr(config, "max_position_embeddings", 512)), 512)
    joint = any(name.endswith("ForSequenceClassification") for name in config.architectures or [])
    if joint and config.num_labels != 1:
        raise InputError(f"model folder '{folder}' has {config.num_labels} labels and no {SPEC} that says their gains; add one")
    return ModelSpec("cross_encoder" if joint else "encoder", max_tokens, source=str(folder), decoder=joint and is_decoder(folder))


def is_decoder(folder: Path) -> bool:
    """Whether the folder's network looks only backwards: its family writes text and fills no gaps."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    looks_ahead = getattr(config, "use_bidirectional_attention", False) or not getattr(config, "is_causal", True)
    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING and not looks_ahead


def load_tokenizer(folder: Path) -> Any:
    """Special tokens that are written in a text are letters to it; the saved folder says so, and other readers do the same."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True, split_special_tokens=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(folder: Path, spec: ModelSpec, *, dtype: torch.dtype = torch.float32) -> Any:
    """The network of a folder: with a head of `spec.num_labels()` for joint readers, the bare backbone for the others.

    A head that the folder lacks starts from the current torch seed. transformers' own forward, which training uses, takes the last token
    that is not the padding id for the last real one, so a decoder must know the tokenizer's (a public rebuild of arXiv 2505.07105 reads the
    padding and is no better than a constant).
    """
    settings: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True, "use_safetensors": True, "dtype": dtype}
    if spec.grader:
        raise InputError(f"model folder '{folder}' has no weights: its grader is asked over HTTP; score with engine endpoint")
    if spec.replies:
        return _load_writer(folder, settings)
    if not spec.reads_jointly():
        return AutoModel.from_pretrained(folder, **settings)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=spec.num_labels(), **settings)
    if spec.decoder or model.config.pad_token_id is None:
        model.config.pad_token_id = load_tokenizer(folder).pad_token_id
    return model


def _load_writer(folder: Path, settings: dict[str, Any]) -> Any:
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **settings)
    model, found = loaded
    if lacking := sorted(found["missing_keys"]):
        raise InputError(f"model folder '{folder}' lacks '{lacking[0]}', without which it writes nothing; give the whole language model")
    return model


def save(uri: str, model: Any, tokenizer: Any, spec: ModelSpec) -> None:
    """Publish a model folder; `relevance.json` is written last and makes it complete."""
    with tempfile.TemporaryDirectory(prefix="model-") as scratch:
        folder = Path(scratch)
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        publish(folder, uri)
    write_spec(uri, spec)


def publish(folder: Path, uri: str) -> None:
    """Copy all files of a local folder to below `uri`."""
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        storage.upload(file, storage.join(uri, file.relative_to(folder).as_posix()))
