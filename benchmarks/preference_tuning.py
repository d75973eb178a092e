"""Does preference tuning bring a teacher's grades back to the middle, from either side? python benchmarks/preference_tuning.py

Teachers of `rule_shop` are biased on purpose: from a small teacher that stands in for a language model they learn judgments of which more
than half are one grade too high, or too low. Then the room's own `prefer` tunes them on right judgments of the same queries. Arms on the
same batches: DPO mixed with the ordinary loss (two betas), DPO alone, and the ordinary loss alone: right judgments help by themselves.
Over/under ratio, precision at the boundary that the biased teacher's errors cross most, and macro F1 are measured on queries that neither
training, mining nor acceptance has seen, of the model that each arm delivers: the tuned one where it was accepted, else the biased one.
Settings were chosen on seeds 0 to 2. Writes `results/preference_tuning.json`, where seeds of earlier runs with the same settings stay.
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
from rule_shop import SETTINGS, Examination, Shop, base_teacher, summarise, train, write_judgments
from sklearn.metrics import f1_score

from components.shared.tracking import NullTracker
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Sources, read_tables
from components.train_teacher.grade_bias import biased_boundary, boundary_precision, confusion, over_under_ratio
from components.train_teacher.preference_tuning import prefer

ARMS = {
    "dpo and ordinary": {"preference_weight": 0.65, "preference_beta": 0.1},
    "dpo and ordinary, beta 0.5": {"preference_weight": 0.65, "preference_beta": 0.5},
    "dpo alone": {"preference_weight": 1.0, "preference_beta": 0.1},
    "ordinary alone": {"preference_weight": 0.0},
}
SIDES = {"too high": 1, "too low": -1}
PAIRS, BIASED_SHARE = 2000, 0.55
BASE: dict[str, Any] = {"num_pairs": 4000, "num_epochs": 60, "coarse": True}
TRAINING: dict[str, Any] = {"num_epochs": 10, "learning_rate": 5e-4, "validation_share": 0.3}
TUNING: dict[str, Any] = {"preference_epochs": 2, "preference_learning_rate": 3e-4, "validation_share": 0.3}


def one_seed(shop: Shop, sources: Sources, examination: Examination, queries: np.ndarray, seed: int, place: Path) -> dict[str, Any]:
    """Per side a biased teacher, and what each arm makes of it."""
    query, item = shop.draw_pairs(queries, PAIRS, np.random.default_rng(seed))
    grades = shop.grades(query, item)
    right = replace(sources, judgments=write_judgments(place / "right.parquet", query, item, grades))
    found: dict[str, Any] = {}
    for side, step in SIDES.items():
        moved = biased(grades, step, BIASED_SHARE, np.random.default_rng([seed, step + 2]))
        wrong = replace(sources, judgments=write_judgments(place / "biased.parquet", query, item, moved))
        reference = place / side.replace(" ", "-")
        train(wrong, reference, seed=seed, **TRAINING)
        before = examination.predicted(reference)
        boundary = biased_boundary(confusion(examination.judged, before, 5))
        found[side] = {"before": _measures(examination.judged, before, boundary)}
        for arm, own in ARMS.items():
            model = f"{reference}-{arm.replace(' ', '-')}"
            config = TrainTeacherConfig(**{**SETTINGS, **TUNING, **own, "seed": seed})
            told = prefer(config, right, read_tables(right, config), str(reference), model, NullTracker())
            after = _measures(examination.judged, examination.predicted(model), boundary)
            found[side][arm] = {**after, "accepted": told["preference.accepted"], "mined": told["preference.pairs"], "held_out": told}
        print(seed, side, json.dumps(found[side]), flush=True)
    return found


def biased(grades: np.ndarray, step: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """The `share` of the grades moved by `step`, where the scale goes on."""
    moved = np.clip(grades + step, 0, 4)
    return np.where(rng.random(len(grades)) < share, moved, grades)


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


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {side: {arm: compare([run[side] for run in runs], arm) for arm in ARMS} for side in SIDES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(20, 30)))
    given = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    shop = Shop.make()
    learnt, judged, examined = shop.parts()
    settings = {"pairs": PAIRS, "biased_share": BIASED_SHARE, "base": BASE, "training": TRAINING, "tuning": TUNING, "arms": ARMS}
    with tempfile.TemporaryDirectory() as place:
        sources = base_teacher(shop, Path(place), learnt, **BASE)
        run_seeds(
            "preference_tuning",
            settings,
            given.seeds,
            partial(one_seed, shop, sources, Examination(shop, sources, examined), judged),
            summary,
        )


if __name__ == "__main__":
    main()
