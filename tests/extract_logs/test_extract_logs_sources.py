"""What is read of a log folder, what a row must be, and what the step says of logs that cannot be read."""

import os
import subprocess
import sys
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_ubi import DAY, event, search, write_inputs, write_lines, write_parquet

from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.step import run
from components.extract_logs.warehouse import open_warehouse
from components.shared import cli
from components.shared.errors import InputError, TemporaryError

RED = [search("q1", "red shoes")]


def test_hidden_files_are_left_out_and_names_may_hold_quotes(extract, tmp_path):
    root = tmp_path / "o'neill's shop"
    write_parquet(root / "ubi_events/part-0.parquet", [event("q1")])
    write_lines(root / "ubi_events/part-1.ndjson", [event("q1", "i2")])
    for name in ("_temporary.parquet", ".part-2.parquet"):
        (root / "ubi_events" / name).write_text("half written")
    write_lines(root / "ubi_queries/part-0.ndjson", RED)
    report = extract(root=root).report
    assert (report.read, report.kept, report.notes["event_files"]) == (2, 2, "2 of 2 read")


def _with_texts_of(kind, text):
    """The type with every text in it, however deep, as `text`."""
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_with_texts_of(field.type, text)) for field in kind])
    return text if pa.types.is_string(kind) else kind


@pytest.mark.parametrize("text", [pa.large_string(), pa.string_view()], ids=str)
def test_texts_of_other_writers_are_texts(extract, tmp_path, text):
    """polars writes large strings, others views."""
    written = {"ubi_events": [event("q1", position="1"), event("q1", "i2", position="2")], "ubi_queries": RED}
    for folder, rows in written.items():
        table = pa.Table.from_pylist(rows)
        schema = pa.schema([field.with_type(_with_texts_of(field.type, text)) for field in table.schema])
        (tmp_path / "shop" / folder).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "shop" / folder / "part-0.parquet")
    got = extract(root=tmp_path / "shop")
    assert got.digest("events") == extract([event("q1"), event("q1", "i2", position=2)], RED).digest("events")
    assert (got.report.kept, got.report.quarantined) == (2, 0)


def test_a_date_without_partitions_is_refused_and_searches_of_another_day_still_give_texts(extract, tmp_path):
    root = tmp_path / "daily"
    write_lines(root / f"ubi_events/dt={DAY}/part-0.ndjson", [event("q1")])
    write_lines(root / "ubi_queries/dt=2024-05-01/part-0.ndjson", [search("q1", "blue hat")])
    write_lines(root / "ubi_queries/dt=2024-05-02/part-0.ndjson", RED)
    assert extract(root=root, date=DAY, window_days=1).table("events")[0]["query"] == "red shoes"  # the last file there is
    with pytest.raises(InputError) as caught:
        extract(root=root, date="2024-04-01", window_days=2)
    assert str(caught.value) == (
        f"'file://{root}/ubi_events' has no day partition for 2024-03-31 to 2024-04-01; "
        f"its last file is file://{root}/ubi_events/dt={DAY}/part-0.ndjson; give another date"
    )


def test_a_file_without_our_columns_is_refused_with_what_it_has(extract, tmp_path):
    write_parquet(tmp_path / "shop/ubi_events/part-0.parquet", [{"when": 1, "what": "click"}])
    write_lines(tmp_path / "shop/ubi_queries/part-0.ndjson", RED)
    with pytest.raises(InputError, match=r"part-0\.parquet' has none of the log's columns; it has when, what; check the card's keys"):
        extract(root=tmp_path / "shop")


def test_an_action_that_we_name_is_never_ignored_and_nothing_may_be_ignored(extract):
    rows = [event("q1", action="view"), event("q1", "i2", "search")]
    got = extract(rows, RED, action_names={"view": "impression"})
    assert [row["item_id"] for row in got.table("events")] == ["i1"]
    assert got.report.dropped["other_action"] == 1
    strict = extract([event("q1"), rows[1]], RED, ignored_actions=[]).report
    assert (strict.kept, strict.dropped["other_action"], strict.metrics["malformed.unknown_action"]) == (1, 0, 1)


def test_positions_and_times_at_the_bounds(extract):
    rows = [event("q1", "a", position=100_000), event("q1", "b", position=100_001)]
    rows += [event("q1", "c", timestamp="2000-01-01T00:00:00Z"), event("q1", "d", timestamp="1999-12-31T23:59:59Z")]
    rows += [event("q1", "e", timestamp="2099-12-31T23:59:59Z"), event("q1", "f", timestamp="2100-01-01T00:00:00Z")]
    got = extract(rows, RED)
    assert [row["item_id"] for row in got.table("events")] == ["a"]
    assert (got.report.metrics["malformed.bad_position"], got.report.metrics["malformed.bad_timestamp"]) == (1, 2)
    assert got.report.dropped["outside_window"] == 2


def test_a_time_without_a_zone_is_utc_wherever_this_runs():
    ask = (
        "from components.extract_logs import staging, warehouse\n"
        "with warehouse.open_warehouse(threads=1, memory_limit_mib=64, temp_folder='') as log:\n"
        "    staging.define_parsers(log.sql)\n"
        "    print(log.sql.execute(\"SELECT moment('2024-03-31 02:30:00')\").fetchone()[0])"
    )
    there = {**os.environ, "TZ": "America/New_York"}
    said = subprocess.run([sys.executable, "-c", ask], env=there, capture_output=True, text=True, check=True)
    assert int(said.stdout) == 1_711_852_200_000_000  # 19,813 days of 86,400 s after 1970, and two hours and a half


