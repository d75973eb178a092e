"""The last layer of a stock network, worked through only where the head reads it.

Keys and values are needed of all tokens; queries, output and feed-forward of the tokens that are read alone. The layer is transformers'
own, so it is called twice: up to its attention, which takes keys and values and ends the call; then whole, on the tokens that are read.
A tracer loses its way where a call ends midway: under it the first call runs to its end, and nobody reads what it gives.
"""

from collections.abc import Callable
from typing import Any

import torch

from components.shared.errors import InputError


class _KeysAreTakenError(Exception):
    """Ends the first call as soon as keys and values are known."""


class LastLayer:
    """What attention is given in the last layer, in place of `around` that it is given in the others."""

    def __init__(self, around: Any, *, traced: bool) -> None:
        self.around, self.traced = around, traced
        self.taken: tuple[torch.Tensor, torch.Tensor] | None = None

    def of_all(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of all tokens, whichever call this is; attention must ask for them before it does anything else."""
        if self.taken is None:
            self.taken = key, value
            if not self.traced:
                raise _KeysAreTakenError
        return self.taken


def only_where_read(layer: torch.nn.Module, name: str, places: Callable[[Any], torch.Tensor], *, traced: bool = False) -> Any:
    """Let `layer` work where it is read; gives the hook's handle.

    Args:
        name: keyword under which the layers get what attention needs; attention finds it as `LastLayer.around`.
        places: from that to the tokens that are read, numbers along the second dimension of the layer's inputs.
        traced: whether what is read is a graph, such as an export, and not numbers.
    """

    def before(layer: torch.nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if name not in named:
            raise InputError(f"a {type(layer).__name__} is not told what attention needs")
        last = LastLayer(named[name], traced=traced)
        named = {**named, name: last}
        try:
            layer.forward(*given, **named)
        except _KeysAreTakenError as taken:
            taken.__traceback__ = None  # its frames hold all activations of the pass

        def cut(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return value[:, places(last.around)]
            if isinstance(value, tuple):
                return tuple(map(cut, value))
            return value

        return tuple(map(cut, given)), {key: cut(value) for key, value in named.items()}

    return layer.register_forward_pre_hook(before, with_kwargs=True)


def last_layer(backbone: Any) -> Any:
    """The last of as many layers as the configuration names; each family keeps the list under a name of its own.

    Raises:
        InputError: when there is no such list, or several.
    """
    wanted = backbone.config.get_text_config().num_hidden_layers
    found = [one for one in backbone.modules() if isinstance(one, torch.nn.ModuleList) and len(one) == wanted]
    if len(found) != 1:
        raise InputError(f"a {type(backbone).__name__} has {len(found)} lists of {wanted} layers; set method to plain or prefix_cache")
    return found[0][-1]
