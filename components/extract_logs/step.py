"""Extract clean events, interactions and query frequencies from a shop's UBI search log."""

import logging
from datetime import UTC, date, datetime, timedelta

import duckdb

from components.extract_logs import cleaning, frequencies, privacy, propensity, sources, staging
from components.extract_logs import interactions as shop
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.warehouse import number, open_warehouse, stream
from components.extract_logs.window import DAY_US, Window, parse_date, partitions_of, resolve_window
from components.shared import storage, tables
from components.shared.card import DatasetCard, read_card
from components.shared.errors import InputError
from components.shared.report import Report
from components.shared.rewordings import find_rewordings
from components.shared.tracking import Tracker

LOG = logging.getLogger(__name__)
EPOCH = date(1970, 1, 1)


def run(
    config: ExtractLogsConfig,
    *,
    card: str,
    judged_queries: str,
    events: str,
    interactions: str,
    queries: str,
    date: str = "",
    tracker: Tracker,
) -> Report:
    """Read the log that the card names, write tables `events`, `interactions` and `queries`.

    Every event read is kept, dropped under one reason, or quarantined as malformed; the report has all counts.

    Raises:
        InputError: for a wrong date, an absent or empty log, a log without a usable day, or too many malformed rows.
    """
    source = read_card(card)
    judged = tables.read_table(judged_queries, "queries")
    today = datetime.now(UTC).date()
    day = parse_date(date, today)
    window = None if day is None else resolve_window(date, days=config.window_days, lag_days=config.lag_days, today=today, last_day=None)
    event_files, query_files, notes = _list_files(source, window, config.late_days)
    salt, is_development = privacy.read_salt(config.client_salt_variable)
    if is_development:
        notes["client_salt"] = f"{config.client_salt_variable} is not set: clients are hashed with the public development salt"
        LOG.warning("%s", notes["client_salt"])
    remote = not storage.is_local(source.root)
    with open_warehouse(
        threads=config.threads, memory_limit_mib=config.memory_limit_mib, temp_folder=config.temp_folder, remote=remote
    ) as warehouse:
        _define(warehouse, salt)
        staging.stage_events(warehouse, event_files, config, source.log.first_position)
        faults = _check_faults(warehouse, config, storage.join(source.root, source.log.events))
        window = window or _last_window(warehouse, config, today)
        searches = staging.stage_searches(warehouse, query_files)
        LOG.info("staged %d events, window %s", sum(faults.values()), window)
        cleaning.name_queries(warehouse, judged)
        dropped = _drop(warehouse, config, window, salt)
        LOG.info("dropped %s", dropped)
        examination, metrics = _examine(warehouse, config)
        shop.count_interactions(warehouse, examination)
        metrics |= _metrics(warehouse, window, faults) | {f"searches.{name}": float(count) for name, count in searches.items()}
        ranked = frequencies.rank_queries(warehouse, config, judged)
        written = {
            events: tables.write_table(events, "events", stream(warehouse, cleaning.events_sql())),
            interactions: tables.write_table(interactions, "interactions", stream(warehouse, shop.interactions_sql())),
            queries: tables.write_table(queries, "queries", ranked),
        }
    for uri, manifest in written.items():
        tracker.dataset(manifest.table, uri, manifest.digest, manifest.rows)
    tracker.tags({"log.window": str(window), "data.snapshot": source.snapshot})
    dropped[staging.IGNORED] = faults.pop(staging.IGNORED, 0)
    well_formed = faults.pop("", 0)
    quarantined = sum(faults.values())
    return Report(
        read=well_formed + dropped[staging.IGNORED] + quarantined,
        kept=written[events].rows,
        dropped=dropped,
        quarantined=quarantined,
        metrics=metrics,
        notes={"window": str(window), **notes},
    )


def _list_files(source: DatasetCard, window: Window | None, late_days: int) -> tuple[list[str], list[str], dict[str, str]]:
    event_files = sources.list_log(source.root, source.log.events, "events")
    query_files = sources.list_log(source.root, source.log.queries, "queries")
    wanted = partitions_of(event_files, window, late_days)
    if not wanted:
        uri = storage.join(source.root, source.log.events)
        raise InputError(f"'{uri}' has no day partition for {window}; its last file is {event_files[-1]}; give another date")
    notes = {"event_files": f"{len(wanted)} of {len(event_files)} read"}
    return wanted, partitions_of(query_files, window, late_days) or query_files[-1:], notes


