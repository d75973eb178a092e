"""What reasoning adds to a generative teacher, and how right the rules' sub-judgments are: python benchmarks/reasoning.py [--seeds 0 1 2]

A small decoder learns to grade pairs of two departments of a simulated shop, by the room's own training: the grade alone, then with
`explain`, with `rules` and with `reflect` added one after the other, at equal steps. Its weights are random but for words that begin
with the catalogue's co-occurrence and attention that begins by finding equal words: a language model's own training would have taught
it that. It reads title and kind of an item; the sub-judgments that it learns from are those of annotate_pairs' rules, which read all.

Judged on queries that it has not seen, whose grades are without noise: macro F1 and accuracy, written step by step and given at once; the
share of malformed chains; and of decisions that were made wrong on purpose the share that `reflect` puts right, beside how often the
same teacher is right without being told a decision. Writes benchmarks/results/reasoning.json, where seeds and arms of earlier runs with
the same settings stay.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from filelock import FileLock
from machine import RESULTS, describe_machine, save
from sklearn.metrics import f1_score
from sub_judgments import draw
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from components.annotate_pairs.config import AnnotatePairsConfig
from components.annotate_pairs.step import run as annotate
from components.prepare_encoder.scratch import cooccurrence_vectors, token_presence
from components.shared import storage, tables, text
from components.shared.models import folder
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.schema import ASPECTS, TABLES, VERDICTS
from components.shared.tracking import NullTracker
from components.simulate_shop.relevance import GAINS, LABELS
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.step import run

ARMS = {"grade alone": [], "+ explain": ["explain"], "+ rules": ["explain", "rules"], "+ reflect": ["explain", "rules", "reflect"]}
SHAPE: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16, "intermediate_size": 128,
    "max_position_embeddings": 256, "tie_word_embeddings": True, "bos_token_id": None,
}  # fmt: skip
WORD_STD, MATCHING_GAIN = 0.1, 2.0
SHOP: dict[str, Any] = {
    "departments": ["Electronics", "Accessories"], "items": 2100, "queries": 2400, "judged_per_query": 14, "label_noise": 0.05,
    "test_queries": 90,
}  # fmt: skip
TRAINING: dict[str, Any] = {
    "form": "generative", "num_neighbors": 0, "max_tokens": 48, "step_tokens": 40, "batch_size": 32, "num_epochs": 3, "learning_rate": 2e-3,
    "validation_share": 0.0, "precision": "fp32", "smoothing": 0.0, "checkpoint_steps": 0,
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """A shop's tables on disk; the pairs of queries that are not learnt from, as texts' tables, and their true grades [pairs]."""

    places: dict[str, str]
    queries: pa.Table
    items: pa.Table
    pairs: pa.Table
    truth: np.ndarray


def make_world(place: Path, seed: int) -> World:
    """A shop of two departments, of whose items the teacher is shown title and kind; sub-judgments come from all columns."""
    shop = draw(seed, SHOP["items"], SHOP["queries"], SHOP["judged_per_query"], SHOP["label_noise"], tuple(SHOP["departments"]))
    is_test = shop.query < SHOP["test_queries"]
    judged = shop.judged.append_column("split", pa.array(np.where(is_test, "test", "train")))
    extra = {
        "query_text": shop.queries["query"],
        "frequency": pa.repeat(1, len(shop.queries)),
        "segment": pa.repeat("tail", len(shop.queries)),
    }
    queries = pa.table({**_columns(shop.queries), **extra})
    kind = pc.replace_substring_regex(shop.items["category"], ".*> ", "")
    shown = pa.table({"item_id": shop.items["item_id"], "title": shop.items["title"], "category": kind})
    places = {"card": str(place / "card.json"), "sub_judgments": str(place / "sub_judgments")}
    listed = {"queries": ("queries", queries), "judgments": ("judgments", judged), "items": ("items", shown), "all": ("items", shop.items)}
    for name, (kind_of_table, table) in listed.items():
        places[name] = str(place / name)
        tables.write_table(places[name], kind_of_table, _filled(table, kind_of_table))
    given = {"pairs": places["judgments"], "queries": places["queries"], "items": places["all"], "sub_judgments": places["sub_judgments"]}
    annotate(AnnotatePairsConfig.model_validate({}), **given, tracker=NullTracker())
    file, log = {"file": "absent", "columns": {}}, {"queries": "absent", "events": "absent"}
    labels = {label: {"grade": grade, "gain": GAINS[grade]} for grade, label in enumerate(LABELS)}
    storage.write_json(places["card"], {"name": "made", "grades": labels, "items": file, "queries": file, "judgments": file, "log": log})
    return World(places, queries, _filled(shown, "items"), shop.judged.filter(pa.array(is_test)), shop.true_grades[is_test])


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))


def _filled(table: pa.Table, name: str) -> pa.Table:
    schema = TABLES[name].schema
    absent = {column.name: pa.nulls(len(table), column.type) for column in schema if column.name not in table.column_names}
    return pa.table({**_columns(table), **absent}).select(schema.names).cast(schema)


def make_decoder(place: Path, world: World, seed: int) -> str:
    """A small Qwen3 of random weights that reads bytes in pieces learnt from this shop's texts and the tasks."""
    inner = ByteLevelBPETokenizer()
    written = [f"{aspect}: {verdict}\n" for aspect in ASPECTS for verdict in VERDICTS] + ["error: too_high\n", "error: too_low\n"]
    asked = text.teacher_query(world.queries["query"]).to_pylist()
    prompts = [text.DECODER_PREFIX.format(left=one) for one in asked] + text.teacher_item(world.items).to_pylist()
    end = "<|endoftext|>"
    inner.train_from_iterator(
        [*prompts, *[*text.TASKS.values(), *written] * 100], vocab_size=1500, special_tokens=[end], show_progress=False
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner._tokenizer, eos_token=end, pad_token=end)
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=len(tokenizer), eos_token_id=0, pad_token_id=0, **SHAPE))
    _start_warm(model, token_presence(tokenizer, text.item_text(world.items).to_pylist() + asked), seed)
    base = str(place / "decoder")
    folder.save(base, model, tokenizer, folder.ModelSpec("encoder", 256))
    return base


