"""Well-formed rows -> events that are kept, each dropped one under exactly one reason.

The reasons in the order in which they are asked (the first that holds counts): unknown_query, duplicate, outside_window, bot,
evaluated_query, personal_data_only, too_rare_query.
"""

import duckdb
import pyarrow as pa

from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.warehouse import number, rows
from components.extract_logs.window import DAY_US, Window

REASONS = ("unknown_query", "duplicate", "outside_window", "bot", "evaluated_query", "personal_data_only", "too_rare_query")


def name_queries(connection: duckdb.DuckDBPyConnection, judged: pa.Table) -> None:
    """Tables `judged`, `phrases` (number, query, query_id, judged) and `typed` (search -> phrase).

    A phrase is a normalised, scrubbed query. Judged texts are public in the data set, so they are not scrubbed.
    """
    connection.register("judged_input", judged)
    connection.execute("CREATE TABLE judged AS SELECT query_id, query, split FROM judged_input")
    connection.unregister("judged_input")
    connection.execute("CREATE TABLE spellings AS SELECT text, normalise(text) AS query FROM (SELECT DISTINCT text FROM searches)")
    connection.execute(
        """CREATE TABLE clean_queries AS
           SELECT query, CASE WHEN query IN (SELECT query FROM judged) THEN query ELSE normalise(scrub(query)) END AS scrubbed
           FROM (SELECT DISTINCT query FROM spellings WHERE query <> '');
           CREATE TABLE phrases AS
           SELECT row_number() OVER (ORDER BY query) AS phrase, query, judged.query_id IS NOT NULL AS judged,
                  coalesce(judged.query_id, 'q' || left(sha256(query), 16)) AS query_id,
                  judged.query_id IS NULL AND only_placeholders(query) AS personal_only, false AS evaluated
           FROM (SELECT DISTINCT scrubbed AS query FROM clean_queries)
           LEFT JOIN (SELECT query, min(query_id) AS query_id FROM judged GROUP BY query) AS judged USING (query);
           CREATE TABLE typed AS
           SELECT searches.number AS search, phrase, searches.query_id, searches.us, hidden(nullif(searches.client, '')) AS client,
                  experiment
           FROM searches JOIN spellings USING (text) JOIN clean_queries USING (query)
           JOIN phrases ON phrases.query = clean_queries.scrubbed;
           DROP TABLE searches; DROP TABLE spellings; DROP TABLE clean_queries"""
    )


def deduplicate(connection: duckdb.DuckDBPyConnection, salt: bytes) -> tuple[int, int]:
    """Table `events`: rows of known queries, once each; returns (rows of unknown queries, repeated rows).

    UBI events have no id. Two rows are the same event when query_id, client, session, microsecond, action, item and position are
    equal; the 128-bit hash of these (and of the salt, as it leaves the warehouse) is the event's id.
    """
    connection.execute(
        """CREATE TABLE people AS SELECT name, hidden(name) AS hash FROM (
             SELECT client AS name FROM staged WHERE fault IS NULL UNION SELECT session FROM staged WHERE fault IS NULL)
           WHERE name IS NOT NULL"""
    )
    connection.execute(
        """CREATE TABLE known AS
           SELECT md5_number(concat_ws(chr(31), $salt, staged.query_id, coalesce(staged.client, ''), coalesce(session, ''), staged.us,
                                       action, item_id, coalesce(position, 0))) AS id,
                  search, phrase, coalesce(clients.hash, typed.client) AS client, sessions.hash AS session,
                  staged.us, action, item_id, position
           FROM staged JOIN typed USING (query_id)
           LEFT JOIN people AS clients ON clients.name = staged.client LEFT JOIN people AS sessions ON sessions.name = staged.session
           WHERE fault IS NULL""",
        {"salt": salt.hex()},
    )
    unknown = number(connection, "SELECT (SELECT count(*) FROM staged WHERE fault IS NULL) - (SELECT count(*) FROM known)")
    connection.execute("DROP TABLE staged; DROP TABLE people")
    connection.execute("CREATE TABLE repeated AS SELECT id, count(*) AS times FROM known GROUP BY id HAVING count(*) > 1")
    columns = ("search", "phrase", "client", "session", "us", "action", "item_id", "position")
    connection.execute(
        f"""CREATE VIEW events AS
            SELECT id, {", ".join(columns)} FROM known ANTI JOIN repeated USING (id) UNION ALL
            SELECT id, {", ".join(f"any_value({name}) AS {name}" for name in columns)}
            FROM known SEMI JOIN repeated USING (id) GROUP BY id"""
    )
    return unknown, number(connection, "SELECT sum(times - 1) FROM repeated")


