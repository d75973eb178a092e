"""A simulated shop with a teacher that knows its hidden rules, for benchmarks that train many small students.

Gains of the true grades stand in for soft targets, so that what is measured is the student and not a teacher's mistakes, unless noise is
asked for. Queries are split at random; students learn from the judged pairs of some and are examined on those of the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sub_judgments import draw

from components.evaluate_rankings.config import EvaluateRankingsConfig
from components.evaluate_rankings.step import run as evaluate_rankings
from components.prepare_encoder.config import PrepareEncoderConfig
from components.prepare_encoder.step import run as prepare_encoder
from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.step import run as score_pairs
from components.shared import storage, tables
from components.shared.report import Report
from components.shared.tracking import NullTracker
from components.simulate_shop.judging import blur_grades
from components.simulate_shop.relevance import GAINS
from components.train_student.config import TrainStudentConfig
from components.train_student.step import run as train_student

SHOP = {"num_items": 600, "num_queries": 300, "judged_per_query": 20, "test_share": 0.3}
ENCODER = {"num_layers": 2, "hidden_size": 64, "num_heads": 4, "intermediate_size": 128, "vocab_size": 2000, "max_tokens": 64}
STUDENT = {"max_tokens": 64, "learning_rate": 1e-3, "queries_per_batch": 8, "items_per_query": 20, "validation_share": 0.05,
           "checkpoint_steps": 0}  # fmt: skip


@dataclass(frozen=True)
class StudentShop:
    """Addresses of a shop's tables, below one folder."""

    folder: Path

    def at(self, name: str) -> str:
        return str(self.folder / name)

    @staticmethod
    def make(folder: Path, seed: int, noise: float = 0.0, **sizes: int) -> "StudentShop":
        """Draw a shop and write what a student learns from.

        Args:
            noise: share of pairs in which the teacher is one grade off.
            sizes: in place of those of SHOP.
        """
        shop, size = StudentShop(folder), {**SHOP, **sizes}
        drawn = draw(seed, int(size["num_items"]), int(size["num_queries"]), int(size["judged_per_query"]), 0.0)
        rng = np.random.default_rng([seed, 1])
        num = len(drawn.queries)
        split = np.where(rng.random(num) < SHOP["test_share"], "test", "train")
        queries = drawn.queries.append_column("query_text", drawn.queries["query"])
        counts = {"frequency": np.ones(num, np.int64), "segment": np.full(num, "tail"), "kind": pa.nulls(num, pa.string()), "split": split}
        for name, column in counts.items():
            queries = queries.append_column(name, pa.array(column))
        tables.write_table(shop.at("queries"), "queries", queries)
        tables.write_table(shop.at("items"), "items", drawn.items)
        gains = np.array(GAINS)[drawn.true_grades]
        keys = {"query_id": drawn.judged["query_id"], "item_id": drawn.judged["item_id"]}
        graded = {"grade": drawn.true_grades.astype(np.int32), "gain": gains, "split": split[drawn.query]}
        tables.write_table(shop.at("judgments"), "judgments", pa.table({**keys, "judged_at": pa.nulls(len(gains), pa.date32()), **graded}))
        taught = np.array(GAINS)[blur_grades(drawn.true_grades, noise, rng)]
        write_lesson(keys, taught, {name: shop.at(name) for name in ("pairs", "soft_targets")})
        shop.prepare("encoder", **ENCODER, seed=seed)
        return shop

    def prepare(self, name: str, **settings: Any) -> Report:
        """An encoder at folder `name`."""
        config = PrepareEncoderConfig.from_mapping(settings, section="student_encoder")
        tables_of_texts = {"items": self.at("items"), "queries": self.at("queries")}
        return prepare_encoder(config, **tables_of_texts, encoder=self.at(name), tracker=NullTracker())

    def train(self, name: str, encoder: str = "encoder", **settings: Any) -> Report:
        """A student at folder `name` that starts from `encoder`."""
        config = TrainStudentConfig.from_mapping({**STUDENT, **settings}, section="student")
        given = {one: self.at(one) for one in ("items", "queries", "pairs", "soft_targets", "judgments")}
        return train_student(config, **given, encoder=self.at(encoder), model=self.at(name), tracker=NullTracker())

    def examine(self, students: Sequence[str], edits: Sequence[str] = ()) -> dict[str, Any]:
        """`metrics.json` of the ordinary evaluation of students on the test queries."""
        texts = {"queries": self.at("queries"), "items": self.at("items")}
        for name in students:
            settings = {"output": "rankings", "system": name, "splits": ["test"], "num_shards": 1, "edits": list(edits)}
            config = ScorePairsConfig.from_mapping(settings, section="ranking")
            scores = self.at(f"{name}-scores")
            score_pairs(config, pairs=self.at("judgments"), **texts, model=self.at(name), scores=scores, tracker=NullTracker())
        rankings = ",".join(self.at(f"{name}-scores") for name in students)
        config = EvaluateRankingsConfig.from_mapping({"splits": ["test"], "num_resamples": 200}, section="evaluation")
        place = self.at("evaluation")
        evaluate_rankings(config, judgments=self.at("judgments"), rankings=rankings, **texts, evaluation=place, tracker=NullTracker())
        return storage.read_json(storage.join(place, "metrics.json"))


def write_lesson(keys: dict[str, Any], gains: np.ndarray, place: dict[str, str]) -> None:
    """Judged pairs as tables `pairs` and `soft_targets` at `place`, with known gains [pairs] where a teacher's would be.

    Args:
        keys: query_id and item_id [pairs].
    """
    keys = {"pair_id": pa.array([f"j{n:06d}" for n in range(len(gains))]), **keys}
    once = {"source": pa.array(["judgment"] * len(gains)), "shard": np.zeros(len(gains), np.int32)}
    tables.write_table(place["pairs"], "pairs", pa.table({**keys, **once}))
    doubt = {"entropy": np.zeros(len(gains), np.float32), "disagreement": pa.nulls(len(gains), pa.float32())}
    made_by = dict.fromkeys(("text_digest", "model_digest", "engine"), pa.array(["rules"] * len(gains)))
    probabilities = pa.array(np.stack([1 - gains, gains], 1).tolist(), pa.list_(pa.float32()))
    tables.write_table(
        place["soft_targets"], "soft_targets", pa.table({**keys, "probabilities": probabilities, "score": gains, **doubt, **made_by})
    )
