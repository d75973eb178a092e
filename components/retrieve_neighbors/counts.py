"""What the log counted for each pair up to a day, in whole numbers: days are added one after another, and yesterday's sum goes on today.

`looks` are corrected impressions and `credit` corrected clicks, in billionths, both halved every `half_life_days`. Whole numbers make
the sums independent of row order and threads. A day's decay is rounded before the next day is added, so a state that was stored in
between holds the very numbers that counting all days at once would have passed through.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import duckdb
import pyarrow as pa

from components.shared.errors import InputError
from components.shared.schema import EVIDENCE

ONE = 1_000_000_000
ONE_DAY = timedelta(days=1)

# the rule against leaks by date, as SQL of its own so that a test can take it away and see the leak
ONLY_DAYS_BEFORE = "day < $until"

_START = """
CREATE OR REPLACE TABLE counts (
    query VARCHAR, item_id VARCHAR, impressions BIGINT, clicks BIGINT, clients BIGINT, looks BIGINT, credit BIGINT)
"""

# the busiest day's clients are surely distinct; a sum over days would count a returning shopper again
_ADD = """
CREATE OR REPLACE TABLE counts AS
SELECT query, item_id, sum(impressions)::BIGINT AS impressions, sum(clicks)::BIGINT AS clicks, max(clients) AS clients,
    sum(looks)::BIGINT AS looks, sum(credit)::BIGINT AS credit
FROM (
    SELECT query, item_id, impressions, clicks, clients,
        looks::HUGEINT * $kept // {one} AS looks, credit::HUGEINT * $kept // {one} AS credit
    FROM counts
    UNION ALL
    SELECT query, item_id, coalesce(impressions, 0), coalesce(clicks, 0), coalesce(clients, 0),
        round(coalesce(corrected_impressions, impressions, 0) * {one})::BIGINT, round(coalesce(corrected_clicks, clicks, 0) * {one})::BIGINT
    FROM interactions WHERE day > $since AND {rule}
) GROUP BY query, item_id
"""


@dataclass(frozen=True)
class Span:
    """The days that table `counts` holds, both included, and the half-life they were added with."""

    first_day: date
    last_day: date
    half_life_days: float


def begin(connection: duckdb.DuckDBPyConnection, first_day: date, half_life_days: float) -> Span:
    """An empty table `counts`, before the log's first day."""
    connection.execute(_START)
    return Span(first_day, first_day - ONE_DAY, half_life_days)


def resume(connection: duckdb.DuckDBPyConnection, stored: pa.Table, half_life_days: float, where: str) -> Span:
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
    connection.execute(_START)
    connection.register("stored", stored)
    connection.execute("INSERT INTO counts SELECT query, item_id, impressions, clicks, clients, looks, credit FROM stored")
    connection.unregister("stored")
    return span


def advance(connection: duckdb.DuckDBPyConnection, span: Span, until: date) -> Span:
    """Add the days of table `interactions` after the span and before `until`; with a half-life one by one, days without a row too."""
    statement = _ADD.format(one=ONE, rule=ONLY_DAYS_BEFORE)
    num_days = (until - span.last_day).days - 1
    kept = round(ONE * 2 ** (-1 / span.half_life_days)) if span.half_life_days else ONE
    ends = [until] if kept == ONE else [span.last_day + (n + 2) * ONE_DAY for n in range(num_days)]
    since = span.last_day
    for end in ends if num_days > 0 else []:
        connection.execute(statement, {"kept": kept, "since": since, "until": end})
        since = end - ONE_DAY
    return Span(span.first_day, since, span.half_life_days)


def stored_counts(connection: duckdb.DuckDBPyConnection, span: Span) -> pa.Table:
    """Table `evidence`: what `resume` goes on from."""
    table = connection.sql("SELECT * FROM counts ORDER BY query, item_id").to_arrow_table()
    for name in ("first_day", "last_day", "half_life_days"):
        column = EVIDENCE.schema.field(name)
        table = table.append_column(column, pa.repeat(pa.scalar(getattr(span, name), column.type), table.num_rows))
    return table
