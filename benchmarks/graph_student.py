"""Does the behavior graph help a student, and does a light one keep it? python benchmarks/graph_student.py [--seeds 2 3 4 5 6]

Checks U9 and U10 of BERM's claims (arXiv 2210.01701, G-2 and G-4): where query and title share no word but both have neighbors, one step
of the graph beats none by .05 AUC, and where most words match it changes little; a light model that learns again from the student is at
least five times as fast and keeps 90 % of its gain over the untrained encoder.

Per seed a simulated shop. The students learn the true gains of the judged train queries, so that no teacher's faults stand between; all
is measured on test queries; shop 1 is left out, because the light model's settings were chosen on it. The light model is a bi-encoder of
one layer. It learns from the graph student's scores of a much larger pool, which nobody judged; beside it one learns directly what the
student learnt. A light model reads no neighbors: what the student knows of a query by its neighbors, the light one knows only if the
query was in its pool. So it is examined twice: with the test queries held out of the pool, and with them in it as queries of the log, as
a nightly run has those that come again. Neither reads a judgment of a test query.

Times are of requests, a query with its judged items, one after another in one process; the light model also as it is served, where items'
vectors are kept and the query alone is read. Writes `results/graph_student.json`; seeds measured before under the same settings are kept.
"""

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from machine import run_seeds
from scipy.stats import t as student_t
from sklearn.metrics import roc_auc_score
from student_shop import write_lesson
from teacher_shop import make_shop

from components.build_pool.config import BuildPoolConfig
from components.build_pool.step import run as build_pool
from components.prepare_encoder.config import PrepareEncoderConfig
from components.prepare_encoder.step import run as prepare_encoder
from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.step import run as score_pairs
from components.serving.runtime import VectorRuntime, open_runtime
from components.shared.card import read_card
from components.shared.metrics import per_query, values_of
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.tables import read_table, write_table
from components.shared.tracking import NullTracker
from components.train_student.config import TrainStudentConfig
from components.train_student.step import run as train_student

SHOP = {"num_items": 600, "num_queries": 300, "num_log_queries": 500, "judgments_per_query": 16, "num_sessions": 6000, "train_share": 0.6,
        "dev_share": 0.05, "cold_share": 0.0}  # fmt: skip
ENCODER = {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "intermediate_size": 256, "max_tokens": 64}
STUDENT = {"max_tokens": 64, "learning_rate": 5e-4, "num_epochs": 6, "pointwise_weight": 0.1, "checkpoint_steps": 0}
LIGHT = {**STUDENT, "architecture": "bi_encoder", "num_epochs": 10, "learning_rate": 2e-3}
POOL = {"size_factor": 40, "num_lexical": 40, "num_random": 60, "num_shards": 2}
NEIGHBORS = {"order": 2}
Score = Callable[[list[str], list[str]], np.ndarray]
RELEVANT, TIMED_QUERIES = 0.5, 30
COMPARED = [
    ("order 1", "order 0"),
    ("order 2", "order 1"),
    ("order 1", "bi-encoder"),
    ("light, from the graph student", "light, directly"),
    ("light, queries in its pool", "light, from the graph student"),
]
LIGHTS = ("light, directly", "light, from the graph student", "light, queries in its pool")


def with_true_grades(folder: Path, judgments: pa.Table) -> pa.Table:
    """Judgments by the shop's rules, without the noise of people."""
    truth = pq.read_table(folder / "shop" / "truth" / "judgments.parquet")
    keys = [pc.binary_join_element_wise(one["query_id"], one["item_id"], "\x1f") for one in (judgments, truth)]
    grades = truth["grade"].take(pc.index_in(keys[0], value_set=keys[1].combine_chunks()))
    return judgments.set_column(judgments.column_names.index("grade"), "grade", grades)