def _define(warehouse: duckdb.DuckDBPyConnection, salt: bytes) -> None:
    staging.define_parsers(warehouse)
    privacy.define_scrub(warehouse)
    privacy.define_hash(warehouse, salt)


def _check_faults(warehouse: duckdb.DuckDBPyConnection, config: ExtractLogsConfig, uri: str) -> dict[str, int]:
    faults = staging.count_faults(warehouse)
    read = sum(faults.values())
    if not read:
        raise InputError(f"'{uri}' holds no event; check the card's key 'log.events' and that the log was exported")
    malformed = {fault: count for fault, count in faults.items() if fault not in ("", staging.IGNORED)}
    share = sum(malformed.values()) / read
    if share > config.max_malformed_share:
        worst = ", ".join(f"{fault} {count}" for fault, count in sorted(malformed.items(), key=lambda one: (-one[1], one[0])))
        raise InputError(
            f"'{uri}': {share:.2%} of {read} rows are malformed ({worst}), more than max_malformed_share = {config.max_malformed_share}; "
            "repair the log, name its actions in action_names or ignored_actions, or raise the limit"
        )
    return faults


def _last_window(warehouse: duckdb.DuckDBPyConnection, config: ExtractLogsConfig, today: date) -> Window:
    tomorrow_us = ((today - EPOCH).days + 1) * DAY_US
    last = staging.last_day_number(warehouse, tomorrow_us)
    last_day = None if last is None else EPOCH + timedelta(days=last)
    return resolve_window("", days=config.window_days, lag_days=config.lag_days, today=today, last_day=last_day)


def _drop(warehouse: duckdb.DuckDBPyConnection, config: ExtractLogsConfig, window: Window, salt: bytes) -> dict[str, int]:
    dropped: dict[str, int] = dict.fromkeys(cleaning.REASONS, 0)
    dropped["unknown_query"], dropped["duplicate"] = cleaning.deduplicate(warehouse, salt)
    cleaning.find_bots(warehouse, config, window)
    if config.hide_evaluated_queries:
        warehouse.execute("CREATE TABLE evaluated AS SELECT DISTINCT query FROM judged WHERE split IN ('dev', 'test')")
        find_rewordings(warehouse, "phrases", "evaluated")
        warehouse.execute("UPDATE phrases SET evaluated = true WHERE query IN (SELECT query FROM rewordings)")
    cleaning.count_queries(warehouse, config, window)
    return dropped | cleaning.judge_events(warehouse, window)


def _examine(warehouse: duckdb.DuckDBPyConnection, config: ExtractLogsConfig) -> tuple[propensity.Examination, dict[str, float]]:
    shop.show_items(warehouse)
    found = propensity.examine(warehouse, config)
    metrics = {"propensity.estimated_positions": float(found.last), "trust@1": float(found.trusted[0])}
    return found, metrics | {f"propensity@{at}": float(found.examined[at - 1]) for at in (2, 5, 10)}


def _metrics(warehouse: duckdb.DuckDBPyConnection, window: Window, faults: dict[str, int]) -> dict[str, float]:
    metrics = {f"malformed.{fault}": float(count) for fault, count in faults.items() if fault not in ("", staging.IGNORED)}
    metrics["searches.known"] = float(number(warehouse, "SELECT count(*) FROM typed"))
    metrics["searches.kept"] = float(number(warehouse, "SELECT sum(frequency) FROM counted WHERE reason IS NULL"))
    for rule in ("rate", "no_click", "top_click"):
        metrics[f"bots.{rule}"] = float(number(warehouse, f"SELECT count(*) FROM bots WHERE {rule}"))
    for kind in privacy.KINDS:
        sql = f"SELECT count(*) FROM typed JOIN phrases USING (phrase) WHERE NOT judged AND contains(query, '<{kind}>')"
        metrics[f"scrubbed.{kind}"] = float(number(warehouse, sql))
    metrics["days"] = float(cleaning.days_of(window))
    metrics["days_with_events"] = float(number(warehouse, "SELECT count(DISTINCT day) FROM shown"))
    return metrics
