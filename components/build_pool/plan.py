"""From candidates to a plan: each pair once, cut to size by whole lists, laid out in shards."""

import duckdb
import pyarrow as pa

from components.build_pool.config import BuildPoolConfig
from components.shared.errors import InputError
from components.shared.schema import PAIR_SOURCES

# a list is a query's judged pairs, or all its other pairs; lists are taken whole while they fit, so that margins within a query survive
_ONCE = f"""
CREATE TEMP TABLE once AS
SELECT query_id, item_id, arg_min(source, place) AS source FROM (
    SELECT *, list_position({list(PAIR_SOURCES)}, source) AS place FROM candidates_by_source
) GROUP BY query_id, item_id
"""

_LISTS = """
CREATE TEMP TABLE lists AS
WITH counted AS (
    SELECT query_id, number, source <> 'judgment' AS added, count(*) AS num_pairs FROM once JOIN pool_queries USING (query_id) GROUP BY ALL
)
SELECT query_id, added, sum(num_pairs) OVER (ORDER BY added, number) <= $most AS fits FROM counted
"""

# one query is never split over shards, and its rows lie together: scoring shares the query's prefix
_PAIRS = """
SELECT left(sha256(once.query_id || chr(31) || item_id), 16) AS pair_id, once.query_id, item_id, source,
    (('0x' || left(sha256(once.query_id), 8))::BIGINT % $num_shards)::INTEGER AS shard
FROM once JOIN lists ON lists.query_id = once.query_id AND lists.added = (source <> 'judgment') WHERE fits
ORDER BY shard, once.query_id, pair_id
"""


def plan_pairs(connection: duckdb.DuckDBPyConnection, config: BuildPoolConfig, num_judged: int) -> tuple[pa.Table, int]:
    """Table `pairs`, and the number of distinct candidates that it was cut from.

    Judged lists come first, then the added pairs of train queries, then those of the log's queries by frequency.

    Args:
        connection: has tables `pool_queries` and `candidates_by_source` (query_id, item_id, source).
        num_judged: judged pairs that `size_factor` multiplies; without any, only `max_pairs` holds.

    Raises:
        InputError: when not one list fits.
    """
    most = min(config.max_pairs, int(config.size_factor * num_judged)) if num_judged else config.max_pairs
    connection.execute(_ONCE)
    connection.execute(_LISTS, {"most": most})
    pairs = connection.sql(_PAIRS, params={"num_shards": config.num_shards}).to_arrow_table()
    distinct = int(connection.sql("SELECT count(*) FROM once").fetchall()[0][0])
    if distinct and not len(pairs):
        raise InputError(
            f"recipe section 'pool': key 'max_pairs' = {config.max_pairs}: not one query's list fits into {most} pairs; raise it"
        )
    return pairs, distinct