def measure(seed: int, folder: Path) -> dict[str, Any]:
    inputs = make_shop(folder, {**SHOP, "seed": seed}, {**ENCODER, "seed": seed}, neighbors=NEIGHBORS)
    judgments = read_table(inputs["judgments"], "judgments")
    gains = np.array(read_card(inputs["card"]).gains())
    judgments = with_true_grades(folder, judgments)
    lesson = {name: str(folder / f"lesson_{name}") for name in ("pairs", "soft_targets")}
    judged = judgments.filter(pc.equal(judgments["split"], "train"))
    write_lesson({name: judged[name] for name in ("query_id", "item_id")}, gains[judged["grade"].to_numpy()], lesson)
    common = {name: inputs[name] for name in ("items", "queries", "neighbors")}
    models = {"untrained": inputs["encoder"]}

    def teach(name: str, encoder: str, given: dict[str, str], **settings: Any) -> None:
        models[name] = str(folder / f"model {name}")
        config = TrainStudentConfig(**{**STUDENT, **settings, "seed": seed})
        train_student(config, encoder=encoder, **{**common, **given}, model=models[name], tracker=NullTracker())

    for order in (0, 1, 2):
        teach(f"order {order}", inputs["encoder"], lesson, architecture="graph", graph_order=order)
    teach("bi-encoder", inputs["encoder"], lesson, architecture="bi_encoder")
    small = str(folder / "small")
    texts = {name: inputs[name] for name in ("items", "queries")}
    one_layer = PrepareEncoderConfig(source=inputs["encoder"], keep_layers=1, max_tokens=64)
    prepare_encoder(one_layer, **texts, encoder=small, tracker=NullTracker())
    teach("light, directly", small, lesson, **LIGHT)
    logged = as_logged(folder, inputs)
    for name, known in zip(LIGHTS[1:], (inputs, {**inputs, **logged}), strict=True):
        pool = {table: str(folder / f"{table} of {name}") for table in ("pairs", "soft_targets")}
        asked = {"interactions": str(folder / "interactions"), "judgments": known["judgments"]}
        texts["queries"] = known["queries"]
        build_pool(BuildPoolConfig(**POOL), **asked, **texts, pairs=pool["pairs"], tracker=NullTracker())
        given = {"pairs": pool["pairs"], "neighbors": inputs["neighbors"], "model": models["order 1"], "scores": pool["soft_targets"]}
        score_pairs(ScorePairsConfig(num_threads=torch.get_num_threads()), **texts, **given, tracker=NullTracker())
        teach(name, small, {**pool, "queries": known["queries"]}, **LIGHT)
    return examine(models, inputs, judgments.filter(pc.equal(judgments["split"], "test")), gains)


def as_logged(folder: Path, inputs: dict[str, str]) -> dict[str, str]:
    """Queries and judgments as if nobody had judged the test queries: shoppers typed them, and that is all."""
    queries, judgments = (read_table(inputs[name], name) for name in ("queries", "judgments"))
    test = pc.fill_null(pc.equal(queries["split"], "test"), False)
    unsplit = pc.if_else(test, pa.scalar(None, pa.string()), queries["split"])
    queries = queries.set_column(queries.column_names.index("split"), "split", unsplit)
    place = {name: str(folder / f"logged_{name}") for name in ("queries", "judgments")}
    write_table(place["queries"], "queries", queries)
    write_table(place["judgments"], "judgments", judgments.filter(pc.not_equal(judgments["split"], "test")))
    return place


def examine(models: dict[str, str], inputs: dict[str, str], pairs: pa.Table, gains: np.ndarray) -> dict[str, Any]:
    """Each model on the test pairs: NDCG@10, AUC by slice, time of a request."""
    relevant, query_id = gains[pairs["grade"].to_numpy()] >= RELEVANT, pairs["query_id"].to_numpy()
    read = [pairs, *(read_table(inputs[name], name) for name in ("queries", "items"))]
    near = read_table(inputs["neighbors"], "neighbors")
    slices = slices_of(models, read, near)
    found = {"slices": {name: int(chosen.sum()) for name, chosen in slices.items()}, "models": {}}
    for name, model in models.items():
        scorer = Scorer(model)
        texts = model_texts(scorer.spec, *read, near)
        scores = scorer.scores(*texts)
        ranked = pa.table({"system": [name] * len(pairs), "query_id": pairs["query_id"], "item_id": pairs["item_id"], "score": scores})
        values = values_of(per_query(pairs, ranked, gains=gains.tolist()), name, "ndcg@10")["value"]
        found["models"][name] = {
            "ndcg@10": pc.mean(values).as_py(),
            "request_ms": request_ms(scorer.scores, texts, query_id),
        }
        if name.startswith("light"):
            found["models"][name]["served_ms"] = request_ms(served(model, texts[1]), texts, query_id)
        found["models"][name] |= {f"auc, {part}": roc_auc_score(relevant[one], scores[one]) for part, one in slices.items()}
        logging.info("%s %s", name, found["models"][name])
    return found


