"""What the student learns from: pairs joined to the teacher's scores, held-out queries, the number that a score imitates."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.shared.errors import InputError
from components.shared.losses import PAIRWISE
from components.train_student.config import TrainStudentConfig

MAX_VALIDATION_PAIRS = 20_000


@dataclass(frozen=True)
class Lessons:
    """Rows to learn from, ordered by (query_id, pair_id).

    `pairs` has query_id, item_id and pair_id [rows]; `query` is the row's query number [rows]; `gains` the teacher's expected gain,
    `targets` what a score imitates and `judged` the gain that people gave (NaN where they did not), float32 [rows]; `held_out` [rows]
    marks rows of validation queries; `dropped` counts rows that were left out, by reason. `trust` float32 [rows] is how much a row counts,
    None where all count alike. `met` [rows, aspects] are sub-judgments (`sub_judgments.py`), `copies` [rows, edits] numbers of edited
    copies (`counterfactuals.py`), None where these are not learnt.
    """

    pairs: pa.Table
    query: np.ndarray
    gains: np.ndarray
    targets: np.ndarray
    judged: np.ndarray
    held_out: np.ndarray
    dropped: dict[str, int]
    trust: np.ndarray | None = None
    met: np.ndarray | None = None
    copies: np.ndarray | None = None

    def training(self) -> np.ndarray:
        return np.flatnonzero(~self.held_out)

    def validation(self) -> np.ndarray:
        return np.flatnonzero(self.held_out)

    def spread(self) -> float:
        """From the lowest to the highest target after each query's own mean is taken off."""
        means = np.bincount(self.query, self.targets) / np.bincount(self.query)
        return float(np.ptp(self.targets - means[self.query]))


def make_lessons(
    config: TrainStudentConfig, pairs: pa.Table, soft_targets: pa.Table, queries: pa.Table, judgments: pa.Table | None = None
) -> Lessons:
    """Join pairs to soft targets by pair_id and decide who learns and who is held out.

    Args:
        pairs: pair_id, query_id, item_id.
        soft_targets: pair_id, query_id, item_id, score, and what `doubt_columns` names.
        queries: query_id, split.
        judgments: query_id, item_id, gain, split; only those of split train are looked at.

    Raises:
        InputError: when the tables do not belong together, too little is left, or targets are not usable.
    """
    table = pairs.select(["pair_id", "query_id", "item_id"]).sort_by([("query_id", "ascending"), ("pair_id", "ascending")])
    dropped: dict[str, int] = {}
    table = _join(table, soft_targets, dropped)
    held_back = queries.filter(pc.is_in(queries["split"], value_set=pa.array(config.exclude_splits, pa.string())))["query_id"]
    table = _keep(table, pc.invert(pc.is_in(table["query_id"], value_set=held_back.combine_chunks())), "excluded_split", dropped)
    if config.loss in PAIRWISE and not config.pointwise_weight:
        table = _keep(table, pa.array(_group_sizes(table)[1] > 1), "single_item_query", dropped)
    names, query = _numbered(table)
    if len(names) < 2:
        raise InputError(
            f"{len(names)} queries have soft targets to learn from (left out: {dropped}); train_student needs 2, one of them held out"
        )
    held_out = choose_validation(names, np.bincount(query), config.validation_share)
    chosen = held_out | _within(names, np.bincount(query), ~held_out, config.max_pairs)
    table = _keep(table, pa.array(chosen[query]), "over_max_pairs", dropped)
    names, query = _numbered(table)
    gains = table["score"].to_numpy()
    targets = imitate(config, gains)
    held_out_rows = pc.is_in(table["query_id"], value_set=pa.array(np.asarray(names)[held_out[chosen]])).to_numpy()
    judged, trust = judged_gains(table, judgments), trust_of(config, table)
    return Lessons(table, query, gains.astype(np.float32), targets, judged, held_out_rows, dropped, trust)


def doubt_columns(config: TrainStudentConfig) -> dict[str, float]:
    """Columns of soft targets that lower what a pair counts, with their weights."""
    weights = {"entropy": config.uncertainty_weight, "disagreement": config.disagreement_weight}
    return {name: weight for name, weight in weights.items() if weight}


def trust_of(config: TrainStudentConfig, table: pa.Table) -> np.ndarray | None:
    """What each row counts [rows], float32: the product of 1 - weight x doubt; where no clicks can disagree, nothing is taken off."""
    doubts = doubt_columns(config)
    if not doubts:
        return None
    factors = [1.0 - weight * table[name].fill_null(0.0).to_numpy() for name, weight in doubts.items()]
    return np.prod(factors, axis=0).astype(np.float32)


