"""Snapshots: what was known on a morning. The snapshot of a day is made from the days before it, never from that day."""

from datetime import date

import duckdb
import pyarrow as pa

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.evidence import collect_evidence, is_accepted
from components.shared.errors import InputError
from components.shared.schema import NEIGHBORS

_DAYS = """
WITH span AS (SELECT min(day) AS first_day, max(day) AS last_day FROM interactions)
SELECT DISTINCT judged_at AS snapshot FROM judgments, span WHERE judged_at > first_day AND judged_at <= last_day
UNION SELECT last_day + 1 FROM span
ORDER BY snapshot
"""

_RANKED = """
SELECT $snapshot::DATE AS snapshot, '{side}' AS side, {key} AS key, neighbor, text,
    corrected_impressions, clicks, clients, rate, lower_bound,
    row_number() OVER (PARTITION BY {key} ORDER BY strength DESC, clicks DESC, neighbor)::INTEGER AS rank
FROM (SELECT *, {neighbor} AS neighbor FROM accepted) JOIN texts ON texts.side = '{side}' AND texts.name = neighbor
QUALIFY rank <= $kept ORDER BY key, rank
"""

SIDES = {"query": ("query", "item_id"), "item": ("item_id", "query")}  # side -> (its key, its neighbors)


def snapshot_days(connection: duckdb.DuckDBPyConnection, max_snapshots: int) -> list[date]:
    """The day after the log's last, and each day of judgment with log days before it; ascending.

    Args:
        connection: has tables `interactions` (not empty) and `judgments`.

    Raises:
        InputError: for more than `max_snapshots` days.
    """
    days = [row[0] for row in connection.sql(_DAYS).fetchall()]
    if len(days) > max_snapshots:
        raise InputError(
            f"recipe section 'neighbors': key 'max_snapshots' = {max_snapshots}, but {len(days)} snapshots are needed: "
            f"judgments were made on {len(days) - 1} days inside the log; raise it, or round column 'judged_at' of the judgments to weeks"
        )
    return days


def rank_neighbors(connection: duckdb.DuckDBPyConnection, snapshot: date, config: RetrieveNeighborsConfig) -> tuple[pa.Table, int]:
    """One snapshot of table `neighbors`, ordered by side, key and rank, and the number of (query, item) pairs it was chosen from.

    Args:
        connection: has tables `interactions` and `texts` (side, name of a neighbor, its text).
    """
    evidence = collect_evidence(connection, snapshot, config)
    connection.register("accepted", evidence.filter(is_accepted(evidence, config)))
    kept = {"snapshot": snapshot, "kept": config.num_neighbors + 1}
    parts = [
        connection.sql(_RANKED.format(side=side, key=key, neighbor=neighbor), params=kept).to_arrow_table()
        for side, (key, neighbor) in SIDES.items()
    ]
    connection.unregister("accepted")
    return pa.concat_tables([part.select(NEIGHBORS.schema.names).cast(NEIGHBORS.schema) for part in parts]), evidence.num_rows
