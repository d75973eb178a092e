"""Every row of the log is kept, dropped under one reason, or quarantined."""

import os

import pytest
from tiny_ubi import DAY, event, search, write_lines, write_parquet

from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.privacy import hash_client
from components.shared.errors import InputError


def test_three_forms_of_time_and_both_first_positions(extract):
    rows = [
        event("q1", "a", timestamp="2024-05-10T10:00:00.250Z"),
        event("q1", "b", timestamp="2024-05-10T12:00:00.250+0200", position=2),
        event("q1", "c", timestamp=1_715_335_200_250, position=3),
        event("q1", "d", timestamp="1715335200250", position="4"),
    ]
    for first in (1, 0):
        got = extract(rows, [search("q1", "Red  SHOES")], log={"first_position": first}).table("events")
        assert {row["timestamp"].timestamp() for row in got} == {1_715_335_200.25}
        assert sorted((row["item_id"], row["position"]) for row in got) == [(item, n + 1 - first) for n, item in enumerate("abcd", 1)]
        assert {(row["query_id"], row["query"]) for row in got} == {("j1", "red shoes")}


def test_each_fault_has_its_own_code_and_counts_reconcile(extract):
    good = event("q1", "a")
    rows = [
        good, good, good,  # two duplicates
        b'{"query_id": "q1", "act',  # unreadable
        event(None), event("q1", action="clik"), event("q1", item=""), event("q1", position=0), event("q1", position="x"),
        event("q1", position=None), event("q1", timestamp="yesterday"), event("q1", timestamp=5),
        event("q1", action="search"),  # other_action
        event("nowhere"), event("empty"),  # unknown_query
        event("q1", "b", timestamp="2024-01-01T00:00:00Z"),  # outside_window
        event("own", user_query="red shoes"),  # not among the queries, but says its text
    ]  # fmt: skip
    report = extract(rows, [search("q1", "red shoes"), search("empty", "  \t ")], date=DAY).report
    assert report.read == 17
    assert report.kept == 2
    assert report.quarantined == 9
    codes = {name.removeprefix("malformed."): int(count) for name, count in report.metrics.items() if name.startswith("malformed.")}
    assert codes == {
        "unreadable": 1, "no_query_id": 1, "unknown_action": 1, "empty_item": 1, "bad_position": 3, "bad_timestamp": 2
    }  # fmt: skip
    expected = {"duplicate": 2, "other_action": 1, "unknown_query": 2, "outside_window": 1}
    assert {reason: count for reason, count in report.dropped.items() if count} == expected


def test_click_without_a_position_is_kept_and_an_impression_without_one_is_not(extract):
    got = extract([event("q1", "a", "click", None), event("q1", "b", "impression", None)], [search("q1", "red shoes")])
    assert [(row["item_id"], row["position"]) for row in got.table("events")] == [("a", None)]


def test_too_many_malformed_rows_stop_the_step(extract):
    with pytest.raises(InputError, match=r"50.00% of 2 rows are malformed \(unknown_action 1\).*max_malformed_share = 0.4"):
        extract([event("q1"), event("q1", action="clik")], [search("q1", "x")], max_malformed_share=0.4)


def test_actions_are_translated(extract):
    got = extract([event("q1", "a", "item_click", 1)], [search("q1", "red shoes")], action_names={"item_click": "click"})
    assert got.table("events")[0]["action"] == "click"


def test_repeated_query_id_takes_its_latest_text(extract):
    queries = [search("q1", "red", time=f"{DAY}T10:00:00Z"), search("q1", "red shoes", time=f"{DAY}T10:00:01Z")]
    got = extract([event("q1")], queries[::-1])
    assert got.table("events")[0]["query"] == "red shoes"
    assert (got.report.metrics["searches.read"], got.report.metrics["searches.repeated"]) == (2, 1)


def test_rare_queries_are_dropped_unless_judged(extract):
    queries = [search(f"a{n}", "blue hat", f"c{n}") for n in range(3)] + [search(f"b{n}", "green hat", "c1") for n in range(3)]
    queries += [search("r", "red shoes")]
    got = extract([event(one["query_id"]) for one in queries], queries, min_clients=3)
    assert got.report.dropped["too_rare_query"] == 3  # three searches, one client
    assert {row["query"]: (row["frequency"], row["split"]) for row in got.table("queries")} == {
        "blue hat": (3, None), "red shoes": (1, "train")
    }  # fmt: skip


def test_session_stands_in_for_an_absent_client_and_lies_under_event_attributes(extract):
    rows = [event("q1", client_id=None, session_id=None) for _ in range(1)]
    rows[0]["event_attributes"]["session_id"] = "deep"
    got = extract(rows, [{"query_id": "q1", "user_query": "red shoes", "timestamp": f"{DAY}T10:00:00Z"}]).table("events")[0]
    assert got["client"] == got["session_id"] is not None


