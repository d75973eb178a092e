"""Behavior evidence for given pairs, without the answer in it.

A judged pair must not read its own clicks: it is taken out of its own neighbors, no path of second order runs through it, and only a
snapshot made from days before the judgment is looked at (ProRBP, arXiv 2408.09439; the paper does not say how it avoids this).
"""

import duckdb
import numpy as np
import pyarrow as pa

from components.shared.text import NEIGHBOR_SEPARATOR

# The rules, as SQL of their own so that a test can take one away and see the leak.
# `own` is what the pair itself would be in this list; `latest` the last snapshot that the pair may see; `is_listed` says that the pair
# is among the first-order neighbors that second-order lists start from, so that there is a list which starts without it.
NOT_THE_PAIR_ITSELF = "neighbor <> own"
NOT_THROUGH_THE_PAIR = "left_out = CASE WHEN is_listed THEN own ELSE '' END"
ONLY_BEFORE_JUDGMENT = "judged_at IS NULL OR snapshot <= judged_at"

OWN_COLUMNS = {"query": ("query", "item_id"), "item": ("item_id", "query")}  # side -> (its key, what the pair itself would be)
FIRST_STEP = {"query_query": "query", "item_item": "item"}  # side of second order -> side of its first step


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
    accepted, satisfied = _attach(pairs, neighbors, k, dict.fromkeys(OWN_COLUMNS, _FIRST))
    return accepted, satisfied


def attach_second_order(pairs: pa.Table, neighbors: pa.Table, k: int) -> tuple[pa.Array, pa.Array]:
    """As `attach_neighbors`: (queries that share accepted items with the query, titles of items that share queries with the item).

    Args:
        neighbors: written with `order: 2`; without it both are null throughout.
        k: at most so many texts per side, and at most what the table was written with.
    """
    queries, items = _attach(pairs, neighbors, k, dict.fromkeys(FIRST_STEP, _SECOND))
    return queries, items


def _attach(pairs: pa.Table, neighbors: pa.Table, k: int, sides: dict[str, str]) -> list[pa.Array]:
    with duckdb.connect() as connection:
        rows = pa.array(np.arange(len(pairs)))
        connection.register("given", pairs.select(["query", "item_id", "judged_at"]).append_column("row", rows))
        connection.register("neighbors", neighbors)
        connection.execute(_DATED.format(rule=ONLY_BEFORE_JUDGMENT))
        return [_texts(connection, side, listed, k) for side, listed in sides.items()]


_DATED = """
CREATE TEMP TABLE dated AS
WITH days AS (SELECT DISTINCT judged_at FROM given),
snapshots AS (SELECT DISTINCT snapshot FROM neighbors),
latest AS (SELECT judged_at, max(snapshot) AS latest FROM days JOIN snapshots ON {rule} GROUP BY judged_at)
SELECT row, query, item_id, latest FROM given LEFT JOIN latest ON given.judged_at IS NOT DISTINCT FROM latest.judged_at
"""

_FIRST = """
    SELECT row, rank, text FROM (SELECT row, latest, {key} AS name, {own} AS own FROM dated)
    JOIN neighbors ON snapshot = latest AND side = '{side}' AND key = name WHERE {not_the_pair_itself}
"""

_SECOND = """
    SELECT row, rank, text FROM (
        SELECT row, latest, {key} AS name, {own} AS own, first.key IS NOT NULL AS is_listed FROM dated
        LEFT JOIN neighbors AS first ON snapshot = latest AND side = '{first_step}' AND key = dated.{key} AND neighbor = dated.{own})
    JOIN neighbors ON snapshot = latest AND side = '{side}' AND key = name WHERE {not_through_the_pair}
"""

_TEXTS = """
WITH listed AS ({listed}),
joined AS (
    SELECT row, array_to_string(list(replace(text, ';', ',') ORDER BY rank)[1:{k}], '{separator}') AS texts FROM listed GROUP BY row
)
SELECT nullif(texts, '') AS texts FROM dated LEFT JOIN joined USING (row) ORDER BY dated.row
"""


def _texts(connection: duckdb.DuckDBPyConnection, side: str, listed: str, k: int) -> pa.Array:
    first_step = FIRST_STEP.get(side, side)
    key, own = OWN_COLUMNS[first_step]
    rules = {"not_the_pair_itself": NOT_THE_PAIR_ITSELF, "not_through_the_pair": NOT_THROUGH_THE_PAIR}
    rows = listed.format(side=side, first_step=first_step, key=key, own=own, **rules)
    return (
        connection.sql(_TEXTS.format(listed=rows, k=max(int(k), 0), separator=NEIGHBOR_SEPARATOR))
        .to_arrow_table()["texts"]
        .cast(pa.string())
        .combine_chunks()
    )
