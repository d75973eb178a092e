"""Extract clean events, interactions and query frequencies from a shop's UBI search log."""

import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from components.extract_logs import chain, codes, phrases, privacy, propensity, quarantine, readers, sources, staging
from components.extract_logs import lineage as ledger
from components.extract_logs.bots import RULES
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.warehouse import LogWarehouse, open_warehouse
from components.extract_logs.window import DAY_US, Window, last_partition, oldest_day, parse_date, partitions_of, resolve_window
from components.shared import storage, tables
from components.shared.card import DatasetCard, read_card
from components.shared.columns import _
from components.shared.errors import InputError
from components.shared.report import Report
from components.shared.tracking import Tracker
from components.shared.warehouse import Warehouse

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
    lineage: str,
    date: str = "",
    tracker: Tracker,
) -> Report:
    """Read the log that the card names, write tables `events`, `interactions`, `queries` and `reformulations`, and folder `lineage`:
    what left the warehouse (`lineage.json`) and which rows were malformed (`quarantine.parquet`).

    Every event read is kept, dropped under one reason, or quarantined as malformed; the report has all counts.

    Raises:
        InputError: for a wrong date, an absent or empty log, a log without a usable day, or too many malformed rows.
    """
    addresses = {"events": events, "interactions": interactions, "queries": queries, "reformulations": reformulations}
    source = read_card(card)
    judged = tables.read_table(judged_queries, "queries")
    today = datetime.now(UTC).date()
    day = parse_date(date, today)
    window = None if day is None else _window(config, date, today, None)
    event_files, query_files, notes = _list_files(source, window, config, today)
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
        staging.read_log(warehouse.sql, readers.event_rows(source.log, event_files), readers.search_rows(source.log, query_files))
        warehouse.keep("staged", staging.judge_rows(warehouse.table("read_events"), readers.adapted(config, source.log)))
        faults, shown = _check_faults(warehouse, config, source, storage.join(lineage, ledger.QUARANTINE))
        window = window or _last_window(warehouse, config, today, event_files)
        LOG.info("staged %d events, window %s", sum(faults.values()), window)
        warehouse.put("judged", judged)
        warehouse.keep("logged", warehouse.table("read_queries"))
        dropped, metrics = _relate(warehouse, config, window, salt)
        metrics |= _metrics(warehouse, window, faults)
        written = {name: tables.write_table(addresses[name], name, rows) for name, rows in chain.publish(warehouse, config).items()}
    for name, uri in addresses.items():
        tracker.dataset(name, uri, written[name].digest, written[name].rows)
    dropped[staging.IGNORED] = faults.pop(staging.IGNORED, 0)
    well_formed = faults.pop("", 0)
    quarantined = sum(faults.values())
    last_day = ledger.last_day(ledger.events_per_day(events), window, config.min_day_share)
    delete_by = ledger.delete_by(window, config.retention_days)
    tracker.tags({"log.window": str(window), "log.status": last_day.status, "log.delete_by": delete_by, "data.snapshot": source.snapshot})
    report = Report(
        read=well_formed + dropped[staging.IGNORED] + quarantined,
        kept=written["events"].rows,
        dropped=dropped,
        quarantined=quarantined,
        metrics=metrics | {"last_day.events": float(last_day.events), "last_day.share": last_day.share},
        notes={"window": str(window), "last_day": str(last_day), "delete_by": delete_by or "no retention_days is set", **notes},
    )
    departure = ledger.Departure(
        source=source, config=config, window=window, day=last_day, manifests=written, report=report, quarantine=shown,
        num_files={"events": len(event_files), "queries": len(query_files)}, is_development_salt=is_development,
    )  # fmt: skip
    tracker.artifact(ledger.write(lineage, departure), "log")
    return report


