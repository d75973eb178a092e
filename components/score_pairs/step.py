"""Score (query, item) pairs with a model: soft targets by the teacher, or rankings by any system. Killed runs go on.

Pairs come from a `pairs` or `judgments` table, or from one file of your own (.parquet, .csv, .ndjson) with columns query and title,
optionally brand, color, category, description, query_id and item_id; then no other table is needed:

  python -m components.score_pairs --pairs my.csv --model FOLDER --output trec --scores out.run
"""

import logging

import pyarrow.compute as pc

from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.doubt import click_rates
from components.score_pairs.drift import drift_report
from components.score_pairs.group import starting_helpers, wait_for_first, worker_of
from components.score_pairs.method import settle_method
from components.score_pairs.shard_scorer import Places
from components.score_pairs.trec import refuse_white_space, write_trec_run
from components.score_pairs.work import Work, digest_of, read_work
from components.score_pairs.workers import Job, score_shards
from components.shared import shards, storage, tables
from components.shared.edits import EDITED
from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.folder import LOGIT_KINDS, ModelSpec
from components.shared.registry import resolve
from components.shared.report import Report
from components.shared.schema import TABLES
from components.shared.tables import Manifest
from components.shared.text import TEXT_VERSION, clean
from components.shared.tracking import Tracker

logger = logging.getLogger(__name__)

SHOWN_QUERIES, SHOWN_ITEMS = 3, 5


def run(
    config: ScorePairsConfig,
    *,
    pairs: str,
    scores: str,
    queries: str = "",
    items: str = "",
    neighbors: str = "",
    interactions: str = "",
    model: str = "",
    tracker: Tracker,
) -> Report:
    """Read pairs, score what is not committed yet, publish table `soft_targets` or `rankings` (or a TREC run file) at `scores`.

    Args:
        pairs: table `pairs` or `judgments`, or a file with query and item texts inline (then without `queries` and `items`).
        neighbors: table `neighbors`, for a model that was trained with them; with a file of your own it may be left out: training hid
            them from some pairs, so a teacher can judge without, and a graph student knows pairs without any.
        interactions: table; with it, soft targets say how far shoppers' clicks disagree with the teacher.
        model: model folder or models:/<name>@<alias>; `config.model` where it is empty.

    Raises:
        InputError: for input that is absent or does not fit, before any scoring; for a score that is not finite; when the budget is
            used up, with what is committed kept.
        TemporaryError: when a scoring process was killed.
    """
    work = read_work(config, pairs, queries, items)
    if config.output == "trec":
        for name in ("query_id", "item_id"):
            refuse_white_space(work.pairs[name], name)
    asked = model or config.model
    address = resolve(asked)
    if not address:
        return _without_model(config, work, scores, f"'{asked}' is not registered" if asked else "none is given")
    if config.missing_model == "empty" and not storage.exists(address):
        return _without_model(config, work, scores, f"'{asked}' was at '{address}' and is gone")
    local = folder.fetch(address)
    try:
        spec = folder.read_spec(local)
    except folder.OutdatedModelError as error:
        if config.missing_model == "error":
            raise
        return _without_model(config, work, scores, f"'{asked}' cannot be read: {error}")
    _check_model(spec, config, address, neighbors, queries)
    neighbors = neighbors if spec.num_neighbors else ""
    place = storage.normalise(scores) + ".shards" if config.output == "trec" else scores
    places = Places(pairs, queries, items, neighbors, str(local))
    config = config.model_copy(update={"method": settle_method(config, spec, place, places, work)})
    content = {
        **work.content,
        "model": storage.content_digest(str(local)),
        "text_version": TEXT_VERSION,
        "engine": config.engine,
        "method": config.method,
        "settings": f"{config.system}, {config.precision}, splits {', '.join(sorted(config.splits))}",
        **({"edits": ", ".join(config.edits)} if config.edits else {}),
        **({"neighbors": digest_of(neighbors)} if neighbors else {}),
        **({"interactions": f"{digest_of(interactions)}, {config.min_impressions} impressions"} if interactions else {}),
    }
    plan = shards.open_plan(place, _table_of(config), work.num_shards, content)
    reused = plan.num_shards - len(shards.pending(plan))
    clicks = click_rates(interactions, work, config.min_impressions) if interactions else None
    worker = worker_of(config)
    given = {"pairs": pairs, "queries": queries, "items": items, "neighbors": neighbors, "interactions": interactions}
    with starting_helpers(config, worker if reused < plan.num_shards else None, {**given, "model": address, "scores": scores}):
        ledger = score_shards(Job(config, places, plan, clicks), work, worker)
    if worker and worker.index:
        wait_for_first(plan, worker)
    metrics = {"shards": plan.num_shards, "shards_reused": reused, "pairs_per_s": ledger.rate(), **ledger.metrics()}
    manifest = shards.finish(plan)
    report = _report(config, work, metrics, address, top_rows(work, plan) if not queries else {})
    report.metrics.update(drift_report(config, places, work))
    tracker.dataset("pairs", pairs, work.content["pairs"], work.num_read)
    _publish(config, plan, scores, manifest, tracker)
    return report


