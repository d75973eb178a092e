"""Yesterday's counts and one day give what the whole log gives, number by number and byte by byte."""

import random
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neighbor_shop import FIRST_DAY, Rows, arrow, random_log, shown

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.counts import ONE_DAY, advance, begin, fade, resume, stored_counts
from components.retrieve_neighbors.step import run
from components.shared.columns import _
from components.shared.errors import InputError
from components.shared.report import Report
from components.shared.tables import Manifest, read_table
from components.shared.tracking import NullTracker
from components.shared.warehouse import Warehouse


def day(number: int) -> date:
    return FIRST_DAY + timedelta(days=number)


def counted(rows: Rows, nights: list[date], half_life_days: float) -> pa.Table:
    """Table `evidence` of the last night, each night gone on from what the one before stored, in a database of its own."""
    stored, first_day = None, min(row["day"] for row in rows)
    for night in nights:
        with duckdb.connect() as connection:
            warehouse = Warehouse(connection)
            warehouse.put("interactions", arrow("interactions", rows))
            span = begin(warehouse, first_day, half_life_days) if stored is None else resume(warehouse, stored, half_life_days, "stored")
            stored = stored_counts(warehouse, advance(warehouse, span, night))
    assert stored is not None
    return stored


@st.composite
def logs(draw: st.DrawFn) -> Rows:
    keys = draw(st.sets(st.tuples(st.integers(0, 5), st.sampled_from("ab"), st.sampled_from("xy")), min_size=1, max_size=14))
    rows = []
    for number, query, item in draw(st.permutations(sorted(keys))):
        seen = draw(st.integers(0, 40))
        looked, credit = draw(st.floats(0, 40)), draw(st.floats(-3, 40))
        clicks = draw(st.integers(0, seen))
        rows.append(shown(query, item, day(number), seen, clicks, corrected=looked, credit=credit, clients=draw(st.integers(0, 9))))
    return rows


@settings(max_examples=15, deadline=None)
@given(rows=logs(), stops=st.sets(st.integers(1, 6)), half_life_days=st.sampled_from([0, 0.5, 3, 1000]), seed=st.integers(0, 9))
def test_counts_night_by_night_equal_counting_at_once(rows: Rows, stops: set[int], half_life_days: float, seed: int):
    at_once = counted(rows, [day(7)], half_life_days)
    shuffled = random.Random(seed).sample(rows, len(rows))
    start = min(row["day"] for row in rows)
    nights = [day(stop) for stop in sorted(stops) if day(stop) > start]
    assert counted(shuffled, [*nights, day(7)], half_life_days).equals(at_once)
    for count, column in (("looks", "corrected_impressions"), ("credit", "corrected_clicks")):
        assert at_once[count].to_pylist() == expected(rows, column, half_life_days)


def expected(rows: Rows, column: str, half_life_days: float) -> list[int]:
    """Per pair, in whole numbers of Python: each day the sum so far keeps 2^(-1/half-life), cut, then the day is added."""
    kept = round(10**9 * 2 ** (-1 / half_life_days)) if half_life_days else 10**9
    found: dict[tuple[str, str], int] = {}
    for number in range(7):
        found = {pair: cut(total * kept) for pair, total in found.items()}
        for row in rows:
            if row["day"] == day(number):
                pair = (row["query"], row["item_id"])
                found[pair] = found.get(pair, 0) + round(row[column] * 10**9)
    return [total for _, total in sorted(found.items())]


def cut(billionths: int) -> int:
    """Of 10^9, towards 0."""
    return abs(billionths) // 10**9 * (1 if billionths > 0 else -1)


def test_fading_is_exact_in_64_bits():
    rng, most = random.Random(1), 2**63 - 1
    edges = [0, 1, -1, 10**9 - 1, 10**9, 1 - 10**9, 2**53 + 1, most, -most]
    totals = edges + [rng.randrange(-most, most) >> rng.randrange(63) for _ in range(2000)]
    kept = [10**9, 0, 1, 10**9 - 1, *(rng.randrange(10**9) for _ in range(20))]
    pairs = [(total, one) for total in totals for one in kept]
    with duckdb.connect() as connection:
        warehouse = Warehouse(connection)
        columns = [pa.array(values, pa.int64()) for values in zip(*pairs, strict=True)]
        table = warehouse.put("totals", pa.table(columns, ["total", "kept"]))
        faded = warehouse.arrow(table.select(faded=fade(_.total, _.kept)))["faded"].to_pylist()
    assert faded == [cut(total * one) for total, one in pairs]


