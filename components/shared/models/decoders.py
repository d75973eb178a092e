"""A decoder with a head over its last real token, and three ways to run many pairs that share prefixes through it."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from components.shared.models.arithmetic import fast_float32, spread
from components.shared.models.batches import token_batches
from components.shared.models.norms import fused, plain_norms
from components.shared.models.packed import reading_packs
from components.shared.models.packs import Pack, cut_packs
from components.shared.models.tokens import JoinedPairs

CPU_PACK_TOKENS = 2048  # larger packs fall out of the cache and gain nothing


class DecoderClassifier:
    """Logits of pairs. All methods agree to rounding (float32: 1e-5), and a pair's logits do not depend on its batch beyond that.

    With bf16, weights and activations of the backbone are bf16 and the head is float32.
    """

    def __init__(self, model: Any, tokenizer: Any, *, precision: str = "fp32", batch_tokens: int = 8192) -> None:
        self.model = model.to(torch.bfloat16) if precision == "bf16" else model
        self.head = deepcopy(model.score).float()
        self.norms = plain_norms(self.model)
        self.precision = precision
        self.tokenizer, self.batch_tokens, self.device = tokenizer, batch_tokens, model.device

    def logits(self, pairs: JoinedPairs, method: str = "plain") -> np.ndarray:
        """Raw output [rows, labels], float32."""
        out = np.zeros((len(pairs.items), self.head.out_features), np.float32)
        with torch.inference_mode(), fast_float32(), fused(self.norms):
            METHODS[method](self, pairs, out)
        return out

    def _plain(self, pairs: JoinedPairs, out: np.ndarray) -> None:
        """Batches of similar lengths, each pair with its prefix."""
        columns = pairs.columns()

        def read(rows: np.ndarray) -> None:
            ids, mask = self._padded([columns["input_ids"][row] for row in rows])
            out[rows] = self._read(ids, mask, mask)

        spread(read, token_batches(pairs.lengths, self.batch_tokens), self.device)

    def _prefix_cache(self, pairs: JoinedPairs, out: np.ndarray) -> None:
        """Prefix by prefix: its keys and values once, repeated for batches of its items."""
        lengths = np.fromiter(map(len, pairs.items), np.int64, len(pairs.items))

        def read(number: int) -> None:
            prefix, rows = pairs.prefixes[number], np.flatnonzero(pairs.prefix == number)
            for some in token_batches(len(prefix) + lengths[rows], self.batch_tokens):
                ids, mask = self._padded([pairs.items[row] for row in rows[some]])
                cache = DynamicCache(config=self.model.config)
                if prefix:
                    self.model.base_model(torch.tensor([prefix], device=self.device), past_key_values=cache, use_cache=True)
                    cache.batch_repeat_interleave(len(some))
                seen = torch.nn.functional.pad(mask, (len(prefix), 0), value=1)
                out[rows[some]] = self._read(ids, mask, seen, past_key_values=cache, use_cache=True)

        spread(read, range(len(pairs.prefixes)), self.device)

    def _packed(self, pairs: JoinedPairs, out: np.ndarray) -> None:
        """Packs of prefixes and their items, without padding."""
        limit = self.batch_tokens if self.device.type == "cuda" else min(self.batch_tokens, CPU_PACK_TOKENS)
        answers: list[tuple[np.ndarray, torch.Tensor]] = []
        with reading_packs(self.model) as hidden_states:

            def read(rows: np.ndarray) -> None:
                pack = Pack.of(pairs, rows, self.device, self.model.dtype)
                answers.append((rows, self.head(hidden_states(pack).float())))

            spread(read, cut_packs(pairs, limit), self.device)
        for rows, logits in answers:  # fetched last, so that an accelerator works while we make packs
            out[rows] = logits.cpu().numpy()

    def _padded(self, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        batch = self.tokenizer.pad({"input_ids": rows}, return_tensors="pt", return_attention_mask=True)
        return batch["input_ids"].to(self.device), batch["attention_mask"].to(self.device)

    def _read(self, ids: torch.Tensor, mask: torch.Tensor, seen: torch.Tensor, **cached: Any) -> np.ndarray:
        """Logits at the last real token, on whichever side the padding is."""
        positions = (seen.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        hidden = self.model.base_model(ids, attention_mask=seen, position_ids=positions, **cached).last_hidden_state
        last = (mask * torch.arange(1, ids.shape[1] + 1, device=self.device)).argmax(1)
        return self.head(hidden[torch.arange(len(ids), device=self.device), last].float()).cpu().numpy()


METHODS: dict[str, Callable[[DecoderClassifier, JoinedPairs, np.ndarray], None]] = {
    "plain": DecoderClassifier._plain,
    "prefix_cache": DecoderClassifier._prefix_cache,
    "packed": DecoderClassifier._packed,
}
