"""A shop small enough that a tiny joint teacher learns its rules in seconds: for benchmarks that train dozens of teachers.

Items are a kind in a color and a material; queries ask for a kind and perhaps for the others. The grade follows a rule that the text
alone decides: 0 another department, 1 another kind of the department, 2 both asked attributes wrong, 3 one of them, 4 all right. Kinds and
colors are rare as words of a shop are (Zipf), queries are asked and judged as often as their words, so the tail is rare in the judgments
and common among the queries. `simulate_shop` is richer, but from its texts alone teachers of this size learn nothing within minutes.
"""

import json
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import stats
from sklearn.metrics import f1_score

from components.prepare_encoder.config import PrepareEncoderConfig
from components.prepare_encoder.step import run as prepare_encoder
from components.shared.models import folder
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.schema import TABLES
from components.shared.tables import read_table, write_table
from components.shared.tracking import NullTracker
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Sources
from components.train_teacher.step import run

DEPARTMENTS = (("boots", "sandals"), ("lamp", "candle"), ("chair", "stool"), ("cup", "jug"))
KINDS = tuple(kind for department in DEPARTMENTS for kind in department)
COLORS = ("black", "white", "red", "blue")
MATERIALS = ("plain", "wood", "steel")
GAINS = (0.0, 0.1, 0.3, 0.6, 1.0)
ONE_WRONG = 3  # grade of an item with one wrong attribute
PER_DEPARTMENT = len(DEPARTMENTS[0])


@dataclass(frozen=True)
class Shop:
    """Words of items [items, 3] and of queries [queries, 3] (kind, color, material; -1 where a query does not ask), and how often asked."""

    items: np.ndarray
    queries: np.ndarray
    frequency: np.ndarray

    @staticmethod
    def make(zipf: float = 1.0) -> "Shop":
        grid = np.stack(np.meshgrid(*(np.arange(len(words)) for words in (KINDS, COLORS, MATERIALS)), indexing="ij"), -1).reshape(-1, 3)
        asked = np.stack(np.meshgrid(np.arange(len(KINDS)), np.arange(-1, len(COLORS)), np.arange(-1, len(MATERIALS)), indexing="ij"), -1)
        asked = asked.reshape(-1, 3)
        kind_rank = np.arange(len(KINDS)) // PER_DEPARTMENT + len(DEPARTMENTS) * (np.arange(len(KINDS)) % PER_DEPARTMENT)
        weight = (
            (1.0 + kind_rank[asked[:, 0]]) ** -zipf
            * (1.0 + np.maximum(asked[:, 1], 0)) ** -zipf
            * (1.0 + np.maximum(asked[:, 2], 0)) ** -zipf
        )
        return Shop(grid, asked, np.maximum(1, np.round(10_000 * weight / weight.max())).astype(np.int64))

    def grades(self, query: np.ndarray, item: np.ndarray) -> np.ndarray:
        """The rule [pairs]."""
        asked, given = self.queries[query], self.items[item]
        wrong = ((asked[:, 1:] >= 0) & (asked[:, 1:] != given[:, 1:])).sum(1)
        same_department = asked[:, 0] // PER_DEPARTMENT == given[:, 0] // PER_DEPARTMENT
        return np.where(asked[:, 0] == given[:, 0], 4 - wrong, same_department.astype(int))

    def segments(self) -> np.ndarray:
        """head, torso or tail: the most asked queries that make up half of the searches, the next third, the rest [queries]."""
        order = np.argsort(-self.frequency, kind="stable")
        share = np.empty(len(order))
        share[order] = np.cumsum(self.frequency[order]) / self.frequency.sum()
        return np.array(["head", "torso", "tail"])[np.digitize(share, [0.5, 5 / 6])]

    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Queries that a base teacher learns from, that a benchmark judges, and that it examines teachers on: 40, 40 and 20 %."""
        order = np.random.default_rng(100).permutation(len(self.queries))
        first, second, third = np.split(order, [int(0.4 * len(order)), int(0.8 * len(order))])
        return first, second, third

    def draw_pairs(
        self, queries: np.ndarray, number: int, rng: np.random.Generator, by_traffic: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """About `number` distinct (query, item) pairs of `queries`: mostly of the asked kind or its department, as engines show them."""
        weight = self.frequency[queries] if by_traffic else np.ones(len(queries))
        query = rng.choice(queries, 4 * number, p=weight / weight.sum())
        kind = self.queries[query, 0]
        near = kind // PER_DEPARTMENT * PER_DEPARTMENT + rng.integers(0, PER_DEPARTMENT, len(query))
        any_kind = rng.integers(0, len(KINDS), len(query))
        kind = np.select([(draw := rng.random(len(query))) < 0.6, draw < 0.8], [kind, near], any_kind)
        each = len(COLORS) * len(MATERIALS)
        asked = self.queries[query]
        color, material = (
            np.where((asked[:, place] >= 0) & (rng.random(len(query)) < 0.5), asked[:, place], rng.integers(0, size, len(query)))
            for place, size in ((1, len(COLORS)), (2, len(MATERIALS)))
        )
        item = kind * each + color * len(MATERIALS) + material
        pairs = np.unique(np.stack([query, item], 1), axis=0)
        pairs = pairs[rng.permutation(len(pairs))[:number]]
        pairs = pairs[np.lexsort(pairs.T[::-1])]
        return pairs[:, 0], pairs[:, 1]

    def write(self, folder: Path, encoder: dict[str, Any]) -> Sources:
        """Card, items, queries and a random encoder; `judgments` is written by `write_judgments`."""
        words = [[KINDS[k], COLORS[c], MATERIALS[m]] for k, c, m in self.items]
        items = [
            {"item_id": f"i{n:04d}", "title": f"{m} {k}", "color": c, "category": DEPARTMENTS[self.items[n, 0] // PER_DEPARTMENT][0]}
            for n, (k, c, m) in enumerate(words)
        ]
        texts = [" ".join(w for w in (c >= 0 and COLORS[c], m >= 0 and MATERIALS[m], KINDS[k]) if w) for k, c, m in self.queries]
        queries = [
            {"query_id": f"q{n:04d}", "query_text": text, "query": text, "frequency": int(times), "segment": str(segment)}
            for n, (text, times, segment) in enumerate(zip(texts, self.frequency, self.segments(), strict=True))
        ]
        tables = {"items": items, "queries": queries}
        places = {name: _write(folder, name, rows) for name, rows in tables.items()}
        source = {"file": "none", "columns": {}}
        card = {"name": "rule shop", "grades": {f"grade {n}": {"grade": n, "gain": gain} for n, gain in enumerate(GAINS)}}
        card |= {"items": source, "queries": source, "judgments": source, "log": {"queries": "none", "events": "none"}}
        (folder / "card.json").write_text(json.dumps(card))
        config = PrepareEncoderConfig(warm_start=False, vocab_size=200, **encoder)
        prepare_encoder(config, **places, encoder=str(folder / "encoder"), tracker=NullTracker())
        return Sources(str(folder / "card.json"), str(folder / "encoder"), places["items"], places["queries"], "", "")


SETTINGS: dict[str, Any] = {"num_neighbors": 0, "max_tokens": 32, "precision": "fp32", "batch_size": 64, "smoothing": 0.0}
SETTINGS |= {"checkpoint_steps": 0, "validation_share": 0.0}
SIZES = {"max_tokens": 32, "hidden_size": 64, "num_layers": 2, "intermediate_size": 128, "num_heads": 4}


def train(sources: Sources, model: Path, **settings: Any) -> None:
    """The ordinary step on the ordinary command's inputs."""
    config = TrainTeacherConfig(**{**SETTINGS, **settings})
    places = {name: value for name, value in vars(sources).items() if name != "selection"}
    run(config, **places, model=str(model), tracker=NullTracker())


