"""ONNX networks with products in 8 bits, for each of the runtimes."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from components.shared.models.sessions import Columns

QUIET = {"NNCF_CI": "1"}  # else it tells its makers of each use, over the network


def quantise_onnx(source: Path, file: Path) -> Path:
    """For ONNX Runtime: weights per output channel, activations by their range in each call, the rest in float32.

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


def quantise_openvino(source: Path, file: Path, encoded: Columns) -> Path:
    """For OpenVINO: the ranges of activations are those of texts like the ones to come, and what is large in them is moved into the weights
    before (SmoothQuant, Xiao et al. 2022, arXiv 2211.10438). Weights of what is no product lie in 16 bits. Products of one token for each
    text stay in float32: they take no time, and what they round stands in the score.

    Args:
        file: `.xml`; a `.bin` is written beside.
        encoded: token ids of a few hundred texts.
    """
    os.environ.update(QUIET)
    import nncf  # noqa: PLC0415 - an optional runtime
    import openvino  # noqa: PLC0415

    network = openvino.Core().read_model(source)
    names = [one.any_name for one in network.inputs]
    rows = [{name: np.array([encoded[name][row]], np.int64) for name in names} for row in range(len(encoded["input_ids"]))]
    small = [one.get_friendly_name() for one in network.get_ops() if one.get_type_name() == "MatMul" and _reads_one_token(one)]
    settings = {"model_type": nncf.ModelType.TRANSFORMER, "subset_size": len(rows), "ignored_scope": nncf.IgnoredScope(names=small)}
    openvino.save_model(nncf.quantize(network, nncf.Dataset(rows), **settings), file)
    return file


def _reads_one_token(product: Any) -> bool:
    """Whether the left side is [texts, width], or [..., 1, width]."""
    shape = product.input(0).get_partial_shape()
    return len(shape) == 2 or (shape[-2].is_static and shape[-2].get_length() == 1)
