"""Decoders by vLLM, offline: for a GPU image of its own, because vLLM's pins conflict with ours.

Prompts are the ids that `join_pairs` makes, those of one prefix adjacent, so that vLLM's prefix cache computes it once.
"""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from components.shared import storage
from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.arithmetic import resolve_precision
from components.shared.models.scoring import PairScorer
from components.shared.models.tokens import join_pairs

BLOCK_TOKENS = 32  # only whole blocks are shared; on a CPU vLLM takes no smaller ones, and its default halves the speed


class VllmScorer(PairScorer):
    """A decoder classifier in vLLM; raw logits equal those of transformers to 1e-4 in fp32."""

    def __init__(self, uri: str, *, precision: str = "fp32") -> None:
        path = folder.fetch(uri)
        self.spec, self.digest = folder.read_spec(path), storage.content_digest(str(path))
        if not self.spec.classifies_as_decoder():
            raise InputError(f"key 'engine' = 'vllm': model '{uri}' is no decoder with a head; set transformers or onnx")
        try:
            self.vllm: Any = importlib.import_module("vllm")
        except ImportError:
            raise InputError("key 'engine' = 'vllm': vllm is not installed here; use an image that has it, or set transformers") from None
        self.tokenizer, precision = folder.load_tokenizer(path), resolve_precision(precision)
        self.llm = self.vllm.LLM(
            str(path), runner="pooling", dtype="bfloat16" if precision == "bf16" else "float32", max_model_len=self.spec.max_tokens,
            enable_prefix_caching=True, block_size=BLOCK_TOKENS,
        )  # fmt: skip
        self.engine = f"vllm {self.vllm.__version__}, prefix caching, {precision}, texts {self.spec.text_version}"

    def logits(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        pairs = join_pairs(self.tokenizer, left, right, self.spec.max_tokens)
        order = np.argsort(pairs.prefix, kind="stable")
        prompts = [self.vllm.TokensPrompt(prompt_token_ids=pairs.row(number)) for number in order]
        settings = self.vllm.PoolingParams(use_activation=False)
        answers = self.llm.encode(prompts, pooling_params=settings, pooling_task="classify", use_tqdm=False) if prompts else []
        out = np.zeros((len(order), self.spec.num_labels()), np.float32)
        for number, answer in zip(order, answers, strict=True):
            out[number] = answer.outputs.data.float().cpu().numpy()
        return out
