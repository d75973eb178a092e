"""Published and simulated logs, every row accounted for."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tiny_ubi import DATA, write_inputs

from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.privacy import DEVELOPMENT_SALT, hash_client
from components.extract_logs.step import run
from components.shared import tables
from components.shared.tracking import NullTracker

SAMPLE, ESCI = DATA / "ubi_sample", DATA / "esci"
pytestmark = pytest.mark.esci
needs_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="no UBI sample beside the project")
needs_esci = pytest.mark.skipif(not ESCI.is_dir(), reason="no ESCI subset beside the project")
DEMO_ACTIONS = ("search", "on_search", "view_search_results", "type_filter", "global_click", "brand_filter", "product_sort",
                "product_hover", "declined_product", "page_exit", "login", "logout", "new_user_entry")  # fmt: skip


@needs_sample
def test_ubi_sample(extract):
    """Each fault that the sample's README lists, counted again by plain Python over its rows."""
    queries, events = (_lines(SAMPLE / f"ubi_{name}.ndjson.gz") for name in ("queries", "events"))
    got = extract(root=SAMPLE, log=SAMPLE_LOG, action_names=SAMPLE_ACTIONS, ignored_actions=DEMO_ACTIONS, window_days=3660)
    report = got.report
    fates = Counter(_fates(queries, events))
    assert fates == {"kept": 2581, "other_action": 910, "unknown_query": 60, "bad_position": 6, "unknown_action": 1}
    assert report.kept == fates.pop("kept") == len(got.table("events"))
    counted = report.dropped | {name.removeprefix("malformed."): n for name, n in report.metrics.items() if name.startswith("malformed.")}
    assert {name: count for name, count in counted.items() if count} == fates
    assert (report.read, report.quarantined) == (3558, 7)
    # the sample's README: 189 queries repeat a query_id, six of them are empty
    assert [report.metrics[f"searches.{name}"] for name in ("read", "repeated", "unusable", "cut")] == [476, 183, 6, 0]
    times = [row["timestamp"] for row in got.table("events")]  # three notations, all of them inside the sample's months
    assert (min(times).date(), max(times).date()) == (date(2024, 6, 4), date(2025, 3, 3))
    assert {row["position"] for row in got.table("events")} >= {1, 2, 3, 4, 5}
    shown = pq.read_table(got.folder / "lineage/quarantine.parquet").to_pylist()
    assert Counter((row["reason"], row["value"]) for row in shown) == {("bad_position", "0"): 6, ("unknown_action", "404_redirect"): 1}


SAMPLE_LOG = {"events": "ubi_events.ndjson.gz", "queries": "ubi_queries.ndjson.gz", "first_position": {"esci_ubi_sample": 0}}
SAMPLE_ACTIONS = {name: name for name in ("impression", "click", "add_to_cart", "purchase")} | {"item_click": "click"}


def _lines(file):
    with gzip.open(file) as handle:
        return [json.loads(line) for line in handle]


def _fates(queries, events):
    """The fate of each event by the rules of the room's README."""
    texts = {row["query_id"] for row in queries if row["user_query"].strip()}
    texts |= {row["query_id"] for row in events if (row.get("user_query") or "").strip()}
    texts |= {row["query_id"] for row in events if row["action_name"] in ("search", "on_search") and row["message"].strip()}
    for row in events:
        attributes = row.get("event_attributes") or {}
        ordinal = (attributes.get("position") or {}).get("ordinal")
        first = 0 if row["application"] == "esci_ubi_sample" else 1
        if row["action_name"] in DEMO_ACTIONS:
            yield "other_action"
        elif row["action_name"] not in SAMPLE_ACTIONS:
            yield "unknown_action"
        elif not (attributes.get("object") or {}).get("object_id"):
            yield "empty_item"
        elif (ordinal is None and row["action_name"] == "impression") or (ordinal is not None and ordinal < first):
            yield "bad_position"
        else:
            yield "kept" if row["query_id"] in texts else "unknown_query"


def _judged_esci() -> dict[str, tuple[str, str]]:
    rows = pq.read_table(ESCI / "queries.parquet").to_pylist()
    return {str(row["query_id"]): (row["query"], row["split"]) for row in rows}


@needs_esci
def test_one_day_of_the_esci_log(extract):
    got = extract(root=ESCI, judged=_judged_esci(), date="2026-09-03", log={"events": "logs/ubi_events", "queries": "logs/ubi_queries"},
                  window_days=1, min_clients=3, propensity="estimated", max_malformed_share=0.01)  # fmt: skip
    report = got.report
    days = [f"2026-09-{day:02d}" for day in range(2, 7)]  # a day before, and three days for late rows
    assert report.read == sum(pq.ParquetFile(ESCI / f"logs/ubi_events/dt={day}/part-0.parquet").metadata.num_rows for day in days)
    assert 0 < report.quarantined < 0.002 * report.read
    assert report.metrics["bots.rate"] >= 1
    table = pa.Table.from_pylist(got.table("interactions"))
    assert pc.unique(table["day"]).to_pylist()[0].isoformat() == "2026-09-03"
    assert pc.all(pc.less_equal(table["clicks"], table["impressions"])).as_py()
    assert pc.sum(table["impressions"]).as_py() < report.kept
    assert 0 < report.metrics["propensity@5"] < report.metrics["propensity@2"] < 1
    assert {row["split"] for row in got.table("queries")} == {"train", "dev", None}


@needs_esci
def test_bots_against_the_simulator_s_truth(tmp_path):
    log, truth = tmp_path / "log", tmp_path / "truth"
    command = [sys.executable, str(DATA / "simulate_logs.py"), "--products", str(ESCI / "products.parquet"),
               "--queries", str(ESCI / "queries.parquet"), "--judgments", str(ESCI / "judgments.parquet"),
               "--out", str(log), "--truth", str(truth), "--sessions", "6000", "--days", "2", "--seed", "3"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    places = write_inputs(tmp_path / "work", log, _judged_esci())
    run(ExtractLogsConfig(min_clients=1), tracker=NullTracker(), **places)
    bots = pq.read_table(truth / "searches.parquet").filter(pc.field("bot"))["query_id"].to_pylist()
    events = pq.read_table(log / "ubi_events", columns=["query_id", "client_id"])
    kept = set(tables.read_table(places["events"], "events", ["client"])["client"].to_pylist())
    salt = DEVELOPMENT_SALT.encode()
    removed = {client for client in events["client_id"].unique().to_pylist() if hash_client(salt, client) not in kept}
    shown = pc.drop_null(events["query_id"]).unique()
    hidden = set(events.filter(pc.is_in(events["client_id"], pa.array(sorted(removed))))["query_id"].to_pylist()) - {None}
    truly = set(bots) & set(shown.to_pylist())
    assert len(truly) > 300
    assert len(hidden & truly) / len(truly) >= 0.95  # recall, in searches
    assert len(hidden & truly) / len(hidden) >= 0.95  # precision
