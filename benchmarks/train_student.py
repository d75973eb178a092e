"""Pairs per second of distilling a MiniLM cross-encoder by margin-MSE: ours against sentence-transformers' own trainer.

  python benchmarks/train_student.py           # some minutes; writes benchmarks/results/train_student.json; needs the extra `bench`

Both sides train the same weights on the same pairs with the same number of encoded pairs a step, the same optimizer and learning rate.
`CrossEncoderTrainer` takes triples of a query and two items with their margin, in two ways here: `apart`, where no item is encoded twice,
the least work, but nothing is learnt of the order between triples; and `chained`, 15 triples that tie a query's 16 items together, the
fewest from which all its margins follow. Ours learns all 120 margins from one encoding of each item. A pass is one over all items. Texts
are tokenised within the time on both sides. Rounds alternate.
"""

import argparse
import importlib.util
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe_machine, save
from score_pairs import MAX_TOKENS, WORDS, cross_encoder
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import MarginMSELoss

from components.shared.losses import margin_mse
from components.shared.models import folder
from components.shared.models.batches import grouped_batches
from components.shared.training import fit
from components.train_student import students

ITEMS, QUERIES_A_STEP, LEARNING_RATE, SEED = 16, 4, 2e-5, 0


def example_pairs(num_queries: int) -> tuple[list[str], list[str], np.ndarray]:
    """(queries, item texts, teacher's scores) of 16 items a query; lengths as skewed as titles are (log-normal, median 14 words)."""
    rng = np.random.default_rng(SEED)
    lengths = np.clip(rng.lognormal(np.log(14), 0.6, num_queries * ITEMS).astype(int), 3, 90)
    queries = [" ".join(rng.choice(WORDS, rng.integers(1, 6))) for _ in range(num_queries)]
    return (
        [query for query in queries for _ in range(ITEMS)],
        [" ".join(rng.choice(WORDS, length)) for length in lengths],
        rng.normal(size=len(lengths)).astype(np.float32),
    )


def train_ours(model: str, left: list[str], right: list[str], targets: np.ndarray, precision: str) -> float:
    """Seconds of one pass over the pairs."""
    path = Path(model)
    spec = folder.read_spec(path)
    network, tokenizer = folder.load_model(path, spec), folder.load_tokenizer(path)
    started = time.perf_counter()
    student = students.CrossEncoder(network, tokenizer, (left, right), max_tokens=MAX_TOKENS, batch_tokens=2048)
    query, wanted = np.repeat(np.arange(len(left) // ITEMS), ITEMS), torch.from_numpy(targets)

    def batches(epoch: int) -> list[np.ndarray]:
        sizes = {"queries_per_batch": QUERIES_A_STEP, "items_per_query": ITEMS}
        return grouped_batches(query, np.arange(len(left)), epoch, seed=SEED, **sizes)

    def loss(network: Any, rows: np.ndarray) -> torch.Tensor:
        names, number = np.unique(query[rows], return_inverse=True)
        return margin_mse(network(rows), wanted[rows], torch.from_numpy(number), len(names))

    fit(student, batches, loss, num_steps=len(batches(0)), learning_rate=LEARNING_RATE, precision=precision)
    return time.perf_counter() - started


def triples(rows: int, chained: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the two items of each triple: neighbors in a query's list, each item in one triple or in a chain through the list."""
    first = np.arange(rows).reshape(-1, ITEMS)[:, : -1 if chained else None : 1 if chained else 2].ravel()
    return first, first + 1


def train_theirs(model: str, left: list[str], right: list[str], targets: np.ndarray, scratch: str, *, chained: bool) -> float:
    """Seconds of one pass over the pairs."""
    from datasets import Dataset

    first, second = triples(len(left), chained)
    rows = {
        "query": [left[row] for row in first], "one": [right[row] for row in first], "other": [right[row] for row in second],
        "label": (targets[first] - targets[second]).tolist(),
    }  # fmt: skip
    encoder = CrossEncoder(model, num_labels=1, max_length=MAX_TOKENS, activation_fn=torch.nn.Identity(), device="cpu")
    settings = CrossEncoderTrainingArguments(
        output_dir=scratch, num_train_epochs=1, per_device_train_batch_size=QUERIES_A_STEP * ITEMS // 2, learning_rate=LEARNING_RATE,
        warmup_steps=0.1, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True, seed=SEED,
    )  # fmt: skip
    trainer = CrossEncoderTrainer(encoder, settings, Dataset.from_dict(rows), loss=MarginMSELoss(encoder))
    started = time.perf_counter()
    trainer.train()
    return time.perf_counter() - started


def result_of(num_queries: int, rounds: int, formats: list[str]) -> dict[str, Any]:
    pairs = example_pairs(num_queries)
    few = tuple(column[: 2 * QUERIES_A_STEP * ITEMS] for column in pairs)
    with tempfile.TemporaryDirectory() as where:
        model = cross_encoder(f"{where}/model")
        ways: dict[str, Any] = {
            f"cross_encoder_trainer_{name}": lambda given, chained=chained: train_theirs(model, *given, f"{where}/out", chained=chained)
            for name, chained in (("apart", False), ("chained", True))
        }
        ways |= {f"ours_{one}": lambda given, one=one: train_ours(model, *given, one) for one in formats}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, way in ways.items():
                spent = way(pairs if number else few)  # the first round pays for memory and kernels
                if number:
                    seconds[name].append(spent)
                print(f"round {number} {name:29s} {spent:6.2f} s", flush=True)
    return {
        "pairs": len(pairs[0]),
        "pairs_per_s": {name: len(pairs[0]) / statistics.median(values) for name, values in seconds.items()},
        "times_apart": _ratios(seconds, "cross_encoder_trainer_apart"),
        "times_chained": _ratios(seconds, "cross_encoder_trainer_chained"),
        "seconds": seconds,
    }


def _ratios(seconds: dict[str, list[float]], peer: str) -> dict[str, float]:
    """How many times as fast as `peer`, by the median over rounds."""
    return {name: statistics.median(a / b for a, b in zip(seconds[peer], values, strict=True)) for name, values in seconds.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--formats", nargs="+", default=["fp32", "bf16"])
    given = parser.parse_args()
    if importlib.util.find_spec("datasets") is None:
        print("left out: sentence-transformers trains with the package datasets; pip install -c constraints.txt -e '.[bench]'")
        sys.exit()
    logging.disable(logging.WARNING)
    torch.set_num_threads(given.threads)
    machine = describe_machine()
    result = result_of(given.queries, given.rounds, given.formats)
    save("train_student", machine, vars(given), result)
    for name, rate in result["pairs_per_s"].items():
        print(f"{name:29s} {rate:8.1f} pairs/s  {result['times_apart'][name]:5.2f} x apart  {result['times_chained'][name]:5.2f} x chained")
