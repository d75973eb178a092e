"""How far does a larger pool of teacher's labels carry a student? python benchmarks/pool_sizes.py [--seeds 1 2 3 4 5]

Checks U6 (Walmart, arXiv 2505.07105, claims A-3 and A-4): NDCG on queries that nobody learnt from, for pools from 1 to 64 times the
smallest, each shown as many pairs in all, and the gap to the teacher, whether or not it closes. The teacher knows a simulated shop's
rules and is one grade off in a fifth of the pairs, on test queries too. Writes `results/pool_sizes.json`; seeds measured before under the
same settings stay.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from machine import run_seeds
from rule_shop import summarise
from scipy.stats import spearmanr
from student_shop import ENCODER, SHOP, STUDENT, StudentShop

from components.shared import metrics
from components.shared.tables import read_table
from components.simulate_shop.relevance import GAINS

SIZES = (1, 3, 8, 23, 64)
SMALLEST, EPOCHS = 10, 2  # train queries of the smallest pool; passes over the largest
NOISE = 0.2
QUERIES = {"num_queries": 960}
METRIC = "ndcg@10"


def measure(seed: int, folder: Path) -> dict[str, Any]:
    """NDCG@10 on the test queries of the teacher and of a student of each size, and how the latter rises."""
    shop = StudentShop.make(folder, seed, NOISE, **QUERIES)
    for size in SIZES:
        settings = {"max_pairs": SMALLEST * size * SHOP["judged_per_query"], "num_epochs": round(EPOCHS * SIZES[-1] / size), "seed": seed}
        shop.train(f"x{size}", architecture="bi_encoder", **settings)
    systems = shop.examine([f"x{size}" for size in SIZES])["systems"]
    students = {f"x{size}": systems[f"x{size}"][METRIC]["mean"] for size in SIZES}
    rises = float(spearmanr(np.log(SIZES), list(students.values()))[0])
    return {"teacher": teachers_own(shop), "students": students, "rank_correlation": rises}


def teachers_own(shop: StudentShop) -> float:
    """The same metric of the order by the teacher's gains."""
    judged, taught = read_table(shop.at("judgments"), "judgments"), read_table(shop.at("soft_targets"), "soft_targets")
    test = judged.filter(pc.equal(judged["split"], "test"))
    keys = {"query_id": taught["query_id"], "item_id": taught["item_id"]}
    rankings = pa.table({"system": pa.array(["teacher"] * len(taught)), **keys, "score": taught["score"]})
    values = metrics.per_query(test, rankings.filter(pc.is_in(rankings["query_id"], value_set=pc.unique(test["query_id"]))), gains=GAINS)
    return float(np.mean(metrics.values_of(values, "teacher", METRIC)["value"].to_numpy()))


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Over the shops: the teacher, each size, what it lacks to the teacher, and the rank correlation with the pool's size."""
    students = {name: [run["students"][name] for run in runs] for name in runs[0]["students"]}
    teacher = [run["teacher"] for run in runs]
    return {
        "teacher": summarise(teacher),
        "students": {name: summarise(own) for name, own in students.items()},
        "student - teacher": {name: summarise(np.subtract(own, teacher).tolist()) for name, own in students.items()},
        "rank_correlation": summarise([run["rank_correlation"] for run in runs]),
    }


def main() -> None:
    """Measure every seed and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings = {"shop": {**SHOP, **QUERIES}, "encoder": ENCODER, "student": STUDENT, "sizes": SIZES, "smallest": SMALLEST, "epochs": EPOCHS}
    run_seeds("pool_sizes", {**settings, "noise": NOISE}, arguments.seeds, measure, summary)


if __name__ == "__main__":
    main()
