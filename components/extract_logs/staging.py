"""Files -> typed rows: one `staged` row per event with the code of its fault, one `searches` row per query_id."""

from collections.abc import Sequence

import duckdb

from components.extract_logs import sources
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.warehouse import rows
from components.extract_logs.window import DAY_US, FIRST_DAY
from components.shared.schema import ACTIONS

IGNORED = "other_action"  # well-formed, but not an action that we count: dropped, not quarantined
MAX_POSITION = 100_000
_FIRST_US = f"epoch_us(TIMESTAMP '{FIRST_DAY} 00:00:00')"
_LAST_US = "epoch_us(TIMESTAMP '2100-01-01 00:00:00')"


def define_parsers(connection: duckdb.DuckDBPyConnection) -> None:
    """SQL macro `moment(text)`: UTC microseconds of `...Z`, `...+0000` or epoch milliseconds; null when it is none of them."""
    connection.execute(
        f"""CREATE MACRO plausible(us) AS CASE WHEN us >= {_FIRST_US} AND us < {_LAST_US} THEN us END;
            CREATE MACRO moment(text) AS plausible(coalesce(
              TRY_CAST(TRY_CAST(text AS DOUBLE) * 1000 AS BIGINT), epoch_us(TRY_CAST(text AS TIMESTAMPTZ))))"""
    )


def stage_events(connection: duckdb.DuckDBPyConnection, files: Sequence[str], config: ExtractLogsConfig, first_position: int) -> None:
    """Table `staged`: query_id, client, session, us, action, item_id, position, text, fault (null for a well-formed row)."""
    known = ", ".join(f"{_quote(theirs)}: {ACTIONS.index(ours)}" for theirs, ours in sorted(config.action_names.items()))
    ignored = ", ".join(_quote(name) for name in config.ignored_actions) or "''"
    connection.execute(
        f"""CREATE TABLE staged AS
            WITH raw AS ({sources.relation(files, sources.EVENT_PLACES)}),
            typed AS (
              SELECT query_id, coalesce(client, session) AS client, session, time, item_id, ordinal, text, action AS name,
                     map_extract_value(MAP {{{known}}}, action) AS action, moment(time) AS us,
                     TRY_CAST(ordinal AS INTEGER) + 1 - {first_position} AS position
              FROM raw)
            SELECT query_id, client, session, us, CAST(action AS TINYINT) AS action, item_id, CAST(position AS INTEGER) AS position, text,
              CASE WHEN query_id IS NULL AND name IS NULL AND time IS NULL AND item_id IS NULL AND client IS NULL THEN 'unreadable'
                   WHEN name IN ({ignored}) AND action IS NULL THEN '{IGNORED}'
                   WHEN query_id IS NULL THEN 'no_query_id'
                   WHEN action IS NULL THEN 'unknown_action'
                   WHEN item_id IS NULL THEN 'empty_item'
                   WHEN (ordinal IS NULL AND action = 0)
                     OR (ordinal IS NOT NULL AND coalesce(position NOT BETWEEN 1 AND {MAX_POSITION}, true))
                     THEN 'bad_position'
                   WHEN us IS NULL THEN 'bad_timestamp'
              END AS fault
            FROM typed"""
    )


def stage_searches(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> dict[str, int]:
    """Table `searches`: number, query_id, text, us, client, experiment; one row per query_id that has a text.

    A query_id that is logged several times keeps its latest row. One that is logged only with its events takes the event's
    own `user_query`, client and first time. Returns the rows of the log that were read, unusable (no id, no text) or repeated.
    """
    connection.execute(
        f"""CREATE TABLE logged AS SELECT query_id, client, text, moment(time) AS us, experiment
            FROM ({sources.relation(files, sources.QUERY_PLACES)});
            CREATE TABLE latest AS
            SELECT query_id, unnest(max({{us: coalesce(us, 0), text: text, client: coalesce(client, ''), experiment: experiment}}))
            FROM logged WHERE query_id IS NOT NULL AND text IS NOT NULL GROUP BY query_id"""
    )
    read, usable, distinct = rows(
        connection,
        "SELECT count(*), count(*) FILTER (query_id IS NOT NULL AND text IS NOT NULL), (SELECT count(*) FROM latest) FROM logged",
    )[0]
    connection.execute(
        """CREATE TABLE searches AS
           WITH seen AS (
             SELECT query_id, max(text) AS text, min(us) AS us, min(client) AS client
             FROM staged ANTI JOIN (SELECT query_id FROM latest WHERE us > 0) USING (query_id) WHERE fault IS NULL GROUP BY query_id)
           SELECT row_number() OVER (ORDER BY query_id) AS number, query_id, coalesce(latest.text, seen.text) AS text,
                  coalesce(nullif(latest.us, 0), seen.us) AS us, coalesce(nullif(latest.client, ''), seen.client) AS client, experiment
           FROM latest FULL JOIN seen USING (query_id) WHERE coalesce(latest.text, seen.text) IS NOT NULL;
           DROP TABLE logged; DROP TABLE latest"""
    )
    return {"read": read, "unusable": read - usable, "repeated": usable - distinct}


def count_faults(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Rows per fault; the well-formed ones under the empty name."""
    found = rows(connection, "SELECT coalesce(fault, ''), count(*) FROM staged GROUP BY 1 ORDER BY 1")
    return {str(fault): int(count) for fault, count in found}


def last_day_number(connection: duckdb.DuckDBPyConnection, before_us: int) -> int | None:
    """Last day (days since 1970) of a well-formed event earlier than `before_us`."""
    return rows(connection, f"SELECT max(us) // {DAY_US} FROM staged WHERE fault IS NULL AND us < {before_us}")[0][0]


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
