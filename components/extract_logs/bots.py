"""Clients that are not shoppers: programs that search, scrape or click."""

import ibis

from components.extract_logs.columns import inside
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.staging import CLICK, IMPRESSION
from components.extract_logs.window import Window
from components.shared.columns import _

RULES = ("rate", "pace", "no_click", "top_click", "blind_click")


def find_bots(typed: ibis.Table, phrases: ibis.Table, events: ibis.Table, config: ExtractLogsConfig, window: Window) -> ibis.Table:
    """client and which rules it broke: sustained searches, a pace that nobody else has, many impressions without a click, clicks on the
    top only, clicks on what the search never showed."""
    searches = typed.filter(inside(window), _.client.notnull())
    bucket = _.us // (config.bot_burst_minutes * 60_000_000)
    bursts = searches.group_by("client", bucket=bucket).agg(searches=_.count())
    busy = bursts.filter(_.searches > config.bot_searches_per_minute * config.bot_burst_minutes).select("client", rule=ibis.literal("rate"))
    is_click = _.action == CLICK
    habits = (
        events.filter(inside(window), _.client.notnull())
        .group_by("client")
        .agg(
            impressions=_.count(where=_.action == IMPRESSION),
            clicks=_.count(where=is_click),
            top_clicks=_.count(where=is_click & (_.position <= config.bot_top_positions)),
        )
    )
    silent = habits.filter(_.clicks == 0, _.impressions >= config.bot_impressions)
    top = habits.filter(_.clicks >= config.bot_clicks, _.top_clicks >= config.bot_top_share * _.clicks)
    blind_clicks = _find_blind_clicks(events.filter(inside(window), _.client.notnull()))
    blind = blind_clicks.filter(_.clicks >= config.bot_clicks, _.blind >= config.bot_blind_share * _.clicks)
    broken = busy.union(
        _find_hasty(searches, phrases, config).select("client", rule=ibis.literal("pace")),
        silent.select("client", rule=ibis.literal("no_click")),
        top.select("client", rule=ibis.literal("top_click")),
        blind.select("client", rule=ibis.literal("blind_click")),
    )
    return broken.group_by("client").agg(**{rule: (_.rule == rule).any() for rule in RULES})


def _find_hasty(searches: ibis.Table, phrases: ibis.Table, config: ExtractLogsConfig) -> ibis.Table:
    """client: whose middle pause between searches is `bot_pace_factor` times shorter than the middle one of the log's clients.

    The log itself says what a usual pause is, so a shop of hasty people has other bots than one of slow people; clients count alike,
    however much they search. Text that grows or shrinks letter by letter, or is sent again, is one search to its typist.
    """
    line = ibis.window(group_by="client", order_by=["us", "search"])
    named = searches.inner_join(phrases.select("phrase", "query"), "phrase")
    steps = named.mutate(pause=_.us - _.us.lag(1).over(line), before=_.query.lag(1).over(line))
    is_same = _.query.startswith(_.before) | _.before.startswith(_.query)
    pauses = steps.filter(_.before.notnull(), ~is_same, _.pause <= config.session_gap_minutes * 60_000_000)
    middles = _middle(pauses.select("client", "pause"), ["client"])
    usual = _middle(middles.select("pause"), []).select(usual="pause")
    hasty = middles.cross_join(usual).filter(_.rows >= config.bot_pace_searches, _.pause * config.bot_pace_factor < _.usual)
    return hasty.select("client")


def _middle(pauses: ibis.Table, group: list[str]) -> ibis.Table:
    """The row of the lower median of `pause` in each group, with the group's `rows`; not every engine has an exact median."""
    placed = pauses.mutate(place=ibis.row_number().over(group_by=group, order_by="pause"), rows=_.count().over(ibis.window(group_by=group)))
    return placed.filter((2 * _.place == _.rows - 1) | (2 * _.place == _.rows - 2)).drop("place")


def _find_blind_clicks(events: ibis.Table) -> ibis.Table:
    """client, clicks, blind: clicked items per client, and those that the search never showed.

    No rows for a log in which most clicks are such: it does not log impressions, and says nothing of bots.
    """
    clicks = events.filter(_.action == CLICK).select("client", "search", "item_id").distinct()
    shown = events.filter(_.action == IMPRESSION).semi_join(clicks, ["search", "item_id"]).select("search", "item_id").distinct()
    seen = shown.mutate(is_shown=ibis.literal(True))
    counts = (
        clicks.left_join(seen, ["search", "item_id"]).group_by("client").agg(clicks=_.count(), blind=_.count(where=_.is_shown.isnull()))
    )
    total = counts.agg(all_clicks=_.clicks.sum(), all_blind=_.blind.sum()).filter(2 * _.all_blind < _.all_clicks)
    return counts.cross_join(total).select("client", "clicks", "blind")
