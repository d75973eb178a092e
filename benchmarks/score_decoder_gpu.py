"""Pairs per second of decoder classifiers on one GPU: plain Hugging Face batches against ours, in bf16, in one run.

  python benchmarks/score_decoder_gpu.py --out results.json      # under three minutes on an H100

Qwen3 0.6B and 4B with random weights. The peak is that of an 8192 x 8192 x 8192 bf16 product in the same run. The file is written
anew after every row, and a row that fails says why and costs no other.
"""

import argparse
import gc
import json
import statistics
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from decoder_pairs import QWEN3_4B, QWEN3_600M, SMALL, Padding, Shape, make_classifier, make_pairs, work_of

from components.shared.models.decoders import DecoderClassifier
from components.shared.models.tokens import JoinedPairs

SIZES = {"small": SMALL, "0.6B": QWEN3_600M, "4B": QWEN3_4B}
PAIRS_CHECKED = 160  # against float32


def synchronised(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds_of(way: Callable[[], Any], device: torch.device, rounds: int) -> float:
    """Median; the first call pays for memory and kernels and is not counted."""
    way()
    seconds = []
    for _ in range(rounds):
        synchronised(device)
        started = time.perf_counter()
        way()
        synchronised(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def peak_flops(device: torch.device, size: int) -> float:
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: [left @ right for _ in range(10)], device, 3) * 10


@torch.inference_mode()
def hugging_face(model: Any, pairs: JoinedPairs, batch_size: int) -> np.ndarray:
    """Batches in order of arrival, padded to their longest, through the model's own forward."""
    out = []
    for start in range(0, len(pairs.items), batch_size):
        rows = [pairs.row(number) for number in range(start, min(start + batch_size, len(pairs.items)))]
        batch = {name: one.to(model.device) for name, one in Padding().pad({"input_ids": rows}).items()}
        out.append(model(**batch).logits.float().cpu().numpy())
    return np.concatenate(out)


def ways_of(model: Any, pairs: JoinedPairs, fast: bool) -> dict[str, tuple[str, Callable[[], np.ndarray]]]:
    """Name -> (which FLOPs are useful to it, what to call)."""

    def ours(method: str, batch_tokens: int) -> Callable[[], np.ndarray]:
        return lambda: DecoderClassifier(model, Padding(), precision="bf16", batch_tokens=batch_tokens).logits(pairs, method)

    budgets = (16_384, 65_536) if fast else (4096,)
    ways: dict[str, tuple[str, Callable[[], np.ndarray]]] = {
        f"hugging_face_{size}": ("apart", lambda size=size: hugging_face(model, pairs, size)) for size in (32, 256)
    }
    ways |= {f"plain_{budget}": ("apart", ours("plain", budget)) for budget in budgets[-1:]}
    ways |= {f"prefix_cache_{budget}": ("shared", ours("prefix_cache", budget)) for budget in budgets[-1:]}
    return ways | {f"packed_{budget}": ("shared", ours("packed", budget)) for budget in budgets}


def profile_of(way: Callable[[], Any]) -> list[dict[str, Any]]:
    """The operators that took longest on the device."""
    with torch.profiler.profile() as profile:
        way()
    events = sorted(profile.key_averages(), key=lambda one: -(one.self_device_time_total or one.self_cpu_time_total))[:12]
    return [
        {"name": one.key[:80], "calls": one.count, "device_ms": one.self_device_time_total / 1e3, "cpu_ms": one.self_cpu_time_total / 1e3}
        for one in events
    ]


def failing_softly(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - a row that fails must not lose the table
        traceback.print_exc()
        gc.collect()
        torch.cuda.empty_cache()
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def measure_size(shape: Shape, given: argparse.Namespace, device: torch.device, peak: float, save: Callable[[str, Any], None]) -> None:
    pairs = make_pairs(given.queries, given.items, shape.vocabulary)
    work = work_of(shape, pairs)
    save("work", work)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = make_classifier(shape)
    torch.set_default_dtype(torch.float32)
    reference: np.ndarray | None = None

    def row(basis: str, way: Callable[[], np.ndarray]) -> dict[str, Any]:
        nonlocal reference
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        logits = way()
        reference = logits if reference is None else reference
        seconds = seconds_of(way, device, given.rounds)
        return {
            "pairs_per_s": work["pairs"] / seconds, "useful_tokens_per_s": work["tokens"][basis] / seconds,
            "read_tokens_per_s": work["tokens"]["apart"] / seconds, "share_of_peak": work["flops"][basis] / seconds / peak,
            "flops_counted": basis, "largest_difference": float(np.abs(logits - reference).max()),
            "same_argmax": float((logits.argmax(1) == reference.argmax(1)).mean()), "seconds": seconds,
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None,
        }  # fmt: skip

    ways = ways_of(model, pairs, device.type == "cuda")
    for name, (basis, way) in ways.items():
        save(name, failing_softly(lambda basis=basis, way=way: row(basis, way)))
    last = list(ways)[-1]
    save("profile", failing_softly(lambda: {last: profile_of(ways[last][1])}))
    save("drift", failing_softly(lambda: drift_of(model, pairs)))


def drift_of(model: Any, pairs: JoinedPairs) -> dict[str, Any]:
    """How far bf16 is from float32 on the first pairs, by way; and ours from the plain forward in float32."""
    some = JoinedPairs(pairs.prefixes, pairs.prefix[:PAIRS_CHECKED], pairs.items[:PAIRS_CHECKED])

    def all_ways(precision: str) -> dict[str, np.ndarray]:
        ours = DecoderClassifier(model, Padding(), precision=precision)
        return {"hugging_face": hugging_face(model, some, 32), **{name: ours.logits(some, name) for name in ("plain", "packed")}}

    rounded, exact = all_ways("bf16"), None
    model.float()
    exact = all_ways("fp32")
    truth = exact["hugging_face"]
    return {
        "bf16": {name: float(np.abs(one - truth).max()) for name, one in rounded.items()},
        "bf16_same_argmax": {name: float((one.argmax(1) == truth.argmax(1)).mean()) for name, one in rounded.items()},
        "fp32": {name: float(np.abs(one - truth).max()) for name, one in exact.items()},
        "standard_deviation_of_logits": float(truth.std()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "score_decoder_gpu.json")
    parser.add_argument("--sizes", nargs="+", default=["0.6B", "4B"], choices=SIZES)
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--peak-size", type=int, default=8192)
    given = parser.parse_args()
    device = torch.device(given.device)
    named = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    peak = peak_flops(device, given.peak_size)
    record: dict[str, Any] = {
        "machine": {"device": named, "bf16_peak_tflops": peak / 1e12},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "settings": {name: value for name, value in vars(given).items() if name != "out"}, "result": {},
    }  # fmt: skip

    for name in given.sizes:
        part = record["result"].setdefault(name, {})

        def save(key: str, value: Any, part: dict[str, Any] = part, name: str = name) -> None:
            part[key] = value
            given.out.write_text(json.dumps(record, indent=1, default=str) + "\n")
            print(name, key, json.dumps(value, default=str)[:400], flush=True)

        part["whole"] = failing_softly(lambda name=name, save=save: measure_size(SIZES[name], given, device, peak, save) or {"done": True})
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
