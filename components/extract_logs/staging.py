"""Files -> strict rows: every event with the code of its fault, every search with its text."""

import duckdb
import ibis

from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.window import FIRST_DAY
from components.shared.columns import _
from components.shared.schema import ACTIONS
from components.shared.text import MAX_QUERY_CHARS

IMPRESSION, CLICK, ADD_TO_CART, PURCHASE = range(len(ACTIONS))
IGNORED = "other_action"  # well-formed, but not an action that we count: dropped, not quarantined
MAX_POSITION = 100_000
_FIRST_US = f"epoch_us(TIMESTAMP '{FIRST_DAY} 00:00:00')"
_LAST_US = "epoch_us(TIMESTAMP '2100-01-01 00:00:00')"


def define_parsers(connection: duckdb.DuckDBPyConnection) -> None:
    """SQL macro `moment(text)`: UTC microseconds of `...Z`, `...+0000`, a time without a zone (UTC) or epoch milliseconds; else null."""
    connection.execute(
        f"""CREATE MACRO plausible(us) AS CASE WHEN us >= {_FIRST_US} AND us < {_LAST_US} THEN us END;
            CREATE MACRO moment(text) AS plausible(coalesce(
              TRY_CAST(TRY_CAST(text AS DOUBLE) * 1000 AS BIGINT), epoch_us(TRY_CAST(text AS TIMESTAMPTZ))))"""
    )


def read_log(connection: duckdb.DuckDBPyConnection, events: str, searches: str) -> None:
    """Views `read_events` and `read_queries` of the raw relations of `readers`: the rows of the files, parsed where they can be.

    Times are UTC microseconds, positions start at 1; `is_blank` marks a row without anything in it, `has_position` one that says
    a position, parsable or not, `origin` is where the row stood and what it said.
    """
    connection.execute(
        f"""CREATE VIEW read_events AS
            SELECT query_id, coalesce(client, session) AS client, session, moment(time) AS us, action AS name, item_id,
                   TRY_CAST(TRY_CAST(ordinal AS INTEGER)::BIGINT + 1 - first_position AS INTEGER) AS position,
                   text, ordinal IS NOT NULL AS has_position,
                   coalesce(query_id, action, time, item_id, client, session) IS NULL AS is_blank, origin
            FROM ({events});
            CREATE VIEW read_queries AS
            SELECT query_id, client, text, moment(time) AS us, experiment FROM ({searches})"""
    )


def judge_rows(read: ibis.Table, config: ExtractLogsConfig) -> ibis.Table:
    """query_id, client, session, us, action (index into ACTIONS), item_id, position, text, fault (null for a well-formed row), origin
    (of a row with a fault)."""
    action = _.name.cases(*((theirs, ACTIONS.index(ours)) for theirs, ours in sorted(config.action_names.items())))
    rows = read.mutate(action=action.cast("int8"))
    is_impression = _.action.fill_null(-1) == IMPRESSION
    fault = ibis.cases(
        (_.is_blank, "unreadable"),
        (_.name.isin(config.ignored_actions) & _.action.isnull(), IGNORED),
        (_.query_id.isnull(), "no_query_id"),
        (_.action.isnull(), "unknown_action"),
        (_.item_id.isnull(), "empty_item"),
        (is_impression & ~_.has_position, "bad_position"),
        (_.has_position & ~_.position.between(1, MAX_POSITION).fill_null(False), "bad_position"),
        (_.us.isnull(), "bad_timestamp"),
    )
    judged = rows.mutate(position=_.position.cast("int32"), fault=fault)
    columns = ("query_id", "client", "session", "us", "action", "item_id", "text", "position", "fault")
    return judged.select(*columns, origin=ibis.cases((_.fault.notnull(), _.origin)))


def find_searches(read: ibis.Table, staged: ibis.Table) -> ibis.Table:
    """query_id, text, us, client, experiment: one row per query_id that has a text.

    A query_id that is logged several times keeps its latest row. One that is logged only with its events, which may be searches
    themselves, takes their text, client and first time.
    """
    usable = read.filter(_.query_id.notnull(), _.text.notnull()).mutate(us=_.us.fill_null(0), client=_.client.fill_null(""))
    place = ibis.row_number().over(group_by="query_id", order_by=[_.us.desc(), _.text.desc(), _.client.desc(), _.experiment.fill_null("")])
    latest = usable.mutate(place=place).filter(_.place == 0).drop("place")
    whole = latest.filter(_.us > 0, _.client != "").select("query_id")
    seen = (
        staged.filter(_.query_id.notnull(), _.fault.fill_null(IGNORED) == IGNORED)
        .anti_join(whole, "query_id")
        .group_by("query_id")
        .agg(text=_.text.max(), us=_.us.min(), client=_.client.min())
    )
    both = latest.outer_join(seen, "query_id", rname="seen_{name}")
    return both.select(
        query_id=ibis.coalesce(_.query_id, _.seen_query_id),
        text=ibis.coalesce(_.text, _.seen_text),
        us=ibis.coalesce(_.us.nullif(0), _.seen_us),
        client=ibis.coalesce(_.client.nullif(""), _.seen_client),
        experiment=_.experiment,
    ).filter(_.text.notnull())


def count_searches(read: ibis.Table) -> ibis.Table:
    """One row `searches.*`: rows of the log that were read, unusable (no id, no text) or repeated."""
    usable = _.query_id.notnull() & _.text.notnull()
    counts = read.agg(read=_.count(), usable=_.count(where=usable), unlike=_.query_id.nunique(where=usable))
    names = {"read": _.read, "unusable": _.read - _.usable, "repeated": _.usable - _.unlike}
    return counts.select(**{f"searches.{name}": count for name, count in names.items()})


def count_cut(searches: ibis.Table) -> ibis.Table:
    """One row `searches.cut`: searches whose text is cut at MAX_QUERY_CHARS."""
    return searches.agg(**{"searches.cut": _.count(where=_.text.length() > MAX_QUERY_CHARS)})


def count_faults(staged: ibis.Table) -> ibis.Table:
    """fault, rows; the well-formed ones under the empty name."""
    return staged.group_by(fault=_.fault.fill_null("")).agg(rows=_.count()).order_by("fault")
