"""The three layouts of a log -> one raw relation, which everything after is written for.

Columns of raw events, all VARCHAR unless said: query_id, client, session, time (ISO 8601 or milliseconds since 1970), action,
item_id, ordinal, text (of the query; the event's own), first_position (INTEGER: the ordinal of the first result), origin (STRUCT:
file, row, action, ordinal, time as they stood in the log, for the quarantine). Columns of raw searches: query_id, client, time, text.
"""

from collections.abc import Mapping, Sequence

import duckdb

from components.extract_logs import ga4, sources
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.sources import Places, literal
from components.shared.card import LogColumn, LogSource
from components.shared.text import MAX_QUERY_CHARS

UBI_EVENTS: Places = {
    "query_id": ("query_id",),
    "client": ("client_id",),
    "session": ("session_id", "event_attributes.session_id"),
    "time": ("timestamp",),
    "action": ("action_name",),
    "item_id": ("event_attributes.object.object_id",),
    "ordinal": ("event_attributes.position.ordinal",),
    "text": ("user_query",),
    "message": ("message",),
    "application": ("application",),
}
UBI_QUERIES: Places = {"query_id": ("query_id",), "client": ("client_id",), "time": ("timestamp",), "text": ("user_query",)}
PLACES: Mapping[LogColumn, str] = {
    "query_id": "query_id", "client": "client", "session_id": "session", "timestamp": "time", "action": "action", "item_id": "item_id",
    "position": "ordinal", "query": "text",
}  # fmt: skip
NEEDED = ("query_id", "time", "action", "item_id")
ORIGIN = "{'file': file, 'row': row, 'action': action, 'ordinal': ordinal, 'time': time} AS origin"
UNIT_MS = {"s": 1e3, "ms": 1.0, "us": 1e-3}


def event_rows(log: LogSource, files: Sequence[str]) -> str:
    """SELECT of the raw events.

    Raises:
        InputError: for files that cannot be opened or have other columns than the card says.
    """
    if log.format == "ga4":
        return ga4.event_rows(log, files)
    if log.format == "columns":
        raw = sources.relation(files, _own(log.event_columns), NEEDED)
        time, text, first = _milliseconds(log.time_unit), "text", str(log.first_position)
    else:
        raw = sources.relation(files, UBI_EVENTS, NEEDED)
        searched = ", ".join(literal(name) for name in log.search_actions) or "NULL"
        # a click repeats the message of its impression, so only a search's message is what somebody typed
        time, text = "time", f"CASE WHEN action IN ({searched}) THEN coalesce(text, message) ELSE text END"
        first = _first_position(log)
    return f"""SELECT query_id, client, session, {time} AS time, action, item_id, ordinal, {text} AS text,
                      {first} AS first_position, {ORIGIN} FROM ({raw})"""


def search_rows(log: LogSource, files: Sequence[str]) -> str:
    """SELECT of the raw searches; of no rows where the events carry them.

    Raises:
        InputError: as `event_rows`.
    """
    if log.format == "ubi":
        return sources.relation(files, UBI_QUERIES, ("query_id", "text"))
    own = {name: path for name, path in _own(log.query_columns).items() if name in UBI_QUERIES}
    raw = sources.relation(files, own, ("query_id", "text"))
    return f"SELECT query_id, client, {_milliseconds(log.time_unit)} AS time, text FROM ({raw})"


def adapted(config: ExtractLogsConfig, log: LogSource) -> ExtractLogsConfig:
    """The settings with the actions of the layout; GA4 logs whatever happens on a site, so none of its other events is malformed."""
    if log.format != "ga4":
        return config
    return config.model_copy(update={"action_names": ga4.ACTIONS, "ignored_actions": (ga4.OTHER,)})


def count_long(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Searches of table `searches` whose text is cut at MAX_QUERY_CHARS."""
    ((num_cut,),) = connection.execute(f"SELECT count(*) FROM searches WHERE length(text) > {MAX_QUERY_CHARS}").fetchall()
    return {"cut": num_cut}


def _own(columns: Mapping[LogColumn, str]) -> Places:
    return {place: (columns[name],) if name in columns else () for name, place in PLACES.items()}


def _milliseconds(unit: str) -> str:
    """Numbers in milliseconds; other notations as they are."""
    if unit == "ms":
        return "time"
    return f"CASE WHEN TRY_CAST(time AS DOUBLE) IS NULL THEN time ELSE CAST(TRY_CAST(time AS DOUBLE) * {UNIT_MS[unit]} AS VARCHAR) END"


def _first_position(log: LogSource) -> str:
    if isinstance(log.first_position, int):
        return str(log.first_position)
    cases = " ".join(f"WHEN {literal(name)} THEN {first}" for name, first in sorted(log.first_position.items()))
    return f"CASE application {cases} ELSE 1 END" if cases else "1"
