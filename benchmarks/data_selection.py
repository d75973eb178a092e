"""Is hard-and-clean data clean, and is it worth more than random data? python benchmarks/data_selection.py [--seeds 20 21 ...]

Judgments of `rule_shop` of which a tenth is one grade off, as `simulate_shop` blurs them. The room's own selectors sort them. All models
start from a small teacher that stands in for a language model: it tells right attributes from wrong ones as well as it could learn, but
grades by another rule than the shop's. For the published rule, the rule without MS, and the rule with MS inverted: the share of wrong
grades in what is kept. Then teachers are trained from the same start on the kept pairs, on as many random ones (three draws), and on all
(one pass); they are examined on queries that nobody has seen, all queries alike, against the rule. Settings were chosen on seed 0. Writes
`results/data_selection.json`, where seeds of earlier runs with the same settings stay.
"""

import argparse
import json
import logging
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from machine import run_seeds
from rule_shop import SETTINGS, Examination, Shop, base_teacher, query_ids, summarise, train, write_judgments

from components.simulate_shop.judging import blur_grades
from components.train_teacher import step
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Sources, read_tables
from components.train_teacher.selection import KEPT
from components.train_teacher.selectors import Selectors, ask_selectors

PAIRS, NOISE, NUM_DRAWS = 6000, 0.1, 3
BASE: dict[str, Any] = {"num_pairs": 4000, "num_epochs": 60, "coarse": True}
SELECTION: dict[str, Any] = {"selection": "hard_and_clean", "selection_epochs": 15, "selection_random_share": 0.03}
SELECTION |= {"selection_balanced_share": 0.8, "selection_folds": 3, "learning_rate": 2e-3}
TRAINING: dict[str, Any] = {"num_epochs": 20, "learning_rate": 2e-3}


def one_seed(shop: Shop, sources: Sources, examination: Examination, queries: np.ndarray, seed: int, place: Path) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    query, item = shop.draw_pairs(queries, PAIRS, rng)
    truth = shop.grades(query, item)
    grades = blur_grades(truth, NOISE, rng).astype(np.int64)
    judged = replace(sources, judgments=write_judgments(place / "judged.parquet", query, item, grades))
    config = TrainTeacherConfig(**{**SETTINGS, **SELECTION, "seed": seed})
    tables = read_tables(judged, config)
    # pairs were written in the order in which tables have them: by query, then item
    assert tables.training["query_id"].to_pylist() == query_ids(query).to_pylist()
    found = ask_selectors(config, Selectors(config, judged, tables, str(place / "selectors"), step._train_selector))
    im, ci, ms = (found[name].to_numpy() for name in ("im", "ci", "ms"))
    learnable_and_hard = (ci == grades) & (im != grades)
    rules = {
        "published rule": (found["reason"].to_numpy() == KEPT),
        "without MS": learnable_and_hard,
        "MS inverted": learnable_and_hard & (ms == grades),
        "CI alone": ci == grades,
    }
    flipped = grades != truth
    result: dict[str, Any] = {"base_rate": float(flipped.mean()), "segments": _segments(shop, query, rules["published rule"])}
    result["agree_with_truth"] = {name: float((said == truth).mean()) for name, said in (("im", im), ("ci", ci))}
    result["rules"] = {name: {"kept": int(kept.sum()), "wrong": _share(flipped[kept])} for name, kept in rules.items()}
    print(seed, json.dumps(result), flush=True)
    kept = rules["published rule"]
    trained = {"kept": kept, "all": np.ones(len(grades), bool)}
    for draw in range(NUM_DRAWS):
        trained[f"random {draw}"] = np.zeros(len(grades), bool)
        trained[f"random {draw}"][rng.permutation(len(grades))[: kept.sum()]] = True
    result["quality"] = {"start": examination.quality(sources.encoder)}
    if not kept.any():
        raise SystemExit(f"seed {seed}: nothing is kept, so there is nothing to train on: {result}")
    for name, chosen in trained.items():
        file = write_judgments(place / "chosen.parquet", query[chosen], item[chosen], grades[chosen])
        epochs = max(1, round(TRAINING["num_epochs"] * kept.sum() / chosen.sum()))
        train(replace(sources, judgments=file), place / "model", seed=seed, **{**TRAINING, "num_epochs": epochs})
        result["quality"][name] = examination.quality(place / "model")
    return result


def _share(flipped: np.ndarray) -> float:
    return float(flipped.mean()) if len(flipped) else 0.0


def _segments(shop: Shop, query: np.ndarray, kept: np.ndarray) -> dict[str, list[int]]:
    """Pairs and kept pairs of each segment."""
    segment = shop.segments()[query]
    return {name: [int((segment == name).sum()), int((segment[kept] == name).sum())] for name in ("head", "torso", "tail")}


def compare(runs: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """Paired differences: kept minus the mean of the random draws, and the others minus it."""
    quality = [{name: one[metric] for name, one in run["quality"].items()} for run in runs]
    at_random = [float(np.mean([value for name, value in one.items() if name.startswith("random")])) for one in quality]
    arms = [name for name in quality[0] if not name.startswith("random")]
    pairs = {arm: zip(quality, at_random, strict=True) for arm in arms}
    return {f"{arm} - random": summarise([one[arm] - base for one, base in pairs[arm]]) for arm in arms}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for rule in runs[0]["rules"]:
        share = [one["rules"][rule]["wrong"] / one["base_rate"] for one in runs if one["rules"][rule]["kept"]]
        found[f"wrong share over base rate, {rule}"] = summarise(share) if share else None
    return found | {metric: compare(runs, metric) for metric in ("accuracy", "macro_f1")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(20, 30)))
    given = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    shop = Shop.make()
    *judged, examined = shop.parts()
    settings = {"pairs": PAIRS, "noise": NOISE, "base": BASE, "selection": SELECTION, "training": TRAINING}
    with tempfile.TemporaryDirectory() as place:
        sources = base_teacher(shop, Path(place), judged[0], **BASE)
        measure = partial(one_seed, shop, sources, Examination(shop, sources, examined), np.concatenate(judged))
        run_seeds("data_selection", settings, given.seeds, measure, summary)


if __name__ == "__main__":
    main()
