"""What makes a student robust? python benchmarks/robustness.py [--seeds 1 2 3 4 5]

Small bi-encoders on simulated shops whose hidden rules are the teacher, each trained plainly, with contrastive adversarial training (U19 of
ei-SRC, arXiv 2406.02135), with counterfactual copies, with both, and with sub-judgments by rules beside the score (U12 of
ELLM-rele, arXiv 2411.13045); all for the same number of epochs and with settings that were fixed before the first run. Examined on test
queries as they are and under every edit of `shared/edits.py`. The copies in training are made by the same kinds of edits, of other queries.
Results are kept after every seed, and of seeds measured before under the same settings. Writes `results/robustness.json`.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

from machine import run_seeds
from rule_shop import summarise
from student_shop import ENCODER, SHOP, STUDENT, StudentShop

from components.shared.edits import EDITS

NUM_EPOCHS = 5
ADVERSARIAL = {"adversarial_weight": 0.5, "contrast_weight": 0.5, "adversarial_size": 5.0}
COPIES = {"counterfactual_share": 1.0, "counterfactual_weight": 1.0}
ARMS: dict[str, dict[str, float]] = {
    "plain": {},
    "adversarial": ADVERSARIAL,
    "counterfactual": COPIES,
    "both": {**ADVERSARIAL, **COPIES},
    "sub-judgments": {"sub_judgment_weight": 1.0},
}
NOISE = ("typo", "word_swap", "dropped_word")


def measure(seed: int, folder: Path) -> dict[str, Any]:
    """Of each arm: metrics on the test queries, measures under each edit, and how often heads are right beside the majority's share."""
    shop = StudentShop.make(folder, seed)
    heads: dict[str, float] = {}
    for arm, settings in ARMS.items():
        report = shop.train(arm, architecture="bi_encoder", num_epochs=NUM_EPOCHS, seed=seed, **settings)
        marker = "validation.sub_judgments."
        heads |= {name.removeprefix(marker): value for name, value in report.metrics.items() if name.startswith(marker)}
    found = shop.examine(list(ARMS), list(EDITS))
    clean = {arm: {name: one["mean"] for name, one in found["systems"][arm].items()} for arm in ARMS}
    edited: dict[str, dict[str, Any]] = {arm: {} for arm in ARMS}
    for row in found["robustness"]:
        means = {name: one["mean"] for name, one in row.items() if isinstance(one, dict)}
        edited[row["system"]][row["edit"]] = {"num_pairs": row["num_pairs"], **means}
    return {"clean": clean, "edited": edited, "heads": heads}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Over seeds: each arm's clean metrics and measures by edit, and both minus those of the plain student, with t-intervals."""
    found: dict[str, Any] = {}
    for arm in ARMS:
        clean = {name: [(run["clean"][arm][name], run["clean"]["plain"][name]) for run in runs] for name in runs[0]["clean"][arm]}
        edits = {
            f"{kind}.{name}": [(run["edited"][arm][kind][name], run["edited"]["plain"][kind][name]) for run in runs]
            for kind, edit in EDITS.items() for name in ("order_flips", "falls" if edit.lowers else "accuracy_drop")
        }  # fmt: skip
        noise = [
            tuple(sum(run["edited"][one][kind]["accuracy_drop"] for kind in NOISE) / len(NOISE) for one in (arm, "plain")) for run in runs
        ]
        found[arm] = {
            name: {"value": summarise([own for own, _ in pairs]), "minus_plain": summarise([own - plain for own, plain in pairs])}
            for name, pairs in {**clean, **edits, "noise.accuracy_drop": noise}.items()
        }
    return found


def main() -> None:
    """Measure every seed and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings = {"shop": SHOP, "encoder": ENCODER, "student": STUDENT, "epochs": NUM_EPOCHS, "arms": ARMS}
    run_seeds("robustness", settings, arguments.seeds, measure, summary)


if __name__ == "__main__":
    main()
