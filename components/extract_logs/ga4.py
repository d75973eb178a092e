"""The BigQuery export of Google Analytics 4: one row per event, nested parameters and items, exploded to one event per item.

Shape (Google's "BigQuery Export schema"): tables `events_YYYYMMDD` with event_name, event_timestamp (microseconds UTC), user_pseudo_id,
event_params[] of key and value.{string,int,float,double}_value, items[] of item_id, item_list_id, item_list_name, item_list_index.
BigQuery writes 64-bit integers into JSON as text. `index` is read as well, as sites send it. `events_intraday_*` repeats what the daily
table will have, so those files are not read.

Which search an event belongs to:

1. An event `search` or `view_search_results` with a `search_term` is a search; its id is (user_pseudo_id, ga_session_id,
   event_timestamp). One that repeats the term of the session's search before it (a reload, a next page, both names for one search) is
   that search.
2. A listed or selected item (view_search_results, view_item_list, select_item) belongs to the latest search of its session that is
   not later than itself. With the card's `search_lists`, items of other lists are no search results: `other_action`.
3. A cart or a purchase belongs to the search under which that item was last listed or selected in the session, not later than itself.

Items without such a search have the query_id NO_SEARCH, which no search has: they are dropped as `unknown_query`.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from components.extract_logs import drift, sources
from components.extract_logs.sources import literal
from components.shared.card import LogSource
from components.shared.errors import InputError

ACTIONS = {
    "view_search_results": "impression", "view_item_list": "impression", "select_item": "click", "add_to_cart": "add_to_cart",
    "purchase": "purchase",
}  # fmt: skip
SEARCHES = ("search", "view_search_results")
LISTED = ("view_search_results", "view_item_list", "select_item")
OTHER = "(other)"
NO_SEARCH = "(no search)"
NOT_SET = "(not set)"
INTRADAY = "events_intraday_"
COLUMNS = {"action": ("event_name",), "time": ("event_timestamp",), "client": ("user_pseudo_id",), "params": ("event_params",),
           "items": ("items",)}  # fmt: skip
VALUES = ("string_value", "int_value", "double_value", "float_value")
LINE_KINDS = (
    "\"event_name\": 'VARCHAR', \"event_timestamp\": 'VARCHAR', \"user_pseudo_id\": 'VARCHAR', "
    f'"event_params": \'STRUCT("key" VARCHAR, "value" STRUCT({", ".join(f"{name} VARCHAR" for name in VALUES)}))[]\', '
    '"items": \'STRUCT(item_id VARCHAR, item_list_index VARCHAR, "index" VARCHAR, item_list_id VARCHAR, item_list_name VARCHAR)[]\''
)
ITEM_FIELDS = {
    "item_id": ("item_id",),
    "ordinal": ("item_list_index", "index"),
    "list_id": ("item_list_id",),
    "list_name": ("item_list_name",),
}


def event_rows(log: LogSource, files: Sequence[str]) -> str:
    """SELECT of raw events, see `readers`.

    Raises:
        InputError: for files that cannot be opened, or whose columns are not those of the export.
    """
    lists = ", ".join(literal(name) for name in log.search_lists)
    elsewhere = (
        f"AND action <> 'view_search_results' AND NOT coalesce(item.list_id IN ({lists}) OR item.list_name IN ({lists}), false)"
        if lists
        else "AND false"
    )
    named = ", ".join(literal(name) for name in ACTIONS)
    listed = ", ".join(literal(name) for name in LISTED)
    asking = ", ".join(literal(name) for name in SEARCHES)
    return f"""
        WITH flat AS MATERIALIZED (
          SELECT * REPLACE (CASE WHEN action IN ({asking}) THEN term END AS term),
                 TRY_CAST(time AS BIGINT) AS us, client || '.' || session AS visit FROM ({_flat(files)})),
        terms AS (SELECT visit, us, max(term) AS term FROM flat WHERE term IS NOT NULL GROUP BY visit, us),
        searches AS (SELECT visit, us, visit || '.' || us AS query_id FROM terms
                     QUALIFY term IS DISTINCT FROM lag(term) OVER (PARTITION BY visit ORDER BY us)),
        placed AS (
          SELECT * EXCLUDE (items), unnest(items) AS item, unnest(range(len(items))) AS n FROM flat
          WHERE action IN ({named}) AND len(items) > 0
          UNION ALL SELECT * EXCLUDE (items), NULL, NULL FROM flat WHERE NOT coalesce(action IN ({named}) AND len(items) > 0, false)),
        asked AS MATERIALIZED (
          SELECT placed.*, searches.query_id, action IN ({listed}) {elsewhere} AND item IS NOT NULL AS is_elsewhere
          FROM placed ASOF LEFT JOIN searches ON placed.visit = searches.visit AND placed.us >= searches.us),
        shown AS (SELECT visit, us, item.item_id AS item_id, query_id FROM asked
                  WHERE action IN ({listed}) AND NOT is_elsewhere AND query_id IS NOT NULL AND item.item_id IS NOT NULL),
        named AS (
          SELECT * FROM asked WHERE action NOT IN ('add_to_cart', 'purchase') OR action IS NULL
          UNION ALL SELECT bought.* EXCLUDE (item_id) REPLACE (shown.query_id AS query_id) FROM (
            SELECT *, item.item_id AS item_id FROM asked WHERE action IN ('add_to_cart', 'purchase')) AS bought
          ASOF LEFT JOIN shown ON bought.visit = shown.visit AND bought.item_id = shown.item_id AND bought.us >= shown.us)
        SELECT CASE WHEN action IS NOT NULL THEN coalesce(query_id, {literal(NO_SEARCH)}) END AS query_id, client, visit AS session,
               CAST(us / 1000 AS VARCHAR) AS time,
               CASE WHEN action NOT IN ({named}) OR is_elsewhere OR (action = 'view_search_results' AND item IS NULL)
                    THEN {literal(OTHER)} ELSE action END AS action,
               item.item_id AS item_id,
               coalesce(item.ordinal, CASE WHEN action <> 'select_item' AND action IN ({listed})
                                           THEN CAST(n + {log.first_position} AS VARCHAR) END) AS ordinal,
               CASE WHEN query_id IS NOT NULL THEN term END AS text, CAST({log.first_position} AS INTEGER) AS first_position,
               {{'file': file, 'row': row, 'action': action, 'ordinal': item.ordinal, 'time': time}} AS origin
        FROM named"""


def _flat(files: Sequence[str]) -> str:
    """file, row, action, time, client, session, term, items (item_id, ordinal, list_id, list_name) of every row of the files."""
    daily = [file for file in files if not file.rsplit("/", 1)[1].startswith(INTRADAY)]
    if not daily:
        raise InputError(f"'{files[0]}': the log has only {INTRADAY}* files, which GA4 replaces by daily ones; wait for events_YYYYMMDD")
    lines, groups = sources.split_by_schema(daily)
    drift.check(groups, COLUMNS)
    if groups and not lines:
        drift.check_needed(groups, COLUMNS, ("action", "time", "params", "items"))
    selects = [
        _select(f"read_parquet({sources.parquet_options(group)})", sources.columns_of(schema), "file_row_number")
        for schema, group in groups
    ]
    if lines:
        selects.append(_select(f"read_json({sources.line_options(lines, LINE_KINDS)})", None, "NULL"))
    return " UNION ALL ".join(selects)


def _select(source: str, columns: Mapping[str, pa.DataType] | None, row: str) -> str:
    """Rows of files that have all fields (`columns` None), or those of an Arrow schema."""
    params = _fields(columns, "event_params", "value")
    values = [f"CAST(p.value.{name} AS VARCHAR)" for name in VALUES if params is None or name in params]

    def parameter(key: str) -> str:
        found = f"list_filter(event_params, lambda p: p.key = '{key}')"
        return f"nullif(list_transform({found}, lambda p: coalesce({', '.join([*values, 'NULL'])}))[1], '')"

    def plain(name: str) -> str:
        return f"nullif(CAST({name} AS VARCHAR), '')" if columns is None or name in columns else "CAST(NULL AS VARCHAR)"

    fields = _fields(columns, "items")
    item = ", ".join(
        f"'{ours}': {_coalesced([name for name in theirs if fields is None or name in fields])}" for ours, theirs in ITEM_FIELDS.items()
    )
    has_params, has_items = (columns is None or name in columns for name in ("event_params", "items"))
    nothing = "CAST(NULL AS STRUCT(item_id VARCHAR, ordinal VARCHAR, list_id VARCHAR, list_name VARCHAR)[])"
    return f"""SELECT {sources.FILE} AS file, CAST({row} AS BIGINT) AS row, {plain("event_name")} AS action,
                      {plain("event_timestamp")} AS time, {plain("user_pseudo_id")} AS client,
                      {parameter("ga_session_id") if has_params else "CAST(NULL AS VARCHAR)"} AS session,
                      left({parameter("search_term") if has_params else "CAST(NULL AS VARCHAR)"}, {sources.MAX_RAW_CHARS}) AS term,
                      {f"list_transform(items, lambda i: {{{item}}})" if has_items else nothing} AS items
               FROM {source}"""


def _coalesced(names: Sequence[str]) -> str:
    values = [f"nullif(nullif(CAST(i.{sources.quoted(name)} AS VARCHAR), ''), {literal(NOT_SET)})" for name in names]
    return f"coalesce({', '.join([*values, 'CAST(NULL AS VARCHAR)'])})"


def _fields(columns: Mapping[str, pa.DataType] | None, *path: str) -> list[str] | None:
    """Names inside a list of structs of a Parquet file; None where all fields are there."""
    if columns is None or path[0] not in columns:
        return None
    kind = columns[path[0]].value_type
    for name in path[1:]:
        kind = kind.field(name).type
    return [kind.field(index).name for index in range(kind.num_fields)]
