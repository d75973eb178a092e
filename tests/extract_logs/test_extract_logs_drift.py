"""Schemas that change from one day's file to the next."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_ubi import DAY, event, search, write_lines, write_parquet

from components.extract_logs import drift
from components.extract_logs.readers import UBI_EVENTS
from components.shared.errors import InputError

RED = [search("q1", "red shoes")]


def _days(extract, root, *days):
    write_lines(root / "ubi_queries/part-0.ndjson", RED)
    for number, rows in enumerate(days, 10):
        write_parquet(root / f"ubi_events/dt=2024-05-{number}/part-0.parquet", rows)
    return extract(root=root)


def _without(row, name, **more):
    return {key: value for key, value in row.items() if key != name} | more


def test_an_added_and_a_vanished_column_are_read(extract, tmp_path):
    base = event("q1", "a")
    got = _days(extract, tmp_path, [base], [event("q1", "b", device="phone")], [_without(event("q1", "c"), "session_id")])
    found = sorted((row["item_id"], row["session_id"] is None) for row in got.table("events"))
    assert found == [("a", False), ("b", False), ("c", True)]


def test_a_renamed_column_is_refused_with_the_difference(extract, tmp_path):
    renamed = _without(event("q1", "b"), "query_id", search_id="q1")
    with pytest.raises(InputError) as caught:
        _days(extract, tmp_path, [event("q1", "a")], [renamed])
    assert "dt=2024-05-11/part-0.parquet' lacks 'query_id', which 'file://" in str(caught.value)
    assert "dt=2024-05-10/part-0.parquet' has, and has 'search_id' instead: query_id -> search_id" in str(caught.value)


def test_a_renamed_field_inside_a_struct_is_refused(extract, tmp_path):
    renamed = event("q1", "b") | {"event_attributes": {"object": {"id": "b"}, "position": {"ordinal": 1}}}
    with pytest.raises(InputError, match=r"event_attributes.object.object_id -> event_attributes.object.id"):
        _days(extract, tmp_path, [event("q1", "a")], [renamed])


def test_a_column_that_comes_and_goes_is_not_renamed(extract, tmp_path):
    with_device, without = event("q1", "a", device="phone"), _without(event("q1", "b"), "client_id")
    got = _days(extract, tmp_path, [with_device], [without], [_without(event("q1", "c", device="tv"), "client_id")])
    assert got.report.kept == 3  # device was there before client_id went, and a flag is no text
    flagged = _without(event("q1", "d", is_app=True), "client_id")
    assert _days(extract, tmp_path / "flag", [event("q1", "a")], [flagged]).report.kept == 2


@pytest.mark.parametrize(
    ("column", "wrong", "says"),
    [
        ("query_id", pa.array([1.0]), r"column 'query_id' is double.*string -> double; write it as text or integer"),
        ("client_id", pa.array([[1]]), r"column 'client_id' is list<.*string -> list"),
        ("timestamp", pa.array([True]), r"column 'timestamp' is bool.*string -> bool"),
        ("action_name", pa.array([b"click"]), r"column 'action_name' is binary.*string -> binary"),
        ("event_attributes", pa.array([3]), r"column 'event_attributes' is int64, .*; write it as a struct or JSON text"),
    ],
)
def test_a_retyped_column_is_refused_with_the_difference(extract, tmp_path, column, wrong, says):
    table = pa.Table.from_pylist([event("q1", "b")])
    table = table.set_column(table.column_names.index(column), column, wrong)
    (tmp_path / "ubi_events/dt=2024-05-11").mkdir(parents=True)
    pq.write_table(table, tmp_path / "ubi_events/dt=2024-05-11/part-0.parquet")
    with pytest.raises(InputError, match=says):
        _days(extract, tmp_path, [event("q1", "a")])


def test_harmless_changes_of_type_are_read(extract, tmp_path):
    table = pa.Table.from_pylist([event("7", "b") | {"query_id": 7, "client_id": 9}])
    for name, kind in (("action_name", pa.dictionary(pa.int8(), pa.string())), ("session_id", pa.large_string())):
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    moment = pa.array([1_715_335_200_250_000], pa.timestamp("us", tz="UTC"))
    table = table.set_column(table.column_names.index("timestamp"), "timestamp", moment)
    (tmp_path / "ubi_events/dt=2024-05-11").mkdir(parents=True)
    pq.write_table(table, tmp_path / "ubi_events/dt=2024-05-11/part-0.parquet")
    write_lines(tmp_path / "ubi_queries/part-1.ndjson", [search("7", "blue hat")])
    got = _days(extract, tmp_path, [event("q1", "a")])
    assert [(row["item_id"], row["query"]) for row in got.table("events")] == [("b", "blue hat"), ("a", "red shoes")]
    assert str(got.table("events")[0]["timestamp"].date()) == DAY


FULL = pa.Table.from_pylist([event("q1", "a", user_query="x", message="m", application="w")]).schema
NAMES = st.text(st.sampled_from("abcdefgh_"), min_size=3, max_size=8).filter(lambda name: name not in FULL.names)


@settings(max_examples=60, deadline=None)
@given(added=st.dictionaries(NAMES, st.sampled_from([pa.string(), pa.int64(), pa.bool_(), pa.list_(pa.string())]), max_size=4))
def test_any_addition_is_read(added):
    wider = pa.schema([*FULL, *added.items()])
    drift.check([(FULL, ["one"]), (wider, ["two"]), (FULL, ["three"])], UBI_EVENTS)


@settings(max_examples=60, deadline=None)
@given(column=st.sampled_from([name for name in FULL.names if name != "event_attributes"]), name=NAMES)
def test_any_renaming_is_refused(column, name):
    index = FULL.get_field_index(column)
    renamed = FULL.set(index, FULL.field(index).with_name(name))
    with pytest.raises(InputError, match=f"{column} -> {name};"):
        drift.check([(FULL, ["one"]), (renamed, ["two"])], UBI_EVENTS)


@settings(max_examples=30, deadline=None)
@given(gone=st.sets(st.sampled_from(FULL.names), max_size=len(FULL.names) - 1))
def test_any_loss_without_a_replacement_is_read(gone):
    narrower = pa.schema([field for field in FULL if field.name not in gone])
    drift.check([(FULL, ["one"]), (narrower, ["two"])], UBI_EVENTS)
