"""What edits of queries and items do to each system: rankings that `score_pairs` wrote with its key `edits` hold both scores of a pair.

An edit that keeps relevance should leave scores and order as they are; one that lowers it should lower the score. The latter is asked of
pairs that people gave the positive grade or a better one: what is worthless already cannot fall.
"""

from dataclasses import asdict
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.evaluate_rankings.config import EvaluateRankingsConfig
from components.shared import metrics
from components.shared.edits import EDITED, EDITS, split_edited

ACCURACY = "pairwise_accuracy"
PLOTS, DRAWN = "robustness-", ("order_flips", "falls")
MEASURES = ("score_change", "order_flips", "falls", "accuracy_drop")

_PAIRS = """
CREATE TABLE clean AS SELECT system, query_id, item_id, score, grade FROM rankings JOIN judgments USING (query_id, item_id);
CREATE TABLE pairs AS
SELECT system, edit, lowers, of_query, query_id, item_id, clean.score AS clean, edited.score AS edited, grade
FROM edited JOIN kinds USING (edit) JOIN clean USING (system, query_id, item_id);
CREATE TABLE spread AS
SELECT system, nullif(sqrt(avg(variance)), 0) AS width
FROM (SELECT system, var_pop(score) AS variance FROM clean GROUP BY system, query_id) GROUP BY system;
"""
_CHANGES = """
SELECT system, edit, query_id, count(*) AS num_pairs, avg(coalesce((edited - clean) / width, 0)) AS score_change,
    avg((edited < clean)::INT) AS falls
FROM pairs JOIN spread USING (system) WHERE NOT lowers OR grade >= $positive GROUP BY ALL ORDER BY ALL
"""
# of item pairs that the clean scores tell apart: the edited item against the others as they are, or all of them under an edited query
_FLIPS = """
WITH compared AS (
    SELECT one.system, one.edit, one.query_id, one.clean - other.score AS before, one.edited - coalesce(too.edited, other.score) AS after
    FROM pairs AS one
    JOIN clean AS other ON other.system = one.system AND other.query_id = one.query_id AND other.item_id <> one.item_id
        AND other.score <> one.clean
    LEFT JOIN pairs AS too ON one.of_query AND too.system = one.system AND too.edit = one.edit AND too.query_id = one.query_id
        AND too.item_id = other.item_id
    WHERE NOT one.lowers OR one.grade >= $positive
)
SELECT system, edit, query_id, avg(CASE WHEN sign(after) = sign(before) THEN 0.0 WHEN after = 0 THEN 0.5 ELSE 1.0 END) AS order_flips
FROM compared GROUP BY ALL ORDER BY ALL
"""


def split_rankings(rankings: pa.Table) -> tuple[pa.Table, pa.Table]:
    """(rankings of texts as they are, those of edited ones with their `edit` and the plain name of their `system`)."""
    encoded = rankings["system"].combine_chunks().dictionary_encode()
    told = [split_edited(name) for name in encoded.dictionary.to_pylist()]
    names, kinds = (pa.array([one[place] for one in told], pa.string()).take(encoded.indices) for place in (0, 1))
    is_edited = pc.not_equal(kinds, "")
    named = rankings.set_column(rankings.column_names.index("system"), "system", names).append_column("edit", kinds)
    return rankings.filter(pc.invert(is_edited)), named.filter(is_edited)


