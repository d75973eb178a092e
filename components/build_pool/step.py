"""Build the pool of unlabelled pairs for the teacher: train queries and the log's own, items from several sources, in shards."""

import logging

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from components.build_pool import candidates
from components.build_pool.config import BuildPoolConfig
from components.build_pool.nearest import near_pairs
from components.build_pool.plan import plan_pairs
from components.build_pool.queries import choose_queries
from components.shared.report import Report
from components.shared.schema import PAIR_SOURCES
from components.shared.tables import read_table, write_table
from components.shared.tracking import Tracker

logger = logging.getLogger(__name__)

_UNKNOWN_ITEMS = """
SELECT count(*) FROM judgments JOIN pool_queries USING (query_id)
WHERE judgments.split = 'train' AND item_id NOT IN (SELECT item_id FROM items)
"""


def run(
    config: BuildPoolConfig,
    *,
    items: str,
    queries: str,
    judgments: str,
    interactions: str,
    pairs: str,
    bi_encoder: str = "",
    tracker: Tracker,
) -> Report:
    """Write table `pairs`, ordered by shard, query and pair id.

    Args:
        bi_encoder: model folder that knows which items are near a query; `config.bi_encoder` where it is empty.

    Raises:
        InputError: for tables that do not fit, held-out queries without a text, or a pool without a query or a pair.
    """
    catalogue = read_table(items, "items")
    with duckdb.connect() as connection:
        connection.register("items", catalogue)
        connection.register("queries", read_table(queries, "queries"))
        connection.register("judgments", read_table(judgments, "judgments"))
        connection.register("interactions", read_table(interactions, "interactions"))
        counts = choose_queries(connection, config)
        chosen = connection.sql("SELECT * FROM pool_queries ORDER BY number").to_arrow_table()
        logger.info("%d queries, %d held out", len(chosen), counts["held_out"])
        near = near_pairs(config, bi_encoder or config.bi_encoder, chosen, catalogue) if config.num_nearest else None
        found = _collect(connection, chosen, catalogue, config, near)
        unknown = int(connection.sql(_UNKNOWN_ITEMS).fetchall()[0][0])
        num_judged = int(pc.sum(pc.equal(found["source"], "judgment")).as_py() or 0)
        connection.register("candidates_by_source", found)
        plan, distinct = plan_pairs(connection, config, num_judged)
    manifest = write_table(pairs, "pairs", plan)
    tracker.dataset("pairs", pairs, manifest.digest, manifest.rows)
    dropped = {"unknown_item": unknown, "repeated": len(found) - distinct, "over_size": distinct - len(plan)}
    metrics = {f"queries.{name}": float(count) for name, count in counts.items()} | describe(plan, num_judged, config.num_shards)
    return Report(read=len(found) + unknown, kept=len(plan), dropped=dropped, metrics=metrics)


def _collect(
    connection: duckdb.DuckDBPyConnection, queries: pa.Table, items: pa.Table, config: BuildPoolConfig, near: pa.Table | None
) -> pa.Table:
    """All candidates (query_id, item_id, source), with repeats across sources."""
    top, hard = candidates.lexical_pairs(queries, items, config)
    by_source = [
        ("judgment", candidates.judged_pairs(connection)),
        ("impression", candidates.shown_pairs(connection, config)),
        ("lexical", top),
        *([("nearest", near)] if near is not None else []),
        ("co_engagement", candidates.co_engaged_pairs(connection, config)),
        ("hard", hard),
        ("hard", candidates.same_category_pairs(connection, config)),
        ("random", candidates.random_pairs(queries, items, config)),
    ]
    for source, table in by_source:
        logger.info("%s: %d candidates", source, len(table))
    return pa.concat_tables([table.append_column("source", pa.array([source] * len(table), pa.string())) for source, table in by_source])


def describe(plan: pa.Table, num_judged: int, num_shards: int) -> dict[str, float]:
    """Numbers of the plan: pairs by source, queries, pairs per query, size against the judgments, evenness of the shards."""
    by_source = {f"source.{source}": float(pc.sum(pc.equal(plan["source"], source)).as_py() or 0) for source in PAIR_SOURCES}
    num_queries = pc.count_distinct(plan["query_id"]).as_py()
    largest = max(pc.value_counts(plan["shard"]).field("counts").to_pylist(), default=0)
    return by_source | {
        "queries": float(num_queries),
        "pairs_per_query": len(plan) / max(num_queries, 1),
        "times_judgments": len(plan) / max(num_judged, 1),
        "largest_shard_over_mean": largest * num_shards / max(len(plan), 1),
    }
