"""What left the warehouse, as a file that a machine can check: tables, columns, window, k, salt, scrubbed and dropped rows, retention.

The fields are described in the room's README. Equal input gives equal bytes: no clock, no run id.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.privacy import KINDS
from components.extract_logs.window import Window
from components.shared import storage, tables
from components.shared.card import DatasetCard
from components.shared.report import Report
from components.shared.schema import TABLES

FILE = "lineage.json"
QUARANTINE = "quarantine.parquet"
VERSION = 1
PSEUDONYM, PUBLIC, SCRUBBED, COUNT = "pseudonym", "public", "scrubbed text", "count"
COLUMNS: dict[str, dict[str, tuple[str, str]]] = {  # table -> column -> (kind, meaning)
    "events": {
        "event_id": (PSEUDONYM, "salted 128-bit hash of the event's fields"),
        "query_id": (PUBLIC, "id of a judged query, else q and 64 bits of SHA-256 of the query"),
        "query": (SCRUBBED, "normalised query"),
        "client": (PSEUDONYM, "first 64 bits of HMAC-SHA-256 of the client id, of the session where there is none"),
        "session_id": (PSEUDONYM, "first 64 bits of HMAC-SHA-256 of the session id"),
        "timestamp": ("time", "when it happened, UTC, microseconds"),
        "action": (PUBLIC, "impression, click, add_to_cart or purchase"),
        "item_id": (PUBLIC, "item of the catalogue"),
        "position": (PUBLIC, "place on the page, first is 1"),
    },
    "interactions": {
        "query": (SCRUBBED, "normalised query"),
        "item_id": (PUBLIC, "item of the catalogue"),
        "day": ("time", "UTC day of the first event of the item in its search"),
        "impressions": (COUNT, "searches that showed the item"),
        "clicks": (COUNT, "searches in which it was clicked"),
        "add_to_carts": (COUNT, "searches in which it was put into the cart"),
        "purchases": (COUNT, "searches in which it was bought"),
        "clients": (COUNT, "distinct clients that saw it"),
        "corrected_impressions": (COUNT, "sum of the examination propensities of the positions"),
        "corrected_clicks": (COUNT, "clicks less those that the positions earn by themselves"),
    },
    "queries": {
        "query_id": (PUBLIC, "id of a judged query, else q and 64 bits of SHA-256 of the query"),
        "query_text": (SCRUBBED, "judged queries as published, others normalised"),
        "query": (SCRUBBED, "normalised query"),
        "frequency": (COUNT, "searches in the window, without bots"),
        "segment": (PUBLIC, "head, torso, tail or unseen"),
        "kind": (PUBLIC, "source of a judged query, from its data set"),
        "split": (PUBLIC, "train, dev or test of a judged query"),
    },
    "reformulations": {
        "query": (SCRUBBED, "normalised query"),
        "next_query": (SCRUBBED, "normalised query that reworded it in the same session"),
        "times": (COUNT, "how often shoppers went from one to the other"),
        "clients": (COUNT, "distinct clients that did"),
        "satisfied": (COUNT, "how often only the other led to a click"),
    },
}


@dataclass(frozen=True, kw_only=True)
class Departure:
    """Everything that the step knows about what it wrote."""

    source: DatasetCard
    config: ExtractLogsConfig
    window: Window
    day: "LastDay"
    manifests: Mapping[str, tables.Manifest]
    report: Report
    num_files: Mapping[str, int]
    is_development_salt: bool
    quarantine: tuple[int, int]  # rows in the quarantine file, rows left out of it


@dataclass(frozen=True)
class LastDay:
    """The newest day of the window against the days before it.

    `status` is complete, partial, empty, or alone where no earlier day has events; only `complete` and `alone` may promote a model.
    """

    day: date
    events: int
    usual: float
    status: str
    missing: list[date] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Events of the day over those of a usual day; 1 where there is none to compare with."""
        return self.events / self.usual if self.usual else 1.0

    def __str__(self) -> str:
        compared = f"{self.share:.0%} of the {self.usual:g} events of a usual day" if self.usual else "no earlier day to compare with"
        empty = f"; empty days before: {', '.join(str(day) for day in self.missing)}" if self.missing else ""
        return f"{self.day} is {self.status}, {compared}{empty}"