def _table_of(config: ScorePairsConfig) -> str:
    return "soft_targets" if config.output == "soft_targets" else "rankings"


def _check_model(spec: ModelSpec, config: ScorePairsConfig, address: str, neighbors: str, queries: str) -> None:
    if config.output == "soft_targets" and spec.kind not in ("teacher", *LOGIT_KINDS):
        kinds = ", ".join(("a teacher", *LOGIT_KINDS))
        raise InputError(f"model '{address}' is a {spec.kind}; soft targets come from {kinds}: give one, or set output to rankings")
    if spec.num_neighbors and not neighbors and queries:
        raise InputError(f"{spec.kind} '{address}' was trained with behavior neighbors; give the neighbors table (--neighbors)")


def _without_model(config: ScorePairsConfig, work: Work, scores: str, reason: str) -> Report:
    if config.missing_model == "error":
        raise InputError(f"no model to score with: {reason}; give --model FOLDER, or set missing_model to empty")
    logger.warning("nothing is scored: %s", reason)
    if config.output == "trec":
        storage.write_bytes(scores, b"")
    else:
        tables.write_table(scores, _table_of(config), TABLES[_table_of(config)].schema.empty_table())
    num_pairs = len(work.pairs)
    dropped = {"other_split": work.num_read - num_pairs, "no_model": num_pairs}
    return Report(read=work.num_read, dropped=dropped, notes={"model": f"none: {reason}; nothing was scored"})


def _report(config: ScorePairsConfig, work: Work, metrics: dict[str, float], address: str, top: dict[str, str]) -> Report:
    num_pairs = len(work.pairs)
    metrics["queries"] = pc.count_distinct(work.pairs["query_id"]).as_py()
    notes = {"system": config.system, "model": address, "method": config.method, "text version": TEXT_VERSION, **top}
    return Report(read=work.num_read, kept=num_pairs, dropped={"other_split": work.num_read - num_pairs}, metrics=metrics, notes=notes)


def _publish(config: ScorePairsConfig, plan: shards.ShardPlan, scores: str, manifest: Manifest, tracker: Tracker) -> None:
    digest = manifest.digest
    if config.output == "trec":
        write_trec_run(scores, tables.read_table(plan.uri, "rankings"))
        digest = storage.content_digest(scores)
        storage.remove(plan.uri)
    tracker.dataset("scores", scores, digest, manifest.rows)


def top_rows(work: Work, plan: shards.ShardPlan) -> dict[str, str]:
    """The best items of the first queries of a user's own file, one line per query."""
    if plan.table != "rankings" or not len(work.pairs):
        return {}
    shown = work.queries.slice(0, SHOWN_QUERIES)
    rankings = tables.read_table(plan.uri, "rankings", ["query_id", "item_id", "rank", "score", "system"])
    rankings = rankings.filter(pc.invert(pc.match_substring(rankings["system"], EDITED)))
    rankings = rankings.filter(pc.is_in(rankings["query_id"], value_set=shown["query_id"].combine_chunks()))
    rankings = rankings.filter(pc.less_equal(rankings["rank"], SHOWN_ITEMS)).sort_by([("query_id", "ascending"), ("rank", "ascending")])
    titles = clean(work.items["title"].take(pc.index_in(rankings["item_id"], value_set=work.items["item_id"].combine_chunks())))
    lines: dict[str, list[str]] = {one: [] for one in shown["query_id"].to_pylist()}
    for row, title in zip(rankings.to_pylist(), titles.to_pylist(), strict=True):
        lines[row["query_id"]].append(f"{row['rank']}. {title[:60]} ({row['score']:.4f})")
    return {f"query '{query[:60]}'": "; ".join(lines[name]) for name, query in zip(lines, shown["query"].to_pylist(), strict=True)}
