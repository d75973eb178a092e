"""One shard's rows: texts, model, soft targets or rankings."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch

from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.engines import open_scorer
from components.score_pairs.work import Work, read_work
from components.shared import tables
from components.shared.edits import Values, edit_pairs, edited_system
from components.shared.errors import InputError
from components.shared.models.inputs import model_texts, texts_of_rows
from components.shared.models.scoring import STUDENT_GAINS
from components.shared.tables import rows_of


@dataclass(frozen=True)
class Places:
    """Where the inputs lie; `model` is a folder on this machine."""

    pairs: str
    queries: str
    items: str
    neighbors: str
    model: str


class ShardScorer:
    """A loaded model and the tables it reads; one per scoring process."""

    def __init__(self, config: ScorePairsConfig, places: Places, work: Work | None = None) -> None:
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        self.config, self.places = config, places
        self.work = work or read_work(config, places.pairs, places.queries, places.items)
        self.values = Values.of(self.work.items, self.work.queries) if config.edits else Values({}, {})
        self.neighbors = tables.read_table(places.neighbors, "neighbors") if places.neighbors else None
        self.scorer = open_scorer(config, places.model)
        self.spec = self.scorer.spec if places.neighbors else replace(self.scorer.spec, num_neighbors=0)

    def rows(self, shard: int) -> pa.Table:
        """Rows of table `soft_targets` or `rankings`.

        Raises:
            InputError: when the model gives a score that is not finite: a broken row must not become a label.
        """
        pairs = self.work.shard(shard)
        left, right = model_texts(self.spec, pairs, self.work.queries, self.work.items, self.neighbors)
        if self.config.output != "soft_targets":
            return pa.concat_tables([self._ranked(pairs, left, right, self.config.system), *self._ranked_when_edited(pairs)])
        probabilities = self.scorer.probabilities(left, right)
        scores = probabilities.astype(np.float64) @ np.asarray(self.scorer.spec.gains or STUDENT_GAINS)
        self._refuse_not_finite(pairs, scores)
        return soft_target_rows(pairs, probabilities, scores, text_digests(left, right), self.scorer.digest, self.scorer.engine)

    def _ranked(self, pairs: pa.Table, left: list[str], right: list[str], system: str) -> pa.Table:
        scores = self.scorer.scores(left, right)
        self._refuse_not_finite(pairs, scores)
        return ranking_rows(pairs, scores, system)

    def _ranked_when_edited(self, pairs: pa.Table) -> Iterator[pa.Table]:
        """The pairs that each configured edit applies to, under names that say so."""
        if not self.config.edits:
            return
        queries, items = (
            rows_of(table, key, pairs[key], where="pairs") for table, key in ((self.work.queries, "query_id"), (self.work.items, "item_id"))
        )
        for kind in self.config.edits:
            edited = edit_pairs(kind, queries, items, self.values)
            own = pairs.take(edited.rows)
            texts = texts_of_rows(self.spec, own, edited.queries, edited.items, self.neighbors)
            yield self._ranked(own, *texts, edited_system(self.config.system, kind))

    def _refuse_not_finite(self, pairs: pa.Table, scores: np.ndarray) -> None:
        wrong = np.flatnonzero(~np.isfinite(scores))
        if len(wrong):
            first = pairs.slice(int(wrong[0]), 1).to_pylist()[0]
            raise InputError(
                f"model '{self.places.model}' scores {len(wrong)} pairs of shard {first['shard']} as {scores[wrong[0]]}, first pair "
                f"'{first['pair_id']}' (query '{first['query_id']}', item '{first['item_id']}'); the model is broken: train it again"
            )


def text_digests(left: list[str], right: list[str]) -> list[str]:
    """What the model read, per pair: first 16 hex digits of SHA-256 over left, unit separator, right."""
    return [hashlib.sha256(f"{one}\x1f{two}".encode()).hexdigest()[:16] for one, two in zip(left, right, strict=True)]


def soft_target_rows(
    pairs: pa.Table, probabilities: np.ndarray, scores: np.ndarray, digests: list[str], model_digest: str, engine: str
) -> pa.Table:
    """Rows of `soft_targets`, in the order of `pairs`; `probabilities` [rows, grades], `scores` [rows] the expected gain."""
    rows, grades = probabilities.shape
    offsets = pa.array(np.arange(0, (rows + 1) * grades, grades, dtype=np.int32))
    listed = pa.ListArray.from_arrays(offsets, pa.array(probabilities.reshape(-1), pa.float32()))
    columns = {"probabilities": listed, "score": scores, "text_digest": pa.array(digests, pa.string())}
    named = {name: pairs[name] for name in ("pair_id", "query_id", "item_id")}
    made_by = {name: pa.array([value] * rows, pa.string()) for name, value in (("model_digest", model_digest), ("engine", engine))}
    return pa.table({**named, **columns, **made_by})


def ranking_rows(pairs: pa.Table, scores: np.ndarray, system: str) -> pa.Table:
    """Rows of `rankings`, by query and rank: best score first, equal scores by item_id; rank counts from 1 in each query."""
    table = pa.table({"query_id": pairs["query_id"], "item_id": pairs["item_id"], "score": pa.array(scores, pa.float64())})
    table = table.sort_by([("query_id", "ascending"), ("score", "descending"), ("item_id", "ascending")])
    codes = table["query_id"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    sizes = np.diff(starts, append=len(codes))
    ranks = np.arange(len(codes)) - np.repeat(starts, sizes) + 1
    table = table.append_column("rank", pa.array(ranks, pa.int32()))
    return table.append_column("system", pa.array([system] * len(table), pa.string()))
