"""GA4's export: nested rows exploded to events, each under the search that it belongs to."""

import pytest
from tiny_ga4 import BASE_US, as_bigquery_json, happening
from tiny_ubi import event, search, write_lines, write_parquet

from components.shared.errors import InputError

GA4 = {"format": "ga4", "events": "ga4", "queries": ""}
NIGHT = [
    happening("session_start", 0),
    happening("view_search_results", 1, search_term="Red  Shoes"),
    happening("view_item_list", 2, items=[("a", 1), ("b", 2)]),
    happening("select_item", 3, items=[("b", 2)]),
    happening("view_search_results", 4, search_term="blue hat", items=[("h", 1)]),  # items of its own
    happening("add_to_cart", 5, items=[("b",)]),  # b was clicked under red shoes, not under the later search
    happening("purchase", 6, items=[("b",), ("z",)]),  # z was never shown
    happening("view_item_list", 7, user="u2", items=[("a", 1)]),  # u2 did not search
    happening("view_item_list", 8, visit=8, items=[("a", 1)]),  # nor did u1 in this session
    happening("view_item_list", 0.5, items=[("early", 1)]),  # before the search
]
KEPT = [("blue hat", "impression", "h", 1), ("red shoes", "add_to_cart", "b", None), ("red shoes", "click", "b", 2),
        ("red shoes", "impression", "a", 1), ("red shoes", "impression", "b", 2), ("red shoes", "purchase", "b", None)]  # fmt: skip


def _extract(extract, root, rows, kind="parquet", **log):
    if kind == "parquet":
        write_parquet(root / "ga4/events_20240510.parquet", rows)
    else:
        write_lines(root / "ga4/events_20240510.ndjson.gz", [as_bigquery_json(row) for row in rows])
    return extract(root=root, log={**GA4, **log})


def _found(got):
    return sorted((row["query"], row["action"], row["item_id"], row["position"]) for row in got.table("events"))


@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_each_event_belongs_to_its_search(extract, tmp_path, kind):
    got = _extract(extract, tmp_path / kind, NIGHT, kind)
    assert _found(got) == KEPT
    # 2 + 1 + 1 + 1 + 2 + 1 + 1 + 1 items, and two rows without items: the start of the session and the bare search
    assert (got.report.read, got.report.quarantined) == (12, 0)
    assert {reason: count for reason, count in got.report.dropped.items() if count} == {"other_action": 2, "unknown_query": 4}
    assert {row["query"]: row["frequency"] for row in got.table("queries")} == {"red shoes": 1, "blue hat": 1}
    assert min(row["timestamp"].timestamp() for row in got.table("events")) == BASE_US / 1e6 + 2


def test_microseconds_survive(extract, tmp_path):
    rows = [happening("view_search_results", 0, search_term="red shoes"), happening("view_item_list", 1.000001, items=[("a", 1)])]
    got = _extract(extract, tmp_path, rows)
    assert got.table("events")[0]["timestamp"].microsecond == 1


def test_a_search_at_the_same_microsecond_counts_and_the_latest_one_wins(extract, tmp_path):
    rows = [happening("search", 1, search_term="red"), happening("search", 2, search_term="red shoes"),
            happening("view_item_list", 2, items=[("a", 1)]), happening("select_item", 1.5, items=[("c", 3)])]  # fmt: skip
    assert _found(_extract(extract, tmp_path, rows)) == [("red", "click", "c", 3), ("red shoes", "impression", "a", 1)]


def test_a_repeated_term_is_one_search_and_an_item_s_own_term_is_none(extract, tmp_path):
    rows = [happening("search", 1, search_term="red shoes"), happening("view_search_results", 2, search_term="red shoes"),
            happening("view_item_list", 3, items=[("a", 1)], search_term="typed elsewhere"),
            happening("view_search_results", 4, search_term="red shoes"), happening("select_item", 5, items=[("a", 1)]),
            happening("search", 6, search_term="blue hat"), happening("search", 7, search_term="red shoes"),
            happening("select_item", 8, items=[("c", 1)])]  # fmt: skip
    got = _extract(extract, tmp_path, rows)
    assert {row["query"]: row["frequency"] for row in got.table("queries")} == {"red shoes": 2, "blue hat": 1}
    shown = {row["item_id"]: (row["impressions"], row["clicks"]) for row in got.table("interactions")}
    assert shown == {"a": (1, 1), "c": (1, 1)}  # the click on a belongs to the search that showed it


