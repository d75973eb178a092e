"""What left the warehouse, as a file; what may be kept how long; which days are whole."""

import json
from datetime import UTC, date, datetime, timedelta

import pyarrow.parquet as pq
import pytest
from tiny_ubi import DAY, event, search, write_lines, write_parquet

from components.extract_logs import lineage
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.window import Window
from components.shared import tables
from components.shared.errors import InputError
from components.shared.schema import TABLES

RED = [search("q1", "red shoes")]
WINDOW = Window(date(2024, 5, 4), date(2024, 5, 10))


def _lineage(got):
    return json.loads((got.folder / "lineage/lineage.json").read_text())


def _quarantine(got):
    return pq.read_table(got.folder / "lineage/quarantine.parquet").to_pylist()


def test_the_lineage_says_what_left_and_what_did_not(extract, monkeypatch):
    monkeypatch.setenv("LOG_CLIENT_SALT", "pepper")
    queries = [search("q1", "red shoes"), search("q2", "call 0171 1234567"), search("q3", "maria@example.com")]
    rows = [event("q1"), event("q1"), event("q2"), event("q3"), event("q1", position=0), event(None), event("q1", action="search")]
    got = extract(rows, queries, date=DAY, window_days=7, lag_days=0)
    found = _lineage(got)
    assert found["counts"] == {
        "read": 7, "kept": 2, "quarantined": {"bad_position": 1, "no_query_id": 1},
        "dropped": {"unknown_query": 0, "duplicate": 1, "outside_window": 0, "bot": 0, "evaluated_query": 0, "personal_data_only": 1,
                    "too_rare_query": 0, "other_action": 1},
    }  # fmt: skip
    assert found["window"] == {"first": "2024-05-04", "last": DAY, "lag_days": 0}
    privacy = found["privacy"]
    assert (privacy["k"], privacy["salt"]) == (1, "environment variable LOG_CLIENT_SALT")
    assert {kind: count for kind, count in privacy["scrubbed_searches"].items() if count} == {"phone": 1, "email": 1}
    assert privacy["quarantine"] == {"file": "quarantine.parquet", "rows": 2, "left_out": 0}
    assert found["retention"] == {"days": 0, "delete_by": ""}
    assert found["source"]["files_read"] == {"events": 1, "queries": 1}
    for name in ("events", "interactions", "queries"):
        manifest = tables.Manifest.read(str(got.folder / name))
        assert (found["tables"][name]["rows"], found["tables"][name]["digest"]) == (manifest.rows, manifest.digest)
        assert set(found["tables"][name]["columns"]) == set(TABLES[name].schema.names)  # the writer fails on one without a meaning
        assert all(column["meaning"] and column["kind"] for column in found["tables"][name]["columns"].values())
    assert "pepper" not in json.dumps(found)


def test_the_public_salt_is_said_to_be_public_and_equal_input_gives_equal_bytes(extract):
    rows = [event("q1"), event("q1", action="clik"), b"{"]
    got = [extract(order, RED, date=DAY) for order in (rows, rows[::-1])]
    assert _lineage(got[0])["privacy"]["salt"] == "public development salt"
    contents = [_lineage(one) | {"source": ""} for one in got]
    assert contents[0] == contents[1]
    assert _quarantine(got[0]) == _quarantine(got[1])


