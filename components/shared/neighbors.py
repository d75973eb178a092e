"""Behavior evidence for given pairs, without the answer in it.

A judged pair must not read its own clicks: it is taken out of its own neighbors, and only a snapshot made from days before the
judgment is looked at (ProRBP, arXiv 2408.09439; the paper does not say how it avoids this).
"""

import duckdb
import numpy as np
import pyarrow as pa

# The two rules, as SQL of their own so that a test can take one away and see the leak.
# `own` is what the pair itself would be in this list; `latest` the last snapshot that the pair may see.
NOT_THE_PAIR_ITSELF = "neighbor <> own"
ONLY_BEFORE_JUDGMENT = "judged_at IS NULL OR snapshot <= judged_at"

OWN_COLUMNS = {"query": ("query", "item_id"), "item": ("item_id", "query")}  # side -> (its key, what the pair itself would be)


def attach_neighbors(pairs: pa.Table, neighbors: pa.Table, k: int) -> tuple[pa.Array, pa.Array]:
    """Texts of the best neighbors of each pair.

    Args:
        pairs: columns `query` (normalised), `item_id`, `judged_at` (date32; null looks at the newest snapshot).
        neighbors: table `neighbors`; it holds k + 1 per key, so that k are left when the pair itself is taken out.
        k: at most so many texts per side.

    Returns:
        (accepted, satisfied), both strings [rows of `pairs`, same order], null where there is nothing: titles of items that shoppers
        who typed the query accepted, and queries that the item satisfied, best first, joined with `; `.
    """
    with duckdb.connect() as connection:
        rows = pa.array(np.arange(len(pairs)))
        connection.register("given", pairs.select(["query", "item_id", "judged_at"]).append_column("row", rows))
        connection.register("neighbors", neighbors)
        connection.execute(_DATED.format(rule=ONLY_BEFORE_JUDGMENT))
        accepted, satisfied = (_texts(connection, side, k) for side in ("query", "item"))
    return accepted, satisfied


_DATED = """
CREATE TEMP TABLE dated AS
WITH days AS (SELECT DISTINCT judged_at FROM given),
snapshots AS (SELECT DISTINCT snapshot FROM neighbors),
latest AS (SELECT judged_at, max(snapshot) AS latest FROM days JOIN snapshots ON {rule} GROUP BY judged_at)
SELECT row, query, item_id, latest FROM given LEFT JOIN latest ON given.judged_at IS NOT DISTINCT FROM latest.judged_at
"""

_TEXTS = """
WITH listed AS (
    SELECT row, rank, neighbor, dated.{own} AS own, replace(text, ';', ',') AS text
    FROM dated JOIN neighbors ON snapshot = latest AND side = '{side}' AND key = dated.{key}
),
joined AS (
    SELECT row, array_to_string(list(text ORDER BY rank)[1:{k}], '; ') AS texts FROM listed WHERE {rule} GROUP BY row
)
SELECT nullif(texts, '') AS texts FROM dated LEFT JOIN joined USING (row) ORDER BY dated.row
"""


def _texts(connection: duckdb.DuckDBPyConnection, side: str, k: int) -> pa.Array:
    key, own = OWN_COLUMNS[side]
    statement = _TEXTS.format(side=side, key=key, own=own, k=max(int(k), 0), rule=NOT_THE_PAIR_ITSELF)
    return connection.sql(statement).to_arrow_table()["texts"].cast(pa.string()).combine_chunks()
