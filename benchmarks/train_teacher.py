"""Tokens per second of fine-tuning a decoder teacher, against a plain transformers Trainer at equal settings; memory against its estimate.

  python benchmarks/train_teacher.py                                          # two cores: a small decoder, and memory by ZeRO stage
  python benchmarks/train_teacher.py --device cuda --name train_teacher_gpu   # one GPU of 80 GB: 0.6 and 7 billion weights

Both sides train the same random weights on the same prompts (log-normal lengths) with the same number of prompts a step, optimizer and
precision. Ours are the loop, batches and loss of `train_teacher`; the Trainer pads what a random sampler gives it, as its users do, and
once more what its own sampler gives it that groups by length. Rounds alternate between the three. Tokens are real ones, padding is not
counted; the first steps of a round are not timed.
"""

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import RESULTS, describe_machine, save
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from components.shared.models.batches import padding_share
from components.shared.training import Encoded, fit
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.cost import Shape, estimate, measured_peak
from components.train_teacher.examples import Examples
from components.train_teacher.network import ready_to_learn
from components.train_teacher.objective import Objective

GAINS = [0.0, 0.01, 0.1, 1.0]
WARM_STEPS = 2
SAMPLING = {"trainer": "random", "grouped_trainer": "group_by_length"}
SMALL = Qwen3Config(
    hidden_size=384, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=2, head_dim=64, intermediate_size=1024,
    vocab_size=16384,
)  # fmt: skip
MEMORY = "memory by ZeRO stage"
ZERO_MEMORY = Path(__file__).parent / "zero_memory.py"


@dataclass(frozen=True)
class Case:
    """A decoder and how it is trained; `parts` of a step that the Trainer accumulates, so that what it pads to fits the memory."""

    shape: Any
    settings: dict[str, Any]
    steps: int
    rounds: int
    parts: int = 1
    lengths: dict[str, float] = field(default_factory=lambda: {"median": 150, "spread": 0.4, "most": 512})


CASES: dict[str, dict[str, Case]] = {
    "cpu": {
        "15M, all weights, fp32": Case(SMALL, {"batch_tokens": 1024, "precision": "fp32"}, steps=5, rounds=3),
        "15M, all weights, bf16": Case(SMALL, {"batch_tokens": 1024, "precision": "bf16"}, steps=5, rounds=3),
    },
    "cuda": {
        "0.6B, all weights, bf16": Case(
            Qwen3Config(
                hidden_size=1024,
                num_hidden_layers=28,
                num_attention_heads=16,
                num_key_value_heads=8,
                head_dim=128,
                intermediate_size=3072,
                vocab_size=32768,
            ),
            {"batch_tokens": 16384, "precision": "bf16"},
            steps=12,
            rounds=2,
            parts=4,
        ),
        "7B, LoRA of rank 256, bf16, checkpointing": Case(
            MistralConfig(),
            {"batch_tokens": 16384, "precision": "bf16", "lora_rank": 256, "activation_checkpointing": True},
            steps=5,
            rounds=1,
            parts=2,
        ),
    },
}


