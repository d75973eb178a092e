"""How good rankings are, query by query, with intervals; and which scores no model should be trusted with.

Gains come from the data card. Metric names: `ndcg@10`, `pairwise_accuracy`, `auc`.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import duckdb
import ir_measures
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import scipy.optimize

from components.shared.errors import InputError

Floats = npt.NDArray[np.float64]
VALUES_SCHEMA = pa.schema([("system", pa.string()), ("query_id", pa.string()), ("metric", pa.string()), ("value", pa.float64())])
MAX_GAIN_SCALE = 10_000
RESAMPLES_AT_ONCE = 64


@dataclass(frozen=True)
class Interval:
    """A mean over queries with its bootstrap interval."""

    mean: float
    low: float
    high: float
    num_queries: int


@dataclass(frozen=True)
class Difference(Interval):
    """A mean difference over the same queries; `p` is two-sided, from sign flips."""

    p: float


def metric_names(cutoff: int = 10) -> list[str]:
    """The metrics of `per_query`, the headline first."""
    return [f"ndcg@{cutoff}", "pairwise_accuracy", "auc"]


def per_query(
    judgments: pa.Table, rankings: pa.Table, *, gains: Sequence[float], cutoff: int = 10, positive_grade: int | None = None
) -> pa.Table:
    """Every metric of every system on every judged query where it is defined.

    * `ndcg@cutoff`: linear gains, log2 discount (Jaervelin and Kekaelaeinen 2002), by trec_eval through ir_measures. Tied scores are
      ordered by a hash, so that the order of ids gives nothing away. Items without a judgment count as gain 0. Undefined without a
      positive gain.
    * `pairwise_accuracy`: share of the query's item pairs with different gain that the scores order right; a tie counts half.
    * `auc`: the same over pairs of one item of at least `positive_grade` (default: the top grade) and one below.

    A judged item that a system left out stands below all it ranked.

    Args:
        judgments: columns query_id, item_id, grade.
        rankings: columns system, query_id, item_id, score.
        gains: gain of each grade, 0 to 1.

    Returns:
        Columns system, query_id, metric, value; ordered.

    Raises:
        InputError: for a score that is not finite, or a grade without a gain.
    """
    _check_grades(judgments, gains)
    if pc.sum(pc.invert(pc.is_finite(rankings["score"]))).as_py():
        raise InputError("rankings: column 'score' has values that are NaN or infinite; leave such a system out (see check_scores)")
    top = len(gains) - 1 if positive_grade is None else positive_grade
    with duckdb.connect() as db:
        db.register("judgments", judgments.select(["query_id", "item_id", "grade"]))
        db.register("rankings", rankings.select(["system", "query_id", "item_id", "score"]))
        judged = db.sql("SELECT * FROM judgments ORDER BY query_id, item_id").to_arrow_table()
        parts = [_ndcg(db, judged, gains, cutoff)]
        for (system,) in db.sql("SELECT DISTINCT system FROM rankings ORDER BY 1").fetchall():
            parts.append(_pair_metrics(db, str(system), np.asarray(gains, np.float64), top))
    return pa.concat_tables(parts).sort_by([("system", "ascending"), ("metric", "ascending"), ("query_id", "ascending")])


def _check_grades(judgments: pa.Table, gains: Sequence[float]) -> None:
    if judgments.num_rows == 0:
        raise InputError("judgments: no rows to evaluate on; check the splits that are evaluated")
    low, high = pc.min_max(judgments["grade"]).as_py().values()
    if low < 0 or high >= len(gains):
        raise InputError(f"judgments: column 'grade' has {low if low < 0 else high}; the gain table has grades 0 to {len(gains) - 1}")


def gain_scale(gains: Sequence[float]) -> int:
    """The smallest factor that makes all gains whole numbers, at most 10,000: trec_eval counts in integers."""
    parts = [Fraction(gain).limit_denominator(MAX_GAIN_SCALE) for gain in gains]
    scale = math.lcm(*(part.denominator for part in parts))
    exact = all(abs(float(part) - gain) < 1e-12 for part, gain in zip(parts, gains, strict=True))
    return scale if exact and scale <= MAX_GAIN_SCALE else MAX_GAIN_SCALE


def _ndcg(db: duckdb.DuckDBPyConnection, judged: pa.Table, gains: Sequence[float], cutoff: int) -> pa.Table:
    scale = gain_scale(gains)
    whole = {grade: round(gain * scale) for grade, gain in enumerate(gains)}
    qrels: dict[str, dict[str, int]] = {}
    for query, item, grade in zip(*(judged[name].to_pylist() for name in ("query_id", "item_id", "grade")), strict=True):
        qrels.setdefault(query, {})[item] = grade
    qrels = {query: items for query, items in qrels.items() if any(whole[grade] for grade in items.values())}
    evaluator = ir_measures.evaluator([ir_measures.nDCG(cutoff=cutoff, gains=whole)], qrels)
    top = db.execute(
        """SELECT system, query_id, item_id, row_number() OVER (
               PARTITION BY system, query_id ORDER BY score DESC, md5(query_id || chr(10) || item_id), item_id) AS place
           FROM rankings SEMI JOIN judgments USING (query_id) QUALIFY place <= ? ORDER BY system, query_id, place""",
        [cutoff],
    ).fetchall()
    values = []
    for system, rows in itertools.groupby(top, key=lambda row: row[0]):
        run = {q: {item: float(-place) for _, _, item, place in best} for q, best in itertools.groupby(rows, key=lambda row: row[1])}
        values += [(system, one.query_id, f"ndcg@{cutoff}", one.value) for one in evaluator.iter_calc(run)]
    columns = list(zip(*values, strict=True)) if values else [[], [], [], []]
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, VALUES_SCHEMA.types, strict=True)], schema=VALUES_SCHEMA)


def _pair_metrics(db: duckdb.DuckDBPyConnection, system: str, gains: Floats, positive_grade: int) -> pa.Table:
    rows = db.sql(
        """SELECT query_id, grade, coalesce(score, '-inf'::DOUBLE) AS score
           FROM judgments LEFT JOIN (SELECT query_id, item_id, score FROM rankings WHERE system = ?) USING (query_id, item_id)
           ORDER BY query_id, item_id""",
        params=[system],
    ).to_arrow_table()
    names, query = np.unique(rows["query_id"].to_numpy(), return_inverse=True)
    grade, score = rows["grade"].to_numpy(), rows["score"].to_numpy()
    gain = gains[grade]
    wins, pairs = count_ordered_pairs(query, score, gain, len(names))
    ranked = count_wins(query, score, grade >= positive_grade, len(names))
    return pa.concat_tables([_shares(system, "pairwise_accuracy", names, wins, pairs), _shares(system, "auc", names, ranked[0], ranked[1])])


def _shares(system: str, metric: str, names: np.ndarray, wins: Floats, pairs: Floats) -> pa.Table:
    defined = pairs > 0
    num = int(defined.sum())
    return pa.table(
        [
            pa.repeat(pa.scalar(system), num),
            pa.array(names[defined], pa.string()),
            pa.repeat(pa.scalar(metric), num),
            pa.array(wins[defined] / pairs[defined]),
        ],
        schema=VALUES_SCHEMA,
    )


def count_ordered_pairs(query: np.ndarray, score: np.ndarray, gain: np.ndarray, num_queries: int) -> tuple[Floats, Floats]:
    """Per query: pairs of different gain that the scores order right, ties half, and all such pairs; arguments as `count_wins`."""
    wins, pairs = np.zeros(num_queries), np.zeros(num_queries)
    for low, high in itertools.combinations(np.unique(gain), 2):
        both = (gain == low) | (gain == high)
        more = count_wins(query[both], score[both], gain[both] == high, num_queries)
        wins, pairs = wins + more[0], pairs + more[1]
    return wins, pairs


def count_wins(query: np.ndarray, score: np.ndarray, upper: np.ndarray, num_queries: int) -> tuple[Floats, Floats]:
    """Per query: pairs (upper, other) that the scores order right, ties half, and all such pairs (Mann and Whitney 1947).

    Args:
        query: number of the query of each row [rows], ascending.
        score: [rows].
        upper: whether the row belongs above the others of its query [rows].
    """
    ranks = _ranks_within(query, score, num_queries)
    num_upper = np.bincount(query[upper], minlength=num_queries).astype(np.float64)
    num_all = np.bincount(query, minlength=num_queries)
    rank_sum = np.bincount(query[upper], weights=ranks[upper], minlength=num_queries)
    return rank_sum - num_upper * (num_upper + 1) / 2, num_upper * (num_all - num_upper)


def _ranks_within(query: np.ndarray, score: np.ndarray, num_queries: int) -> Floats:
    """Rank of each score within its query, lowest 1, ties at their mean."""
    if len(query) == 0:
        return np.zeros(0)
    order = np.lexsort((score, query))
    by_query, by_score = query[order], score[order]
    starts = np.flatnonzero(np.r_[True, (by_query[1:] != by_query[:-1]) | (by_score[1:] != by_score[:-1])])
    ends = np.r_[starts[1:], len(query)]
    first_of_query = np.cumsum(np.r_[0, np.bincount(query, minlength=num_queries)[:-1]])
    ranks = np.empty(len(query))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks - first_of_query[query]


def left_out(judgments: pa.Table, values: pa.Table, metrics: Sequence[str]) -> dict[str, int]:
    """Metric -> judged queries on which it is not defined (the same for every system)."""
    judged = pc.count_distinct(judgments["query_id"]).as_py()
    return {name: judged - pc.count_distinct(values.filter(pc.equal(values["metric"], name))["query_id"]).as_py() for name in metrics}


def values_of(values: pa.Table, system: str, metric: str) -> pa.Table:
    """(query_id, value) of one system and metric, ordered by query_id."""
    chosen = values.filter(pc.and_(pc.equal(values["system"], system), pc.equal(values["metric"], metric)))
    return chosen.select(["query_id", "value"]).sort_by("query_id")


def common_values(values: pa.Table, system: str, against: str, metric: str) -> tuple[list[str], Floats, Floats]:
    """Values of two systems on the queries that both have: (query ids, values, values)."""
    ours, theirs = values_of(values, system, metric), values_of(values, against, metric)
    ids, one, two = np.intersect1d(
        np.asarray(ours["query_id"].to_pylist(), object), np.asarray(theirs["query_id"].to_pylist(), object), return_indices=True
    )
    return list(ids), ours["value"].to_numpy()[one], theirs["value"].to_numpy()[two]


def _resampled_means(values: Floats, seed: int, num_resamples: int) -> Floats:
    random, means = np.random.default_rng(seed), np.empty(num_resamples)
    for start in range(0, num_resamples, RESAMPLES_AT_ONCE):
        count = min(RESAMPLES_AT_ONCE, num_resamples - start)
        means[start : start + count] = values[random.integers(0, len(values), (count, len(values)))].mean(axis=1)
    return means


def mean_interval(values: Floats, seed: int, num_resamples: int = 2000, level: float = 0.95) -> Interval:
    """Mean over queries and its percentile bootstrap interval (Efron 1979; Sakai 2006 for retrieval).

    Raises:
        InputError: without values.
    """
    if len(values) == 0:
        raise InputError("no query to average over; the metric is defined on none of the judged queries")
    means = _resampled_means(np.asarray(values, np.float64), seed, num_resamples)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean(values)), float(low), float(high), len(values))


def paired_interval(a: Floats, b: Floats, seed: int, num_resamples: int = 2000, level: float = 0.95) -> Difference:
    """Mean of `a - b` over the same queries, its bootstrap interval, and the p-value of a sign-flip test.

    Raises:
        InputError: without values, or with values of different length.
    """
    if len(a) != len(b):
        raise InputError(f"a paired comparison needs the same queries on both sides; got {len(a)} and {len(b)}")
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    interval = mean_interval(differences, seed, num_resamples, level)
    return Difference(interval.mean, interval.low, interval.high, interval.num_queries, _sign_flip_p(differences, seed, num_resamples))


def _sign_flip_p(differences: Floats, seed: int, num_flips: int) -> float:
    random, extreme, observed = np.random.default_rng([seed, 1]), 0, abs(differences.mean())
    for start in range(0, num_flips, RESAMPLES_AT_ONCE):
        count = min(RESAMPLES_AT_ONCE, num_flips - start)
        signs = random.integers(0, 2, (count, len(differences)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ differences / len(differences)) >= observed - 1e-12).sum())
    return (1 + extreme) / (1 + num_flips)


def check_scores(rankings: pa.Table, judgments: pa.Table | None = None) -> list[str]:
    """Why the scores of one system must not be trusted; empty when nothing is wrong.

    A collapsed model looks healthy in a loss curve (FlagEmbedding#864), so: scores that are not finite, at most two distinct
    values, the same score for all items of most queries, and judged pairs without a score.
    """
    score = rankings["score"]
    num_wrong = pc.sum(pc.invert(pc.fill_null(pc.is_finite(score), False))).as_py() or 0
    if rankings.num_rows == 0 or num_wrong:
        return [f"{num_wrong} of {rankings.num_rows} scores are NaN, infinite or null" if num_wrong else "no scores"]
    reasons = []
    num_distinct = pc.count_distinct(score).as_py()
    if num_distinct <= 2 < rankings.num_rows:
        reasons.append(f"only {num_distinct} distinct scores over {rankings.num_rows} pairs")
    reasons += _constant_queries(rankings)
    if judgments is not None:
        keys = ["query_id", "item_id"]
        num_missing = judgments.select(keys).join(rankings.select(keys), keys=keys, join_type="left anti").num_rows
        reasons += [f"{num_missing} of {judgments.num_rows} judged pairs have no score"] if num_missing else []
    return reasons


def impossible_combinations(reported: dict[str, float], num_items: int, tolerance: float = 5.1e-5) -> list[str]:
    """Metrics of one table line that no ranking with one positive item per query can have together; empty when they fit.

    Every such metric is a mean over the rank of the positive: `hit@k`, `ndcg@k` and `mrr` are sums of share[rank] * weight[rank].
    A line is possible when some shares of the ranks reach all its values within rounding, which a linear program decides.

    Args:
        reported: `hit@1`, `ndcg@5`, `mrr` ... -> value.
        num_items: items ranked per query, the positive among them.
        tolerance: half a unit of the last digit reported.

    Returns:
        A smallest set of metrics in conflict, sorted by name as given.
    """
    ranks = np.arange(1, num_items + 1)
    weights = {name: _rank_weights(name, ranks) for name in reported}
    conflict = list(reported)
    if _is_possible(conflict, weights, reported, tolerance):
        return []
    for name in list(conflict):
        without = [other for other in conflict if other != name]
        if not _is_possible(without, weights, reported, tolerance):
            conflict = without
    return conflict


def _rank_weights(metric: str, ranks: np.ndarray) -> Floats:
    name, _, cutoff = metric.partition("@")
    weights = {"hit": np.ones(len(ranks)), "ndcg": 1 / np.log2(ranks + 1), "mrr": 1 / ranks}
    if name not in weights or (cutoff and not cutoff.isdigit()):
        raise InputError(f"metric '{metric}': only hit@k, ndcg@k and mrr of tables with one positive item can be checked")
    return np.where(ranks <= (int(cutoff) if cutoff else len(ranks)), weights[name], 0.0)


def _is_possible(metrics: list[str], weights: dict[str, Floats], reported: dict[str, float], tolerance: float) -> bool:
    if not metrics:
        return True
    rows, values = np.stack([weights[name] for name in metrics]), np.array([reported[name] for name in metrics])
    solved = scipy.optimize.linprog(
        np.zeros(rows.shape[1]),
        A_ub=np.vstack([rows, -rows]),
        b_ub=np.r_[values + tolerance, tolerance - values],
        A_eq=np.ones((1, rows.shape[1])),
        b_eq=[1.0],
        bounds=(0, 1),
    )
    return bool(solved.success)


def _constant_queries(rankings: pa.Table) -> list[str]:
    size = max(abs(bound) for bound in pc.min_max(rankings["score"]).as_py().values())
    spread = rankings.group_by("query_id").aggregate([("score", "min"), ("score", "max"), ("score", "count")])
    several = spread.filter(pc.greater(spread["score_count"], 1))
    constant = pc.sum(pc.less_equal(pc.subtract(several["score_max"], several["score_min"]), 1e-6 * size)).as_py() or 0
    return [f"all scores are equal in {constant} of {several.num_rows} queries"] if 2 * constant > several.num_rows else []