def test_the_quarantine_names_reasons_and_shapes_and_nothing_personal(extract):
    secret = "maria.42@example.com"
    rows = [
        event(None, secret, user_query=secret, client_id=secret),
        event("q1", action="Klick Zürich 7", client_id="c1"), event("q1", item=""),
        event("q1", position="17b"), event("q1", position=-3), event("q1", position=20240510), event("q1", timestamp=secret),
        event("q1", timestamp="2024-13-45"), b'{"user_query": "' + secret.encode(), event("q1"),
    ]  # fmt: skip
    rows += [event("q1", action="swipe", client_id=f"c{n}") for n in range(3)] + [event("q1", action=secret, client_id="c1")] * 5
    found = _quarantine(extract(rows, RED, date=DAY, min_clients=3))
    described = sorted((row["reason"], row["field"] or "", row["value"] or "", row["is_shape"]) for row in found)
    assert described == [
        ("bad_position", "ordinal", "-3", False), ("bad_position", "ordinal", "99999999", True), ("bad_position", "ordinal", "99a", True),
        ("bad_timestamp", "time", "9999-99-99", True), ("bad_timestamp", "time", "aaaaa.99@aaaaaaa.aaa", True),
        ("empty_item", "", "", False), ("no_query_id", "", "", False), ("unknown_action", "action", "aaaaa aaaaaa 9", True),
        *[("unknown_action", "action", "aaaaa.99@aaaaaaa.aaa", True)] * 5, *[("unknown_action", "action", "swipe", False)] * 3,
        ("unreadable", "", "", False),
    ]  # fmt: skip
    assert {row["file"] for row in found} == {"ubi_events/part-0.ndjson"}
    assert not any(word in repr(found) for word in ("maria", "example", "c1", "red shoes", "Klick"))


def test_rows_of_parquet_have_their_numbers(extract, tmp_path):
    write_parquet(tmp_path / "ubi_events/dt=2024-05-10/part-0.parquet", [event("q1"), event("q1", action="clik"), event("q1", position=0)])
    write_lines(tmp_path / "ubi_queries/part-0.ndjson", RED)
    found = [(row["reason"], row["file"], row["row"]) for row in _quarantine(extract(root=tmp_path))]
    file = "ubi_events/dt=2024-05-10/part-0.parquet"
    assert found == [("bad_position", file, 2), ("unknown_action", file, 1)]


def test_the_quarantine_is_bounded_by_reason_and_counts_what_it_leaves_out(extract):
    rows = [event("q1", position=0)] * 5 + [event("q1", timestamp="x")] * 2 + [event("q1")]
    got = extract(rows, RED, date=DAY, max_quarantine_rows=2)
    assert sorted(row["reason"] for row in _quarantine(got)) == ["bad_position"] * 2 + ["bad_timestamp"] * 2
    assert _lineage(got)["privacy"]["quarantine"] == {"file": "quarantine.parquet", "rows": 4, "left_out": 3}
    assert got.report.quarantined == 7


def test_a_refused_log_leaves_its_quarantine_and_says_where(extract, tmp_path):
    with pytest.raises(InputError, match=r"look at '(file://.*quarantine\.parquet)'") as caught:
        extract([event("q1", action="clik")] * 3 + [event("q1")], RED, max_malformed_share=0.5)
    place = str(caught.value).split("look at '")[1].split("'")[0].removeprefix("file://")
    assert pq.read_table(place).num_rows == 3
    assert not list(tmp_path.glob("run1/lineage/lineage.json"))


def test_k_clients_are_counted_over_the_scrubbed_query(extract):
    queries = [search(f"p{n}", f"call 0171 123456{n}", f"c{n}") for n in range(3)]  # three people, three numbers, one scrubbed query
    queries += [search(f"m{n}", f"mail m{n}@example.com", "c1") for n in range(3)]  # one person, three addresses
    rows = [event(one["query_id"], client_id=one["client_id"]) for one in queries]
    got = extract(rows, queries, date=DAY, min_clients=3)
    assert {row["query"] for row in got.table("events")} == {"call <phone>"}
    assert (got.report.kept, got.report.dropped["too_rare_query"]) == (3, 3)
    assert extract(rows, queries, date=DAY, min_clients=4).report.kept == 0


def test_events_past_their_retention_are_neither_read_nor_written(extract, tmp_path):
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=back) for back in (0, 3, 9, 10, 30)]
    for day in days:
        write_lines(tmp_path / f"ubi_events/dt={day}/part-0.ndjson", [event("q1", f"i{day}", timestamp=f"{day}T00:00:00Z")])
    write_lines(tmp_path / "ubi_queries/part-0.ndjson", RED)
    settings = {"root": tmp_path, "retention_days": 10, "window_days": 60}
    got = extract(**settings)
    assert sorted(row["timestamp"].date() for row in got.table("events")) == sorted(days[:3])
    assert got.report.notes["event_files"] == "3 of 5 read"  # what arrived ten days ago or earlier is not opened
    # the oldest day kept is today - 9; ten days after it, tomorrow, it must be gone
    assert _lineage(got)["retention"] == {"days": 10, "delete_by": str(today + timedelta(days=1))}
    assert got.report.notes["delete_by"] == str(today + timedelta(days=1))
    assert len(extract(root=tmp_path, window_days=60).table("events")) == 5
    with pytest.raises(InputError, match=r"retention_days forbids events before .*; give a later date"):
        extract(date=str(today - timedelta(days=20)), **settings)


