"""Kept events -> what shoppers did with an item under a query on a day, with impressions corrected for position."""

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.extract_logs.propensity import NUM_POSITIONS, Examination
from components.extract_logs.staging import ADD_TO_CART, CLICK, IMPRESSION, PURCHASE
from components.extract_logs.window import DAY_US
from components.shared.columns import _

_SCALE = 1_000_000_000  # propensities are summed as whole billionths, so that the sum does not depend on the order


def show_items(kept: ibis.Table, typed: ibis.Table) -> ibis.Table:
    """search, phrase, item_id, client, day, seen, clicked, carted, bought, position, experiment: one row per (search, item) of the kept
    events.

    Within one search an item is shown at most once and clicked, carted, bought at most once, so clicks never outnumber impressions;
    an item with a click but no recorded impression counts as shown. The day is that of the pair's first event, the position that of
    its highest impression (else of its click; position 1 when none is known, which corrects nothing).
    """
    is_impression = _.action == IMPRESSION
    shown = kept.group_by("search", "phrase", "item_id").agg(
        client=_.client.min(), day=(_.us.min() // DAY_US).cast("int32"), seen=is_impression.any(), clicked=(_.action == CLICK).any(),
        carted=(_.action == ADD_TO_CART).any(), bought=(_.action == PURCHASE).any(),
        position=ibis.coalesce(_.position.min(where=is_impression), _.position.min(), 1).cast("int32"),
    )  # fmt: skip
    return shown.left_join(typed.select("search", "experiment"), "search").select(*shown.columns, "experiment")


def weigh_positions(examination: Examination) -> pa.Table:
    """place, weight and trust (whole billionths) of every position."""
    weight, trust = (np.rint(values * _SCALE).astype(np.int64) for values in (examination.examined, examination.trusted))
    return pa.table({"place": np.arange(1, NUM_POSITIONS + 1, dtype=np.int32), "weight": weight, "trust": trust})


def count_interactions(shown: ibis.Table, weights: ibis.Table) -> ibis.Table:
    """phrase, item_id, day with impressions, clicks, add_to_carts, purchases, clients, the summed weight of the positions, and the
    credit: clicks less those that the positions earn by themselves, in billionths."""
    placed = shown.mutate(place=ibis.least(_.position, NUM_POSITIONS)).inner_join(weights, "place")
    return placed.group_by("phrase", "item_id", "day").agg(
        impressions=_.count(), clicks=_.clicked.sum(), add_to_carts=_.carted.sum(), purchases=_.bought.sum(),
        clients=_.client.nunique(), weight=_.weight.sum(), credit=(_.clicked.cast("int64") * _SCALE - _.trust).sum(),
    )  # fmt: skip


def list_interactions(interactions: ibis.Table, phrases: ibis.Table, things: ibis.Table) -> ibis.Table:
    """The rows of table `interactions` by query, item and day, weight and credit still whole."""
    rows = interactions.inner_join(phrases.select("phrase", "query"), "phrase").inner_join(things, [("item_id", "code")])
    rows = rows.select("query", "day", "impressions", "clicks", "add_to_carts", "purchases", "clients", "weight", "credit", item="name")
    return rows.order_by("query", "item", "day")


def publish_interactions(rows: pa.Table) -> pa.Table:
    """Table `interactions` of rows of `list_interactions`."""
    looks, clicks = (pc.divide(rows[name].cast(pa.float64()), float(_SCALE)) for name in ("weight", "credit"))
    rows = rows.drop(["weight", "credit"]).rename_columns({"item": "item_id"})
    rows = rows.append_column("corrected_impressions", looks).append_column("corrected_clicks", clicks)
    return rows.set_column(rows.column_names.index("day"), "day", rows["day"].cast(pa.date32()))
