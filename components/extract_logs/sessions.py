"""Searches that belong together: sessions, and chains of searches in which each rewords the one before."""

import ibis

from components.extract_logs.columns import inside
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.staging import CLICK
from components.extract_logs.window import Window
from components.shared.columns import _


def find_turns(typed: ibis.Table, events: ibis.Table, bots: ibis.Table, config: ExtractLogsConfig, window: Window) -> ibis.Table:
    """client, search, phrase, us, clicked, is_first, before (phrase), before_clicked: shoppers' searches, each with the one before it.

    Where the log names sessions, two searches of a client are of one session when they say the same name. Where either says none, a
    pause longer than `session_gap_minutes` parts them.
    """
    acts = events.group_by("search").agg(session=_.session.min(), clicked=(_.action == CLICK).any())
    shoppers = typed.filter(inside(window), _.client.notnull()).anti_join(bots, "client").left_join(acts, "search")
    searches = shoppers.select("client", "search", "phrase", "us", "session", clicked=_.clicked.fill_null(False))
    line = ibis.window(group_by="client", order_by=["us", "search"])
    lagged = {f"before_{name}": _[name].lag(1).over(line) for name in ("phrase", "us", "session", "clicked")}
    steps = searches.mutate(**lagged)
    is_long = _.us - _.before_us > config.session_gap_minutes * 60_000_000
    parts = ibis.cases(
        (_.before_us.isnull(), True),
        (_.session.notnull() & _.before_session.notnull(), _.session != _.before_session),
        else_=is_long,
    )
    turns = steps.mutate(is_first=parts)
    return turns.select(
        "client", "search", "phrase", "us", "clicked", "is_first", "before_clicked",
        before=ibis.cases((~_.is_first, _.before_phrase)),
    )  # fmt: skip


def pair_phrases(turns: ibis.Table) -> ibis.Table:
    """before, phrase: which phrases follow each other within a session, once each."""
    return turns.filter(_.before.notnull(), _.before != _.phrase).select("before", "phrase").distinct()


def find_chains(turns: ibis.Table, reworded: ibis.Table) -> ibis.Table:
    """The turns with `rewords`: whether a search rewords the one before it in its session; `reworded` holds pairs (before, phrase)."""
    pairs = reworded.mutate(is_pair=ibis.literal(True))
    return turns.left_join(pairs, ["before", "phrase"]).select(*turns.columns, rewords=_.is_pair.fill_null(False))


def count_chains(chains: ibis.Table) -> ibis.Table:
    """One row `sessions.*`: sessions, chains, and searches that reword the one before (a chain of n searches has n - 1)."""
    line = ibis.window(group_by="client", order_by=["us", "search"])
    steps = chains.mutate(continued=_.rewords.lag(1).over(line).fill_null(False) & ~_.is_first)
    counts = {"count": _.count(where=_.is_first), "chains": _.count(where=_.rewords & ~_.continued), "rewordings": _.count(where=_.rewords)}
    return steps.agg(**{f"sessions.{name}": count for name, count in counts.items()})


def count_reformulations(chains: ibis.Table, counted: ibis.Table, config: ExtractLogsConfig) -> ibis.Table:
    """query, next_query, times, clients, satisfied: how often shoppers went from one kept query to a rewording of it.

    `satisfied` counts the times when only the second search led to a click. A pair that fewer than `min_clients` clients made stays
    in the warehouse, however public its queries are: it tells of what somebody did.
    """
    kept = counted.filter(_.reason.isnull()).select("phrase", "query")
    pairs = chains.filter(_.rewords).group_by("before", "phrase").agg(
        times=_.count(), clients=_.client.nunique(), satisfied=_.count(where=_.clicked & ~_.before_clicked)
    )  # fmt: skip
    named = pairs.filter(_.clients >= config.min_clients).inner_join(kept.select(before="phrase", first="query"), "before")
    named = named.inner_join(kept.select(phrase="phrase", second="query"), "phrase")
    return named.select(query="first", next_query="second", times="times", clients="clients", satisfied="satisfied").order_by(
        "query", "next_query"
    )
