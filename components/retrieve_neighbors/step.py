"""Find behavior neighbors: items that shoppers accepted for a query, and queries that an item satisfied."""

import logging

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.snapshots import rank_neighbors, snapshot_days
from components.shared.errors import InputError
from components.shared.report import Report
from components.shared.schema import SIDES
from components.shared.tables import read_table, write_table
from components.shared.tracking import Tracker

logger = logging.getLogger(__name__)

_KNOWN = """
CREATE TABLE interactions AS SELECT * FROM given
WHERE item_id IN (SELECT name FROM texts WHERE side = 'query') AND query IN (SELECT name FROM texts WHERE side = 'item')
"""
_UNKNOWN_ITEMS = "SELECT count(*) FROM given WHERE item_id NOT IN (SELECT name FROM texts WHERE side = 'query')"


def run(
    config: RetrieveNeighborsConfig, *, interactions: str, items: str, queries: str, judgments: str, neighbors: str, tracker: Tracker
) -> Report:
    """Write table `neighbors`: one snapshot after the log's last day, and one per day of judgment inside the log.

    Raises:
        InputError: for tables that do not fit, a log without a known query and item, or too many days of judgment.
    """
    log = read_table(interactions, "interactions")
    with duckdb.connect() as connection:
        connection.register("given", log)
        connection.register("texts", _texts(read_table(items, "items"), read_table(queries, "queries")))
        connection.register("judgments", read_table(judgments, "judgments", ["judged_at"]))
        connection.execute(_KNOWN)
        kept, unknown_items = _count(connection, "SELECT count(*) FROM interactions"), _count(connection, _UNKNOWN_ITEMS)
        if not kept:
            raise InputError(
                f"'{interactions}': none of {len(log)} interactions has a query of '{queries}' and an item of '{items}'; "
                "give the tables of one shop, and a window in which it has traffic"
            )
        days = snapshot_days(connection, config.max_snapshots)
        parts, num_pairs = [], 0
        for day in days:
            part, num_pairs = rank_neighbors(connection, day, config)
            logger.info("snapshot %s: %d neighbors out of %d pairs", day, part.num_rows, num_pairs)
            parts.append(part)
    manifest = write_table(neighbors, "neighbors", pa.concat_tables(parts))
    tracker.dataset("neighbors", neighbors, manifest.digest, manifest.rows)
    dropped = {"unknown_item": unknown_items, "unknown_query": len(log) - kept - unknown_items}
    metrics = {"snapshots": float(len(days)), "rows": float(manifest.rows), "pairs": float(num_pairs), **describe(parts[-1])}
    return Report(read=len(log), kept=kept, dropped=dropped, metrics=metrics, notes={"newest snapshot": str(days[-1]), "rule": config.rule})


def describe(newest: pa.Table) -> dict[str, float]:
    """Numbers of one snapshot: per side, keys with a neighbor and mean neighbors of those; quantiles of the lower bound, 0 if empty."""
    metrics = {}
    for side in SIDES:
        rows = newest.filter(pc.equal(newest["side"], side))
        keys = pc.count_distinct(rows["key"]).as_py()
        metrics |= {f"{side}.keys": float(keys), f"{side}.mean_neighbors": len(rows) / max(keys, 1)}
    bounds = newest["lower_bound"].to_numpy() if len(newest) else np.zeros(1)
    return metrics | {f"lower_bound.p{share}": float(np.percentile(bounds, share)) for share in (10, 50, 90)}


def _texts(items: pa.Table, queries: pa.Table) -> pa.Table:
    """What a neighbor reads like: title of an item (side query), or the query itself (side item)."""
    titles = pa.table({"side": ["query"] * len(items), "name": items["item_id"], "text": items["title"]})
    known = pc.unique(queries["query"])
    return pa.concat_tables([titles, pa.table({"side": ["item"] * len(known), "name": known, "text": known})])


def _count(connection: duckdb.DuckDBPyConnection, statement: str) -> int:
    return int(connection.sql(statement).fetchall()[0][0])
