"""The whole step: expected tables, snapshots that cannot see their own day, rebuilds that are equal bit by bit."""

import random
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from neighbor_shop import FIRST_DAY, random_log, shown

from components.retrieve_neighbors import counts
from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.step import run
from components.shared.errors import InputError
from components.shared.neighbors import attach_neighbors
from components.shared.report import Report
from components.shared.tables import Manifest, read_table
from components.shared.tracking import NullTracker

Write = Callable[..., dict[str, str]]


def day(number: int) -> date:
    return FIRST_DAY + timedelta(days=number)


def neighbors_of(uris: dict[str, str], out: Path, **settings: object) -> tuple[pa.Table, Report]:
    config = RetrieveNeighborsConfig.from_mapping(settings, section="neighbors")
    report = run(config, **uris, neighbors=str(out), tracker=NullTracker())
    return read_table(str(out), "neighbors"), report


def lists(table: pa.Table, snapshot: date | None = None) -> dict[tuple[str, str], list[str]]:
    """(side, key) -> neighbors in the order of their ranks."""
    rows = [row for row in table.to_pylist() if snapshot in (None, row["snapshot"])]
    found: dict[tuple[str, str], list[str]] = {}
    for row in sorted(rows, key=lambda row: (row["side"], row["key"], row["rank"])):
        found.setdefault((row["side"], row["key"]), []).append(row["neighbor"])
    return found


SHOP = [
    shown("shoe", "i1", day(0), 100, 40),
    shown("shoe", "i2", day(0), 100, 30),
    shown("shoe", "i3", day(0), 100, 0),
    shown("hat", "i1", day(0), 100, 50),
    shown("hat", "i4", day(1), 100, 20),
]


def test_expected_neighbors_on_both_sides(write: Write, tmp_path: Path):
    table, report = neighbors_of(write(SHOP), tmp_path / "out")
    assert lists(table) == {
        ("query", "shoe"): ["i1", "i2"],
        ("query", "hat"): ["i1", "i4"],
        ("item", "i1"): ["hat", "shoe"],
        ("item", "i2"): ["shoe"],
        ("item", "i4"): ["hat"],
    }
    assert set(table["snapshot"].to_pylist()) == {day(2)}
    texts = {row["neighbor"]: row["text"] for row in table.to_pylist()}
    assert texts == {"i1": "Title of i1", "i2": "Title of i2", "i4": "Title of i4", "shoe": "shoe", "hat": "hat"}
    assert report.counts() == {
        "read": 5, "kept": 5, "quarantined": 0, "dropped.already_counted": 0, "dropped.unknown_item": 0, "dropped.unknown_query": 0,
    }  # fmt: skip
    assert report.metrics["query.keys"] == 2
    assert report.metrics["item.keys"] == 3
    assert report.metrics["item.mean_neighbors"] == pytest.approx(4 / 3)
    assert 0 < report.metrics["lower_bound.p10"] < report.metrics["lower_bound.p50"] < report.metrics["lower_bound.p90"] < 0.5


def test_evidence_of_a_row_by_hand(write: Write, tmp_path: Path):
    # log mean 5/10 = 0.5, prior 2 -> Beta(1, 1); i1 has 4 clicks of 4 looks -> Beta(5, 1), quantile 0.05^(1/5)
    rows = [shown("q", "i1", day(0), 9, 4, corrected=4), shown("q", "i2", day(0), 9, 1, corrected=6)]
    table, _ = neighbors_of(write(rows), tmp_path / "out", prior_strength=2, min_lower_bound=0)
    first = table.filter(pc.equal(table["side"], "query")).to_pylist()[0]
    assert (first["neighbor"], first["clicks"], first["corrected_impressions"], first["rate"]) == ("i1", 4, 4.0, 1.0)
    assert first["lower_bound"] == pytest.approx(0.05 ** (1 / 5), abs=1e-12)


def test_unknown_items_and_queries_are_counted(write: Write, tmp_path: Path):
    table, report = neighbors_of(write(SHOP, items=["i1", "i2"], queries=["shoe"]), tmp_path / "out")
    assert lists(table) == {("query", "shoe"): ["i1", "i2"], ("item", "i1"): ["shoe"], ("item", "i2"): ["shoe"]}
    # of five rows: i3 and i4 are unknown items, hat/i1 an unknown query
    assert (report.read, report.kept, report.dropped) == (5, 2, {"already_counted": 0, "unknown_item": 2, "unknown_query": 1})


def test_one_more_than_num_neighbors_is_kept_so_that_k_are_left(write: Write, tmp_path: Path):
    rows = [shown("shoe", f"i{n}", day(0), 100, 90 - n) for n in range(6)]
    table, _ = neighbors_of(write(rows), tmp_path / "out", num_neighbors=2)
    assert lists(table)[("query", "shoe")] == ["i0", "i1", "i2"]
    own = pa.table({"query": ["shoe"], "item_id": ["i0"], "judged_at": pa.array([None], pa.date32())})
    assert attach_neighbors(own, table, 2)[0].to_pylist() == ["Title of i1; Title of i2"]


