"""Shared-prefix scoring on stock Hugging Face decoders: packed linears, segmented attention, the last layer only where it is read.

All tokens of a pack go through the network as one row without padding, a prefix once for all its items. Only attention needs to know
what belongs together; `AttentionInterface` gives us that place in every model that transformers has, without a fork. What the head
reads is the last token of each pair, so the last layer computes keys and values for all tokens and the rest for those alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

from components.shared.errors import InputError
from components.shared.models.arithmetic import uses_onednn
from components.shared.models.last_layer import last_layer, only_where_read
from components.shared.models.packs import Pack

NAME = "shared_prefix_packs"
SHORT = 256  # keys; beyond them torch's kernel is the faster one everywhere


def _attend(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, pack: Any = None, **more: Any) -> tuple[Any, None]:
    """transformers' attention signature: query [1, heads, tokens, size], key and value [1, key heads, tokens, size]."""
    if pack is None:
        raise InputError(f"a {type(module).__name__} does not tell attention which pack it reads; set method to plain or prefix_cache")
    window = more.get("sliding_window")
    if window and window < getattr(pack, "around", pack).longest:
        raise InputError(f"a {type(module).__name__} looks only {window} tokens far; set method to plain or prefix_cache")
    query, key, value = (one[0].transpose(0, 1) for one in (query, key, value))
    if isinstance(pack, Pack):
        return _attend_everywhere(pack, query, key, value, scaling)[None], None
    key, value = pack.of_all(key, value)
    return _attend_where_read(pack.around, query, key, value, scaling)[None], None


AttentionInterface.register(NAME, _attend)


def _attend_everywhere(pack: Pack, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> torch.Tensor:
    """All of query, key, value and result [tokens, heads, size]."""
    out = torch.empty_like(query)
    for bucket in (*pack.prefixes, *pack.items):
        answer = _attention(_taken(query, bucket.queries), _taken(key, bucket.keys), _taken(value, bucket.keys), bucket.bias, scaling)
        out.index_copy_(0, bucket.places, answer.flatten(0, 1).index_select(0, bucket.real))
    return out


def _attend_where_read(pack: Pack, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> torch.Tensor:
    """Query and result [items, heads, size], key and value [tokens, key heads, size]."""
    out = torch.empty_like(query)
    for bucket in pack.items:
        bias = bucket.bias[torch.arange(len(bucket.read), device=query.device), :, bucket.read, None]
        answer = _attention(query[bucket.stretch, None], _taken(key, bucket.keys), _taken(value, bucket.keys), bias, scaling)
        out[bucket.stretch] = answer[:, 0]
    return out


def _taken(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """values[places], whole rows at a time: [tokens, heads, size], [stretches, longest] -> [stretches, longest, heads, size]."""
    return values.flatten(1).index_select(0, places.flatten()).view(*places.shape, *values.shape[1:])


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, scaling: float) -> torch.Tensor:
    """softmax(scaling x query key' + bias) value.

    Args:
        query: [stretches, queries, heads, size]; key, value: [stretches, keys, key heads, size]; bias: [stretches, 1, queries, keys].
    """
    stretches, queries, heads, size = query.shape
    key_heads = key.shape[2]
    groups = heads // key_heads
    # queries that share a key head stand below each other, so that no key is repeated
    asked = query.reshape(stretches, queries, key_heads, groups, size).permute(0, 2, 3, 1, 4).reshape(stretches, key_heads, -1, size)
    attend = short_attention if uses_onednn() and key.shape[1] <= SHORT else fused_attention
    answer = attend(asked, key.transpose(1, 2), value.transpose(1, 2), bias.repeat(1, 1, groups, 1) if groups > 1 else bias, scaling)
    return answer.view(stretches, key_heads, groups, queries, size).permute(0, 3, 1, 2, 4).reshape(stretches, queries, heads, size)


def fused_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, scaling: float) -> torch.Tensor:
    """Everything [stretches, heads, tokens, ...], bias with one head: torch's kernel."""
    return functional.scaled_dot_product_attention(query, key, value, bias.expand(-1, query.shape[1], -1, -1), scale=scaling)


def short_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, scaling: float) -> torch.Tensor:
    """The same by two products: several times as fast for short stretches where oneDNN has the products of torch's kernel."""
    return torch.softmax((query * scaling @ key.transpose(2, 3)).add_(bias), -1) @ value


@contextmanager
def _attending_by_packs(model: Any) -> Iterator[torch.nn.Module]:
    """While open, the model's attention is ours; gives its last layer, which works only at the tokens that are read.

    Raises:
        InputError: when the model's layers cannot be found, or its attention cannot be ours.
    """
    standing = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:  # transformers only warns
        raise InputError(f"a {type(model).__name__} has attention of its own; set method to plain or prefix_cache")
    layer = last_layer(model.base_model)
    hook = only_where_read(layer, "pack", lambda pack: pack.read)
    try:
        yield layer
    finally:
        hook.remove()
        model.set_attn_implementation(standing)


@contextmanager
def reading_packs(model: Any) -> Iterator[Callable[[Pack], torch.Tensor]]:
    """While open, gives the function from a pack to the hidden state of each item's token that is read [items, width].

    Raises:
        InputError: when the model's layers cannot be found, or its attention cannot be ours.
    """
    backbone = model.base_model
    with _attending_by_packs(model):
        yield lambda pack: backbone(input_ids=pack.ids, position_ids=pack.positions, use_cache=False, pack=pack).last_hidden_state[0]


@contextmanager
def classifying_packs(model: Any) -> Iterator[Callable[[Pack], torch.Tensor]]:
    """While open, gives the function from a pack to logits [items, labels], of a model whose head reads the first token of each row.

    Raises:
        InputError: as `reading_packs`.
    """

    def classify(pack: Pack) -> torch.Tensor:
        types = {} if pack.types is None else {"token_type_ids": pack.types}
        return model(input_ids=pack.ids, position_ids=pack.positions, pack=pack, **types).logits

    with _attending_by_packs(model) as layer:
        # for the head, what is read of each item is a row of its own
        hook = layer.register_forward_hook(lambda layer, given, hidden: hidden.transpose(0, 1))
        try:
            yield classify
        finally:
            hook.remove()