def _start_warm(model: Any, present: Any, seed: int) -> None:
    """Words begin with their co-occurrence, and each layer's queries and keys alike, so that attention finds equal words."""
    vectors = cooccurrence_vectors(present, SHAPE["hidden_size"], seed)
    known = np.abs(vectors).sum(axis=1) > 0
    with torch.no_grad():
        model.get_input_embeddings().weight[torch.from_numpy(known)] = torch.from_numpy(vectors[known] * (WORD_STD / vectors[known].std()))
        for layer in model.model.layers:
            layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
            layer.self_attn.q_norm.weight.mul_(MATCHING_GAIN)


def judge(model: str, world: World, reasoning: list[str], seed: int) -> dict[str, float]:
    """On the pairs of unseen queries, against the true grades."""
    scorer, truth = Scorer(model), world.truth
    assert scorer.writer is not None
    left, right = model_texts(scorer.spec, world.pairs, world.queries, world.items, None)
    at_once = scorer.writer.write(left, right, task="grade").logits.argmax(1)
    written = scorer.writer.write(left, right)
    guessed = written.logits.argmax(1)
    found = {"macro_f1": macro_f1(truth, guessed), "accuracy": float((guessed == truth).mean())}
    found |= {"at_once.macro_f1": macro_f1(truth, at_once), "at_once.accuracy": float((at_once == truth).mean())}
    if reasoning:
        found["malformed_share"] = written.malformed.total() / len(truth)
    if "reflect" in reasoning:
        rng = np.random.default_rng(seed)
        wrong = (truth + rng.integers(1, len(GAINS), len(truth))) % len(GAINS)
        looked_back = scorer.writer.write(left, right, task="reflect", decisions=wrong)
        found["reflect.fixed"] = float((looked_back.logits.argmax(1) == truth).mean())
        found["reflect.malformed_share"] = looked_back.malformed.total() / len(truth)
        errs = np.flatnonzero(guessed != truth)
        again = scorer.writer.write([left[row] for row in errs], [right[row] for row in errs], task="reflect", decisions=guessed[errs])
        found["reflect.fixed_of_own_errors"] = float((again.logits.argmax(1) == truth[errs]).mean())
    return {name: round(value, 4) for name, value in found.items()}


def macro_f1(truth: np.ndarray, guessed: np.ndarray) -> float:
    return float(f1_score(truth, guessed, labels=np.unique(truth), average="macro"))


def measure(seed: int, arms: list[str], training: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {"seed": seed}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        world = make_world(place, seed)
        base = make_decoder(place, world, seed)
        for arm in arms:
            told = {"reasoning": ARMS[arm], "sub_judgments": world.places["sub_judgments"]} if ARMS[arm] else {}
            config = TrainTeacherConfig.from_mapping({**training, **told, "seed": seed}, section="teacher")
            model = str(place / arm.strip("+ ").replace(" ", "_"))
            started = time.perf_counter()
            inputs = {name: world.places[name] for name in ("card", "items", "queries", "judgments")}
            report = run(config, **inputs, encoder=base, model=model, tracker=NullTracker())
            seconds = round(time.perf_counter() - started, 1)
            result[arm] = {**judge(model, world, ARMS[arm], seed), "training_seconds": seconds, "steps": int(report.metrics["num_steps"])}
            print(seed, arm, json.dumps(result[arm]), flush=True)
    return result


def main() -> None:
    """Measure every arm for every seed and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="worlds and starting weights")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--set", nargs="*", default=[], help="settings of the training, as key=value")
    given = parser.parse_args()
    training = {**TRAINING, **{key: json.loads(value) for key, value in (one.split("=", 1) for one in given.set)}}
    machine = describe_machine()
    settings = {"shop": SHOP, "decoder": SHAPE, "warm_start": [WORD_STD, MATCHING_GAIN], "training": training, "arms": ARMS}
    for seed in given.seeds:
        found = measure(seed, given.arms, training)
        with FileLock(Path(tempfile.gettempdir()) / "reasoning.lock"):
            file = RESULTS / "reasoning.json"
            standing = json.loads(file.read_text()) if file.is_file() else {}
            known = {one["seed"]: one for one in standing["result"]} if standing.get("settings") == settings else {}
            known[seed] = {**known.get(seed, {}), **found}
            save("reasoning", machine, settings, [known[one] for one in sorted(known)])


if __name__ == "__main__":
    main()
