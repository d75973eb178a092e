"""Neighbors of given pairs: what is attached, in which order, and that the answer is never among it."""

from datetime import date, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared import neighbors as module
from components.shared.neighbors import attach_neighbors
from components.shared.schema import NEIGHBORS

MONDAY, TUESDAY, FRIDAY = date(2026, 9, 7), date(2026, 9, 8), date(2026, 9, 11)


def table(*rows: tuple) -> pa.Table:
    """Neighbors from (snapshot, side, key, rank, neighbor, text)."""
    names = ("snapshot", "side", "key", "rank", "neighbor", "text")
    evidence = {
        "corrected_impressions": 9.0,
        "clicks": 3,
        "clients": 3,
        "rate": 0.3,
        "lower_bound": 0.1,
        "upper_bound": 0.5,
        "left_out": "",
    }
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) | evidence for row in rows], NEIGHBORS.schema)


def pairs(*rows: tuple[str, str, date | None]) -> pa.Table:
    query, item, judged = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {"query": pa.array(query, pa.string()), "item_id": pa.array(item, pa.string()), "judged_at": pa.array(judged, pa.date32())}
    )


SHOES = table(
    (MONDAY, "query", "shoe", 1, "i1", "Red shoe"),
    (MONDAY, "query", "shoe", 2, "i2", "Blue shoe; size 9"),
    (MONDAY, "query", "shoe", 3, "i3", "Green shoe"),
    (MONDAY, "item", "i1", 1, "shoe", "shoe"),
    (MONDAY, "item", "i1", 2, "red sneaker", "red sneaker"),
    (FRIDAY, "query", "shoe", 1, "i9", "New shoe"),
)


def attached(given: pa.Table, known: pa.Table, k: int = 2) -> list[tuple[str | None, str | None]]:
    accepted, satisfied = attach_neighbors(given, known, k)
    assert accepted.type == satisfied.type == pa.string()
    return list(zip(accepted.to_pylist(), satisfied.to_pylist(), strict=True))


def test_the_pair_is_taken_out_of_both_sides_and_k_are_left():
    assert attached(pairs(("shoe", "i1", MONDAY)), SHOES) == [("Blue shoe, size 9; Green shoe", "red sneaker")]


def test_another_pair_sees_the_best_k():
    assert attached(pairs(("shoe", "i3", MONDAY)), SHOES) == [("Red shoe; Blue shoe, size 9", None)]
    assert attached(pairs(("hat", "i1", MONDAY)), SHOES, k=1) == [(None, "shoe")]


def test_without_neighbors_both_are_null():
    assert attached(pairs(("hat", "i5", MONDAY)), SHOES) == [(None, None)]
    assert attached(pairs(("shoe", "i1", None)), NEIGHBORS.schema.empty_table()) == [(None, None)]
    assert attached(pairs(("shoe", "i1", MONDAY)), SHOES, k=0) == [(None, None)]
    assert attached(pairs(), SHOES) == []


def test_only_the_own_query_is_the_answer_when_it_stands_alone():
    alone = table((MONDAY, "query", "shoe", 1, "i1", "Red shoe"), (MONDAY, "item", "i1", 1, "shoe", "shoe"))
    assert attached(pairs(("shoe", "i1", MONDAY)), alone) == [(None, None)]


@pytest.mark.parametrize(
    ("judged_at", "expected"),
    [
        (MONDAY - timedelta(days=1), None),  # before the first snapshot: nothing was known
        (MONDAY, "Red shoe; Blue shoe, size 9"),  # a snapshot holds days before its own, so the same day is safe
        (TUESDAY, "Red shoe; Blue shoe, size 9"),
        (FRIDAY, "New shoe"),
        (FRIDAY + timedelta(days=90), "New shoe"),
        (None, "New shoe"),
    ],
)
def test_the_newest_snapshot_up_to_the_judgment(judged_at: date | None, expected: str | None):
    assert attached(pairs(("shoe", "i7", judged_at)), SHOES)[0][0] == expected


def test_a_key_that_fell_out_of_the_newest_snapshot_is_not_looked_up_in_an_old_one():
    assert attached(pairs(("hat", "i1", FRIDAY)), SHOES) == [(None, None)]


def test_leak_by_pair_appears_when_the_rule_is_taken_away(monkeypatch: pytest.MonkeyPatch):
    given = pairs(("shoe", "i1", MONDAY))

    def leaks() -> tuple[bool, bool]:
        accepted, satisfied = attached(given, SHOES, k=3)[0]
        return "Red shoe" in str(accepted), "shoe" in str(satisfied).split("; ")

    assert leaks() == (False, False)
    monkeypatch.setattr(module, "NOT_THE_PAIR_ITSELF", "true")
    assert leaks() == (True, True)


def test_leak_by_date_appears_when_the_rule_is_taken_away(monkeypatch: pytest.MonkeyPatch):
    given = pairs(("shoe", "i7", TUESDAY), ("shoe", "i7", MONDAY - timedelta(days=1)))
    assert not any("New shoe" in str(accepted) for accepted, _ in attached(given, SHOES))
    monkeypatch.setattr(module, "ONLY_BEFORE_JUDGMENT", "true")
    assert all("New shoe" in str(accepted) for accepted, _ in attached(given, SHOES))


def test_row_order_and_repeats_are_kept():
    rows = [(("shoe", "hat")[row % 2], f"i{row % 11}", (MONDAY, None, FRIDAY)[row % 3]) for row in range(4000)]
    whole = attached(pairs(*rows), SHOES)
    alone = {row: attached(pairs(row), SHOES)[0] for row in set(rows)}
    assert whole == [alone[row] for row in rows]


keys, items = st.sampled_from(["q1", "q2", "q3"]), st.sampled_from(["i1", "i2", "i3"])
days = st.sampled_from([MONDAY, TUESDAY, FRIDAY])


@st.composite
def neighbor_tables(draw: st.DrawFn) -> list[tuple]:
    """Rows of a table in which each neighbor stands once per list and ranks count from 1."""
    rows = []
    for day in draw(st.sets(days)):
        for side, key_values, found in (("query", keys, items), ("item", items, keys)):
            for key in draw(st.sets(key_values)):
                listed = draw(st.lists(found, unique=True))
                rows += [(day, side, key, rank, one, f"text {one}") for rank, one in enumerate(listed, 1)]
    return rows


def expected(rows: list[tuple], query: str, item: str, judged: date | None, k: int) -> tuple[str | None, str | None]:
    usable = [row[0] for row in rows if judged is None or row[0] <= judged]
    texts = []
    for side, key, own in (("query", query, item), ("item", item, query)):
        listed = [row for row in rows if usable and (row[0], row[1], row[2]) == (max(usable), side, key) and row[4] != own]
        texts.append("; ".join(row[5] for row in sorted(listed, key=lambda row: row[3])[:k]) or None)
    return texts[0], texts[1]


@settings(max_examples=40, deadline=None)
@given(rows=neighbor_tables(), given_pairs=st.lists(st.tuples(keys, items, st.none() | days), min_size=1, max_size=6), k=st.integers(1, 3))
def test_agrees_with_a_plain_loop(rows: list[tuple], given_pairs: list[tuple], k: int):
    result = attached(pairs(*given_pairs), table(*rows), k)
    assert result == [expected(rows, *pair, k) for pair in given_pairs]
    for (query, item, _), (accepted, satisfied) in zip(given_pairs, result, strict=True):
        assert f"text {item}" not in str(accepted).split("; ")
        assert f"text {query}" not in str(satisfied).split("; ")
