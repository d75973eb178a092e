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
from components.shared.models.packs import Pack

NAME = "shared_prefix_packs"


class _KeysAreTakenError(Exception):
    """Ends the last layer's first pass as soon as its keys and values are known."""


class _LastLayer:
    """The pack as the last layer sees it: first all tokens, for their keys and values, then the last token of each item."""

    def __init__(self, pack: Pack) -> None:
        self.pack = pack
        self.taken: tuple[torch.Tensor, torch.Tensor] | None = None


def _attend(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, pack: Any = None, **_: Any) -> tuple[Any, None]:
    """transformers' attention signature: query [1, heads, tokens, size], key and value [1, key heads, tokens, size]."""
    if pack is None:
        raise InputError(f"a {type(module).__name__} does not tell attention which pack it reads; set method to plain or prefix_cache")
    query, key, value = (one[0].transpose(0, 1) for one in (query, key, value))
    if isinstance(pack, Pack):
        return _attend_everywhere(pack, query, key, value, scaling)[None], None
    if pack.taken is None:
        pack.taken = key, value
        raise _KeysAreTakenError
    key, value = pack.taken
    return _attend_at_the_end(pack.pack, query, key, value, scaling)[None], None


AttentionInterface.register(NAME, _attend)


def _attend_everywhere(pack: Pack, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> torch.Tensor:
    """All of query, key, value and result [tokens, heads, size]."""
    out = torch.empty_like(query)
    for bucket in (*pack.prefixes, *pack.items):
        answer = _attention(query[bucket.queries], key[bucket.keys], value[bucket.keys], bucket.bias, scaling)
        out[bucket.places] = answer.flatten(0, 1)[bucket.real]
    return out


def _attend_at_the_end(pack: Pack, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> torch.Tensor:
    """Query and result [items, heads, size], key and value [tokens, key heads, size]."""
    out = torch.empty_like(query)
    for bucket in pack.items:
        bias = bucket.bias[torch.arange(len(bucket.ends), device=query.device), :, bucket.ends, None]
        answer = _attention(query[bucket.stretch, None], key[bucket.keys], value[bucket.keys], bias, scaling)
        out[bucket.stretch] = answer[:, 0]
    return out


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
    attend = fused_attention if query.is_cuda else short_attention
    answer = attend(asked, key.transpose(1, 2), value.transpose(1, 2), bias.repeat(1, 1, groups, 1), scaling)
    return answer.view(stretches, key_heads, groups, queries, size).permute(0, 3, 1, 2, 4).reshape(stretches, queries, heads, size)


def fused_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, scaling: float) -> torch.Tensor:
    """Everything [stretches, heads, tokens, ...], bias with one head: torch's kernel, for accelerators."""
    return functional.scaled_dot_product_attention(query, key, value, bias.expand(-1, query.shape[1], -1, -1), scale=scaling)


def short_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, scaling: float) -> torch.Tensor:
    """The same by two products: on a CPU several times as fast, because torch's kernel pays for stretches as short as ours."""
    return torch.softmax((query * scaling @ key.transpose(2, 3)).add_(bias), -1) @ value


def _only_at_the_end(layer: torch.nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A pre-hook of the last layer: takes keys and values of all tokens, then lets it go on with the last token of each item."""
    last = _LastLayer(named["pack"])
    named = {**named, "pack": last}
    try:
        layer.forward(*given, **named)
    except _KeysAreTakenError as taken:
        taken.__traceback__ = None  # its frames hold all activations of the pass

    def cut(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value[:, last.pack.last]
        if isinstance(value, tuple):
            return tuple(map(cut, value))
        return value

    return tuple(map(cut, given)), {name: cut(value) for name, value in named.items()}


@contextmanager
def reading_packs(model: Any) -> Iterator[Callable[[Pack], torch.Tensor]]:
    """While open, gives the function from a pack to the hidden state of each item's last token [items, width].

    Raises:
        InputError: when the model's layers cannot be found, or its attention cannot be ours.
    """
    backbone, standing = model.base_model, model.config._attn_implementation
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:  # transformers only warns
        raise InputError(f"a {type(model).__name__} has attention of its own; set method to plain or prefix_cache")
    hook = _last_layer(backbone).register_forward_pre_hook(_only_at_the_end, with_kwargs=True)
    try:
        yield lambda pack: backbone(input_ids=pack.ids, position_ids=pack.positions, use_cache=False, pack=pack).last_hidden_state[0]
    finally:
        hook.remove()
        model.set_attn_implementation(standing)


def _last_layer(backbone: Any) -> Any:
    """The last of as many layers as the configuration names; each family keeps the list under a name of its own."""
    wanted = backbone.config.get_text_config().num_hidden_layers
    found = [one for one in backbone.modules() if isinstance(one, torch.nn.ModuleList) and len(one) == wanted]
    if len(found) != 1:
        raise InputError(f"a {type(backbone).__name__} has {len(found)} lists of {wanted} layers; set method to plain or prefix_cache")
    return found[0][-1]