def test_as_many_malformed_rows_as_allowed_are_let_through(extract):
    assert extract([event("q1"), event("q1", action="clik")], RED, max_malformed_share=0.5).report.quarantined == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"action_names": {"tap": "press"}}, "'tap' is mapped to 'press'; allowed: impression, click, add_to_cart, purchase"),
        ({"head_share": 0.7, "torso_share": 0.6}, "torso_share 0.6 is below head_share 0.7; it counts head and torso together"),
    ],
)
def test_settings_that_contradict_are_refused(given, message):
    with pytest.raises(InputError) as caught:
        ExtractLogsConfig.from_mapping(given, section="logs")
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize(
    ("error", "text", "kind", "message"),
    [
        (duckdb.IOException, "write: No space left\n on device", TemporaryError, "is full .*free it or set temp_folder"),
        (duckdb.IOException, "read failed", InputError, "the log cannot be read: read failed; write that file again"),
        (duckdb.OutOfMemoryException, "no room", InputError, r"memory_limit_mib = 128 is too small \(no room\); raise it"),
    ],
)
def test_trouble_of_the_engine_is_one_line_of_its_kind(tmp_path, error, text, kind, message):
    settings = {"threads": 1, "memory_limit_mib": 128, "temp_folder": str(tmp_path)}
    with pytest.raises(kind, match=message) as caught, open_warehouse(**settings):
        raise error(text)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


BAD_LOGS = {
    "empty": ([], "'{root}/ubi_events' holds no event; check the card's key 'log.events' and that the log was exported"),
    "unusable": (
        [event("q1", timestamp="soon")],
        "the log has no event with a timestamp between 2000-01-01 and {today}; check the column 'timestamp'",
    ),
    "malformed": (
        [event("q1"), event("q1", ""), event("q1", action="clik"), event("q1", action="clak")],
        "'{root}/ubi_events': 75.00% of 4 rows are malformed (unknown_action 2, empty_item 1), more than max_malformed_share = 0.5; "
        "look at 'file://{work}/lineage/quarantine.parquet'; repair the log, "
        "name its actions in action_names or ignored_actions, or raise the limit",
    ),
    "absent": (
        None,
        "'{root}/ubi_events' (card key 'log.events') holds no .parquet, .ndjson or .ndjson.gz file; check the card and the folder",
    ),
    "cut": (b"\x1f\x8b\x08", "the log cannot be read: "),
}


@pytest.mark.parametrize("name", BAD_LOGS)
def test_bad_logs_end_with_2_one_line_and_no_table(tmp_path, capsys, name):
    rows, message = BAD_LOGS[name]
    root = tmp_path / "shop"
    if isinstance(rows, bytes):
        (root / "ubi_events").mkdir(parents=True)
        (root / "ubi_events/part-0.ndjson.gz").write_bytes(rows)
    elif rows is not None:
        write_lines(root / "ubi_events/part-0.ndjson", rows)
    write_lines(root / "ubi_queries/part-0.ndjson", RED)
    places = write_inputs(tmp_path / "work", root, {"j1": ("red shoes", "train")})
    flags = [word for place, uri in places.items() for word in (f"--{place.replace('_', '-')}", uri)]
    limit = "1" if name == "unusable" else "0.5"
    assert cli.main(run, ExtractLogsConfig, "logs", [*flags, "--max-malformed-share", limit]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: " + message.format(root=f"file://{root}", work=tmp_path / "work", today=datetime.now(UTC).date()))
    assert said.count("\n") == 1
    left = {one.name for one in (tmp_path / "work").rglob("*") if one.is_file() and one.parent.name != "judged"}
    assert left == {"card.json", *(["quarantine.parquet"] if name in ("unusable", "malformed") else [])}


def test_only_a_search_s_message_is_what_somebody_typed(extract):
    bare = {"event_attributes": None, "user_query": None}
    rows = [event("s1", action="search", message="red shoes", **bare), event("s1"), event("s2", "b", "click", message="blue hat"),
            event("s3", action="view", message="green hat", **bare), event("s3", "c")]  # fmt: skip
    got = extract(rows, [search("other", "x")], date=DAY)
    assert [(row["query"], row["item_id"]) for row in got.table("events")] == [("red shoes", "i1")]
    assert (got.report.dropped["unknown_query"], got.report.dropped["other_action"]) == (2, 2)
    assert extract(rows, RED, date=DAY, log={"search_actions": ["view"]}).table("events")[0]["query"] == "green hat"


def test_the_queries_say_the_text_before_a_search_event_does(extract):
    rows = [event("q1"), event("q1", action="search", message="red sh", timestamp=f"{DAY}T11:00:00Z", user_query=None)]
    assert extract(rows, RED, date=DAY).table("events")[0]["query"] == "red shoes"


def test_the_first_position_may_differ_by_application(extract):
    rows = [event("q1", name, position=1, application=name) for name in ("web", "app", "o'clock")]
    got = extract(rows, RED, log={"first_position": {"app": 0, "o'clock": 0}})
    assert sorted((row["item_id"], row["position"]) for row in got.table("events")) == [("app", 2), ("o'clock", 2), ("web", 1)]


def test_an_id_of_a_kilobyte_is_an_id_and_a_longer_one_is_none(extract):
    got = extract([event("q1", "x" * 1024), event("q1", "x" * 1025), event("q" * 1025)], RED)
    assert (got.report.kept, got.report.metrics["malformed.empty_item"], got.report.metrics["malformed.no_query_id"]) == (1, 1, 1)


def test_searches_without_a_client_take_that_of_their_events(extract):
    bare = {"query_id": "q1", "user_query": "red shoes", "timestamp": f"{DAY}T10:00:00Z"}
    got = extract([event("q1")], [bare], judged={"j": ("other", "train")}, min_clients=1)
    assert got.report.kept == 1
