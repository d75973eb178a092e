"""The plan: no held-out query, whole lists under the cap, one shard per query, the same bytes each time."""

import hashlib
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_shop import SHOP, judgment, query, write_shop

from components.build_pool import queries as module
from components.build_pool.config import BuildPoolConfig
from components.build_pool.step import describe, run
from components.shared.errors import InputError
from components.shared.report import Report
from components.shared.tables import Manifest, read_table
from components.shared.tracking import NullTracker


def pool(uris: dict[str, str], out: Path, **settings: object) -> tuple[pa.Table, Report]:
    config = BuildPoolConfig.from_mapping({"size_factor": 1000, **settings}, section="pool")
    report = run(config, **uris, pairs=str(out), tracker=NullTracker())
    return read_table(str(out), "pairs"), report


def texts_of(table: pa.Table, queries: list[dict]) -> set[str]:
    by_id = {row["query_id"]: row["query"] for row in queries}
    return {by_id[one] for one in table["query_id"].to_pylist()}


LEAKS = [
    query("l8", "green suede shoe", None, 70),  # the text of dev query d1 under an id of the log
    query("l9", "hat, felt black", None, 60),  # the words of test query e1
    query("t9", "shoe suede green", "train", 60),  # and a judged train query
]


def leaky_shop(tmp_path: Path) -> tuple[dict[str, str], list[dict]]:
    queries = [*SHOP["queries"], *LEAKS]
    return write_shop(tmp_path, queries=queries, judgments=[*SHOP["judgments"], judgment("t9", "shoe-green", "train")]), queries


def test_held_out_queries_never_enter_under_any_id(tmp_path: Path):
    uris, queries = leaky_shop(tmp_path)
    table, report = pool(uris, tmp_path / "out")
    assert texts_of(table, queries) == {"red shoe", "blue hat", "hat", "shoe", "brown"}
    assert report.metrics["queries.held_out"] == 3


def test_rewordings_of_evaluated_queries_stay_out_but_train_judgments_do_not(tmp_path: Path):
    queries = [
        query("t1", "green boot", "train"),  # shares a quarter of all words with the dev query
        query("t2", "green suede shoe laces", "train"),  # shares three quarters, but was judged for training
        query("d1", "green suede shoe", "dev"),
        query("l1", "green suede shoes", None),  # a misspelling
        query("l2", "gre", None),  # half typed
        query("l3", "shoe suede green cheap", None),  # two of three words
        query("l4", "gravy boat", None),  # shares only its first letters
    ]
    judgments = [judgment("t1", "shoe-red", "train"), judgment("t2", "shoe-blue", "train"), judgment("d1", "shoe-green", "dev")]
    table, report = pool(write_shop(tmp_path, queries=queries, judgments=judgments), tmp_path / "out")
    assert texts_of(table, queries) == {"green boot", "green suede shoe laces", "gravy boat"}
    assert report.metrics["queries.held_out"] == 3


def test_the_leak_appears_when_the_rule_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    uris, queries = leaky_shop(tmp_path)
    monkeypatch.setattr(module, "NOT_HELD_OUT", "true")
    table, _ = pool(uris, tmp_path / "out")
    assert texts_of(table, queries) >= {"green suede shoe", "hat, felt black", "shoe suede green"}


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_query_without_split_is_held_out_by_its_judgments(tmp_path: Path, split: str):
    queries = [
        query("t1", "red shoe", "train"),
        query("d1", "green suede shoe", None),
        query("l1", "shoe suede green", None),
        query("l2", "shoe", None),
    ]
    table, _ = pool(
        write_shop(tmp_path, queries=queries, judgments=[judgment("t1", "shoe-red", "train"), judgment("d1", "shoe-green", split)]),
        tmp_path / "out",
    )
    assert texts_of(table, queries) == {"red shoe", "shoe"}


def test_a_held_out_query_without_text_is_refused(tmp_path: Path):
    uris = write_shop(tmp_path, judgments=[*SHOP["judgments"], judgment("d7", "hat-red", "dev")])
    with pytest.raises(InputError, match="dev or test query_id 'd7' is not in table 'queries'"):
        pool(uris, tmp_path / "out")


def test_words_without_letters_are_compared_as_text(tmp_path: Path):
    queries = [query("d1", "???", "dev"), query("l1", "!!!"), query("l2", "???")]
    table, _ = pool(write_shop(tmp_path, queries=queries, judgments=[judgment("d1", "hat-red", "dev")]), tmp_path / "out")
    assert texts_of(table, queries) == {"!!!"}


def test_no_query_at_all_is_refused(tmp_path: Path):
    uris = write_shop(tmp_path, queries=[query("d1", "green suede shoe", "dev")], judgments=[judgment("d1", "hat-red", "dev")])
    with pytest.raises(InputError, match="no query for the pool"):
        pool(uris, tmp_path / "out")