def find_bots(connection: duckdb.DuckDBPyConnection, config: ExtractLogsConfig, window: Window) -> None:
    """Table `bots`: client and which rules it broke (sustained searches, many impressions without a click, clicks on the top only)."""
    bucket_us = config.bot_burst_minutes * 60_000_000
    connection.execute(
        f"""CREATE TABLE bots AS
            WITH bursts AS (
              SELECT client FROM typed WHERE {_inside(window)} AND client IS NOT NULL
              GROUP BY client, us // {bucket_us} HAVING count(*) > {config.bot_searches_per_minute * config.bot_burst_minutes}),
            habits AS (
              SELECT client, count(*) FILTER (action = 0) AS impressions, count(*) FILTER (action = 1) AS clicks,
                     count(*) FILTER (action = 1 AND position <= {config.bot_top_positions}) AS top_clicks
              FROM events WHERE {_inside(window)} AND client IS NOT NULL GROUP BY client)
            SELECT client, bool_or(rule = 'rate') AS rate, bool_or(rule = 'no_click') AS no_click,
                   bool_or(rule = 'top_click') AS top_click FROM (
              SELECT client, 'rate' AS rule FROM bursts
              UNION ALL SELECT client, 'no_click' FROM habits WHERE clicks = 0 AND impressions >= {config.bot_impressions}
              UNION ALL SELECT client, 'top_click' FROM habits
                WHERE clicks >= {config.bot_clicks} AND top_clicks >= {config.bot_top_share} * clicks)
            GROUP BY client"""
    )


def count_queries(connection: duckdb.DuckDBPyConnection, config: ExtractLogsConfig, window: Window) -> None:
    """Table `counted`: every phrase with its searches and clients in the window, and the reason that hides it (null when kept).

    Needs `phrases.evaluated` filled. A judged query is kept however rare: its text is public in the data set.
    """
    connection.execute(
        f"""CREATE TABLE counted AS
            SELECT phrase, query, query_id, judged, coalesce(searches, 0) AS frequency, coalesce(clients, 0) AS clients,
                   CASE WHEN evaluated THEN 'evaluated_query' WHEN personal_only THEN 'personal_data_only'
                        WHEN NOT judged AND coalesce(clients, 0) < {config.min_clients} THEN 'too_rare_query' END AS reason
            FROM phrases LEFT JOIN (
              SELECT phrase, count(*) AS searches, count(DISTINCT client) AS clients
              FROM typed ANTI JOIN bots USING (client) WHERE {_inside(window)} GROUP BY phrase) USING (phrase)"""
    )


def judge_events(connection: duckdb.DuckDBPyConnection, window: Window) -> dict[str, int]:
    """View `kept` over `events`; returns rows per reason for the others."""
    connection.execute(
        f"""CREATE VIEW judged_events AS
            SELECT events.*, query, query_id, CASE WHEN NOT ({_inside(window)}) THEN 'outside_window'
                   WHEN bots.client IS NOT NULL THEN 'bot' ELSE counted.reason END AS fate
            FROM events JOIN counted USING (phrase) LEFT JOIN bots ON bots.client = events.client;
            CREATE VIEW kept AS SELECT * FROM judged_events WHERE fate IS NULL"""
    )
    found = rows(connection, "SELECT fate, count(*) FROM judged_events WHERE fate IS NOT NULL GROUP BY fate")
    return {str(fate): int(count) for fate, count in found}


def events_sql() -> str:
    """The rows of table `events`, in order of time."""
    names = "CASE action WHEN 0 THEN 'impression' WHEN 1 THEN 'click' WHEN 2 THEN 'add_to_cart' ELSE 'purchase' END"
    return f"""SELECT lpad(lower(to_hex(id)), 32, '0') AS event_id, query_id, query, {_hex("client")} AS client,
                      {_hex("session")} AS session_id, make_timestamp(us) AS timestamp, {names} AS action, item_id, position
               FROM kept ORDER BY us, id"""


def days_of(window: Window) -> int:
    """Length of the window in days."""
    return (window.end_us - window.start_us) // DAY_US


def _inside(window: Window) -> str:
    return f"us >= {window.start_us} AND us < {window.end_us}"


def _hex(column: str) -> str:
    return f"lpad(lower(to_hex({column})), 16, '0')"
