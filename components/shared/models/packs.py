"""Where the tokens of many texts lie in one long row, and who may look at whom."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from components.shared.models.tokens import JoinedPairs

LENGTH_STEP = 16  # items whose lengths fall into the same step stand in one bucket
KEY_STEP = 8  # keys are padded to this: aligned rows are what matrix units like


@dataclass(frozen=True)
class Bucket:
    """Stretches of a pack that attend alike: each looks at its prefix, then at itself, causally or all over.

    Attributes:
        stretch: number of each stretch among its kind (prefixes or items) [stretches].
        queries: place in the pack of every query, padded [stretches x longest]; keys: the same of prefix and own tokens [stretches x keys].
        places, real: place in the pack, and in `queries`, of what is no padding [tokens].
        read: where in `queries` the token stands that the head reads [stretches].
        bias: 0 for a key that a query may see, else minus infinity [stretches, 1, longest, keys].
    """

    stretch: torch.Tensor
    queries: torch.Tensor
    keys: torch.Tensor
    places: torch.Tensor
    real: torch.Tensor
    read: torch.Tensor
    bias: torch.Tensor

    @staticmethod
    def of(stretches: np.ndarray, device: torch.device, dtype: torch.dtype, *, causal: bool) -> "Bucket":
        """From (number, start, length, start of the prefix, length of the prefix) of each stretch; a length of 0 is no prefix.

        What is causal is read at its last token, the rest at its first.
        """
        longest, widest = int(stretches[:, 2].max()), int(stretches[:, 4].max())
        real = torch.from_numpy(np.flatnonzero(np.arange(longest) < stretches[:, 2:3])).to(device)
        number, start, length, prefix_start, prefix_length = torch.from_numpy(stretches).to(device).T.unsqueeze(2)
        steps = torch.arange(longest, device=device)
        before = torch.arange(widest + -(longest + widest) % KEY_STEP, device=device)
        own = start + torch.minimum(steps, length - 1)
        shared = prefix_start + torch.minimum(before, (prefix_length - 1).clamp(min=0))
        bias = torch.zeros(len(stretches), 1, longest, len(before) + longest, device=device, dtype=dtype)
        bias[..., : len(before)].masked_fill_((before >= prefix_length)[:, None, None], -torch.inf)
        hidden = steps > steps[:, None] if causal else (steps >= length)[:, None, None]
        bias[..., len(before) :].masked_fill_(hidden, -torch.inf)
        read = length[:, 0] - 1 if causal else torch.zeros_like(length[:, 0])
        return Bucket(number[:, 0], own, torch.cat([shared, own], 1), own.flatten()[real], real, read, bias)


@dataclass(frozen=True)
class Pack:
    """Some prefixes, each followed by items of it, in one row of tokens; or items alone.

    Attributes:
        ids, positions: [1, tokens]; read: place of the token of each item that the head reads [items].
        prefixes, items: who attends to what.
        types: segment of each token [1, tokens], for encoders that tell the two texts of a pair apart.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    read: torch.Tensor
    prefixes: list[Bucket]
    items: list[Bucket]
    types: torch.Tensor | None = None

    @property
    def longest(self) -> int:
        """Tokens of the longest text, its prefix included, or a few more."""
        return max(bucket.keys.shape[1] for bucket in self.items)

    @staticmethod
    def of(pairs: JoinedPairs, rows: np.ndarray, device: torch.device, dtype: torch.dtype) -> "Pack":
        """The pack of `rows`, those of one prefix adjacent; `dtype` is that of the activations."""
        opens = np.diff(pairs.prefix[rows], prepend=-1) != 0
        heads = [pairs.prefixes[number] for number in pairs.prefix[rows[opens]]]
        tails = [pairs.items[row] for row in rows]
        group = np.cumsum(opens) - 1  # of each item
        head_length, length = (np.fromiter(map(len, ids), np.int64, len(ids)) for ids in (heads, tails))
        # in the row, a prefix stands before the first of its items
        before = np.cumsum(length + np.where(opens, head_length[group], 0)) - length
        head_start = before[opens] - head_length
        total = int(before[-1] + length[-1])
        ids, positions = np.empty(total, np.int64), np.empty(total, np.int64)
        for starts, first, texts in ((head_start, np.zeros_like(head_start), heads), (before, head_length[group], tails)):
            for start, position, tokens in zip(starts, first, texts, strict=True):
                ids[start : start + len(tokens)] = tokens
                positions[start : start + len(tokens)] = np.arange(position, position + len(tokens))
        nothing = np.zeros_like(head_start)
        prefixes = np.stack([np.arange(len(heads)), head_start, head_length, nothing, nothing], 1)
        items = np.stack([np.arange(len(rows)), before, length, head_start[group], head_length[group]], 1)
        row, places, last = (torch.from_numpy(one).to(device) for one in (ids[None], positions[None], before + length - 1))
        kinds = (prefixes[head_length > 0], items)
        buckets = ([Bucket.of(part, device, dtype, causal=True) for part in _by_length(kind)] for kind in kinds)
        return Pack(row, places, last, next(buckets), next(buckets))

    @staticmethod
    def of_texts(encoded: dict[str, list[list[int]]], rows: np.ndarray, first_position: int, device: torch.device) -> "Pack":
        """The pack of `rows` of an encoder's columns `input_ids` and, where it has them, `token_type_ids`; float32.

        Args:
            first_position: number of a text's first position.
        """
        texts = [encoded["input_ids"][row] for row in rows]
        length = np.fromiter(map(len, texts), np.int64, len(texts))
        start = np.cumsum(length) - length
        positions = first_position + np.arange(length.sum()) - np.repeat(start, length)
        nothing = np.zeros_like(start)
        stretches = np.stack([np.arange(len(rows)), start, length, nothing, nothing], 1)
        row, places, first = (torch.from_numpy(one).to(device) for one in (np.concatenate(texts)[None], positions[None], start))
        types = None
        if "token_type_ids" in encoded:
            types = torch.from_numpy(np.concatenate([encoded["token_type_ids"][row] for row in rows])[None]).to(device)
        items = [Bucket.of(part, device, torch.float32, causal=False) for part in _by_length(stretches)]
        return Pack(row, places, first, [], items, types)


def _by_length(stretches: np.ndarray) -> list[np.ndarray]:
    step = (stretches[:, 2] - 1) // LENGTH_STEP
    return [stretches[step == one] for one in np.unique(step)]


def cut_packs(pairs: JoinedPairs, pack_tokens: int) -> Iterator[np.ndarray]:
    """Row numbers of packs of at most `pack_tokens` tokens (one pair may exceed it alone), those of one prefix adjacent.

    A prefix whose items fill several packs is computed once in each.
    """
    order = np.argsort(pairs.prefix, kind="stable")
    chosen: list[int] = []
    used, standing = 0, -1
    for row in order:
        head, size = len(pairs.prefixes[pairs.prefix[row]]), len(pairs.items[row])
        cost = size + (head if pairs.prefix[row] != standing else 0)
        if chosen and used + cost > pack_tokens:
            yield np.asarray(chosen)
            chosen, used, cost = [], 0, size + head
        chosen.append(int(row))
        used, standing = used + cost, pairs.prefix[row]
    if chosen:
        yield np.asarray(chosen)
