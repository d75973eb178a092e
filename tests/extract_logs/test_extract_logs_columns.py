"""A log in a shop's own columns, named in the data card."""

import json

import pytest
from tiny_ubi import DAY, write_lines, write_parquet

from components.shared.card import LogSource
from components.shared.errors import InputError

EVENTS = {"query_id": "search.key", "client": "visitor.id", "session_id": "visit", "timestamp": "at", "action": "kind",
          "item_id": "product.sku", "position": "product.slot", "query": "search.words"}  # fmt: skip
LOG = {"format": "columns", "events": "clicks", "queries": "", "event_columns": EVENTS, "first_position": 0}
NAMES = {"seen": "impression", "opened": "click"}


def _row(sku, slot, kind="seen", at=1_715_335_200.25, words="Red  Shoes", key="k1"):
    return {"search": {"key": key, "words": words}, "visitor": {"id": "v1"}, "visit": 12, "at": at, "kind": kind,
            "product": {"sku": sku, "slot": slot}}  # fmt: skip


ROWS = [_row("a", 0), _row("b", 1), _row("b", 1, "opened")]
KEPT = [("red shoes", "click", "b", 2), ("red shoes", "impression", "a", 1), ("red shoes", "impression", "b", 2)]


def _found(got):
    return sorted((row["query"], row["action"], row["item_id"], row["position"]) for row in got.table("events"))


@pytest.mark.parametrize("kind", ["structs", "json text", "lines"])
def test_dotted_paths_lead_through_structs_json_text_and_lines(extract, tmp_path, kind):
    rows = [{**row, "product": json.dumps(row["product"])} for row in ROWS] if kind == "json text" else ROWS
    if kind == "lines":
        write_lines(tmp_path / "clicks/part-0.ndjson", rows)
    else:
        write_parquet(tmp_path / "clicks/part-0.parquet", rows)
    got = extract(root=tmp_path, log={**LOG, "time_unit": "s"}, action_names=NAMES)
    assert _found(got) == KEPT
    assert {row["timestamp"].timestamp() for row in got.table("events")} == {1_715_335_200.25}
    assert got.report.read == got.report.kept == 3


@pytest.mark.parametrize(("unit", "at"), [("ms", 1_715_335_200_250), ("us", 1_715_335_200_250_000), ("us", f"{DAY}T10:00:00.25Z")])
def test_units_of_time(extract, tmp_path, unit, at):
    write_parquet(tmp_path / "clicks/part-0.parquet", [_row("a", 0, at=at)])
    got = extract(root=tmp_path, log={**LOG, "time_unit": unit}, action_names=NAMES)
    assert got.table("events")[0]["timestamp"].timestamp() == 1_715_335_200.25


def test_searches_in_a_table_of_their_own(extract, tmp_path):
    write_parquet(tmp_path / "clicks/part-0.parquet", [_row("a", 0, words=None)])
    write_parquet(tmp_path / "asked/part-0.parquet", [{"k": "k1", "q": "blue hat", "t": 1_715_335_199}])
    columns = {"query_id": "k", "query": "q", "timestamp": "t"}
    got = extract(root=tmp_path, log={**LOG, "queries": "asked", "query_columns": columns, "time_unit": "s"}, action_names=NAMES)
    assert _found(got) == [("blue hat", "impression", "a", 1)]
    assert got.report.metrics["searches.read"] == 1


def test_names_may_hold_quotes(extract, tmp_path):
    columns = {"query_id": 'the "key"', "timestamp": "it's", "action": "kind", "item_id": "o\"b.i'd", "position": "n", "query": "q"}
    row = {'the "key"': "k1", "it's": 1_715_335_200_250, "kind": "click", 'o"b': {"i'd": "a"}, "n": 1, "q": "red shoes"}
    write_parquet(tmp_path / "a/clicks/part-0.parquet", [row])
    write_lines(tmp_path / "b/clicks/part-0.ndjson", [row])
    for root in ("a", "b"):
        got = extract(root=tmp_path / root, log={**LOG, "event_columns": columns, "first_position": 1})
        assert _found(got) == [("red shoes", "click", "a", 1)]


def test_a_path_that_no_file_has_is_refused_with_what_it_has(extract, tmp_path):
    write_parquet(tmp_path / "clicks/part-0.parquet", ROWS)
    wrong = {**LOG, "event_columns": {**EVENTS, "item_id": "product.id"}}
    with pytest.raises(InputError, match=r"no file of the log has column 'product.id' \(item_id\).*has search.key, .*product.sku"):
        extract(root=tmp_path, log=wrong)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"event_columns": {"query_id": "k"}}, "event_columns lacks timestamp, action, item_id"),
        ({"queries": "asked"}, "query_columns needs query_id and query"),
        ({"format": "ubi", "queries": "q"}, "event_columns and query_columns are for format 'columns', not 'ubi'"),
        ({"format": "ubi", "event_columns": {}}, "format 'ubi' needs `queries`"),
        ({"first_position": {"web": 0}}, "first_position by application is for format 'ubi'"),
        ({"first_position": 2}, "first_position"),
        ({"event_columns": {**EVENTS, "colour": "c"}}, "event_columns.colour"),
        ({"format": "csv"}, "'ubi', 'ga4' or 'columns'"),
    ],
)
def test_cards_that_cannot_be_meant_are_refused(change, says):
    with pytest.raises(InputError) as caught:
        LogSource.from_mapping({**LOG, **change}, section="log")
    assert says in str(caught.value)