def test_late_rows_and_repeated_days_are_one_event(extract, tmp_path):
    rows = [happening("search", 1, search_term="red shoes"), happening("view_item_list", 2, items=[("a", 1)])]
    write_parquet(tmp_path / "ga4/events_20240510.parquet", rows)
    late = [happening("view_item_list", 3, items=[("b", 2)]), rows[1]]  # arrives with the next day's table
    write_parquet(tmp_path / "ga4/events_20240511.parquet", late)
    write_parquet(tmp_path / "ga4/events_20240601.parquet", rows)  # too late: not read
    write_parquet(tmp_path / "ga4/events_intraday_20240510.parquet", [happening("view_item_list", 9, items=[("x", 1)])])
    got = extract(root=tmp_path, log=GA4, date="2024-05-10", window_days=1)
    assert [one[2] for one in _found(got)] == ["a", "b"]
    assert (got.report.dropped["duplicate"], got.report.notes["event_files"]) == (1, "3 of 4 read")


def test_only_intraday_tables_are_refused(extract, tmp_path):
    write_parquet(tmp_path / "ga4/events_intraday_20240510.parquet", NIGHT)
    with pytest.raises(InputError, match=r"only events_intraday_\* files.*wait for events_YYYYMMDD"):
        extract(root=tmp_path, log=GA4)


def test_only_the_lists_of_the_search_count(extract, tmp_path):
    rows = [happening("search", 1, search_term="red shoes"),
            happening("view_item_list", 2, items=[("a", 1, "search results"), ("ad", 1, "recommended")]),
            happening("select_item", 3, items=[("ad", 1, "recommended")]),
            happening("view_search_results", 3.5, items=[("r", 5)], search_term="red shoes"),  # search results by their name
            happening("purchase", 4, items=[("a",), ("ad",)])]  # fmt: skip
    got = _extract(extract, tmp_path, rows, search_lists=["search results"])
    assert _found(got) == [("red shoes", "impression", "a", 1), ("red shoes", "impression", "r", 5), ("red shoes", "purchase", "a", None)]
    assert {reason: count for reason, count in got.report.dropped.items() if count} == {"other_action": 3, "unknown_query": 1}


def test_an_impression_without_index_takes_its_place_in_the_row(extract, tmp_path):
    rows = [happening("search", 1, search_term="red shoes"), happening("view_item_list", 2, items=[("a",), ("b",)]),
            happening("select_item", 3, items=[("b",)])]  # fmt: skip
    for first in (0, 1):
        assert _found(_extract(extract, tmp_path / str(first), rows, first_position=first)) == [
            ("red shoes", "click", "b", None), ("red shoes", "impression", "a", 1), ("red shoes", "impression", "b", 2)
        ]  # fmt: skip


def test_faults_are_quarantined_and_everything_is_counted(extract, tmp_path):
    lines = [happening("search", 1, search_term="red shoes"), happening("view_item_list", 2, items=[("a", 1), ("(not set)", 2), ("c", -4)]),
             happening("view_item_list", 3) , happening("view_item_list", 4, items=[("d", 1)]) | {"event_timestamp": "soon"}]  # fmt: skip
    write_lines(
        tmp_path / "ga4/events_20240510.ndjson", [*map(as_bigquery_json, lines), b'{"event_name": "view_item_l', {"event_name": None}]
    )
    got = extract(root=tmp_path, log=GA4)
    assert _found(got) == [("red shoes", "impression", "a", 1)]
    faults = {name.removeprefix("malformed."): n for name, n in got.report.metrics.items() if name.startswith("malformed.")}
    assert faults == {"empty_item": 2, "bad_position": 1, "bad_timestamp": 1, "unreadable": 2}
    assert got.report.read == 8


def test_events_without_user_or_session_have_no_search(extract, tmp_path):
    rows = []
    for nobody in ({"user": None}, {"visit": None}):
        rows += [happening("search", 1, search_term="red shoes", **nobody), happening("view_item_list", 2, items=[("a", 1)], **nobody)]
    got = _extract(extract, tmp_path, rows, "json")
    assert (got.report.kept, got.report.dropped["unknown_query"], got.report.dropped["other_action"]) == (0, 2, 2)


def test_a_log_that_is_no_export_is_refused_with_what_it_has(extract, tmp_path):
    write_parquet(tmp_path / "ga4/events_20240510.parquet", [event("q1"), search("q1", "x")])
    with pytest.raises(InputError, match=r"has none of the log's columns; it has query_id, action_name"):
        extract(root=tmp_path, log=GA4)
    flat = [{"event_name": "purchase", "event_timestamp": 1, "event_params": "ga_session_id=1", "items": "a"}]
    write_parquet(tmp_path / "flat/ga4/events_20240510.parquet", flat)
    with pytest.raises(InputError, match=r"column 'event_params' is string, it must be list"):
        extract(root=tmp_path / "flat", log=GA4)


def test_a_day_without_any_item_has_no_event(extract, tmp_path):
    write_parquet(tmp_path / "ga4/events_20240510.parquet", [happening("search", 1, search_term="red shoes"), happening("page_view", 2)])
    got = extract(root=tmp_path, log=GA4, date="2024-05-10")
    assert (got.report.read, got.report.kept, got.report.dropped["other_action"]) == (2, 0, 2)
