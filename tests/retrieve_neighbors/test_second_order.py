"""Queries of a query and items of an item: by hand, against a plain loop, and never through the judged pair or its day."""

from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import ibis
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neighbor_shop import FIRST_DAY, shown, snapshot_of

from components.retrieve_neighbors import counts, ranking
from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.step import run
from components.shared import neighbors as attaching
from components.shared.errors import InputError
from components.shared.neighbors import attach_neighbors, attach_second_order
from components.shared.tables import read_table
from components.shared.tracking import NullTracker

Graph = dict[tuple[str, str], int]  # (query, item) -> clicks out of 100
NEXT_DAY = FIRST_DAY + timedelta(days=1)
SHOP: Graph = {("shoe", "i1"): 40, ("shoe", "i2"): 30, ("hat", "i1"): 50, ("hat", "i4"): 20, ("boot", "i2"): 60}
QUERIES, ITEMS = ("boot", "hat", "shoe", "sock"), ("i1", "i2", "i3", "i4")


def neighbors_of(graph: Graph, num_neighbors: int = 2, hop_size: int = 100) -> pa.Table:
    """Table `neighbors` of the published rule, whose rates depend on no other pair, over all queries and items."""
    config = RetrieveNeighborsConfig(rule="published", min_rate=0.01, order=2, num_neighbors=num_neighbors, hop_size=hop_size)
    rows = [shown(query, item, FIRST_DAY, 100, clicks, clients=clicks) for (query, item), clicks in graph.items()]
    return snapshot_of(rows, config, QUERIES, ITEMS)


def lists(table: pa.Table, side: str) -> dict[tuple[str, str], list[tuple[str, float]]]:
    """(key, left_out) -> (neighbor, rate to 6 digits), best first."""
    found = defaultdict(list)
    for row in table.to_pylist():
        if row["side"] == side:
            found[row["key"], row["left_out"]].append((row["neighbor"], round(row["rate"], 6)))
            assert row["rank"] == len(found[row["key"], row["left_out"]])
    return dict(found)


def seen_by(query: str, item: str, table: pa.Table, k: int = 2) -> list[str | None]:
    """What a pair reads: accepted items, satisfied queries, queries and items of second order."""
    pair = pa.table({"query": [query], "item_id": [item], "judged_at": pa.array([NEXT_DAY], pa.date32())})
    return [column[0].as_py() for column in (*attach_neighbors(pair, table, k), *attach_second_order(pair, table, k))]


def test_queries_of_a_query_by_hand():
    # shoe starts at i1 (0.4) and i2 (0.3). hat: 0.4 x 0.5 / 0.7 = 0.285714; boot: 0.3 x 0.6 / 0.7 = 0.257143
    # without i1 only i2 is left: boot 0.6; without i2: hat 0.5
    found = lists(neighbors_of(SHOP), "query_query")
    assert found["shoe", ""] == [("hat", 0.285714), ("boot", 0.257143)]
    assert found["shoe", "i1"] == [("boot", 0.6)]
    assert found["shoe", "i2"] == [("hat", 0.5)]
    # hat starts at i1 (0.5) and i4 (0.2), whom no other query accepts: 0.5 x 0.4 / 0.7
    assert {left_out: one for (key, left_out), one in found.items() if key == "hat"} == {"": [("shoe", 0.285714)], "i4": [("shoe", 0.4)]}


def test_items_of_an_item_by_hand():
    # i1 starts at hat (0.5) and shoe (0.4). i2: 0.4 x 0.3 / 0.9 = 0.133333; i4: 0.5 x 0.2 / 0.9 = 0.111111
    found = lists(neighbors_of(SHOP), "item_item")
    assert found["i1", ""] == [("i2", 0.133333), ("i4", 0.111111)]
    assert found["i1", "hat"] == [("i2", 0.3)]
    assert found["i1", "shoe"] == [("i4", 0.2)]


def test_evidence_of_a_path_is_that_of_its_weaker_step():
    graph = {("shoe", "i1"): 40, ("shoe", "i2"): 30, ("hat", "i1"): 50, ("hat", "i2"): 20}
    row = next(row for row in neighbors_of(graph).to_pylist() if (row["side"], row["key"], row["left_out"]) == ("query_query", "shoe", ""))
    # through i1 40 of 40 and 50, through i2 20 of 30 and 20; clients are clicks here, and may be the same people: the larger
    assert (row["neighbor"], row["clicks"], row["clients"], row["corrected_impressions"]) == ("hat", 60, 40, 200.0)
    # (0.4 x bound of hat-i1 + 0.3 x bound of hat-i2) / 0.7
    bounds = {(one["key"], one["neighbor"]): one for one in neighbors_of(graph).to_pylist() if one["side"] == "query"}
    for name in ("lower_bound", "upper_bound"):
        expected = (0.4 * bounds["hat", "i1"][name] + 0.3 * bounds["hat", "i2"][name]) / 0.7
        assert row[name] == pytest.approx(expected, abs=1e-8)


def test_first_order_alone_is_the_default():
    table = snapshot_of([shown("shoe", "i1", FIRST_DAY, 100, 40), shown("hat", "i1", FIRST_DAY, 100, 40)], RetrieveNeighborsConfig())
    assert set(table["side"].to_pylist()) == {"query", "item"}


