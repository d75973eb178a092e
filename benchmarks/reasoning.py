"""What reasoning adds to a generative teacher: python benchmarks/reasoning.py [--seeds 1 2 3 4 5]

A small decoder learns to grade pairs of `rule_shop` by the room's own training: the grade alone, then with `explain`, with `rules` and with
`reflect` added one after the other, at equal steps. It starts from weights that stand in for a language model: random but for words that
begin with the catalogue's co-occurrence and attention that begins by finding equal words, then taught to write grades of another rule
than the shop's. The sub-judgments that it learns from follow from the shop's rule.

Judged on queries that it has not seen: macro F1 and accuracy, written step by step and given at once; the share of malformed chains; and
of decisions that were made wrong on purpose the share that `reflect` puts right, beside how often the same teacher is right without
being told a decision. Settings were chosen on seed 0. Writes benchmarks/results/reasoning.json, where seeds of earlier runs with the same
settings stay.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from machine import run_seeds
from rule_shop import GAINS, Shop, coarser, item_ids, query_ids, summarise, write_judgments
from sklearn.metrics import f1_score
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from components.prepare_encoder.scratch import cooccurrence_vectors, token_presence
from components.shared import tables, text
from components.shared.models import folder
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.schema import ASPECTS, VERDICTS
from components.shared.tracking import NullTracker
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.step import run

ARMS = {"grade alone": [], "+ explain": ["explain"], "+ rules": ["explain", "rules"], "+ reflect": ["explain", "rules", "reflect"]}
SHAPE: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16, "intermediate_size": 128,
    "max_position_embeddings": 256, "tie_word_embeddings": True, "bos_token_id": None,
}  # fmt: skip
WORD_STD, MATCHING_GAIN = 0.1, 2.0
PAIRS, TEST_PAIRS = 4000, 1200
TRAINING: dict[str, Any] = {
    "form": "generative", "num_neighbors": 0, "max_tokens": 48, "step_tokens": 40, "batch_size": 32, "num_epochs": 12,
    "learning_rate": 2e-3, "validation_share": 0.0, "precision": "fp32", "smoothing": 0.0, "checkpoint_steps": 0,
}  # fmt: skip
BASE = {"seed": 100, "num_epochs": 48}


@dataclass(frozen=True)
class World:
    """A shop's tables on disk; the pairs of queries that are not learnt from, as texts' tables, and their true grades [pairs]."""

    places: dict[str, str]
    queries: pa.Table
    items: pa.Table
    pairs: pa.Table
    truth: np.ndarray


def make_world(place: Path, seed: int, *, coarse: bool = False) -> World:
    """Judged pairs of four fifths of the shop's queries, and what the rule says of their aspects; pairs of the others to be examined on.

    With `coarse` two fifths are judged, by another rule.
    """
    shop, rng = Shop.make(), np.random.default_rng(seed)
    sources = shop.write(place, {"max_tokens": 32, "hidden_size": 16, "num_layers": 1, "intermediate_size": 16, "num_heads": 1})
    *learnt, examined = shop.parts()
    query, item = shop.draw_pairs(learnt[0] if coarse else np.concatenate(learnt), PAIRS, rng, by_traffic=False)
    grades = shop.grades(query, item)
    places = {"card": sources.card, "items": sources.items, "queries": sources.queries}
    places["judgments"] = write_judgments(place / "judgments.parquet", query, item, coarser(grades) if coarse else grades)
    places["sub_judgments"] = str(place / "sub_judgments")
    tables.write_table(places["sub_judgments"], "sub_judgments", verdicts(shop, query, item))
    unseen = shop.draw_pairs(examined, TEST_PAIRS, rng, by_traffic=False)
    pairs = pa.table({"query_id": query_ids(unseen[0]), "item_id": item_ids(unseen[1])})
    read = (tables.read_table(places[name], name) for name in ("queries", "items"))
    return World(places, *read, pairs, shop.grades(*unseen))


def verdicts(shop: Shop, query: np.ndarray, item: np.ndarray) -> pa.Table:
    """Table `sub_judgments` by the rule: the kind is the category, color and material are attributes, and nothing else is asked for."""
    asked, given = shop.queries[query], shop.items[item]
    named, right = asked >= 0, asked == given
    met = {"category": right[:, 0], "attribute": (right | ~named)[:, 1:].all(1)}
    mentioned = {"category": named[:, 0], "attribute": named[:, 1:].any(1)}
    never = np.zeros(len(query), bool)
    told = [np.select([~mentioned.get(one, never), met.get(one, never)], ["not_mentioned", "match"], "mismatch") for one in ASPECTS]
    count, nothing = len(query) * len(ASPECTS), pa.nulls(len(query) * len(ASPECTS), pa.string())
    return pa.table(
        {
            "query_id": pa.concat_arrays([query_ids(query)] * len(ASPECTS)), "item_id": pa.concat_arrays([item_ids(item)] * len(ASPECTS)),
            "aspect": pa.array(np.repeat(ASPECTS, len(query))), "verdict": pa.array(np.concatenate(told)),
            "query_span": nothing, "item_span": nothing, "annotator": pa.array(["rule"] * count),
        }
    )  # fmt: skip


def make_base(place: Path) -> str:
    """A small Qwen3 that reads bytes in pieces learnt from this shop's texts and the tasks, and writes grades of another rule."""
    world = make_world(place, BASE["seed"], coarse=True)
    config = TrainTeacherConfig.from_mapping({**TRAINING, **BASE}, section="teacher")
    run(config, **_inputs(world), encoder=_make_decoder(place, world), model=str(place / "base"), tracker=NullTracker())
    return str(place / "base")


