"""Extract clean events, interactions and query frequencies from a shop's UBI search log."""

import logging
from datetime import UTC, date, datetime, timedelta

import numpy as np

from components.extract_logs import chain, codes, phrases, privacy, propensity, sources, staging
from components.extract_logs.bots import RULES
from components.extract_logs.columns import _
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.warehouse import Warehouse, open_warehouse
from components.extract_logs.window import DAY_US, Window, parse_date, partitions_of, resolve_window
from components.shared import storage, tables
from components.shared.card import DatasetCard, read_card
from components.shared.errors import InputError
from components.shared.report import Report
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
    reformulations: str,
    date: str = "",
    tracker: Tracker,
) -> Report:
    """Read the log that the card names, write tables `events`, `interactions`, `queries` and `reformulations`.

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
        staging.define_parsers(warehouse.sql)
        privacy.define_scrub(warehouse.sql)
        staging.read_log(warehouse.sql, event_files, query_files, source.log.first_position)
        warehouse.keep("staged", staging.judge_rows(warehouse.table("read_events"), config))
        faults = _check_faults(warehouse, config, storage.join(source.root, source.log.events))
        window = window or _last_window(warehouse, config, today)
        LOG.info("staged %d events, window %s", sum(faults.values()), window)
        warehouse.put("judged", judged)
        warehouse.keep("logged", warehouse.table("read_queries"))
        _name_things(warehouse, config, salt)
        dropped = chain.clean_events(warehouse, config, window)
        LOG.info("dropped %s", dropped)
        chain.show_items(warehouse)
        propensities, metrics = _propensities(warehouse, config)
        chain.count_interactions(warehouse, propensities)
        phrases.find_reworded(warehouse, chain.find_turns(warehouse, config, window))
        metrics |= {name: float(count) for name, count in chain.count_sessions(warehouse).items()}
        metrics |= _metrics(warehouse, window, faults)
        written = {
            events: tables.write_table(events, "events", chain.publish_events(warehouse)),
            interactions: tables.write_table(interactions, "interactions", chain.publish_interactions(warehouse)),
            queries: tables.write_table(queries, "queries", chain.publish_queries(warehouse, config)),
            reformulations: tables.write_table(reformulations, "reformulations", chain.publish_reformulations(warehouse, config)),
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


def _name_things(warehouse: Warehouse, config: ExtractLogsConfig, salt: bytes) -> None:
    searches = warehouse.keep("searches", staging.find_searches(warehouse.table("logged"), warehouse.table("staged")))
    phrases.name_phrases(warehouse, searches)
    phrases.find_hidden(warehouse, hide_evaluated=config.hide_evaluated_queries)
    chain.encode_names(warehouse, codes.encoder(salt))


def _check_faults(warehouse: Warehouse, config: ExtractLogsConfig, uri: str) -> dict[str, int]:
    faults = {row["fault"]: row["rows"] for row in warehouse.rows(staging.count_faults(warehouse.table("staged")))}
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


def _last_window(warehouse: Warehouse, config: ExtractLogsConfig, today: date) -> Window:
    tomorrow_us = ((today - EPOCH).days + 1) * DAY_US
    staged = warehouse.table("staged")
    last_us = warehouse.number(staged.filter(_.fault.isnull(), _.us < tomorrow_us).us.max())
    last_day = EPOCH + timedelta(microseconds=last_us) if last_us else None
    return resolve_window("", days=config.window_days, lag_days=config.lag_days, today=today, last_day=last_day)


def _propensities(warehouse: Warehouse, config: ExtractLogsConfig) -> tuple[np.ndarray, dict[str, float]]:
    values, last = propensity.power_law(config.propensity_exponent), 0
    if config.propensity == "estimated":
        values, last = propensity.estimate(warehouse.sql, config)
    return values, {"propensity.estimated_positions": float(last)} | {f"propensity@{at}": float(values[at - 1]) for at in (2, 5, 10)}


def _metrics(warehouse: Warehouse, window: Window, faults: dict[str, int]) -> dict[str, float]:
    typed, counted, bots, shown = (warehouse.table(name) for name in ("typed", "counted", "bots", "shown"))
    scrubbed = typed.inner_join(warehouse.table("phrases").filter(~_.judged), "phrase")
    relations = (
        typed.agg(**{"searches.known": _.count()}),
        counted.filter(_.reason.isnull()).agg(**{"searches.kept": _.frequency.sum()}),
        bots.agg(**{f"bots.{rule}": _.count(where=_[rule]) for rule in RULES}),
        scrubbed.agg(**{f"scrubbed.{kind}": _.count(where=_.query.contains(f"<{kind}>")) for kind in privacy.KINDS}),
        shown.agg(days_with_events=_.day.nunique()),
        staging.count_searches(warehouse.table("logged")),
    )
    metrics = {name: float(count or 0) for relation in relations for name, count in warehouse.rows(relation)[0].items()}
    metrics |= {f"malformed.{fault}": float(count) for fault, count in faults.items() if fault not in ("", staging.IGNORED)}
    return metrics | {"days": float(window.days)}