def sizes(table: pa.Table) -> dict[tuple[str, bool], int]:
    """(query, judged list or the added one) -> pairs."""
    found: dict[tuple[str, bool], int] = {}
    for row in table.to_pylist():
        key = (row["query_id"], row["source"] == "judgment")
        found[key] = found.get(key, 0) + 1
    return found


@pytest.mark.parametrize("cap", [{"max_pairs": most} for most in (3, 4, 9, 10, 14, 20, 30)] + [{"size_factor": n} for n in (1, 3, 5.5)])
def test_the_cap_keeps_whole_lists_in_order(tmp_path: Path, cap: dict):
    uris = write_shop(tmp_path)
    whole, _ = pool(uris, tmp_path / "whole")
    table, report = pool(uris, tmp_path / "out", **cap)
    most = cap.get("max_pairs", int(3 * cap.get("size_factor", 1)))  # the shop has three train judgments
    order = [("t1", True), ("t2", True), ("t1", False), ("t2", False), ("l1", False), ("l2", False), ("l3", False)]
    expected, total = {}, 0
    for one in order:
        total += sizes(whole)[one]
        if total <= most:
            expected[one] = sizes(whole)[one]
    assert sizes(table) == expected
    assert report.dropped["over_size"] == len(whole) - len(table)


def test_a_cap_below_the_first_list_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="key 'max_pairs' = 1: not one query's list fits"):
        pool(write_shop(tmp_path), tmp_path / "out", max_pairs=1)


def test_ids_shards_and_order(tmp_path: Path):
    table, report = pool(write_shop(tmp_path), tmp_path / "out", num_shards=3)
    rows = table.to_pylist()
    for row in rows:
        assert row["pair_id"] == hashlib.sha256(f"{row['query_id']}\x1f{row['item_id']}".encode()).hexdigest()[:16]
        assert row["shard"] == int(hashlib.sha256(row["query_id"].encode()).hexdigest()[:8], 16) % 3
    keys = [(row["shard"], row["query_id"], row["pair_id"]) for row in rows]
    assert keys == sorted(keys)
    assert len({row["shard"] for row in rows}) > 1
    assert report.metrics["queries"] == 5
    assert report.metrics["largest_shard_over_mean"] > 1


def test_numbers_of_a_plan_by_hand():
    plan = pa.table({"query_id": list("aaab"), "source": ["judgment", "random", "random", "hard"], "shard": [0, 0, 0, 2]})
    # 4 pairs of 2 queries over 3 shards: 4/3 a shard, the largest has 3, which is 9/4 of that; 2 judgments
    assert describe(plan, 2, 3) == {
        "source.judgment": 1, "source.impression": 0, "source.lexical": 0, "source.nearest": 0, "source.co_engagement": 0,
        "source.hard": 1, "source.random": 2,
        "queries": 2, "pairs_per_query": 2, "times_judgments": 2, "largest_shard_over_mean": 2.25,
    }  # fmt: skip
    assert describe(plan.slice(0, 0), 0, 3)["largest_shard_over_mean"] == 0


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(5)), num_shards=st.integers(1, 40))
def test_row_order_of_the_inputs_changes_nothing(tmp_path_factory: pytest.TempPathFactory, order: list[int], num_shards: int):
    folder = tmp_path_factory.mktemp("pool")
    mixed = {name: [SHOP[name][place] for place in order] + SHOP[name][5:] for name in ("queries", "judgments", "interactions")}
    pool(write_shop(folder / "given"), folder / "one", num_shards=num_shards)
    pool(write_shop(folder / "mixed", **mixed), folder / "two", num_shards=num_shards)
    assert Manifest.read(str(folder / "one")).digest == Manifest.read(str(folder / "two")).digest


def test_larger_pools_grow_around_smaller_ones(tmp_path: Path):
    """`size_factor` alone sweeps the pool from the judged pairs to 64 times as many; every size holds the smaller ones whole."""
    log = [query(f"l{n:03d}", f"{color} thing {n}", None, 1000 - n) for n in range(40) for color in ("blue",)]
    uris = write_shop(tmp_path, queries=[*SHOP["queries"][:4], *log])
    sweep: list[set[str]] = []
    for factor in (1, 2, 4, 8, 16, 32, 64):
        table, report = pool(uris, tmp_path / str(factor), size_factor=factor, num_random=4, num_lexical=3)
        grown = report.metrics["times_judgments"]
        assert (0 if factor < 8 else factor * 0.7) < grown <= factor  # three judged pairs; a list of a dozen is four times as many
        sweep.append(set(table["pair_id"].to_pylist()))
    assert all(smaller < larger or smaller == larger for smaller, larger in pairwise(sweep))
    assert len(sweep[0]) == 3
    assert len(sweep[-1]) > 3 * 48
