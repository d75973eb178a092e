"""Which numbers a model computes with, and on what."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

EXACT = 1e-6  # largest error of a float32 product, relative to its longest value; rounding to bf16 errs a thousand times as much


def resolve_precision(precision: str) -> str:
    """`auto` -> bf16 where the hardware multiplies it natively (CUDA, CPUs with avx512_bf16), else fp32."""
    if precision != "auto":
        return precision
    native = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "fp32"


def pick_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def fast_float32() -> Iterator[None]:
    """While open, float32 products on a CPU go through oneDNN, where that is exact.

    torch's own choice takes an AVX2 path on AMD. Asking for bf16 products takes oneDNN's AVX-512 kernels, which on CPUs without AMX
    compute in float32 all the same; where they do not, nothing is changed.
    """
    if torch.cuda.is_available() or not _onednn_is_exact():
        yield
        return
    standing = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = standing


@cache
def _onednn_is_exact() -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(shape, generator=generator) for shape in ((256, 384), (384, 256)))
    standing = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        error = (left @ right).double() - left.double() @ right.double()
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = standing
    return float(error.abs().max() / (left.double() @ right.double()).abs().max()) < EXACT
