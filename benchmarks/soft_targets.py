"""Do soft targets beat hard ones? python benchmarks/soft_targets.py [--seeds 1 2 3 4 5]

Checks U2 (Walmart, arXiv 2505.07105): the teacher that is trained on gains 0, 1/2 and 1 against teachers whose middle grade is folded
down to 0 or up to 1, all by cross-entropy on the expected gain; and soft cross-entropy over all five grades of the shop. In the shop of
`rule_shop.py`; teachers start from a small one that stands in for a language model (`base_teacher`, coarse). Judged by NDCG@10 over all
items for queries that nobody has seen, with the shop's five gains and with the three of the paper. Settings were chosen on seed 0. Writes
`results/soft_targets.json`, where seeds of earlier runs with the same settings stay.
"""

import argparse
import logging
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from machine import run_seeds
from rule_shop import GAINS, Shop, base_teacher, item_ids, query_ids, summarise, train, write_judgments

from components.shared import metrics, storage
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.tables import read_table
from components.train_teacher.examples import Sources
from components.train_teacher.grading import grade_metrics

PAIRS = 3000
BASE: dict[str, Any] = {"num_pairs": 4000, "num_epochs": 60, "coarse": True}
TRAINING: dict[str, Any] = {"num_epochs": 15, "learning_rate": 2e-3}
BY_GAIN = {"loss": "binary_cross_entropy"}
FOLDED = {"1/2": (0.0, 0.0, 0.0, 0.5, 1.0), "0": (0.0, 0.0, 0.0, 0.0, 1.0), "1": (0.0, 0.0, 0.0, 1.0, 1.0)}
ARMS: dict[str, tuple[tuple[float, ...], dict[str, Any]]] = {  # gains of the card that the arm is trained by
    **{f"middle to {name}": (gains, BY_GAIN) for name, gains in FOLDED.items()},
    "five grades": (GAINS, {"loss": "soft_cross_entropy"}),
}
FIRST = next(iter(ARMS))
JUDGED_BY = {"five gains": GAINS, "three gains": FOLDED["1/2"]}


def measure(sources: Sources, seed: int, folder: Path) -> dict[str, Any]:
    """Mean NDCG@10 of each arm by the shop's gains and by three, and mse_over_variance of the arm that learns all grades."""
    shop = Shop.make()
    *judged_parts, unseen = shop.parts()
    query, item = shop.draw_pairs(np.concatenate(judged_parts), PAIRS, np.random.default_rng(seed))
    judged = write_judgments(folder / "judged.parquet", query, item, shop.grades(query, item))
    query, item = (one.ravel() for one in np.meshgrid(unseen, np.arange(len(shop.items)), indexing="ij"))
    grades = shop.grades(query, item)
    pairs = pa.table({"query_id": query_ids(query), "item_id": item_ids(item), "grade": pa.array(grades, pa.int32())})
    texts = read_table(sources.queries, "queries"), read_table(sources.items, "items")
    rankings, found = [], {}
    for number, (arm, (gains, more)) in enumerate(ARMS.items()):
        card, model = str(folder / f"card{number}.json"), folder / f"model{number}"
        storage.write_json(card, _with_gains(storage.read_json(sources.card), gains))
        train(replace(sources, card=card, judgments=judged), model, seed=seed, **TRAINING, **more)
        scorer = Scorer(str(model))
        probabilities = scorer.probabilities(*model_texts(scorer.spec, pairs, *texts, None))
        named = {"system": pa.array([arm] * len(pairs)), "query_id": pairs["query_id"], "item_id": pairs["item_id"]}
        rankings.append(pa.table({**named, "score": probabilities.astype(np.float64) @ np.array(scorer.spec.gains)}))
        if arm == "five grades":
            found["mse_over_variance"] = grade_metrics(probabilities, grades, np.array(GAINS))["mse_over_variance"]
    for name, gains in JUDGED_BY.items():
        values = metrics.per_query(pairs, pa.concat_tables(rankings), gains=gains)
        found[name] = {arm: float(np.mean(metrics.values_of(values, arm, "ndcg@10")["value"].to_numpy())) for arm in ARMS}
    return found


def _with_gains(card: dict[str, Any], gains: tuple[float, ...]) -> dict[str, Any]:
    return {**card, "grades": {label: {**one, "gain": gains[one["grade"]]} for label, one in card["grades"].items()}}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Over seeds, with t-intervals: NDCG@10 of each arm, and the first arm minus it."""
    found: dict[str, Any] = {"mse_over_variance": summarise([run["mse_over_variance"] for run in runs])}
    for name in JUDGED_BY:
        of = [run[name] for run in runs]
        found[name] = {
            arm: {"ndcg@10": summarise([one[arm] for one in of]), "first arm minus it": summarise([one[FIRST] - one[arm] for one in of])}
            for arm in ARMS
        }
    return found


def main() -> None:
    """Measure every seed and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    arguments = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    settings, shop = {"pairs": PAIRS, "base": BASE, "training": TRAINING, "arms": ARMS}, Shop.make()
    with tempfile.TemporaryDirectory() as place:
        sources = base_teacher(shop, Path(place), shop.parts()[0], **BASE)
        run_seeds("soft_targets", settings, arguments.seeds, partial(measure, sources), summary)


if __name__ == "__main__":
    main()
