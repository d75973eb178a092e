"""Pairs as token ids: how the two texts of a model become one row, the same way for training and scoring."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.shared.text import DECODER_PREFIX

PREFIX_SHARE = 0.75  # of `max_tokens` at most, so that something of the item is always read


@dataclass(frozen=True)
class JoinedPairs:
    """Pairs of a decoder: row r reads `prefixes[prefix[r]]`, then `items[r]`, which has one token at least."""

    prefixes: list[list[int]]
    prefix: np.ndarray
    items: list[list[int]]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row [rows]."""
        return np.fromiter((len(self.row(number)) for number in range(len(self.items))), np.int64, len(self.items))

    def first(self, number: int) -> "JoinedPairs":
        return JoinedPairs(self.prefixes, self.prefix[:number], self.items[:number])

    def row(self, number: int) -> list[int]:
        return self.prefixes[self.prefix[number]] + self.items[number]

    def columns(self) -> dict[str, list[list[int]]]:
        """What `tokenizer.pad` takes."""
        rows = [self.row(number) for number in range(len(self.items))]
        return {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}


def join_pairs(tokenizer: Any, left: Sequence[str], right: Sequence[str], max_tokens: int) -> JoinedPairs:
    """Tokenise prefix (instruction, query, its neighbors) and item apart and join them as ids.

    Apart, because merges over the seam would give a query other ids beside another item; then nothing could be shared, and a pair's ids
    would not be its own. Special tokens written in a text are read as letters. What is too long is cut at its end, the item first: the
    prefix stays whole up to three quarters of `max_tokens`, the item has the rest. No row depends on another.
    """
    start = _start_ids(tokenizer)
    heads, head = _distinct_ids(tokenizer, [DECODER_PREFIX.format(left=one) for one in left])
    tails, tail = _distinct_ids(tokenizer, right)
    limit = int(max_tokens * PREFIX_SHARE)
    heads = [(start + ids)[:limit] for ids in heads]
    numbers: dict[tuple[int, ...], int] = {}
    prefix, items = np.zeros(len(left), np.int64), []
    for row, (first, second) in enumerate(zip(head, tail, strict=True)):
        ids = heads[first]
        item = tails[second][: max_tokens - len(ids)]
        if not item:  # an empty text: the prefix's last token stands for it
            ids, item = ids[:-1], ids[-1:]
        prefix[row] = numbers.setdefault(tuple(ids), len(numbers))
        items.append(item)
    return JoinedPairs([list(ids) for ids in numbers], prefix, items)


def _distinct_ids(tokenizer: Any, texts: Sequence[str]) -> tuple[list[list[int]], np.ndarray]:
    """(ids of each distinct text, number of each row's text [rows])."""
    distinct, number = np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)
    return plain_ids(tokenizer, distinct.tolist()), number


def plain_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text by itself; special tokens are neither added nor read."""
    settings = {"add_special_tokens": False, "split_special_tokens": True, "return_attention_mask": False}
    return tokenizer(list(texts), **settings)["input_ids"] if texts else []


def _start_ids(tokenizer: Any) -> list[int]:
    """The token that the tokenizer itself puts before a text, if it is one for that."""
    bare = tokenizer("")["input_ids"]
    return bare[:1] if bare and bare[0] in (tokenizer.bos_token_id, tokenizer.cls_token_id) else []


def encode_rows(tokenizer: Any, *texts: Sequence[str], max_tokens: int, decoder: bool = False) -> dict[str, list[list[int]]]:
    """Columns for `tokenizer.pad`, one list of ids per row, of one column of texts or of two that are read jointly.

    Special tokens written in a text are read as letters: a seller's `[SEP]` must not begin another text.

    Args:
        decoder: join the two as `join_pairs` does; else as the tokenizer does, cut where the longer one ends.
    """
    if not len(texts[0]):
        return {"input_ids": []}  # a tokenizer fails on nothing
    if decoder and len(texts) == 2:
        return join_pairs(tokenizer, *texts, max_tokens=max_tokens).columns()
    columns = [list(column) for column in texts]
    return dict(tokenizer(*columns, truncation="longest_first", max_length=max_tokens, split_special_tokens=True))
