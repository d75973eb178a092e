"""A step is kept where all annotators give the same verdict, as ELLM-rele (arXiv 2411.13045) keeps what two models agree on.

Two annotators who are right with probability a and err independently, among the other two verdicts alike, agree with probability
a^2 + (1-a)^2 / 2, and are right where they agree with probability a^2 / (a^2 + (1-a)^2 / 2): for a = 0.85, 98.5 % of the 73 % that are
kept. With errors that always fall on the same wrong verdict it is 97.0 %. Annotators that err together gain nothing.
"""

from dataclasses import dataclass

import duckdb
import pyarrow as pa

from components.shared.schema import ASPECTS, SUB_JUDGMENTS

NOT_TOLD, DISAGREE = "not_told", "disagree"

_STEPS = """
SELECT query_id, item_id, aspect, count(DISTINCT annotator) AS told, count(DISTINCT verdict) AS verdicts, first(verdict) AS verdict,
    first(query_span ORDER BY place) FILTER (query_span <> '') AS query_span,
    first(item_span ORDER BY place) FILTER (item_span <> '') AS item_span
FROM annotated GROUP BY query_id, item_id, aspect
"""


@dataclass(frozen=True)
class Agreement:
    """`kept`: rows of `sub_judgments`. Counts of (pair, aspect): `both_told` by all annotators, `disagree` of these."""

    kept: pa.Table
    told_by_all: int
    disagree: int


def agreed(annotated: dict[str, pa.Table]) -> Agreement:
    """Args: annotated: annotator -> rows query_id, item_id, aspect, verdict, query_span, item_span; a step has one row at most."""
    parts = [
        rows.append_column("annotator", pa.repeat(name, len(rows))).append_column("place", pa.repeat(place, len(rows)))
        for place, (name, rows) in enumerate(annotated.items())
    ]
    with duckdb.connect() as connection:
        connection.register("annotated", pa.concat_tables(parts, promote_options="permissive"))
        connection.execute(f"CREATE TABLE steps AS {_STEPS}")
        names = {"annotators": len(annotated), "name": " + ".join(annotated), "aspects": list(ASPECTS)}
        kept = connection.sql(
            "SELECT query_id, item_id, aspect, verdict, query_span, item_span, $name AS annotator FROM steps "
            "WHERE told = $annotators AND verdicts = 1 ORDER BY query_id, item_id, list_position($aspects, aspect)",
            params=names,
        ).to_arrow_table()
        told, disagree = connection.execute(
            "SELECT count(*), count(*) FILTER (verdicts > 1) FROM steps WHERE told = ?", [len(annotated)]
        ).fetchall()[0]
    return Agreement(kept.select(SUB_JUDGMENTS.schema.names), int(told), int(disagree))