def test_clients_are_hashed_with_the_salt_of_the_environment(extract, monkeypatch):
    monkeypatch.setenv("LOG_CLIENT_SALT", "pepper")
    salted = extract([event("q1")], [search("q1", "red shoes")])
    assert salted.table("events")[0]["client"] == hash_client(b"pepper", "c1")
    assert salted.table("events")[0]["session_id"] == hash_client(b"pepper", "s1")
    assert "client_salt" not in salted.report.notes
    monkeypatch.delenv("LOG_CLIENT_SALT")
    plain = extract([event("q1")], [search("q1", "red shoes")])
    assert "LOG_CLIENT_SALT is not set" in plain.report.notes["client_salt"]
    assert plain.table("events")[0]["client"] != salted.table("events")[0]["client"]


def test_another_salt_is_another_reference_and_does_not_show(monkeypatch):
    digests = []
    for salt in ("", "pepper", "paprika"):
        monkeypatch.setenv("LOG_CLIENT_SALT", salt)
        digests.append(ExtractLogsConfig.from_mapping({}, section="logs").references()["salt"])
    assert len(set(digests)) == 3
    assert not any("pepper" in digest for digest in digests)


def test_nothing_personal_is_written(extract):
    texts = ["maria@example.com", "call +1 202 555 0123 now", "4111 1111 1111 1111", "order 114-1234567-7654321", "red shoes"]
    queries = [search(f"q{n}", query, "client-of-maria") for n, query in enumerate(texts)]
    got = extract([event(one["query_id"], client_id="client-of-maria", session_id="session-7") for one in queries], queries)
    written = repr([got.table(name) for name in ("events", "interactions", "queries")])
    for secret in ("maria", "555", "4111", "114-", "client-of", "session-7"):
        assert secret not in written
    assert got.report.dropped["personal_data_only"] == 3  # not the call: words are left of it
    assert {row["query"] for row in got.table("events")} == {"call <phone> now", "red shoes"}
    assert {kind: got.report.metrics[f"scrubbed.{kind}"] for kind in ("email", "phone", "card", "order")} == dict.fromkeys(
        ("email", "phone", "card", "order"), 1.0
    )


def test_files_of_different_schemas_are_read_together(extract, tmp_path):
    root = tmp_path / "mixed"
    write_parquet(root / "ubi_events/dt=2024-05-10/part-0.parquet", [event("q1", "a")])
    bare = {"query_id": "q1", "action_name": "click", "timestamp": 1_715_335_200_250, "event_attributes": {"object": {"object_id": "b"}}}
    write_parquet(root / "ubi_events/dt=2024-05-11/part-0.parquet", [bare])
    encoded = {**bare, "event_attributes": '{"object": {"object_id": "c"}, "position": {"ordinal": 7}}', "client_id": "c9"}
    write_parquet(root / "ubi_events/dt=2024-05-12/part-0.parquet", [encoded])
    write_lines(root / "ubi_events/dt=2024-05-12/part-1.ndjson.gz", [event("q1", "d")])
    (root / "ubi_events/_SUCCESS").write_text("")
    write_parquet(root / "ubi_queries/dt=2024-05-10/part-0.parquet", [search("q1", "red shoes")])
    got = extract(root=root)
    assert [(row["item_id"], row["position"]) for row in sorted(got.table("events"), key=lambda row: row["item_id"])] == [
        ("a", 1), ("b", None), ("c", 7), ("d", 1)
    ]  # fmt: skip
    dated = extract(root=root, date=DAY, late_days=1, window_days=1)
    assert (dated.report.read, dated.report.notes["event_files"]) == (2, "2 of 4 read")


def test_absent_empty_and_corrupt_logs_are_refused_by_name(extract, tmp_path):
    with pytest.raises(InputError, match=r"ubi_events.*holds no event"):
        extract([], [search("q1", "x")])
    with pytest.raises(InputError, match=r"log.events.*holds no \.parquet"):
        extract(root=tmp_path / "nothing")
    with pytest.raises(InputError, match="timestamp"):
        extract([event("q1", timestamp="x")], [search("q1", "x")])
    root = tmp_path / "corrupt"
    write_lines(root / "ubi_queries/part-0.ndjson", [search("q1", "x")])
    write_lines(root / "ubi_events/part-0.parquet", [event("q1")])
    with pytest.raises(InputError, match=r"part-0\.parquet' is not readable Parquet"):
        extract(root=root)


def test_future_rows_do_not_move_the_window(extract):
    got = extract([event("q1", "a"), event("q1", "b", timestamp="2090-01-01T00:00:00Z")], [search("q1", "red shoes")])
    assert got.report.notes["window"].endswith(DAY)
    assert got.report.dropped["outside_window"] == 1


def test_work_is_done_in_the_temp_folder_and_gone_afterwards(extract, tmp_path):
    (tmp_path / "spill").mkdir()
    extract([event("q1")], [search("q1", "red shoes")], temp_folder=str(tmp_path / "spill"))
    assert os.listdir(tmp_path / "spill") == []
    with pytest.raises(InputError, match="temp_folder"):
        extract([event("q1")], [search("q1", "red shoes")], temp_folder=str(tmp_path / "absent"))
