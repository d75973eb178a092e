"""A judgment sheet of the pairs that people should judge next: where shoppers disagree with the teacher most, or it is most unsure."""

import duckdb

from components.sample_judgments.config import SampleJudgmentsConfig
from components.shared.errors import InputError
from components.shared.judgment_sheet import write_sheet
from components.shared.report import Report
from components.shared.storage import content_digest_of
from components.shared.tables import read_table
from components.shared.tracking import Tracker

_UNJUDGED = """
CREATE TEMP TABLE unjudged AS
SELECT * FROM soft_targets ANTI JOIN judgments USING (query_id, item_id)
"""

# a pair without enough clicks stands behind all that shoppers disagree with, by the teacher's own doubt
_CHOSEN = """
WITH ordered AS (
    SELECT *, coalesce(disagreement, 0) AS against FROM unjudged
    QUALIFY row_number() OVER (PARTITION BY query_id ORDER BY against DESC, entropy DESC, pair_id) <= $pairs_per_query
)
SELECT query_id, item_id, queries.query, title, brand, category, round(score, 4) AS expected_gain, round(entropy::DOUBLE, 4) AS entropy,
    round(disagreement::DOUBLE, 4) AS disagreement
FROM ordered JOIN queries USING (query_id) JOIN items USING (item_id)
ORDER BY against DESC, ordered.entropy DESC, pair_id LIMIT $num_pairs
"""


def run(
    config: SampleJudgmentsConfig, *, soft_targets: str, queries: str, items: str, sheet: str, judgments: str = "", tracker: Tracker
) -> Report:
    """Write a CSV file with the most valuable pairs first and an empty column `grade`.

    Args:
        soft_targets: the teacher's scores with entropy and disagreement.
        judgments: table; pairs that were judged already are left out.
        sheet: URI of the CSV file to write; `import_dataset` reads it back.

    Raises:
        InputError: for tables that do not fit, or when nothing is left to judge.
    """
    empty = "SELECT NULL::VARCHAR AS query_id, NULL::VARCHAR AS item_id LIMIT 0"
    with duckdb.connect() as connection:
        for name, uri in (("soft_targets", soft_targets), ("queries", queries), ("items", items)):
            connection.register(name, read_table(uri, name))
        connection.register("judgments", read_table(judgments, "judgments") if judgments else connection.sql(empty).to_arrow_table())
        connection.execute(_UNJUDGED)
        settings = {"pairs_per_query": config.pairs_per_query, "num_pairs": config.num_pairs}
        chosen = connection.sql(_CHOSEN, params=settings).to_arrow_table()
        whole, unjudged, disputed = (
            int(connection.sql(f"SELECT count(*) FROM {one}").fetchall()[0][0])
            for one in ("soft_targets", "unjudged", "unjudged WHERE disagreement > 0")
        )
    if not len(chosen):
        raise InputError(f"'{soft_targets}': none of {whole} pairs is left to judge; score a larger pool, or give fewer judgments")
    write_sheet(sheet, chosen)
    tracker.dataset("sheet", sheet, content_digest_of(sheet), len(chosen))
    dropped = {"judged": whole - unjudged, "less_valuable": unjudged - len(chosen)}
    return Report(read=whole, kept=len(chosen), dropped=dropped, metrics={"disputed_pairs": disputed})
