"""How often a query was typed, whether it may leave the warehouse, and whether it is head, torso or tail."""

import ibis

from components.extract_logs.columns import inside
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.window import Window
from components.shared.columns import _


def count_queries(
    phrases: ibis.Table, typed: ibis.Table, bots: ibis.Table, hidden: ibis.Table, config: ExtractLogsConfig, window: Window
) -> ibis.Table:
    """Every phrase with its searches and clients in the window, and the reason that hides it (null when kept).

    A judged query is kept however rare: its text is public in the data set.
    """
    shoppers = typed.filter(inside(window)).anti_join(bots, "client")
    counts = shoppers.group_by("phrase").agg(searches=_.count(), typists=_.client.nunique())
    evaluated = hidden.select("query", evaluated=ibis.literal(True))
    rows = phrases.left_join(counts, "phrase").left_join(evaluated, "query")
    frequency, clients = _.searches.fill_null(0), _.typists.fill_null(0)
    reason = ibis.cases(
        (_.evaluated.notnull(), "evaluated_query"),
        (_.personal_only, "personal_data_only"),
        (~_.judged & (clients < config.min_clients), "too_rare_query"),
    )
    return rows.select("phrase", "query", "query_id", "judged", frequency=frequency, clients=clients, reason=reason)


def rank_queries(counted: ibis.Table, config: ExtractLogsConfig) -> ibis.Table:
    """query, query_id, judged, frequency, segment of the kept phrases.

    A query is head while the queries typed more often carry less than `head_share` of all kept searches, torso up to `torso_share`,
    tail below, unseen when nobody typed it. Queries that are typed equally often get the same segment.
    """
    kept = counted.filter(_.reason.isnull())
    levels = kept.group_by("frequency").agg(searches=_.frequency.sum())
    up_to = _.searches.sum().over(rows=(None, 0), order_by=_.frequency.desc())
    levels = levels.select(level="frequency", before=up_to - _.searches, total=_.searches.sum().over())
    segment = ibis.cases(
        (_.frequency == 0, "unseen"),
        (_.before < config.head_share * _.total, "head"),
        (_.before < config.torso_share * _.total, "torso"),
        else_="tail",
    )
    return kept.inner_join(levels, [("frequency", "level")]).select("query", "query_id", "judged", "frequency", segment=segment)


def list_queries(ranked: ibis.Table, judged: ibis.Table) -> ibis.Table:
    """The rows of table `queries`: all judged queries under their own ids, and the kept queries of the log."""
    counts = ranked.select("query", searches="frequency", place="segment")
    ours = judged.drop("frequency", "segment").left_join(counts, "query")
    ours = ours.select(
        "query_id",
        "query_text",
        "query",
        frequency=_.searches.fill_null(0),
        segment=_.place.fill_null("unseen"),
        kind="kind",
        split="split",
    )
    none = ibis.null("string")
    found = ranked.filter(~_.judged, _.frequency > 0)
    return ours.union(
        found.select("query_id", query_text="query", query="query", frequency="frequency", segment="segment", kind=none, split=none)
    ).order_by("query_id")