def served(model: str, known: list[str]) -> Score:
    """A bi-encoder as the server has it after a while: the vectors of items are kept, and every query is new."""
    runtime = open_runtime(model, num_threads=torch.get_num_threads())
    assert isinstance(runtime, VectorRuntime)
    runtime.scores(known, known)

    def score(left: list[str], right: list[str]) -> np.ndarray:
        runtime.vectors.pop(left[0], None)
        return runtime.scores(left, right)

    return score


def request_ms(score: Score, texts: tuple[list[str], list[str]], query_id: np.ndarray) -> float:
    """Median milliseconds in which a query's judged items are scored, tokenising included; each query the best of three."""
    spent = []
    for query in np.unique(query_id)[:TIMED_QUERIES]:
        rows = np.flatnonzero(query_id == query)
        left, right = ([side[row] for row in rows] for side in texts)
        best = np.inf
        for _ in range(3):
            started = time.perf_counter()
            score(left, right)
            best = min(best, 1000 * (time.perf_counter() - started))
        spent.append(best)
    return float(np.median(spent))


def slices_of(models: dict[str, str], read: list[pa.Table], near: pa.Table) -> dict[str, np.ndarray]:
    """By words that query and item share, and whether both have neighbors."""
    left, right = model_texts(Scorer(models["order 1"]).spec, *read, near)
    sides = [[one.split("\x1e") for one in side] for side in (left, right)]
    words = [[set(one[0].replace("|", " ").replace(":", " ").lower().split()) for one in side] for side in sides]
    shared = np.array([len(one & two) for one, two in zip(*words, strict=True)])
    asked = np.array([len(one) for one in words[0]])
    both = np.array([bool(one[1] and two[1]) for one, two in zip(*sides, strict=True)])
    every = np.ones(len(left), bool)
    return {
        "all": every,
        "no shared word, neighbors": (shared == 0) & both,
        "half of the words shared": shared >= asked / 2,
        "neighbors": both,
    }


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over the seeds with its 95 % t-interval: every figure, the differences that the checks are about, what a light model keeps."""
    metrics = [name for name in runs[0]["models"]["order 0"] if not name.endswith("_ms")]
    value = lambda name, metric: np.array([run["models"][name][metric] for run in runs])  # noqa: E731
    found = [{"what": name, "metric": metric, **_interval(value(name, metric))} for name in runs[0]["models"] for metric in metrics]
    found += [
        {"what": f"{one} - {two}", "metric": metric, **_interval(value(one, metric) - value(two, metric))}
        for one, two in COMPARED for metric in metrics
    ]  # fmt: skip
    base, student = value("untrained", "ndcg@10"), value("order 1", "ndcg@10")
    for name in LIGHTS:
        kept = (value(name, "ndcg@10") - base) / (student - base)
        found.append({"what": f"{name}: share of the gain kept", "metric": "ndcg@10", **_interval(kept)})
        for metric, how in (("request_ms", "all texts read"), ("served_ms", "as served")):
            speed = value("order 1", "request_ms") / value(name, metric)
            found.append({"what": f"{name}: times as fast, {how}", "metric": metric, **_interval(speed)})
    return found


def _interval(values: np.ndarray) -> dict[str, Any]:
    half = student_t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    mean = float(values.mean())
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4), "above_0": int((values > 0).sum())}


def main() -> None:
    """Measure every seed and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4, 5, 6])
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger().setLevel(logging.INFO)
    settings = {"shop": SHOP, "encoder": ENCODER, "student": STUDENT, "light": LIGHT, "pool": POOL, "neighbors": NEIGHBORS}
    settings |= {"relevant": RELEVANT, "threads": torch.get_num_threads()}
    run_seeds("graph_student", settings, arguments.seeds, measure, summary)


if __name__ == "__main__":
    main()