def made_up_examples(case: Case, num_rows: int, seed: int = 0) -> Examples:
    """Prompts of random tokens, grades at random."""
    rng = np.random.default_rng(seed)
    median, spread, most = case.lengths["median"], case.lengths["spread"], int(case.lengths["most"])
    lengths = np.clip(rng.lognormal(np.log(median), spread, num_rows).astype(int), 8, most)
    ids = [rng.integers(1, 1000, length).tolist() for length in lengths]
    masks = [[1] * length for length in lengths]
    words = Tokenizer(WordLevel({"[PAD]": 0, **{f"w{n}": n for n in range(1, 1000)}}, unk_token="[PAD]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]")
    encoded = Encoded(tokenizer, {"input_ids": ids, "attention_mask": masks}, lengths)
    grades = rng.integers(0, len(GAINS), num_rows)
    targets = np.eye(len(GAINS))[grades]
    return Examples(encoded, query=np.arange(num_rows) // 8, grades=grades, targets=targets, weights=np.ones(num_rows), shares=np.ones(1))


def network_of(case: Case, config: TrainTeacherConfig, device: torch.device) -> Any:
    torch.manual_seed(0)
    case.shape.num_labels, case.shape.pad_token_id = len(GAINS), 0
    dtype = torch.bfloat16 if config.lora_rank else torch.float32
    with torch.device(device):
        network = AutoModelForSequenceClassification.from_config(case.shape, dtype=dtype)
    return ready_to_learn(network, config)


def timed(marks: list[float], tokens: list[int]) -> float:
    """Tokens/s between the mark after the warm-up and the last one."""
    return sum(tokens[WARM_STEPS:]) / (marks[-1] - marks[WARM_STEPS - 1])


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def ours(case: Case, config: TrainTeacherConfig, network: Any, examples: Examples, device: torch.device, epoch: int) -> float:
    objective, marks = Objective(examples, GAINS, config, device), []
    batches = examples.batches(epoch, config)[: case.steps]
    fit(
        network, lambda _: batches, objective, num_steps=len(batches), learning_rate=1e-5, precision=config.precision,
        on_step=lambda _: marks.append(now(device)), log_steps=10**6,
    )  # fmt: skip
    return timed(marks, [int(examples.encoded.lengths[rows].sum()) for rows in batches])


class Marks(TrainerCallback):
    def __init__(self, device: torch.device) -> None:
        self.device, self.marks = device, []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.marks.append(now(self.device))


class Counting(DataCollatorWithPadding):
    """The usual collator; it remembers how many real tokens each batch had."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self.tokens: list[int] = []
        self.computed: list[int] = []

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().__call__(features)
        self.tokens.append(int(batch["attention_mask"].sum()))
        self.computed.append(batch["attention_mask"].numel())
        return batch


def plain_trainer(
    case: Case, config: TrainTeacherConfig, network: Any, examples: Examples, device: torch.device, sampling: str
) -> tuple[float, float]:
    """(tokens/s, share of padding) of `transformers.Trainer` with as many prompts a step as ours have on average, accumulated in parts."""
    columns, grades = examples.encoded.columns, examples.grades
    data = [{name: column[row] for name, column in columns.items()} | {"labels": int(grades[row])} for row in range(len(grades))]
    marks, collator = Marks(device), Counting(examples.encoded.tokenizer)
    with tempfile.TemporaryDirectory() as where:
        arguments = TrainingArguments(
            where, per_device_train_batch_size=max(1, round(config.batch_tokens / float(examples.encoded.lengths.mean()) / case.parts)),
            gradient_accumulation_steps=case.parts,
            max_steps=case.steps, train_sampling_strategy=sampling,
            learning_rate=1e-5, bf16=config.precision == "bf16", use_cpu=device.type == "cpu",
            gradient_checkpointing=config.activation_checkpointing, report_to=[], save_strategy="no", logging_strategy="no",
            disable_tqdm=True, optim="adamw_torch_fused", dataloader_pin_memory=device.type == "cuda", remove_unused_columns=False,
        )  # fmt: skip
        Trainer(network, arguments, train_dataset=data, data_collator=collator, callbacks=[marks]).train()  # pyright: ignore[reportArgumentType]
    steps = len(marks.marks)
    tokens, computed = (np.reshape(one[: steps * case.parts], (steps, case.parts)).sum(1) for one in (collator.tokens, collator.computed))
    return timed(marks.marks, tokens.tolist()), 1 - float(tokens.sum() / computed.sum())


def measure(case: Case, device: torch.device) -> dict[str, Any]:
    config = TrainTeacherConfig(**case.settings)
    examples = made_up_examples(case, num_rows=max(512, 2 * case.steps * config.batch_tokens // int(case.lengths["median"])))
    network = network_of(case, config, device)
    shape, peak = Shape.of(network, case.shape, config), measured_peak(device, config.precision)
    lengths = examples.encoded.lengths
    cost = estimate(shape, config, num_tokens=float(lengths.sum()), mean_tokens=float(lengths.mean()), peak=peak)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    rates: dict[str, list[float]] = {"ours": [], **{name: [] for name in SAMPLING}}
    found: dict[str, Any] = {"parameters": shape.parameters, "trained": shape.trained, "mean_tokens": float(lengths.mean())}
    for number in range(case.rounds):
        rates["ours"].append(ours(case, config, network, examples, device, number))
        if device.type == "cuda" and not number:
            peak_bytes = torch.cuda.max_memory_allocated()
            found["memory"] = {
                "measured_bytes": peak_bytes,
                "estimated_bytes": cost.memory,
                "estimate_over_measured": cost.memory / peak_bytes,
            }
        for name, sampling in SAMPLING.items():
            rate, found[f"padding_share_{name}"] = plain_trainer(case, config, network, examples, device, sampling)
            rates[name].append(rate)
    found["padding_share"] = padding_share(lengths, examples.batches(0, config))
    found["tokens_per_s"] = {name: statistics.median(values) for name, values in rates.items()}
    found["utilisation"] = {name: cost.utilisation(rate) for name, rate in found["tokens_per_s"].items()}
    for name in SAMPLING:
        found[f"times_{name}"] = statistics.median(a / b for a, b in zip(rates["ours"], rates[name], strict=True))
    return found | {"peak_tflops": peak / 1e12, "rounds": rates}


def zero_memory() -> dict[str, Any]:
    """Peak memory of each of two processes by ZeRO stage, by a script of its own."""
    with tempfile.TemporaryDirectory() as where:
        command = [sys.executable, str(ZERO_MEMORY), "--out", str(Path(where) / "out.json")]
        subprocess.run(command, check=True)
        return json.loads((Path(where) / "out.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=CASES, default="cpu")
    parser.add_argument("--name", default="train_teacher", help="result file")
    parser.add_argument("--only", nargs="+", help=f"names of cases, or '{MEMORY}': measured anew, the rest of the file stays")
    given = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    machine, device = describe_machine(), torch.device(given.device)
    if device.type == "cuda":
        machine["machine"]["gpu"] = torch.cuda.get_device_name()
    cases = {name: case for name, case in CASES[given.device].items() if not given.only or name in given.only}
    settings = {"device": given.device, "warm_steps": WARM_STEPS, "cases": {name: case.settings for name, case in cases.items()}}
    result: dict[str, Any] = {}
    if given.only:
        kept = json.loads((RESULTS / f"{given.name}.json").read_text())
        machine, settings, result = {key: kept[key] for key in ("machine", "versions")}, kept["settings"], kept["result"]
    for name, case in cases.items():
        result[name] = measure(case, device)
        print(name, {key: value for key, value in result[name].items() if key not in ("rounds", "peak_tflops")}, flush=True)
        save(given.name, machine, settings, result)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    if device.type == "cpu" and (not given.only or MEMORY in given.only):
        result[MEMORY] = zero_memory()
        save(given.name, machine, settings, result)


if __name__ == "__main__":
    main()
