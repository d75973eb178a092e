"""Small random decoders with a byte-level BPE, as model folders."""

from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
)

from components.shared.models import folder
from components.shared.schema import ASPECTS, VERDICTS
from components.shared.text import DECODER_PREFIX, TASKS

WORDS = ["red", "blue", "shoes", "lamp", "chair", "for", "large", "small", "garden", "kitchen", "green", "cup", "title", "color", "query"]
END = "<|endoftext|>"
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 128}


def bpe() -> Any:
    inner = ByteLevelBPETokenizer()
    written = [f"{aspect}: {verdict}\n" for aspect in ASPECTS for verdict in VERDICTS]
    inner.train_from_iterator(
        [" ".join(WORDS), DECODER_PREFIX, *TASKS.values(), *written] * 3, vocab_size=600, special_tokens=[END], show_progress=False
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner._tokenizer, eos_token=END)


def backbone(name: str, vocab_size: int) -> Any:
    torch.manual_seed(1)
    words = {"vocab_size": vocab_size, "pad_token_id": None, "bos_token_id": None, "eos_token_id": 0, "initializer_range": 0.2}
    if name == "qwen3":
        return Qwen3Model(Qwen3Config(**SIZES, **words, num_key_value_heads=2, head_dim=16))
    if name == "llama":
        return LlamaModel(LlamaConfig(**SIZES, **words, num_key_value_heads=4))
    return GPT2Model(GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=128, **words))


def make_decoder(base: str, name: str, kind: str = "teacher", max_tokens: int = 96) -> str:
    """The folder of a backbone without a spec at `base`/bare, and of a classifier over three grades, which is returned."""
    tokenizer = bpe()
    bare = f"{base}/bare"
    backbone(name, len(tokenizer)).save_pretrained(bare)
    tokenizer.save_pretrained(bare)
    spec = folder.ModelSpec(kind, max_tokens, gains=[0.0, 0.5, 1.0] if kind == "teacher" else [], decoder=True)
    model = folder.load_model(folder.fetch(bare), spec)
    torch.nn.init.normal_(model.score.weight, std=0.5, generator=torch.Generator().manual_seed(2))
    folder.save(f"{base}/{name}", model, tokenizer, spec)
    return f"{base}/{name}"


def make_writer(base: str, name: str, step_tokens: int = 12, positions: int = 128) -> str:
    """The folder of a teacher that writes, taught nothing yet; beside it `bare`, whose head does not write."""
    tokenizer = bpe()
    settings = backbone(name, len(tokenizer)).config
    settings.max_position_embeddings = positions
    model = AutoModelForCausalLM.from_config(settings)
    backbone(name, len(tokenizer)).save_pretrained(f"{base}/bare")
    tokenizer.save_pretrained(f"{base}/bare")
    spec = folder.ModelSpec(
        "teacher", 96, gains=[0.0, 0.5, 1.0], decoder=True, replies=["explain", "grade", "rules", "reflect"], step_tokens=step_tokens
    )
    folder.save(f"{base}/{name}", model, tokenizer, spec)
    return f"{base}/{name}"