@pytest.mark.parametrize("half_life_days", [0, 2.5])
def test_tables_night_by_night_equal_a_full_rebuild(write: Callable, tmp_path: Path, half_life_days: float):
    log = random_log(6, num_days=5)
    config = RetrieveNeighborsConfig(half_life_days=half_life_days, order=2)
    known = {"items": sorted({row["item_id"] for row in log}), "queries": sorted({row["query"] for row in log})}

    def night(name: str, rows: Rows, previous: str = "", judged: tuple[date, ...] = (day(1), day(3))) -> Report:
        places = {"neighbors": str(tmp_path / name / "neighbors"), "evidence": str(tmp_path / name / "evidence")}
        return run(config, **write(rows, judged=judged, **known), **places, previous=previous, tracker=NullTracker())

    night("full", log)
    for number in range(5):
        before = str(tmp_path / f"night{number - 1}") if number else ""
        # day 2 is delivered again the day after: it is counted once
        rows = [row for row in log if row["day"] in (day(number), day(2 if number == 3 else number))]
        report = night(f"night{number}", rows, before)
        assert report.dropped["already_counted"] == (120 if number == 3 else 0)
        assert report.metrics["snapshots.absent"] == 0
    for name in ("neighbors", "evidence"):
        assert Manifest.read(str(tmp_path / "night4" / name)).digest == Manifest.read(str(tmp_path / "full" / name)).digest
    assert set(read_table(str(tmp_path / "night4" / "neighbors"), "neighbors")["snapshot"].to_pylist()) == {day(1), day(3), day(5)}
    # a judgment that comes in later, of a day that is counted already: no snapshot can be made, and the report says so
    late = night("late", [row for row in log if row["day"] == day(4)], str(tmp_path / "night3"), judged=(day(1), day(2), day(3)))
    assert late.metrics["snapshots.absent"] == 1


def test_items_that_become_known_later_bring_their_past(write: Callable, tmp_path: Path):
    log = [shown("shoe", "old", day(0), 100, 30), shown("shoe", "coming", day(0), 100, 60), shown("shoe", "old", day(1), 100, 30)]

    def listed(name: str, rows: Rows, items: list[str], previous: str = "") -> list[str]:
        places = {"neighbors": str(tmp_path / name / "neighbors"), "evidence": str(tmp_path / name / "evidence")}
        given_tables = write(rows, items=items, queries=["shoe"])
        run(RetrieveNeighborsConfig(), **given_tables, **places, previous=previous, tracker=NullTracker())
        rows_of_query = [row for row in read_table(places["neighbors"], "neighbors").to_pylist() if row["side"] == "query"]
        return [row["neighbor"] for row in rows_of_query]

    assert listed("first", log[:2], ["old"]) == ["old"]
    assert listed("second", log[2:], ["old", "coming"], str(tmp_path / "first")) == ["coming", "old"]
    assert listed("whole", log, ["old", "coming"]) == ["coming", "old"]


def test_a_state_that_cannot_be_gone_on_from_is_refused(write: Callable, tmp_path: Path):
    uris = write([shown("shoe", "i1", day(0), 100, 40)])
    places = {"neighbors": str(tmp_path / "one/neighbors"), "evidence": str(tmp_path / "one/evidence")}
    run(RetrieveNeighborsConfig(), **uris, **places, tracker=NullTracker())

    def again(**values: float) -> None:
        config = RetrieveNeighborsConfig.from_mapping(values, section="neighbors")
        run(config, **uris, neighbors=str(tmp_path / "two"), previous=str(tmp_path / "one"), tracker=NullTracker())

    with pytest.raises(
        InputError, match="was made with half_life_days = 0, the recipe has 7; set that value, or run once without 'previous'"
    ):
        again(half_life_days=7)
    with pytest.raises(InputError, match=r"none of 1 interactions after 2026-09-01 \(the last day of '.*one'\) has a query of"):
        again()
    assert not (tmp_path / "two").exists()


def test_days_are_counted_once(tmp_path: Path):
    rows = [shown("shoe", "i1", day(0), 10, 4)]
    assert counted(rows, [day(1), day(1), day(1) + ONE_DAY], 0)["clicks"].to_pylist() == [4]