def measure_robustness(
    edited: pa.Table, rankings: pa.Table, judgments: pa.Table, gains: list[float], positive_grade: int, config: EvaluateRankingsConfig
) -> list[dict[str, Any]]:
    """A row for each system and edit: `num_pairs`, and by measure its mean over queries with interval.

    * `score_change`: edited minus clean score, in standard deviations of the system's clean scores within queries.
    * `order_flips`: share of item pairs that the clean scores tell apart and the edit turns round; a tie counts half. One minus it is the
      pairwise agreement of both rankings.
    * `falls`, of edits that lower relevance: share of positive pairs whose score falls.
    * `accuracy_drop`, of edits that keep it: pairwise accuracy against the judgments before minus after, all pairs edited that can be.

    Args:
        edited, rankings: from `split_rankings`; evaluated queries alone, and of `rankings` finite systems alone.
    """
    if not len(edited):
        return []
    changes, flips = _by_query(edited, rankings, judgments, positive_grade)
    drops = _accuracy_drops(edited, rankings, judgments, gains, positive_grade)
    found = []
    for system, edit in dict.fromkeys(zip(changes["system"].to_pylist(), changes["edit"].to_pylist(), strict=True)):
        own, turned = (_of(table, system, edit) for table in (changes, flips))
        measured = {"score_change": own["score_change"], "order_flips": turned["order_flips"]}
        measured |= {"falls": own["falls"]} if EDITS[edit].lowers else {"accuracy_drop": drops[system, edit]}
        row = {"system": system, "edit": edit, "lowers": EDITS[edit].lowers, "num_pairs": pc.sum(own["num_pairs"]).as_py()}
        found.append(row | {name: asdict(_interval(values, config)) for name, values in measured.items() if len(values)})
    return found


def _by_query(edited: pa.Table, rankings: pa.Table, judgments: pa.Table, positive_grade: int) -> tuple[pa.Table, pa.Table]:
    kinds = {name: [getattr(one, name) for one in EDITS.values()] for name in ("lowers", "of_query")}
    tables = {"edited": edited, "rankings": rankings, "judgments": judgments, "kinds": pa.table({"edit": list(EDITS), **kinds})}
    with duckdb.connect() as db:
        for name, table in tables.items():
            db.register(name, table)
        db.execute(_PAIRS)
        changes, flips = (db.sql(query, params={"positive": positive_grade}).to_arrow_table() for query in (_CHANGES, _FLIPS))
    return changes, flips


def _accuracy_drops(
    edited: pa.Table, rankings: pa.Table, judgments: pa.Table, gains: list[float], positive_grade: int
) -> dict[tuple[str, str], np.ndarray]:
    """By system and edit, of each query [queries]; a pair that the edit does not apply to keeps its score."""
    whole = _whole(edited, rankings)
    both = pa.concat_tables([rankings.select(whole.column_names), whole])
    values = metrics.per_query(judgments, both, gains=gains, positive_grade=positive_grade)
    drops = {}
    for name in pc.unique(whole["system"]).to_pylist():
        system, edit = split_edited(name)
        _, before, after = metrics.common_values(values, system, name, ACCURACY)
        drops[system, edit] = before - after
    return drops


def _whole(edited: pa.Table, rankings: pa.Table) -> pa.Table:
    """Rankings of each system under each edit that keeps relevance, over all pairs."""
    keeping = pa.array([kind for kind, edit in EDITS.items() if not edit.lowers])
    with duckdb.connect() as db:
        db.register("edited", edited.filter(pc.is_in(edited["edit"], value_set=keeping)))
        db.register("rankings", rankings)
        found = db.sql(
            """SELECT system || $mark || edit AS system, query_id, item_id, coalesce(edited.score, rankings.score) AS score
               FROM (SELECT DISTINCT system, edit FROM edited) JOIN rankings USING (system)
               LEFT JOIN edited USING (system, edit, query_id, item_id)""",
            params={"mark": EDITED},
        )
        return found.to_arrow_table()


def _of(table: pa.Table, system: str, edit: str) -> pa.Table:
    return table.filter(pc.and_(pc.equal(table["system"], system), pc.equal(table["edit"], edit)))


def _interval(values: Any, config: EvaluateRankingsConfig) -> metrics.Interval:
    return metrics.mean_interval(np.asarray(values, np.float64), config.seed, config.num_resamples, config.level)


def plot_rows(found: list[dict[str, Any]], measure: str) -> list[dict[str, Any]]:
    """What `figures.slice_bars` takes: a bar for each system and edit that has the measure."""
    return [{"system": row["system"], "value": row["edit"].replace("_", "\n"), **row[measure]} for row in found if measure in row]


def logged(found: list[dict[str, Any]]) -> dict[str, float]:
    """Means by the names that they are tracked under: robustness.<system>.<edit>.<measure>."""
    return {f"robustness.{row['system']}.{row['edit']}.{name}": row[name]["mean"] for row in found for name in MEASURES if name in row}
