"""Candidate pairs by source: what was judged, what was shown, what reads alike, what only seems to fit, and chance.

Each function gives columns query_id, item_id. A pair that several sources give is later counted for the first one.
"""

import duckdb
import numpy as np
import pyarrow as pa

from components.build_pool.config import BuildPoolConfig
from components.shared.lexical import LexicalIndex
from components.shared.text import item_text

MOST_PER_CATEGORY = 500  # a category of a million items would be joined with each query that clicked in it
MOST_STEPS = 100  # queries of an item and items of a query that a walk looks at, most clicked first

_JUDGED = """
SELECT query_id, item_id FROM judgments JOIN pool_queries USING (query_id)
WHERE judgments.split = 'train' AND item_id IN (SELECT item_id FROM items) ORDER BY query_id, item_id
"""

_SHOWN = """
SELECT query_id, item_id FROM interactions JOIN pool_queries USING (query) WHERE item_id IN (SELECT item_id FROM items)
GROUP BY query_id, item_id HAVING sum(impressions) > 0
QUALIFY row_number() OVER (PARTITION BY query_id ORDER BY sum(impressions) DESC, item_id) <= $most ORDER BY query_id, item_id
"""

_SAME_CATEGORY = """
WITH clicked AS (SELECT DISTINCT query_id, item_id FROM interactions JOIN pool_queries USING (query) WHERE clicks > 0),
wanted AS (SELECT DISTINCT query_id, category FROM clicked JOIN items USING (item_id) WHERE category <> ''),
members AS (
    SELECT category, item_id FROM items
    QUALIFY row_number() OVER (PARTITION BY category ORDER BY md5(concat_ws(chr(31), $seed, item_id)), item_id) <= $most_per_category
)
SELECT query_id, item_id FROM wanted JOIN members USING (category) ANTI JOIN clicked USING (query_id, item_id)
QUALIFY row_number() OVER (PARTITION BY query_id ORDER BY md5(concat_ws(chr(31), $seed, query_id, item_id)), item_id) <= $most
ORDER BY query_id, item_id
"""


# a walk of three steps over the click graph (Craswell and Szummer, SIGIR 2007); only queries of the pool are stepped on, so that no path
# leads over what is evaluated; the sum is rounded because its order of addition is the engine's
_CO_ENGAGED = """
WITH edges AS (
    SELECT query_id, item_id, sum(clicks)::DOUBLE AS clicks FROM interactions JOIN pool_queries USING (query)
    WHERE item_id IN (SELECT item_id FROM items) GROUP BY query_id, item_id HAVING sum(clicks) > 0
),
steps AS (
    SELECT *, clicks / sum(clicks) OVER (PARTITION BY query_id) AS forth, clicks / sum(clicks) OVER (PARTITION BY item_id) AS back
    FROM edges
    QUALIFY row_number() OVER (PARTITION BY query_id ORDER BY clicks DESC, item_id) <= $most_steps
        AND row_number() OVER (PARTITION BY item_id ORDER BY clicks DESC, query_id) <= $most_steps
),
walks AS (
    SELECT one.query_id, three.item_id, round(sum(one.forth * two.back * three.forth), 12) AS likely
    FROM steps AS one JOIN steps AS two ON one.item_id = two.item_id AND one.query_id <> two.query_id
    JOIN steps AS three ON two.query_id = three.query_id GROUP BY one.query_id, three.item_id
)
SELECT query_id, item_id FROM walks ANTI JOIN edges USING (query_id, item_id)
QUALIFY row_number() OVER (PARTITION BY query_id ORDER BY likely DESC, item_id) <= $most ORDER BY query_id, item_id
"""


def judged_pairs(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """All judged train pairs, so that the teacher labels whole lists."""
    return connection.sql(_JUDGED).to_arrow_table()


def shown_pairs(connection: duckdb.DuckDBPyConnection, config: BuildPoolConfig) -> pa.Table:
    """The items that the log shows most for a query."""
    return connection.sql(_SHOWN, params={"most": config.num_impressions}).to_arrow_table()


def same_category_pairs(connection: duckdb.DuckDBPyConnection, config: BuildPoolConfig) -> pa.Table:
    """Items of the categories in which shoppers clicked for a query, that nobody clicked for it; drawn by a seeded hash."""
    params = {"seed": config.seed, "most": config.num_same_category, "most_per_category": MOST_PER_CATEGORY}
    return connection.sql(_SAME_CATEGORY, params=params).to_arrow_table()


def co_engaged_pairs(connection: duckdb.DuckDBPyConnection, config: BuildPoolConfig) -> pa.Table:
    """Items that shoppers reached by other words for what they clicked here; likeliest walk first."""
    return connection.sql(_CO_ENGAGED, params={"most": config.num_co_engagement, "most_steps": MOST_STEPS}).to_arrow_table()


def lexical_pairs(queries: pa.Table, items: pa.Table, config: BuildPoolConfig) -> tuple[pa.Table, pa.Table]:
    """(top of the lexical ranking, a seeded draw of deeper ranks); items without a common word are in neither."""
    index = LexicalIndex(items["item_id"], item_text(items))
    deepest = max(config.num_lexical, config.hard_last_rank if config.num_hard else 0)
    positions, scores = index.top(queries["query"].to_pylist(), deepest)
    found = scores > 0
    ranks = np.arange(1, positions.shape[1] + 1)
    top = found & (ranks <= config.num_lexical)
    deep = found & (ranks > config.num_lexical) & (ranks >= config.hard_first_rank) & (ranks <= config.hard_last_rank)
    hard = _draw(deep, config.num_hard, config.seed)
    return pairs_of(queries, items, top, positions), pairs_of(queries, items, hard, positions)


def random_pairs(queries: pa.Table, items: pa.Table, config: BuildPoolConfig) -> pa.Table:
    """Items drawn evenly, with replacement; repeats fall away later."""
    positions = np.random.default_rng([config.seed, 1]).integers(0, len(items), (len(queries), config.num_random))
    return pairs_of(queries, items, np.ones_like(positions, bool), positions)


def _draw(allowed: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most `most` of the true cells of each row [rows, columns], drawn evenly."""
    lots = np.where(allowed, np.random.default_rng([seed, 0]).random(allowed.shape), 2.0)
    place = np.argsort(np.argsort(lots, axis=1, kind="stable"), axis=1, kind="stable")
    return allowed & (place < most)


def pairs_of(queries: pa.Table, items: pa.Table, chosen: np.ndarray, positions: np.ndarray) -> pa.Table:
    """query_id and item_id of the cells of `positions` [queries, columns] that are `chosen`."""
    rows, columns = np.nonzero(chosen)
    chosen_items = pa.array(positions[rows, columns])
    return pa.table({"query_id": queries["query_id"].take(pa.array(rows)), "item_id": items["item_id"].take(chosen_items)})
