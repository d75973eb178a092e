"""Networks as ONNX files, exported by torch itself: optimum, which others export with, refuses transformers 5.

An encoder's graph is made lean before: attention as two products and a softmax, which runtimes recognise and compute as one, and the last
layer only at the first token where the head reads no other. What was made lean is held against the network; where it answers otherwise,
the network is exported as it is.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface

from components.shared.errors import InputError
from components.shared.models.last_layer import LastLayer, last_layer, only_where_read
from components.shared.models.pooling import mean_pool

logger = logging.getLogger(__name__)

PROBES = ["red shoes", "a kettle"], ["blue running shoes for small gardens", "kettle"]
LEAN = "rows_for_export"
TOLERANCE = 1e-5  # of the largest output, and of 1 where that is smaller, in float32; a wrong way errs by much more
HIDDEN = -1e9  # added to what attention gives to padding


@dataclass(frozen=True)
class _Rows:
    """What attention must know of a batch: `bias` [rows, 1, 1, tokens]."""

    bias: torch.Tensor


def _attend(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, rows: Any = None, **more: Any) -> tuple[Any, None]:
    """transformers' attention signature: query, key and value [rows, heads, tokens, size]."""
    if rows is None or more.get("sliding_window"):  # a window is longer than the texts that the network is tried with
        raise InputError(f"a {type(module).__name__} attends otherwise")
    if isinstance(rows, LastLayer):
        key, value = rows.of_all(key, value)
        rows = rows.around
    return (torch.softmax(query * scaling @ key.transpose(2, 3) + rows.bias, -1) @ value).transpose(1, 2), None


AttentionInterface.register(LEAN, _attend)


class _Network(torch.nn.Module):
    """From token ids [rows, tokens] to what a file gives: logits, or the unit-length mean of a text's tokens [rows, width]."""

    def __init__(self, model: Any, *, joint: bool, lean: bool) -> None:
        super().__init__()
        self.model, self.joint, self.lean = model, joint, lean

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None) -> torch.Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        # the mask goes to our attention alone: a model would make its own of it, and runtimes would not know the whole again
        bias = (1.0 - attention_mask[:, None, None, :].float()) * HIDDEN
        rows = {"rows": _Rows(bias)} if self.lean else {"attention_mask": attention_mask}
        out = self.model(input_ids=input_ids, **types, **rows)
        return out.logits if self.joint else mean_pool(out.last_hidden_state, attention_mask)


@contextmanager
def _lean(model: Any, *, joint: bool) -> Iterator[_Network]:
    """While open, the model as a lean network."""
    standing = model.config._attn_implementation
    model.set_attn_implementation(LEAN)
    hook = None
    try:
        if joint:
            first = torch.zeros(1, dtype=torch.long)
            hook = only_where_read(last_layer(model.base_model), "rows", lambda _: first, traced=True)
        yield _Network(model, joint=joint, lean=True).eval()
    finally:
        if hook:
            hook.remove()
        model.set_attn_implementation(standing)


def export_onnx(model: Any, tokenizer: Any, file: Path, *, joint: bool = True, apart: bool = True) -> Path:
    """The network as an ONNX file whose rows and tokens are free.

    Args:
        model: in evaluation mode, on the CPU.
        joint: whether it reads pairs and gives `logits`; else it reads texts one by one, and the file gives unit-length `vectors`.
        apart: weights lie in a second file; one file holds at most 2 GB.
    """
    texts = PROBES if joint else PROBES[1:]
    batch = dict(tokenizer(*texts, padding=True, return_tensors="pt"))
    plain = _Network(model, joint=joint, lean=False).eval()
    try:
        with torch.inference_mode():
            wanted = plain(**batch)
        with _lean(model, joint=joint) as lean:
            with torch.inference_mode():
                error = float((lean(**batch) - wanted).abs().max())
            if error <= TOLERANCE * max(1.0, float(wanted.abs().max())):
                return _write(lean, batch, file, joint=joint, apart=apart)
        reason = f"its outputs would differ by {error:.2g}"
    except (InputError, TypeError, RuntimeError, ValueError, IndexError) as trouble:
        reason = str(trouble).splitlines()[0]
    logger.warning("a %s is exported as it is: %s", type(model).__name__, reason)
    return _write(plain, batch, file, joint=joint, apart=apart)


def _write(network: torch.nn.Module, batch: dict[str, torch.Tensor], file: Path, *, joint: bool, apart: bool) -> Path:
    free = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in batch}
    names: dict[str, Any] = {"input_names": list(batch), "output_names": ["logits" if joint else "vectors"]}
    torch.onnx.export(network, kwargs=batch, f=str(file), dynamic_shapes=free, dynamo=True, verbose=False, external_data=apart, **names)
    return file