def _make_decoder(place: Path, world: World) -> str:
    inner = ByteLevelBPETokenizer()
    written = [f"{aspect}: {verdict}\n" for aspect in ASPECTS for verdict in VERDICTS] + ["error: too_high\n", "error: too_low\n"]
    asked = text.teacher_query(world.queries["query"]).to_pylist()
    prompts = [text.DECODER_PREFIX.format(left=one) for one in asked] + text.teacher_item(world.items).to_pylist()
    end = "<|endoftext|>"
    inner.train_from_iterator(
        [*prompts, *[*text.TASKS.values(), *written] * 100], vocab_size=1500, special_tokens=[end], show_progress=False
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner._tokenizer, eos_token=end, pad_token=end)
    torch.manual_seed(BASE["seed"])
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=len(tokenizer), eos_token_id=0, pad_token_id=0, **SHAPE))
    _start_warm(model, token_presence(tokenizer, text.item_text(world.items).to_pylist() + asked), BASE["seed"])
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


def measure(base: str, seed: int, place: Path) -> dict[str, Any]:
    """Of each arm what `judge` finds, and what its training took."""
    world, result = make_world(place, seed), {}
    for number, (arm, reasoning) in enumerate(ARMS.items()):
        told = {"reasoning": reasoning, "sub_judgments": world.places["sub_judgments"]} if reasoning else {}
        config = TrainTeacherConfig.from_mapping({**TRAINING, **told, "seed": seed}, section="teacher")
        model = str(place / str(number))
        started = time.perf_counter()
        report = run(config, **_inputs(world), encoder=base, model=model, tracker=NullTracker())
        seconds = round(time.perf_counter() - started, 1)
        result[arm] = {**judge(model, world, reasoning, seed), "training_seconds": seconds, "steps": int(report.metrics["num_steps"])}
        print(seed, arm, json.dumps(result[arm]), flush=True)
    return result


def _inputs(world: World) -> dict[str, str]:
    return {name: world.places[name] for name in ("card", "items", "queries", "judgments")}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Over seeds, with t-intervals: each arm's metrics, and what its task adds to those of the arm before it, where both have them."""
    first = runs[0]
    found: dict[str, Any] = {arm: {name: {"value": summarise([run[arm][name] for run in runs])} for name in first[arm]} for arm in ARMS}
    for before, arm in pairwise(ARMS):
        for name in [one for one in found[arm] if one in first[before] and one not in ("steps", "training_seconds")]:
            found[arm][name]["added"] = summarise([run[arm][name] - run[before][name] for run in runs])
    return found


def main() -> None:
    """Measure every arm for every seed and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="judged pairs and order of training")
    given = parser.parse_args()
    settings = {"pairs": [PAIRS, TEST_PAIRS], "decoder": SHAPE, "warm_start": [WORD_STD, MATCHING_GAIN], "base": BASE}
    settings |= {"training": TRAINING, "arms": ARMS}
    with tempfile.TemporaryDirectory() as place:
        base = make_base(Path(place))
        run_seeds("reasoning", settings, given.seeds, partial(measure, base), summary)


if __name__ == "__main__":
    main()