def test_texts_that_a_pair_reads():
    # the pair shoe-i1 may not start at itself: no hat for the query (only i1 leads there), no i2 for the item (only shoe leads there)
    table = neighbors_of(SHOP)
    assert seen_by("shoe", "i1", table) == ["Title of i2", "hat", "boot", "Title of i4"]
    assert seen_by("shoe", "i3", table) == ["Title of i1; Title of i2", None, "hat; boot", None]
    assert seen_by("shoe", "i1", table, k=0) == [None] * 4


def plain_lists(graph: Graph, key_at: int, k: int, hop_size: int) -> dict[tuple[str, str], list[tuple[str, float]]]:
    """The definition as a loop, over edges (key, via) -> clicks of 100."""
    edges = {(pair[key_at], pair[1 - key_at]): clicks for pair, clicks in graph.items()}
    near, far = defaultdict(list), defaultdict(list)
    for (key, via), clicks in edges.items():
        near[key].append((-clicks, via))
        far[via].append((-clicks, key))
    found = {}
    for key, listed in near.items():
        starts = [via for _, via in sorted(listed)[: k + 1]]
        for left_out in ["", *starts]:
            score, together = defaultdict(int), defaultdict(int)
            seats = [via for via in starts if via != left_out][:k]
            for via in seats:
                for clicks, other in sorted(far[via])[:hop_size]:
                    if other != key:
                        score[other] += edges[key, via] * -clicks
                        together[other] += min(edges[key, via], -clicks)
            whole = sum(edges[key, via] for via in seats)
            best = sorted(score, key=lambda other: (-score[other], -together[other], other))[:k]
            if best:
                found[key, left_out] = [(other, round(score[other] / whole / 100, 6)) for other in best]
    return found


graphs = st.dictionaries(st.tuples(st.sampled_from(QUERIES), st.sampled_from(ITEMS)), st.integers(1, 20), min_size=1)


@settings(max_examples=12, deadline=None)
@given(graph=graphs, k=st.integers(1, 3), hop_size=st.integers(1, 4))
def test_agrees_with_a_plain_loop(graph: Graph, k: int, hop_size: int):
    table = neighbors_of(graph, k, hop_size)
    for side, key_at in (("query_query", 0), ("item_item", 1)):
        assert lists(table, side) == plain_lists(graph, key_at, k, hop_size)


@settings(max_examples=8, deadline=None)
@given(graph=graphs, pair=st.tuples(st.sampled_from(QUERIES), st.sampled_from(ITEMS)), clicks=st.integers(1, 100))
def test_a_pair_reads_the_same_whatever_its_own_clicks(graph: Graph, pair: tuple[str, str], clicks: int):
    without = {other: one for other, one in graph.items() if other != pair}
    assert seen_by(*pair, neighbors_of(without | {pair: clicks})) == (seen_by(*pair, neighbors_of(without)) if without else [None] * 4)


@pytest.mark.parametrize(
    ("module", "rule", "without_it"),
    [
        (ranking, "not_through_the_pair", lambda via, left_out: ibis.literal(True)),
        (attaching, "NOT_THROUGH_THE_PAIR", "left_out = ''"),
    ],
)
def test_leak_by_pair_appears_when_the_rule_is_taken_away(module: object, rule: str, without_it: object, monkeypatch: pytest.MonkeyPatch):
    def difference() -> list[bool]:
        """Whether each of the four texts of shoe-i1 depends on what shoppers did with that pair."""
        with_it, never = seen_by("shoe", "i1", neighbors_of(SHOP)), seen_by("shoe", "i1", neighbors_of(SHOP | {("shoe", "i1"): 0}))
        return [one != other for one, other in zip(with_it, never, strict=True)]

    assert difference() == [False] * 4
    monkeypatch.setattr(module, rule, without_it)
    assert difference() == [False, False, True, True]


def test_leak_by_date_appears_when_the_rule_is_taken_away(write: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # shoe and hat share an item only from the second day on, the day of judgment
    log = [shown("shoe", "i1", FIRST_DAY, 100, 40), shown("hat", "i2", FIRST_DAY, 100, 40), shown("hat", "i1", NEXT_DAY, 100, 40)]
    uris = write(log, judged=(NEXT_DAY,))

    def reads_of_the_day(name: str) -> bool:
        run(RetrieveNeighborsConfig(order=2), **uris, neighbors=str(tmp_path / name), tracker=NullTracker())
        return seen_by("shoe", "i9", read_table(str(tmp_path / name), "neighbors"))[2] == "hat"

    assert not reads_of_the_day("safe")
    with monkeypatch.context() as patch:
        patch.setattr(attaching, "ONLY_BEFORE_JUDGMENT", "true")
        assert reads_of_the_day("newest")
    with monkeypatch.context() as patch:
        patch.setattr(counts, "only_days_before", lambda day, until: day <= until)
        assert reads_of_the_day("leaky")


def test_sums_over_the_most_neighbors_fit_into_64_bits():
    most = 900
    assert RetrieveNeighborsConfig(num_neighbors=most).num_neighbors * ranking.SHARE**2 < 2**63
    with pytest.raises(InputError, match="key 'num_neighbors' = 901"):
        RetrieveNeighborsConfig.from_mapping({"num_neighbors": most + 1}, section="neighbors")
    # twelve shared items that both queries always click: every mean is 1
    graph = {(query, f"i{number}"): 100 for query in ("shoe", "hat") for number in range(12)}
    rows = [shown(query, item, FIRST_DAY, 100, clicks) for (query, item), clicks in graph.items()]
    config = RetrieveNeighborsConfig(rule="published", order=2, num_neighbors=12)
    assert lists(snapshot_of(rows, config), "query_query")["shoe", ""] == [("hat", 1.0)]
