"""What the log counted for each pair up to a day, in whole numbers: days are added one after another, and yesterday's sum goes on today.

`looks` are corrected impressions and `credit` corrected clicks, in billionths, both halved every `half_life_days`. Whole numbers make
the sums independent of row order and threads. A day's decay is rounded before the next day is added, so a state that was stored in
between holds the very numbers that counting all days at once would have passed through.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import ibis
import pyarrow as pa

from components.shared.columns import _
from components.shared.errors import InputError
from components.shared.schema import EVIDENCE
from components.shared.warehouse import Warehouse

ONE = 1_000_000_000
ONE_DAY = timedelta(days=1)
COUNTS = pa.schema([EVIDENCE.schema.field(name) for name in ("query", "item_id", "impressions", "clicks", "clients", "looks", "credit")])
STEP = pa.schema({"since": pa.date32(), "until": pa.date32(), "kept": pa.int64()})


def only_days_before(day: Any, until: Any) -> Any:
    """The rule against leaks by date, a condition of its own so that a test can take it away and see the leak."""
    return day < until


def add_days(counts: ibis.Table, interactions: ibis.Table, step: ibis.Table) -> ibis.Table:
    """Table `counts` with the days of `interactions` after `since` and before `until`; what was in it keeps `kept` of ONE.

    Args:
        step: one row (`STEP`), so that the relation is the same on each day and compiled once.
    """
    looks: Any = ibis.coalesce(_.corrected_impressions, _.impressions, 0)
    credit: Any = ibis.coalesce(_.corrected_clicks, _.clicks, 0)
    before = counts.cross_join(step).mutate(looks=fade(_.looks, _.kept), credit=fade(_.credit, _.kept))
    added = interactions.cross_join(step).filter(_.day > _.since, only_days_before(_.day, _.until))
    added = added.select(
        "query", "item_id", impressions=_.impressions.fill_null(0), clicks=_.clicks.fill_null(0), clients=_.clients.fill_null(0),
        looks=(looks * ONE).round(), credit=(credit * ONE).round(),
    )  # fmt: skip
    # the busiest day's clients are surely distinct; a sum over days would count a returning shopper again
    return (
        before.select(COUNTS.names)
        .union(added)
        .group_by("query", "item_id")
        .agg(impressions=_.impressions.sum(), clicks=_.clicks.sum(), clients=_.clients.max(), looks=_.looks.sum(), credit=_.credit.sum())
    )


def fade(value: Any, kept: Any) -> Any:
    """value * kept / ONE cut to a whole number, for kept up to ONE: exact in 64 bits, where the product would need 128."""
    rest = value % ONE
    return whole_part(value) * kept + whole_part(rest * kept)


def whole_part(value: Any) -> Any:
    """value / ONE, cut. Engines divide in floating point; the quotient of a multiple of ONE is a whole number below 2^34, so its error
    is far below the half that rounding takes away."""
    return ((value - value % ONE) / ONE).round()


def count_fates(interactions: ibis.Table, texts: ibis.Table, last_day: date) -> ibis.Table:
    """One row: interactions that are kept, those of days up to the given one, of an unknown item, of an unknown query; the latest day."""
    items = texts.filter(_.is_item).select(item_id="name", has_item=ibis.literal(True))
    queries = texts.filter(~_.is_item).select(query="name", has_query=ibis.literal(True))
    rows = interactions.left_join(items, "item_id").left_join(queries, "query")
    is_new, has_item, has_query = _.day > last_day, _.has_item.notnull(), _.has_query.notnull()
    return rows.agg(
        kept=_.count(where=is_new & has_item & has_query),
        already_counted=_.count(where=~is_new),
        unknown_item=_.count(where=is_new & ~has_item),
        unknown_query=_.count(where=is_new & has_item & ~has_query),
        last_day=_.day.max(),
    )


@dataclass(frozen=True)
class Span:
    """The days that table `counts` holds, both included, and the half-life they were added with."""

    first_day: date
    last_day: date
    half_life_days: float


def begin(warehouse: Warehouse, first_day: date, half_life_days: float) -> Span:
    """An empty table `counts`, before the log's first day."""
    warehouse.put("counts", COUNTS.empty_table())
    return Span(first_day, first_day - ONE_DAY, half_life_days)


def resume(warehouse: Warehouse, stored: pa.Table, half_life_days: float, where: str) -> Span:
    """Table `counts` as an earlier run stored it.

    Raises:
        InputError: when it is empty or was made with another half-life.
    """
    if not stored.num_rows:
        raise InputError(f"'{where}' is empty; run once without 'previous'")
    span = Span(*(stored[name][0].as_py() for name in ("first_day", "last_day", "half_life_days")))
    if span.half_life_days != half_life_days:
        raise InputError(
            f"'{where}' was made with half_life_days = {span.half_life_days:g}, the recipe has {half_life_days:g}; "
            "set that value, or run once without 'previous'"
        )
    warehouse.put("counts", stored.select(COUNTS.names))
    return span


def advance(warehouse: Warehouse, span: Span, until: date) -> Span:
    """Add the days of table `interactions` after the span and before `until`; with a half-life one by one, days without a row too."""
    num_days = (until - span.last_day).days - 1
    kept = round(ONE * 2 ** (-1 / span.half_life_days)) if span.half_life_days else ONE
    ends = [until] if kept == ONE else [span.last_day + (n + 2) * ONE_DAY for n in range(num_days)]
    since = span.last_day
    step = ibis.table(ibis.Schema.from_pyarrow(STEP), name="step")
    added = add_days(warehouse.table("counts"), warehouse.table("interactions"), step)
    for end in ends if num_days > 0 else []:
        warehouse.put("step", pa.table({"since": [since], "until": [end], "kept": [kept]}, STEP))
        warehouse.keep("counts", added)
        since = end - ONE_DAY
    return Span(span.first_day, since, span.half_life_days)


def stored_counts(warehouse: Warehouse, span: Span) -> pa.Table:
    """Table `evidence`: what `resume` goes on from."""
    table = warehouse.arrow(warehouse.table("counts").order_by("query", "item_id"))
    for name in ("first_day", "last_day", "half_life_days"):
        column = EVIDENCE.schema.field(name)
        table = table.append_column(column, pa.repeat(pa.scalar(getattr(span, name), column.type), table.num_rows))
    return table
