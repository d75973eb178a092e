"""Accepted pairs -> the best neighbors of every query and item, first and second order.

First order: items that shoppers accepted for a query (side `query`), queries that an item satisfied (side `item`).

Second order: queries that share accepted items with a query (`query_query`), items that share accepting queries with an item
(`item_item`): the two-step meta-paths of BERM (arXiv 2210.01701), with at most `hop_size` of them at the second step, because an item
may satisfy a hundred thousand queries. A list starts from what a model reads at first order, the key's best `num_neighbors`, and scores
a neighbor with its mean strength (lower bound, or published rate) at these starts, weighted by the key's own strength there: two steps
of a random walk on the click graph (Craswell and Szummer, SIGIR 2007) with strengths in place of click counts.

No path runs through a judged pair. For each first-order neighbor there is a list of its own, with it as `left_out`, that starts at the
others, as the pair's own first-order list does. Nothing in it depends on the pair (key, left_out): its first steps lead from the key to
others, its second steps from these to other keys. The list for all other pairs has `left_out` empty.
"""

import duckdb
import pyarrow as pa

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.counts import ONE
from components.shared.schema import NEIGHBORS

# side -> its key, its neighbors or what its paths go through, and what its neighbors are
FIRST_ORDER = {"query": ("query", "item_id"), "item": ("item_id", "query")}
SECOND_ORDER = {"query_query": FIRST_ORDER["query"], "item_item": FIRST_ORDER["item"]}

# the rule against leaks by pair, as SQL of its own so that a test can take it away and see the leak
NOT_THROUGH_THE_PAIR = "via <> left_out"

_FIRST = """
SELECT '{side}' AS side, {key} AS key, '' AS left_out, {via} AS neighbor,
    looks / {one} AS corrected_impressions, clicks, clients, rate, lower_bound, upper_bound,
    row_number() OVER (PARTITION BY {key} ORDER BY strength DESC, clicks DESC, {via}) AS rank
FROM accepted QUALIFY rank <= $num_neighbors + 1
"""

_SECOND = """
WITH edges AS (
    SELECT {key} AS key, {via} AS via, looks, clicks, clients, round({one} * rate)::BIGINT AS rate,
        round({one} * lower_bound)::BIGINT AS lower_bound, round({one} * upper_bound)::BIGINT AS upper_bound,
        round({one} * strength)::BIGINT AS strength,
        row_number() OVER (PARTITION BY {key} ORDER BY accepted.strength DESC, clicks DESC, {via}) AS place,
        row_number() OVER (PARTITION BY {via} ORDER BY accepted.strength DESC, clicks DESC, {key}) AS far_place
    FROM accepted
),
starts AS (SELECT * FROM edges WHERE place <= $num_neighbors + 1),
lists AS (SELECT DISTINCT key, '' AS left_out FROM starts UNION ALL SELECT key, via FROM starts),
seats AS (
    SELECT key, left_out, via, looks, clicks, clients, strength, sum(strength) OVER (PARTITION BY key, left_out) AS whole FROM (
        SELECT *, row_number() OVER (PARTITION BY key, left_out ORDER BY place) AS seat FROM lists JOIN starts USING (key)
        WHERE {rule} QUALIFY seat <= $num_neighbors)
),
scored AS (
    SELECT seats.key, left_out, far.key AS neighbor, any_value(whole) AS whole, sum(seats.strength::HUGEINT * far.strength) AS score,
        sum(least(seats.looks, far.looks)) / {one} AS corrected_impressions, sum(least(seats.clicks, far.clicks))::BIGINT AS clicks,
        max(least(seats.clients, far.clients)) AS clients, sum(seats.strength::HUGEINT * far.rate) AS rate,
        sum(seats.strength::HUGEINT * far.lower_bound) AS lower_bound, sum(seats.strength::HUGEINT * far.upper_bound) AS upper_bound
    FROM seats JOIN edges AS far ON far.via = seats.via AND far.key <> seats.key WHERE far_place <= $hop_size
    GROUP BY seats.key, left_out, far.key
)
SELECT '{side}' AS side, key, left_out, neighbor, corrected_impressions, clicks, clients, rate / whole / {one} AS rate,
    lower_bound / whole / {one} AS lower_bound, upper_bound / whole / {one} AS upper_bound,
    row_number() OVER (PARTITION BY key, left_out ORDER BY score DESC, clicks DESC, neighbor) AS rank
FROM scored WHERE score > 0 QUALIFY rank <= $num_neighbors
"""

_WITH_TEXTS = """
SELECT ranked.*, text FROM ({ranked}) AS ranked JOIN texts ON is_item = {is_item} AND name = neighbor ORDER BY key, left_out, rank
"""


def rank_neighbors(connection: duckdb.DuckDBPyConnection, config: RetrieveNeighborsConfig) -> pa.Table:
    """Table `neighbors` without its `snapshot`, ordered by side, key, list and rank.

    Args:
        connection: has tables `accepted` (evidence of accepted pairs) and `texts` (name, is_item, text).
    """
    values = {"num_neighbors": config.num_neighbors, "hop_size": config.hop_size}
    templates = [(_FIRST, FIRST_ORDER), *([(_SECOND, SECOND_ORDER)] if config.order == 2 else [])]
    parts = []
    for template, sides in templates:
        for side, (key, via) in sides.items():
            ranked = template.format(side=side, key=key, via=via, one=f"{ONE}::DOUBLE", rule=NOT_THROUGH_THE_PAIR)
            statement = _WITH_TEXTS.format(ranked=ranked, is_item=side in ("query", "item_item"))
            part = connection.sql(statement, params={name: one for name, one in values.items() if f"${name}" in statement}).to_arrow_table()
            parts.append(part.select([name for name in NEIGHBORS.schema.names if name != "snapshot"]))
    return pa.concat_tables(parts)
