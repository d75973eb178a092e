"""Does preference tuning bring a teacher's grades back to the middle, from either side?

  python benchmarks/preference_tuning.py
  python benchmarks/preference_tuning.py --first-seed 0 --biased-share 0.5 --set preference_epochs=2 --name preference_tuning_short

Teachers of `rule_shop` are biased on purpose: trained on judgments of which a large share is one grade too high, or too low. Then the
room's own `prefer` tunes them on right judgments of the same queries. Three arms on the same batches: DPO mixed with the ordinary loss,
DPO alone, and the ordinary loss alone, because right judgments help by themselves. Over/under ratio, precision at the boundary that the
biased teacher's errors cross most, and macro F1 are measured on queries that neither training, mining nor acceptance has seen, of the
model that each arm delivers: the tuned one where it was accepted, else the biased one. Writes `results/<name>.json`.
"""

import argparse
import json
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine, save
from rule_shop import SETTINGS, Examination, Shop, base_teacher, summarise, train, write_judgments
from sklearn.metrics import f1_score

from components.shared.tracking import NullTracker
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Sources, read_tables
from components.train_teacher.grade_bias import biased_boundary, boundary_precision, confusion, over_under_ratio
from components.train_teacher.preference_tuning import prefer

ARMS = {"dpo and ordinary": 0.65, "dpo alone": 1.0, "ordinary alone": 0.0}
TUNING: dict[str, Any] = {"preference_epochs": 6, "preference_beta": 0.5, "preference_learning_rate": 3e-4, "validation_share": 0.3}


def biased(grades: np.ndarray, step: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """The `share` of the grades moved by `step`, where the scale goes on."""
    moved = np.clip(grades + step, 0, 4)
    return np.where(rng.random(len(grades)) < share, moved, grades)


def one_case(
    shop: Shop,
    sources: Sources,
    examination: Examination,
    step: int,
    seed: int,
    place: Path,
    pairs: tuple[Any, Any],
    share: float,
    tuning: dict[str, Any],
) -> dict[str, Any]:
    """A biased teacher, and what each arm makes of it."""
    rng, (query, item) = np.random.default_rng([seed, step + 2]), pairs
    grades = shop.grades(query, item)
    wrong = write_judgments(place / "biased.parquet", query, item, biased(grades, step, share, rng))
    right = replace(sources, judgments=write_judgments(place / "right.parquet", query, item, grades))
    reference = place / "biased"
    shared = {"seed": seed, "validation_share": tuning["validation_share"]}
    train(replace(sources, judgments=wrong), reference, num_epochs=2, learning_rate=5e-4, **shared)
    before = examination.predicted(reference)
    counts = confusion(examination.judged, before, 5)
    boundary = biased_boundary(counts)
    found: dict[str, Any] = {"before": _measures(examination.judged, before, boundary)}
    for arm, weight in ARMS.items():
        config = TrainTeacherConfig(**{**SETTINGS, **tuning, "seed": seed, "preference_weight": weight})
        told = prefer(config, right, read_tables(right, config), str(reference), str(place / arm.replace(" ", "-")), NullTracker())
        after = _measures(examination.judged, examination.predicted(place / arm.replace(" ", "-")), boundary)
        found[arm] = {**after, "accepted": told["preference.accepted"], "mined": told["preference.pairs"], "held_out": told}
    return found


def _measures(judged: np.ndarray, predicted: np.ndarray, boundary: tuple[int, bool]) -> dict[str, float]:
    return {
        "over_under_ratio": over_under_ratio(judged, predicted),
        "boundary_precision": boundary_precision(confusion(judged, predicted, 5), *boundary),
        "macro_f1": float(f1_score(judged, predicted, average="macro")),
    }


def compare(cases: list[dict[str, Any]], arm: str) -> dict[str, Any]:
    """Paired differences between the model that an arm delivers and the biased one."""
    before, after = ([case[name] for case in cases] for name in ("before", arm))
    distance = [[abs(np.log(one["over_under_ratio"])) for one in side] for side in (before, after)]
    gains = {name: [b[name] - a[name] for a, b in zip(before, after, strict=True)] for name in ("boundary_precision", "macro_f1")}
    return {
        "ratio_before": [round(one["over_under_ratio"], 3) for one in before],
        "ratio_after": [round(one["over_under_ratio"], 3) for one in after],
        "accepted": sum(int(one["accepted"]) for one in after),
        "nearer_to_1": summarise([a - b for a, b in zip(*distance, strict=True)]),
        **{name: summarise(values) for name, values in gains.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--biased-share", type=float, default=0.6)
    parser.add_argument("--name", default="preference_tuning")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings of the tuning")
    given = parser.parse_args()
    tuning = {**TUNING, **{key: json.loads(value) for key, value in (one.split("=") for one in given.set)}}
    logging.getLogger("transformers").setLevel(logging.ERROR)
    machine, shop = describe_machine(), Shop.make()
    learnt, judged, examined = shop.parts()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        sources = base_teacher(shop, place, learnt)
        examination = Examination(shop, sources, examined)
        sides: dict[str, list[dict[str, Any]]] = {"too high": [], "too low": []}
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            pairs = shop.draw_pairs(judged, given.pairs, np.random.default_rng(seed))
            for side, step in (("too high", 1), ("too low", -1)):
                work = place / f"{seed}-{step}"
                work.mkdir()
                sides[side].append(one_case(shop, sources, examination, step, seed, work, pairs, given.biased_share, tuning))
                print(seed, side, json.dumps(sides[side][-1]), flush=True)
    result = {side: {"arms": {arm: compare(cases, arm) for arm in ARMS}, "cases": cases} for side, cases in sides.items()}
    settings = {
        "seeds": given.seeds,
        "first_seed": given.first_seed,
        "pairs": given.pairs,
        "biased_share": given.biased_share,
        "tuning": tuning,
    }
    save(given.name, machine, settings, result)
    print(json.dumps({side: one["arms"] for side, one in result.items()}, indent=1))


if __name__ == "__main__":
    main()