def _list_files(
    source: DatasetCard, window: Window | None, config: ExtractLogsConfig, today: date
) -> tuple[list[str], list[str], dict[str, str]]:
    log, oldest = source.log, oldest_day(today, config.retention_days)
    event_files = sources.list_log(source.root, log.events, "events")
    query_files = sources.list_log(source.root, log.queries, "queries") if log.queries else []
    wanted = partitions_of(event_files, window, config.late_days, oldest)
    if not wanted:
        uri = storage.join(source.root, log.events)
        raise InputError(
            f"'{uri}' has no day partition for {window or f'{oldest} or later'}; its last file is {event_files[-1]}; give another date"
        )
    notes = {"event_files": f"{len(wanted)} of {len(event_files)} read"}
    return wanted, partitions_of(query_files, window, config.late_days, oldest) or query_files[-1:], notes


def _window(config: ExtractLogsConfig, text: str, today: date, last_day: date | None) -> Window:
    oldest = oldest_day(today, config.retention_days)
    return resolve_window(text, days=config.window_days, lag_days=config.lag_days, today=today, last_day=last_day, oldest=oldest)


def _relate(warehouse: LogWarehouse, config: ExtractLogsConfig, window: Window, salt: bytes) -> tuple[dict[str, int], dict[str, float]]:
    """From staged rows to everything that is published; returns the dropped rows by reason, and metrics."""
    metrics = _name_things(warehouse, config, salt)
    dropped = chain.clean_events(warehouse, config, window)
    LOG.info("dropped %s", dropped)
    chain.show_items(warehouse)
    examination = propensity.examine(warehouse, config)
    chain.count_interactions(warehouse, examination)
    phrases.find_reworded(warehouse, chain.find_turns(warehouse, config, window))
    metrics |= {name: float(count) for name, count in chain.count_sessions(warehouse).items()}
    metrics |= {"propensity.estimated_positions": float(examination.last), "trust@1": float(examination.trusted[0])}
    return dropped, metrics | {f"propensity@{at}": float(examination.examined[at - 1]) for at in (2, 5, 10)}


def _name_things(warehouse: LogWarehouse, config: ExtractLogsConfig, salt: bytes) -> dict[str, float]:
    """Phrases and codes of the searches; returns how many texts were cut."""
    searches = warehouse.keep("searches", staging.find_searches(warehouse.table("logged"), warehouse.table("staged")))
    phrases.name_phrases(warehouse, searches)
    phrases.find_hidden(warehouse, hide_evaluated=config.hide_evaluated_queries)
    chain.encode_names(warehouse, codes.encoder(salt))
    return {name: float(count) for name, count in warehouse.rows(staging.count_cut(searches))[0].items()}


def _check_faults(
    warehouse: Warehouse, config: ExtractLogsConfig, source: DatasetCard, place: str
) -> tuple[dict[str, int], tuple[int, int]]:
    """(rows per fault, rows in the quarantine file at `place` and left out of it); the file stands also when the log is refused."""
    faults = {row["fault"]: row["rows"] for row in warehouse.rows(staging.count_faults(warehouse.table("staged")))}
    uri = storage.join(source.root, source.log.events)
    read = sum(faults.values())
    if not read:
        raise InputError(f"'{uri}' holds no event; check the card's key 'log.events' and that the log was exported")
    shown = quarantine.write(warehouse.sql, place, config, source.root)
    malformed = {fault: count for fault, count in faults.items() if fault not in ("", staging.IGNORED)}
    share = sum(malformed.values()) / read
    if share > config.max_malformed_share:
        worst = ", ".join(f"{fault} {count}" for fault, count in sorted(malformed.items(), key=lambda one: (-one[1], one[0])))
        raise InputError(
            f"'{uri}': {share:.2%} of {read} rows are malformed ({worst}), more than max_malformed_share = {config.max_malformed_share}; "
            f"look at '{place}'; repair the log, name its actions in action_names or ignored_actions, "
            "or raise the limit"
        )
    return faults, shown


def _last_window(warehouse: Warehouse, config: ExtractLogsConfig, today: date, files: Sequence[str]) -> Window:
    tomorrow_us = ((today - EPOCH).days + 1) * DAY_US
    staged = warehouse.table("staged")
    last_us = warehouse.number(staged.filter(_.fault.isnull(), _.us < tomorrow_us).us.max())
    days = [EPOCH + timedelta(microseconds=last_us), last_partition(files) or today] if last_us else []
    return _window(config, "", today, min(days, default=None))


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
