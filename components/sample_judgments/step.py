"""A judgment sheet of the pairs that people should judge next: what shoppers dispute, or what the serving student cannot decide."""

import duckdb
import pyarrow as pa

from components.sample_judgments.candidates import calibration_of, doubted_by_teacher, undecided_by_student
from components.sample_judgments.config import SampleJudgmentsConfig
from components.shared.errors import InputError
from components.shared.judgment_sheet import write_sheet
from components.shared.report import Report
from components.shared.storage import content_digest_of
from components.shared.tables import read_table
from components.shared.tracking import Tracker

_UNJUDGED = """
CREATE TEMP TABLE unjudged AS
SELECT * FROM candidates ANTI JOIN judgments USING (query_id, item_id)
"""

_CHOSEN = """
WITH ordered AS (
    SELECT * FROM unjudged
    QUALIFY row_number() OVER (PARTITION BY query_id ORDER BY first DESC, second DESC, item_id) <= $pairs_per_query
)
SELECT query_id, item_id, queries.query, title, brand, category, round(expected_gain, 4) AS expected_gain,
    round(entropy::DOUBLE, 4) AS entropy, round(disagreement::DOUBLE, 4) AS disagreement
FROM ordered JOIN queries USING (query_id) JOIN items USING (item_id)
ORDER BY first DESC, second DESC, query_id, item_id LIMIT $num_pairs
"""


def run(
    config: SampleJudgmentsConfig,
    *,
    queries: str,
    items: str,
    sheet: str,
    soft_targets: str = "",
    rankings: str = "",
    model: str = "",
    judgments: str = "",
    tracker: Tracker,
) -> Report:
    """Write a CSV file with the most valuable pairs first and an empty column `grade`.

    Args:
        soft_targets: the teacher's scores with entropy and disagreement; or else:
        rankings: a calibrated student's scores; model: its folder or models:/<name>@<alias>, whose bounds say what is uncertain.
        judgments: table; pairs that were judged already are left out.
        sheet: URI of the CSV file to write; `import_dataset` reads it back.

    Raises:
        InputError: for tables that do not fit, or when nothing is left to judge.
    """
    if bool(soft_targets) == bool(rankings):
        raise InputError("give either soft_targets (the teacher's doubts) or rankings with model (the student's)")
    tables = {name: read_table(uri, name) for name, uri in (("queries", queries), ("items", items))}
    scored = read_table(soft_targets, "soft_targets") if soft_targets else read_table(rankings, "rankings")
    if soft_targets:
        tables["candidates"] = doubted_by_teacher(scored)
    else:
        tables["candidates"] = undecided_by_student(scored, tables["queries"], calibration_of(model))
    none = pa.table({"query_id": pa.array([], pa.string()), "item_id": pa.array([], pa.string())})
    tables["judgments"] = read_table(judgments, "judgments") if judgments else none
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        connection.execute(_UNJUDGED)
        settings = {"pairs_per_query": config.pairs_per_query, "num_pairs": config.num_pairs}
        chosen = connection.sql(_CHOSEN, params=settings).to_arrow_table()
        unjudged, disputed = (
            int(connection.sql(f"SELECT count(*) FROM {one}").fetchall()[0][0]) for one in ("unjudged", "unjudged WHERE disagreement > 0")
        )
    num_candidates = len(tables["candidates"])
    if not len(chosen):
        raise InputError(
            f"'{soft_targets or rankings}': none of {len(scored)} pairs is left to judge ({num_candidates} are in doubt); "
            "score a larger pool, or give fewer judgments"
        )
    write_sheet(sheet, chosen)
    tracker.dataset("sheet", sheet, content_digest_of(sheet), len(chosen))
    dropped = {"judged": num_candidates - unjudged, "less_valuable": unjudged - len(chosen)}
    if rankings:
        dropped["decided"] = len(scored) - num_candidates
    return Report(read=len(scored), kept=len(chosen), dropped=dropped, metrics={"disputed_pairs": disputed})