def judged_gains(pairs: pa.Table, judgments: pa.Table | None) -> np.ndarray:
    """The gain of each pair's judgment of split train [rows], float32, NaN where it has none."""
    if judgments is None:
        return np.full(len(pairs), np.nan, np.float32)
    train = judgments.filter(pc.equal(judgments["split"], "train"))
    index = pc.index_in(_keys(pairs), value_set=_keys(train).combine_chunks())
    return train["gain"].take(index).cast(pa.float32()).fill_null(np.nan).to_numpy()


def _keys(table: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(table["query_id"], table["item_id"], "\x1f")


def imitate(config: TrainStudentConfig, gains: np.ndarray) -> np.ndarray:
    """The number that a student's raw score imitates [rows], float32: log(g / (1-g)) of the clipped gain, or g; over temperature.

    Raises:
        InputError: for gains that are not finite, outside [0, 1], or all equal: nothing can be learnt from those.
    """
    if not np.isfinite(gains).all():
        raise InputError(f"soft_targets: column 'score' has {int((~np.isfinite(gains)).sum())} values that are not finite; score again")
    if gains.min() < 0 or gains.max() > 1:
        raise InputError(f"soft_targets: column 'score' runs from {gains.min():g} to {gains.max():g}; expected gains lie in 0 to 1")
    if gains.std() < 1e-6:
        raise InputError(f"soft_targets: column 'score' is {gains[0]:g} everywhere; the teacher tells no items apart, check its training")
    if config.target == "probability":
        return (gains / config.temperature).astype(np.float32)
    clipped = np.clip(gains, config.clip, 1.0 - config.clip)
    return (np.log(clipped / (1.0 - clipped)) / config.temperature).astype(np.float32)


def choose_validation(names: list[str], sizes: np.ndarray, share: float) -> np.ndarray:
    """Which queries are held out [queries]: those whose hash lies below `share`, so that a query stays on its side every night.

    At least one query with two items is held out, and pairs beyond MAX_VALIDATION_PAIRS go back to training.
    """
    place = _hashes(names, "validation")
    order = np.lexsort((place, sizes < 2))
    held_out = (place < share) & (sizes > 1)
    held_out[order[0]] = True
    cumulated = np.zeros(len(names), np.int64)
    cumulated[order] = np.cumsum(np.where(held_out, sizes, 0)[order])
    held_out &= (cumulated <= MAX_VALIDATION_PAIRS) | (np.arange(len(names)) == order[0])
    return held_out


def _within(names: list[str], sizes: np.ndarray, free: np.ndarray, max_pairs: int) -> np.ndarray:
    """Free queries in hash order, whole, until `max_pairs` rows [queries]."""
    if not max_pairs:
        return free
    order = np.argsort(_hashes(names, "max_pairs"), kind="stable")
    cumulated = np.zeros(len(names), np.int64)
    cumulated[order] = np.cumsum(np.where(free, sizes, 0)[order])
    kept = free & (cumulated <= max_pairs)
    if not kept.any():
        raise InputError(f"max_pairs = {max_pairs} is less than the rows of one query; raise it, or set 0 to take all")
    return kept


def _hashes(names: list[str], salt: str) -> np.ndarray:
    """A fixed place in [0, 1) for each name."""
    digests = b"".join(hashlib.sha256(f"{salt}:{name}".encode()).digest()[:8] for name in names)
    return np.frombuffer(digests, ">u8").astype(np.float64) / 2.0**64


def _join(table: pa.Table, soft_targets: pa.Table, dropped: dict[str, int]) -> pa.Table:
    index = pc.index_in(table["pair_id"], value_set=soft_targets["pair_id"].combine_chunks())
    found = _keep(table, pc.is_valid(index), "no_soft_target", dropped)
    labelled = soft_targets.take(pc.drop_null(index))
    for name in ("query_id", "item_id"):
        differ = pc.not_equal(found[name], labelled[name])
        if pc.any(differ).as_py():
            row = found.filter(differ).slice(0, 1).to_pylist()[0]
            raise InputError(
                f"pair '{row['pair_id']}' has another '{name}' in soft_targets than in pairs ('{row[name]}'); they belong to other pools"
            )
    for name in labelled.column_names:
        if name not in found.column_names:
            found = found.append_column(name, labelled[name])
    return found


def _keep(table: pa.Table, wanted: pa.Array, reason: str, dropped: dict[str, int]) -> pa.Table:
    kept = table.filter(wanted)
    dropped[reason] = table.num_rows - kept.num_rows
    return kept


def _numbered(table: pa.Table) -> tuple[list[str], np.ndarray]:
    """Distinct query ids in order of appearance, and each row's number among them."""
    column = table["query_id"].combine_chunks().dictionary_encode()
    return column.dictionary.to_pylist(), column.indices.to_numpy().astype(np.int64)


def _group_sizes(table: pa.Table) -> tuple[list[str], np.ndarray]:
    names, query = _numbered(table)
    return names, np.bincount(query, minlength=len(names))[query]
