"""Which queries enter the pool. A query that dev or test judges never does, under any id.

Held out are their normalised texts and their bags of words: `shoes red` would tell a student about the test query `red shoes`. Of the
log's own queries all rewordings are held out, because what shoppers clicked after `red shoos` is what the test query is judged by.
"""

import duckdb

from components.build_pool.config import BuildPoolConfig
from components.shared.errors import InputError
from components.shared.lexical import tokenise
from components.shared.rewordings import find_rewordings

# SQL of its own so that a test can take the rule away and see the leak
NOT_HELD_OUT = """query NOT IN (SELECT query FROM held_out) AND words NOT IN (SELECT words FROM held_out)
    AND (train OR query NOT IN (SELECT query FROM rewordings))"""

_HELD_OUT = """
CREATE TEMP TABLE named AS
    SELECT *, coalesce(nullif(array_to_string(list_sort(list_distinct(tokens)), ' '), ''), query) AS words FROM tokenised;
CREATE TEMP TABLE judged AS
    SELECT query_id, bool_or(split = 'train') AS train, bool_or(split <> 'train') AS held_out FROM judgments GROUP BY query_id;
CREATE TEMP TABLE held_out AS
    SELECT DISTINCT query, words FROM named LEFT JOIN judged USING (query_id) WHERE split IN ('dev', 'test') OR judged.held_out;
CREATE TEMP TABLE train_texts AS
    SELECT DISTINCT query FROM named JOIN judged USING (query_id) WHERE judged.train;
CREATE TEMP TABLE candidates AS
    SELECT query_id, query, words, frequency, coalesce(judged.train, false) AS train FROM named LEFT JOIN judged USING (query_id)
    WHERE judged.train OR (judged.query_id IS NULL AND coalesce(split, 'train') = 'train' AND query NOT IN (SELECT query FROM train_texts));
"""

_ALLOWED = """
CREATE TEMP TABLE pool_queries AS
WITH allowed AS (
    SELECT *, row_number() OVER (PARTITION BY train ORDER BY frequency DESC, query_id) AS place FROM candidates WHERE {rule}
)
SELECT query_id, query, train, row_number() OVER (ORDER BY train DESC, frequency DESC, query_id) - 1 AS number
FROM allowed WHERE train OR place <= {max_queries} ORDER BY number
"""

_UNNAMED = """
SELECT query_id FROM judgments WHERE split <> 'train' AND query_id NOT IN (SELECT query_id FROM queries) ORDER BY query_id LIMIT 1
"""


def choose_queries(connection: duckdb.DuckDBPyConnection, config: BuildPoolConfig) -> dict[str, int]:
    """Make table `pool_queries` (query_id, query, train, number from 0): judged train queries, then the log's most frequent ones.

    Args:
        connection: has tables `queries` and `judgments`.

    Returns:
        counts: candidates, those held out, and those of the log beyond `max_queries`.

    Raises:
        InputError: when a dev or test query has no text, so that it could not be kept out, or no query is left.
    """
    unnamed = connection.sql(_UNNAMED).fetchall()
    if unnamed:
        raise InputError(
            f"table 'judgments': dev or test query_id '{unnamed[0][0]}' is not in table 'queries', so its text cannot be kept out; add it"
        )
    queries = connection.sql("SELECT query_id, query, frequency, split FROM queries").to_arrow_table()
    connection.register("tokenised", queries.append_column("tokens", tokenise(queries["query"])))
    connection.execute(_HELD_OUT)
    find_rewordings(connection, "candidates", "held_out")
    connection.execute(_ALLOWED.format(rule=NOT_HELD_OUT, max_queries=config.max_queries))
    counted = ("candidates", f"candidates WHERE NOT ({NOT_HELD_OUT})", "pool_queries")
    candidates, held_out, chosen = (connection.sql(f"SELECT count(*) FROM {one}").fetchall()[0][0] for one in counted)
    if not chosen:
        raise InputError(
            "no query for the pool: table 'judgments' has none in split 'train', table 'queries' none of the log; check 'split'"
        )
    return {"candidates": candidates, "held_out": held_out, "beyond_max_queries": candidates - held_out - chosen}