def test_a_retention_makes_yesterday_s_table_another_one():
    assert "oldest" not in ExtractLogsConfig().references()
    assert ExtractLogsConfig(retention_days=30).references()["oldest"] == str(datetime.now(UTC).date() - timedelta(days=29))


@pytest.mark.parametrize(
    ("events", "usual", "status", "missing"),
    [
        # the median of the six days before, from the first with events on
        ({4: 10, 5: 20, 6: 30, 7: 40, 8: 50, 9: 60, 10: 18}, 35, "complete", []),
        ({4: 10, 5: 20, 6: 30, 7: 40, 8: 50, 9: 60, 10: 17}, 35, "partial", []),  # 17 / 35 = 0.486 < 0.5
        ({8: 40, 9: 60, 10: 50}, 50, "complete", []),  # the log began on the 8th; earlier days do not count as empty
        ({6: 40, 9: 60, 10: 50}, 20, "complete", [7, 8]),  # median of 40, 0, 0, 60
        ({8: 40, 9: 60}, 50, "empty", []),
        ({10: 5}, 0, "alone", []),
        ({}, 0, "empty", []),
    ],
)
def test_the_last_day_against_the_days_before(events, usual, status, missing):
    found = lineage.last_day({date(2024, 5, day): count for day, count in events.items()}, WINDOW, 0.5)
    assert (found.usual, found.status, [day.day for day in found.missing]) == (usual, status, missing)


def test_an_empty_and_a_partial_day_have_a_status_in_report_and_lineage(extract):
    rows = [event("q1", f"i{day}-{n}", timestamp=f"2024-05-{day:02d}T10:00:00Z") for day in (7, 8, 9) for n in range(8)]
    rows += [event("q1", "late", timestamp=f"{DAY}T00:10:00Z")] * 2  # one event: the export was cut off
    partial, empty = (extract(rows, RED, date=day) for day in (DAY, "2024-05-11"))
    assert partial.report.metrics["last_day.share"] == 1 / 8
    assert partial.report.notes["last_day"] == "2024-05-10 is partial, 12% of the 8 events of a usual day"
    found = _lineage(partial)["last_day"]
    assert found == {"date": DAY, "day": DAY, "status": "partial", "events": 1, "usual_events": 8, "share": 0.125, "empty_days_before": []}
    assert (_lineage(empty)["last_day"]["status"], empty.report.metrics["last_day.events"]) == ("empty", 0)
    assert _lineage(extract(rows, RED, date="2024-05-09"))["last_day"]["status"] == "complete"


def test_a_clock_that_runs_ahead_does_not_move_the_window(extract, tmp_path):
    ahead = event("q1", "ahead", timestamp="2024-05-12T00:00:00Z")  # arrived on the 10th
    write_lines(tmp_path / "ubi_events/dt=2024-05-10/part-0.ndjson", [event("q1"), ahead])
    write_lines(tmp_path / "ubi_queries/part-0.ndjson", RED)
    got = extract(root=tmp_path)
    assert got.report.notes["window"].endswith(DAY)
    assert got.report.dropped["outside_window"] == 1


def test_long_queries_are_cut_and_counted(extract):
    long = [search("q1", "x" * 1_000_000, "c1"), search("q2", "y" * 256, "c2"), search("q3", "a\0b \ud800 c", "c3")]
    got = extract([event("q1"), event("q2"), event("q3")], long, date=DAY)
    assert got.report.metrics["searches.cut"] == 1
    assert max(len(row["query"]) for row in got.table("events")) == 256
    assert got.report.read == 3