def test_ties_are_broken_by_clicks_then_id(write: Write, tmp_path: Path):
    rows = [shown("shoe", item, day(0), 100, 30) for item in ("b", "c", "a")]
    assert lists(neighbors_of(write(rows), tmp_path / "one")[0])[("query", "shoe")] == ["a", "b", "c"]
    # equal raw rates under the published rule: more clicks first
    rows = [shown("shoe", "a", day(0), 100, 30), shown("shoe", "b", day(0), 200, 60)]
    assert lists(neighbors_of(write(rows), tmp_path / "two", rule="published")[0])[("query", "shoe")] == ["b", "a"]


def test_a_snapshot_does_not_see_its_own_day(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [shown("shoe", "old", day(0), 100, 30), shown("shoe", "answer", day(1), 100, 60), shown("shoe", "late", day(3), 100, 90)]
    uris = write(rows, judged=(day(1),))
    table, report = neighbors_of(uris, tmp_path / "out")
    assert lists(table, day(1))[("query", "shoe")] == ["old"]
    assert lists(table, day(4))[("query", "shoe")] == ["late", "answer", "old"]
    assert report.metrics["snapshots"] == 2
    # without the rule the day of judgment leaks into its own snapshot
    monkeypatch.setattr(counts, "only_days_before", lambda day, until: day <= until)
    leaky, _ = neighbors_of(uris, tmp_path / "leaky")
    assert "answer" in lists(leaky, day(1))[("query", "shoe")]


@pytest.mark.parametrize(
    ("judged", "snapshots"),
    [
        ((), [4]),
        ((None,), [4]),
        ((day(0), day(-5)), [4]),  # nothing was logged before these days
        ((day(1), day(3), day(3), day(1)), [1, 3, 4]),
        ((day(4), day(90)), [4]),  # after the log: the newest snapshot serves
    ],
)
def test_snapshot_days(write: Write, tmp_path: Path, judged: tuple, snapshots: list[int]):
    rows = [shown("shoe", "i1", day(0), 100, 30), shown("shoe", "i2", day(3), 100, 30)]
    table, report = neighbors_of(write(rows, judged=judged), tmp_path / "out")
    assert report.metrics["snapshots"] == len(snapshots)  # not one that could only be empty
    assert sorted(set(table["snapshot"].to_pylist())) == [day(number) for number in snapshots]


def test_too_many_days_of_judgment_are_refused(write: Write, tmp_path: Path):
    uris = write([shown("shoe", "i1", day(n), 10, 3) for n in range(5)], judged=(day(1), day(2), day(3)))
    with pytest.raises(InputError, match="key 'max_snapshots' = 3, but 4 snapshots are needed"):
        neighbors_of(uris, tmp_path / "out", max_snapshots=3)


@pytest.mark.parametrize("rows", [[], SHOP])
def test_a_log_of_another_shop_is_refused(write: Write, tmp_path: Path, rows: list):
    with pytest.raises(InputError, match=f"none of {len(rows)} interactions has a query"):
        neighbors_of(write(rows, items=["other"], queries=["shoe"]), tmp_path / "out")


def test_without_evidence_the_table_is_empty_and_metrics_are_finite(write: Write, tmp_path: Path):
    table, report = neighbors_of(write([shown("shoe", "i1", day(0), 100, 0)]), tmp_path / "out")
    assert table.num_rows == 0
    assert report.metrics["query.keys"] == report.metrics["lower_bound.p50"] == 0.0


def test_yesterdays_snapshot_is_rebuilt_bit_by_bit(write: Write, tmp_path: Path):
    log = random_log(3, num_days=5)
    known_then = [row for row in log if row["day"] < day(3)]
    then, _ = neighbors_of(write(known_then), tmp_path / "then")
    random.Random(5).shuffle(log)
    now, _ = neighbors_of(write(log, judged=(day(3),)), tmp_path / "now")
    rebuilt = now.filter(pc.equal(now["snapshot"], pa.scalar(day(3))))
    assert len(then) > 50
    assert rebuilt.equals(then)
    assert set(now["snapshot"].to_pylist()) == {day(3), day(5)}


def test_the_same_input_gives_the_same_bytes(write: Write, tmp_path: Path):
    uris = write(random_log(4, num_days=3), judged=(day(1), day(2)))
    digests = set()
    for name in ("one", "two"):
        neighbors_of(uris, tmp_path / name)
        digests.add(Manifest.read(str(tmp_path / name)).digest)
    assert len(digests) == 1


def planted_log(rng: np.random.Generator) -> list[dict]:
    """40 queries, 60 items; a query's accepted items (same number modulo 20) are clicked at 0.30 of looks, others at 0.03."""
    rows = []
    for query in range(40):
        for item in rng.permutation(60)[:30]:
            seen = int(rng.integers(20, 400))
            looked = seen * float(rng.uniform(0.2, 1.0))
            clicks = int(rng.binomial(int(looked), 0.30 if item % 20 == query % 20 else 0.03))
            rows.append(shown(f"q{query}", f"i{item}", day(0), seen, clicks, corrected=looked))
    return rows


def test_planted_neighbors_are_found(write: Write, tmp_path: Path):
    table, _ = neighbors_of(write(planted_log(np.random.default_rng(8))), tmp_path / "out", min_lower_bound=0.12)
    pairs = [(key, one) for (side, key), found in lists(table).items() if side == "query" for one in found]
    right = sum(int(key[1:]) % 20 == int(one[1:]) % 20 for key, one in pairs)
    assert len(pairs) > 40
    assert right / len(pairs) >= 0.95
