"""Networks as ONNX files, exported by torch itself: optimum, which others export with, refuses transformers 5."""

from pathlib import Path
from typing import Any

import torch

from components.shared.models.pooling import mean_pool

PROBES = ["red shoes", "a kettle"], ["blue running shoes for small gardens", "kettle"]


class _Vectors(torch.nn.Module):
    """What a bi-encoder gives: the unit-length mean of a text's tokens [rows, width]."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None) -> torch.Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = self.network(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        return mean_pool(hidden, attention_mask)


def export_onnx(model: Any, tokenizer: Any, file: Path, *, joint: bool = True, apart: bool = True) -> Path:
    """The network as an ONNX file whose rows and tokens are free.

    Args:
        model: in evaluation mode, on the CPU.
        joint: whether it reads pairs and gives `logits`; else it reads texts one by one, and the file gives unit-length `vectors`.
        apart: weights lie in a second file; one file holds at most 2 GB.
    """
    texts = PROBES if joint else PROBES[1:]
    batch = dict(tokenizer(*texts, padding=True, return_tensors="pt"))
    free = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in batch}
    names = {"input_names": list(batch), "output_names": ["logits" if joint else "vectors"]}
    network = model if joint else _Vectors(model).eval()
    torch.onnx.export(network, kwargs=batch, f=str(file), dynamic_shapes=free, dynamo=True, verbose=False, external_data=apart, **names)
    return file


def quantise(source: Path, file: Path) -> Path:
    """`source` with products in 8 bits: weights per output channel, activations by their range in each call, the rest in float32.

    Products that narrow stay in float32: they read what a GELU gives, a few large values among many small ones, which one range rounds
    away.
    """
    import onnx  # noqa: PLC0415 - an optional runtime
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    network = onnx.load(source)
    del network.graph.value_info[:]  # shapes that torch's exporter noted for fused layers, which contradict those inferred here
    sizes = {one.name: tuple(one.dims) for one in network.graph.initializer}
    products = [(node.name, sizes.get(node.input[1], ())) for node in network.graph.node if node.op_type == "MatMul"]
    narrowing = [name for name, size in products if len(size) == 2 and size[0] > size[1]]
    settings = {"op_types_to_quantize": ["MatMul"], "per_channel": True, "weight_type": QuantType.QInt8}
    quantize_dynamic(network, file, nodes_to_exclude=narrowing, **settings)
    return file