def last_day(events: Mapping[date, int], window: Window, min_share: float) -> LastDay:
    """Judge the window's last day by the median of the earlier days from the first one with events on.

    Args:
        events: kept events per UTC day.
        min_share: below this share of the median a day is partial.
    """
    before = [window.first + timedelta(days=n) for n in range((window.last - window.first).days)]
    begun = [day for day in before if day >= min(events, default=window.last)]
    usual = float(median([events.get(day, 0) for day in begun])) if begun else 0.0
    found = LastDay(window.last, events.get(window.last, 0), usual, "complete", [day for day in begun if not events.get(day)])
    if not found.events:
        status = "empty"
    elif not begun:
        status = "alone"
    else:
        status = "partial" if found.share < min_share else "complete"
    return LastDay(found.day, found.events, usual, status, found.missing)


def events_per_day(uri: str) -> dict[date, int]:
    """Kept events per UTC day, of a written table `events`."""
    days: dict[date, int] = {}
    for part in tables.scan_table(uri, "events", ["timestamp"]):
        for one in pc.value_counts(part["timestamp"].cast(pa.date32())).to_pylist():
            days[one["values"]] = days.get(one["values"], 0) + one["counts"]
    return days


def write(uri: str, departure: Departure) -> str:
    """Write the lineage file into folder `uri`; returns its address."""
    address = storage.join(uri, FILE)
    storage.write_json(address, _content(departure))
    return address


def delete_by(window: Window, retention_days: int) -> str:
    """The day on which the oldest event of the window must be gone; empty where no retention is set."""
    return (window.first + timedelta(days=retention_days)).isoformat() if retention_days else ""


def _content(one: Departure) -> dict[str, Any]:
    metrics, log, day = one.report.metrics, one.source.log, one.day
    shown, left_out = one.quarantine
    asked = one.window.last + timedelta(days=one.config.lag_days)
    return {
        "schema": "extract_logs/lineage",
        "version": VERSION,
        "settings": hashlib.sha256(one.config.model_dump_json().encode()).hexdigest()[:16],
        "source": {
            "name": one.source.name, "root": one.source.root, "snapshot": one.source.snapshot, "format": log.format,
            "events": log.events, "queries": log.queries, "files_read": dict(one.num_files),
        },
        "window": {"first": one.window.first.isoformat(), "last": one.window.last.isoformat(), "lag_days": one.config.lag_days},
        "last_day": {
            "date": asked.isoformat(), "day": day.day.isoformat(), "status": day.status, "events": day.events, "usual_events": day.usual,
            "share": round(day.share, 6), "empty_days_before": [one_day.isoformat() for one_day in day.missing],
        },
        "tables": {name: _table(name, manifest) for name, manifest in one.manifests.items()},
        "counts": {
            "read": one.report.read, "kept": one.report.kept, "dropped": dict(one.report.dropped),
            "quarantined": {name.removeprefix("malformed."): int(n) for name, n in metrics.items() if name.startswith("malformed.")},
        },
        "privacy": {
            "k": one.config.min_clients,
            "k_counts": "distinct clients (sessions where a row has no client) that typed the scrubbed query in the window, without bots",
            "k_exempt": "judged queries, whose texts are public",
            "hash": "HMAC-SHA-256, first 64 bits",
            "salt": "public development salt" if one.is_development_salt else f"environment variable {one.config.client_salt_variable}",
            "scrubbed_searches": {kind: int(metrics[f"scrubbed.{kind}"]) for kind in KINDS},
            "quarantine": {"file": QUARANTINE, "rows": shown, "left_out": left_out},
        },
        "retention": {"days": one.config.retention_days, "delete_by": delete_by(one.window, one.config.retention_days)},
    }  # fmt: skip


def _table(name: str, manifest: tables.Manifest) -> dict[str, Any]:
    columns = {
        column.name: {"type": str(column.type), "kind": COLUMNS[name][column.name][0], "meaning": COLUMNS[name][column.name][1]}
        for column in TABLES[name].schema
    }
    return {"rows": manifest.rows, "digest": manifest.digest, "version": manifest.version, "columns": columns}