def base_teacher(
    shop: Shop, place: Path, queries: np.ndarray, *, num_pairs: int = 2000, num_epochs: int = 30, coarse: bool = False
) -> Sources:
    """Sources whose `encoder` is a teacher that has learnt from `queries`: it stands in for a pretrained language model.

    It has learnt the rule by traffic, or (`coarse`) of all queries alike another one, to which one wrong attribute is as bad as two.
    """
    sources = shop.write(place, SIZES)
    query, item = shop.draw_pairs(queries, num_pairs, np.random.default_rng(100), by_traffic=not coarse)
    grades = shop.grades(query, item)
    file = write_judgments(place / "base.parquet", query, item, coarser(grades) if coarse else grades)
    train(replace(sources, judgments=file), place / "base", num_epochs=num_epochs, learning_rate=2e-3)
    return replace(sources, encoder=str(place / "base"))


def coarser(grades: np.ndarray) -> np.ndarray:
    """Grades by another rule than the shop's: one wrong attribute is as bad as two."""
    return np.where(grades == ONE_WRONG, ONE_WRONG - 1, grades)


class Examination:
    """Grades by teachers of pairs of unseen queries, all queries alike, against the rule."""

    def __init__(self, shop: Shop, sources: Sources, queries: np.ndarray, num_pairs: int = 1500) -> None:
        query, item = shop.draw_pairs(queries, num_pairs, np.random.default_rng(101), by_traffic=False)
        self.judged = shop.grades(query, item)
        pairs = pa.table({"query_id": query_ids(query), "item_id": item_ids(item)})
        self.texts = model_texts(
            folder.ModelSpec("teacher", 32), pairs, read_table(sources.queries, "queries"), read_table(sources.items, "items"), None
        )

    def predicted(self, model: str | Path) -> np.ndarray:
        return Scorer(str(model)).probabilities(*self.texts).argmax(axis=1)

    def quality(self, model: str | Path) -> dict[str, float]:
        predicted = self.predicted(model)
        macro_f1 = float(f1_score(self.judged, predicted, average="macro"))
        return {"accuracy": float((predicted == self.judged).mean()), "macro_f1": macro_f1}


def query_ids(query: np.ndarray) -> pa.Array:
    return pa.array([f"q{n:04d}" for n in query])


def item_ids(item: np.ndarray) -> pa.Array:
    return pa.array([f"i{n:04d}" for n in item])


def summarise(values: list[float]) -> dict[str, float]:
    """Mean over seeds, its 95 % t-interval, and how many are above 0."""
    found = np.asarray(values)
    half = float(stats.t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else 0.0
    mean = float(found.mean())
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4), "above_0": int((found > 0).sum())}


def write_judgments(file: Path, query: np.ndarray, item: np.ndarray, grades: np.ndarray) -> str:
    """A judgments table of split `train`; returns its address."""
    columns = {"query_id": query_ids(query), "item_id": item_ids(item), "grade": pa.array(grades, pa.int32())}
    columns |= {"gain": np.asarray(GAINS)[grades], "judged_at": [date(2026, 9, 1)] * len(query), "split": ["train"] * len(query)}
    pq.write_table(pa.table(columns), file)
    return str(file)


def _write(folder: Path, name: str, rows: list[dict[str, Any]]) -> str:
    schema = TABLES[name].schema
    whole = [{column: row.get(column) for column in schema.names} for row in rows]
    write_table(str(folder / name), name, pa.Table.from_pylist(whole, schema=schema))
    return str(folder / name)
