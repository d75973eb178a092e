"""Which numbers a model computes with, and on what."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch

Part = TypeVar("Part")

# torch and oneDNN keep a kernel for every shape that they met, a thousand each; packs have ever new shapes, so memory would grow long
for _capacity in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(_capacity, "64")

DESCRIPTION = Path("/proc/cpuinfo")  # of the CPU, on Linux
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
    """While open, float32 products on an AMD CPU go through oneDNN, where that is exact.

    torch's own choice takes an AVX2 path there. Asking for bf16 products takes oneDNN's AVX-512 kernels, which on CPUs without AMX
    compute in float32 all the same; where they do not, nothing is changed. On Intel torch's choice is as fast, and its attention,
    which would lose its own products, is faster by far for short texts. The maker decides and no stopwatch, because workers must agree on
    every bit.
    """
    if uses_onednn():
        with _bf16_allowed():
            yield
    else:
        yield


@contextmanager
def _bf16_allowed() -> Iterator[None]:
    products: Any = torch.backends.mkldnn.matmul  # type: ignore[reportAttributeAccessIssue] - a name that torch makes at run time
    standing, products.fp32_precision = products.fp32_precision, "bf16"
    try:
        yield
    finally:
        products.fp32_precision = standing


def spread(work: Callable[[Part], None], parts: Iterable[Part], device: torch.device) -> None:
    """`work` on every part; on a CPU by as many workers as torch has threads, with one thread each.

    Workers that share nothing never wait for each other, as the threads of one product do, which costs most on a busy machine. Few parts
    are worked off one by one instead, by all threads.
    """
    threads, parts = torch.get_num_threads(), list(parts)
    if device.type != "cpu" or threads == 1 or len(parts) < 2 * threads:
        for part in parts:
            work(part)
        return

    def alone(part: Part) -> None:
        with torch.inference_mode():  # which a new thread does not inherit
            work(part)

    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(alone, parts):
                pass
    finally:
        torch.set_num_threads(threads)


@cache
def uses_onednn() -> bool:
    """Whether `fast_float32` changes anything on this machine."""
    if not torch.backends.mkldnn.is_available() or not _is_amd():
        return False
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(shape, generator=generator) for shape in ((256, 384), (384, 256)))
    with _bf16_allowed():
        found = (left @ right).double()
    truth = left.double() @ right.double()
    return float((found - truth).abs().max() / truth.abs().max()) < EXACT


def _is_amd() -> bool:
    return DESCRIPTION.is_file() and "AuthenticAMD" in DESCRIPTION.read_text(encoding="utf-8")
