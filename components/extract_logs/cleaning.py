"""Well-formed rows -> events that are kept, each dropped one under exactly one reason.

The reasons in the order in which they are asked (the first that holds counts): unknown_query, duplicate, outside_window, bot,
evaluated_query, personal_data_only, too_rare_query.

From here on a search, a client, a session and an item are codes (`codes.py`); names come back when a table is published.
"""

import ibis
import pyarrow as pa

from components.extract_logs.codes import hex_codes, mix_ids
from components.extract_logs.columns import inside
from components.extract_logs.window import Window
from components.shared.columns import _
from components.shared.schema import ACTIONS

REASONS = ("unknown_query", "duplicate", "outside_window", "bot", "evaluated_query", "personal_data_only", "too_rare_query")
KEY = ("search", "client", "session", "us", "action", "item_id", "position")  # two rows that agree in all of it are one event


def type_searches(searches: ibis.Table, spellings: ibis.Table, ids: ibis.Table, people: ibis.Table) -> ibis.Table:
    """query_id, search, phrase, us, client, experiment: the searches whose text has a phrase."""
    typed = searches.inner_join(spellings, "text").inner_join(ids, [("query_id", "name")])
    typed = typed.select("query_id", "phrase", "us", "experiment", search=_.code, who=_.client)
    return typed.left_join(people, [("who", "name")]).select("query_id", "search", "phrase", "us", "experiment", client=_.code)


def know_events(staged: ibis.Table, typed: ibis.Table, people: ibis.Table, things: ibis.Table) -> ibis.Table:
    """search, phrase, client, session, us, action, item_id, position: well-formed rows of known queries.

    An event without a client is its search's.
    """
    clients, sessions = people.rename(client="name", client_code="code"), people.rename(session="name", session_code="code")
    owners = typed.select("query_id", "search", "phrase", owner="client")
    rows = staged.filter(_.fault.isnull()).inner_join(owners, "query_id").inner_join(things, [("item_id", "name")])
    rows = rows.left_join(clients, "client").left_join(sessions, "session")
    return rows.select(
        "search", "phrase", client=ibis.coalesce(_.client_code, _.owner), session=_.session_code, us=_.us, action=_.action,
        item_id=_.code, position=_.position,
    )  # fmt: skip


def find_suspects(known: ibis.Table) -> ibis.Table:
    """mark: those that several rows share. Equal rows have equal marks, so only rows with such a mark are compared in full."""
    return mark_rows(known).group_by("mark").agg(rows=_.count()).filter(_.rows > 1).select("mark")


def mark_rows(known: ibis.Table) -> ibis.Table:
    """The rows with `mark`, one number made of parts of their key."""
    return known.mutate(mark=_.search ^ _.item_id ^ (_.us + _.action))


def deduplicate(known: ibis.Table, suspects: ibis.Table) -> ibis.Table:
    """Every event once. UBI events have no id: rows are one event when everything that is known of them is equal (`KEY`)."""
    marked = mark_rows(known)
    alone = marked.anti_join(suspects, "mark").drop("mark")
    return alone.union(marked.semi_join(suspects, "mark").drop("mark").distinct())


def judge_events(events: ibis.Table, counted: ibis.Table, bots: ibis.Table, window: Window) -> ibis.Table:
    """The events with `fate`: why an event is dropped, null when it is kept."""
    reasons = counted.select("phrase", "reason")
    judged = events.inner_join(reasons, "phrase").left_join(bots.select(bot="client"), [("client", "bot")])
    fate = ibis.cases((~inside(window), "outside_window"), (_.bot.notnull(), "bot"), else_=_.reason)
    return judged.mutate(fate=fate).select(*events.columns, "fate")


def keep_events(judged: ibis.Table) -> ibis.Table:
    """The kept events."""
    return judged.filter(_.fate.isnull()).drop("fate")


def list_events(kept: ibis.Table, phrases: ibis.Table, things: ibis.Table) -> ibis.Table:
    """The rows of table `events` in order of time, still with codes."""
    rows = kept.inner_join(phrases.select("phrase", "query", "query_id"), "phrase").inner_join(things, [("item_id", "code")])
    order = [_.us, _.search, _.item_id, _.action, _.client.fill_null(0), _.session.fill_null(0), _.position.fill_null(0)]
    return rows.select(*KEY, "query", "query_id", item="name").order_by(order)


def publish_events(rows: pa.Table) -> pa.Table:
    """Table `events` of rows of `list_events`."""
    columns = {name: rows[name].combine_chunks() for name in rows.column_names}
    return pa.table({
        "event_id": mix_ids([columns[name] for name in KEY]), "query_id": columns["query_id"], "query": columns["query"],
        "client": hex_codes(columns["client"]), "session_id": hex_codes(columns["session"]),
        "timestamp": columns["us"].cast(pa.timestamp("us", tz="UTC")), "action": pa.array(ACTIONS).take(columns["action"]),
        "item_id": columns["item"], "position": columns["position"],
    })  # fmt: skip
