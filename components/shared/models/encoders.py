"""A classifier that reads a pair as one text and looks at its first token: packs without padding, the last layer only at that token."""

import logging
from typing import Any

import numpy as np
import torch

from components.shared.errors import InputError
from components.shared.models.arithmetic import fast_float32, spread
from components.shared.models.batches import token_batches
from components.shared.models.packed import classifying_packs
from components.shared.models.packs import Pack

logger = logging.getLogger(__name__)

CPU_PACK_TOKENS = 4096  # larger packs fall out of the cache and gain nothing
PROBE_LENGTHS = 5, 9  # and the longest there may be
TOLERANCE = 1e-4  # of a logit, in float32; a wrong way errs by much more
Columns = dict[str, list[list[int]]]  # of a tokenizer: a list of ids per row


class EncoderClassifier:
    """Logits of pairs, which do not depend on their batch beyond rounding.

    Whether the network can be read in packs, and from which number it counts positions, is found once, by a few made-up texts that the
    plain way reads too.
    """

    def __init__(self, model: Any, tokenizer: Any, *, max_tokens: int, precision: str = "fp32", batch_tokens: int = 8192) -> None:
        self.model, self.tokenizer, self.batch_tokens = model, tokenizer, batch_tokens
        self.device, self.half = model.device, precision == "bf16"
        self.first_position = self._find_first_position(max_tokens)

    def logits(self, encoded: Columns) -> np.ndarray:
        """Raw output [rows, labels], float32."""
        out = np.zeros((len(encoded["input_ids"]), self.model.config.num_labels), np.float32)
        with torch.inference_mode(), fast_float32():
            if self.first_position is None:
                self._padded(encoded, out)
            else:
                self._packed(encoded, out, self.first_position)
        return out

    def _padded(self, encoded: Columns, out: np.ndarray) -> None:
        """Batches of similar lengths."""

        def read(rows: np.ndarray) -> None:
            piece = {name: [column[row] for row in rows] for name, column in encoded.items()}
            batch = self.tokenizer.pad(piece, return_tensors="pt").to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
                out[rows] = self.model(**batch).logits.float().cpu().numpy()

        spread(read, token_batches(_lengths(encoded), self.batch_tokens), self.device)

    def _packed(self, encoded: Columns, out: np.ndarray, first_position: int) -> None:
        limit = self.batch_tokens if self.device.type == "cuda" else min(self.batch_tokens, CPU_PACK_TOKENS)
        with classifying_packs(self.model) as classify:

            def read(rows: np.ndarray) -> None:
                pack = Pack.of_texts(encoded, rows, first_position, self.device)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
                    out[rows] = classify(pack).float().cpu().numpy()

            spread(read, _cut(_lengths(encoded), limit), self.device)

    def _find_first_position(self, max_tokens: int) -> int | None:
        """From which number positions are counted (RoBERTa skips some), or nothing where the network cannot be read in packs."""
        rng, half = np.random.default_rng(0), self.half
        words = np.setdiff1d(np.arange(min(self.tokenizer.vocab_size, 1000)), self.tokenizer.all_special_ids)
        ids = [rng.choice(words, length).tolist() for length in (*PROBE_LENGTHS, max_tokens)]
        probe = {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}
        if "token_type_ids" in self.tokenizer.model_input_names:
            probe["token_type_ids"] = [[0] * 3 + [1] * (len(row) - 3) for row in ids]
        self.half = False
        wanted, found = (np.zeros((len(ids), self.model.config.num_labels), np.float32) for _ in range(2))
        try:
            with torch.inference_mode():
                self._padded(probe, wanted)
                for first in (0, (self.model.config.pad_token_id or 0) + 1):
                    self._packed(probe, found, first)
                    if np.abs(found - wanted).max() < TOLERANCE:
                        return first
            logger.info("a %s does not read its first token alone; its texts are padded", type(self.model).__name__)
        except (InputError, TypeError, RuntimeError, IndexError) as error:
            logger.info("a %s is not read in packs: %s", type(self.model).__name__, str(error).splitlines()[0])
        finally:
            self.half = half
        return None


def _lengths(encoded: Columns) -> np.ndarray:
    return np.fromiter(map(len, encoded["input_ids"]), np.int64, len(encoded["input_ids"]))


def _cut(lengths: np.ndarray, pack_tokens: int) -> list[np.ndarray]:
    """Row numbers of packs of about `pack_tokens` tokens, those of similar length together."""
    order = np.argsort(-lengths, kind="stable")
    number = (np.cumsum(lengths[order]) - lengths[order]) // pack_tokens
    return np.split(order, np.flatnonzero(np.diff(number)) + 1) if len(order) else []
