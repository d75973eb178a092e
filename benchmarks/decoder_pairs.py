"""Token ids shaped like a teacher's prompts, decoders of Qwen3's shape with random weights, and the work that scoring them takes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForSequenceClassification

from components.shared.models.tokens import JoinedPairs

PREFIX_TOKENS, ITEM_TOKENS = (72, 142), (20, 60)  # instruction, query and neighbors: 102 on average; an item: 40
PAD, NUM_LABELS = 0, 4


@dataclass(frozen=True)
class Shape:
    """Sizes of a Qwen3 classifier."""

    layers: int
    width: int
    heads: int
    key_heads: int
    head_size: int
    inner: int
    vocabulary: int

    def config(self) -> Qwen3Config:
        return Qwen3Config(
            hidden_size=self.width, num_hidden_layers=self.layers, num_attention_heads=self.heads, num_key_value_heads=self.key_heads,
            head_dim=self.head_size, intermediate_size=self.inner, vocab_size=self.vocabulary, max_position_embeddings=1024,
            num_labels=NUM_LABELS, pad_token_id=PAD, bos_token_id=None, eos_token_id=None, use_cache=False,
        )  # fmt: skip

    def flops(self, tokens: int, seen: int) -> float:
        """Of `tokens` tokens that see `seen` keys in all: linears of the layers and attention, not the head."""
        attention = self.heads * self.head_size
        linear = self.width * (2 * attention + 2 * self.key_heads * self.head_size + 3 * self.inner)
        return float(2 * tokens * linear + 4 * attention * seen) * self.layers


SMALL = Shape(6, 384, 6, 2, 64, 1024, 16384)
QWEN3_600M = Shape(28, 1024, 16, 8, 128, 3072, 151936)
QWEN3_4B = Shape(36, 2560, 32, 8, 128, 9728, 151936)


def make_pairs(num_queries: int, items_per_query: int, vocabulary: int, seed: int = 0) -> JoinedPairs:
    rng = np.random.default_rng(seed)

    def texts(number: int, bounds: tuple[int, int]) -> list[list[int]]:
        return [rng.integers(1, vocabulary, length).tolist() for length in rng.integers(bounds[0], bounds[1] + 1, number)]

    prefix = np.repeat(np.arange(num_queries), items_per_query)
    return JoinedPairs(texts(num_queries, PREFIX_TOKENS), prefix, texts(len(prefix), ITEM_TOKENS))


def make_classifier(shape: Shape, seed: int = 0) -> Any:
    """Random weights; the head's are large enough that logits differ by some units."""
    torch.manual_seed(seed)
    model = Qwen3ForSequenceClassification(shape.config()).eval()
    torch.nn.init.normal_(model.score.weight, std=4 / shape.width**0.5)
    return model


def work_of(shape: Shape, pairs: JoinedPairs) -> dict[str, Any]:
    """Tokens and FLOPs, each pair on its own and with prefixes computed once."""
    heads = np.asarray([len(one) for one in pairs.prefixes])
    items = np.asarray([len(one) for one in pairs.items])
    before = heads[pairs.prefix]
    seen_heads, seen_items = (heads * (heads + 1) // 2).sum(), (items * before + items * (items + 1) // 2).sum()
    apart = int(pairs.lengths.sum()), int((pairs.lengths * (pairs.lengths + 1) // 2).sum())
    shared = int(heads.sum() + items.sum()), int(seen_heads + seen_items)
    return {
        "pairs": len(items), "mean_prefix_tokens": float(heads.mean()), "mean_item_tokens": float(items.mean()),
        "tokens": {"apart": apart[0], "shared": shared[0]},
        "flops": {"apart": shape.flops(*apart), "shared": shape.flops(*shared)},
    }  # fmt: skip


class Padding:
    """The one thing that `DecoderClassifier` asks of a tokenizer."""

    def pad(self, batch: dict[str, list[list[int]]], **_: Any) -> dict[str, torch.Tensor]:
        rows = batch["input_ids"]
        ids = torch.full((len(rows), max(map(len, rows))), PAD)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
        return {"input_ids": ids, "attention_mask": (ids != PAD).long()}
