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

from typing import Any

import ibis
import pyarrow as pa

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.counts import ONE
from components.shared.columns import _
from components.shared.schema import NEIGHBORS
from components.shared.warehouse import Warehouse

# side -> its key, its neighbors or what its paths go through, and what its neighbors are
FIRST_ORDER = {"query": ("query", "item_id"), "item": ("item_id", "query")}
SECOND_ORDER = {"query_query": FIRST_ORDER["query"], "item_item": FIRST_ORDER["item"]}
OF_ITEMS = ("query", "item_item")  # sides whose neighbors are items

# sums of products of two shares, of at most `num_neighbors` paths each, are whole numbers of 64 bits: the same in any order of rows
SHARE = 100_000_000
RANKED = pa.schema([column for column in NEIGHBORS.schema if column.name != "snapshot"])


def not_through_the_pair(via: Any, left_out: Any) -> Any:
    """The rule against leaks by pair, a condition of its own so that a test can take it away and see the leak."""
    return via != left_out


def rank_first(accepted: ibis.Table, side: str, config: RetrieveNeighborsConfig) -> ibis.Table:
    """The `num_neighbors` + 1 best of every key, without texts."""
    key, via = FIRST_ORDER[side]
    ranked = accepted.mutate(rank=_place(key, via) + 1).filter(_.rank <= config.num_neighbors + 1)
    return ranked.mutate(
        side=ibis.literal(side), key=_[key], left_out=ibis.literal(""), neighbor=_[via], corrected_impressions=_.looks / ONE
    )


def rank_second(accepted: ibis.Table, side: str, config: RetrieveNeighborsConfig) -> ibis.Table:
    """The `num_neighbors` best of every key's list, and of each of its lists that leaves a pair out, without texts."""
    key, via = SECOND_ORDER[side]
    shares = {name: (_[name] * SHARE).round() for name in ("strength", "rate", "lower_bound", "upper_bound")}
    edges = accepted.select(
        "looks", "clicks", "clients", key=_[key], via=_[via], place=_place(key, via), far_place=_place(via, key), **shares
    )  # fmt: skip
    seats = find_seats(edges.filter(_.place <= config.num_neighbors), config.num_neighbors)
    far = edges.filter(_.far_place < config.hop_size).select("key", "via", "looks", "clicks", "clients", *shares)
    paths = seats.inner_join(far, "via", rname="far_{name}").filter(_.far_key != _.key)
    weaker: Any = {name: ibis.least(_[name], _[f"far_{name}"]) for name in ("looks", "clicks", "clients")}
    scored = paths.group_by("key", "left_out", "whole", neighbor=_.far_key).agg(
        score=(_.strength * _.far_strength).sum(),
        looks=weaker["looks"].sum(), clicks=weaker["clicks"].sum(), clients=weaker["clients"].max(),
        **{name: (_.strength * _[f"far_{name}"]).sum() for name in ("rate", "lower_bound", "upper_bound")},
    )  # fmt: skip
    best = _row_number(("key", "left_out"), [_.score.desc(), _.clicks.desc(), _.neighbor])
    ranked = scored.filter(_.score > 0).mutate(rank=best + 1).filter(_.rank <= config.num_neighbors)
    means = {name: _[name] / _.whole / SHARE for name in ("rate", "lower_bound", "upper_bound")}
    return ranked.mutate(side=ibis.literal(side), corrected_impressions=_.looks / ONE, **means)


def find_seats(starts: ibis.Table, num_neighbors: int) -> ibis.Table:
    """The starts of every list, at most `num_neighbors` each, with `left_out` and the `whole` strength of the list."""
    of_list = ("key", "left_out")
    lists = starts.select("key", left_out=ibis.literal("")).distinct().union(starts.select("key", left_out="via"))
    seats = lists.inner_join(starts, "key").filter(not_through_the_pair(_.via, _.left_out))
    seats = seats.mutate(seat=_row_number(of_list, [_.place])).filter(_.seat < num_neighbors)
    return seats.mutate(whole=_.strength.sum().over(group_by=of_list))


def add_texts(ranked: ibis.Table, texts: ibis.Table, *, are_items: bool) -> ibis.Table:
    """Rows of table `neighbors` without `snapshot`, by key, list and rank."""
    names = texts.filter(_.is_item == are_items).select("text", neighbor="name")
    return ranked.inner_join(names, "neighbor").select(RANKED.names).order_by("key", "left_out", "rank")


def rank_neighbors(warehouse: Warehouse, config: RetrieveNeighborsConfig) -> pa.Table:
    """Table `neighbors` without its `snapshot`, ordered by side, key, list and rank.

    Args:
        warehouse: has tables `accepted` (evidence of accepted pairs) and `texts` (name, is_item, text).
    """
    accepted, texts = warehouse.table("accepted"), warehouse.table("texts")
    ranked = {side: rank_first(accepted, side, config) for side in FIRST_ORDER}
    if config.order == 2:
        ranked |= {side: rank_second(accepted, side, config) for side in SECOND_ORDER}
    relations = [add_texts(one, texts, are_items=side in OF_ITEMS) for side, one in ranked.items()]
    return pa.concat_tables([warehouse.arrow(relation).cast(RANKED) for relation in relations])


def _place(key: str, via: str) -> Any:
    """Place of a pair among those of its `key`, from 0, surest first; ties go by clicks and then by name, so there are none."""
    return _row_number(key, [_.strength.desc(), _.clicks.desc(), _[via]])


def _row_number(group_by: Any, order_by: list[Any]) -> Any:
    return ibis.row_number().over(group_by=group_by, order_by=order_by)
