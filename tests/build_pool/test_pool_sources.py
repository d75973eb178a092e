"""Each source of candidates by itself, with rankings and counts that can be checked by eye."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pool_shop import SHOP, item, judgment, query, shown, tiny_model, write_shop

from components.build_pool import candidates, nearest
from components.build_pool.config import BuildPoolConfig
from components.build_pool.step import run
from components.shared.errors import InputError
from components.shared.models.scoring import Scorer
from components.shared.report import Report
from components.shared.tables import read_table
from components.shared.tracking import NullTracker

NOTHING = {"num_impressions": 0, "num_lexical": 0, "num_hard": 0, "num_same_category": 0, "num_random": 0, "size_factor": 1000}


def pool(uris: dict[str, str], out: Path, **settings: object) -> tuple[pa.Table, Report]:
    config = BuildPoolConfig.from_mapping({**NOTHING, **settings}, section="pool")
    report = run(config, **uris, pairs=str(out), tracker=NullTracker())
    return read_table(str(out), "pairs"), report


def items_of(table: pa.Table, query_id: str, source: str) -> set[str]:
    return {row["item_id"] for row in table.to_pylist() if (row["query_id"], row["source"]) == (query_id, source)}


def test_judged_pairs_of_train_only(tmp_path: Path):
    table, report = pool(write_shop(tmp_path), tmp_path / "out")
    assert {(row["query_id"], row["item_id"]) for row in table.to_pylist()} == {("t1", "shoe-red"), ("t1", "shoe-blue"), ("t2", "hat-blue")}
    assert set(table["source"].to_pylist()) == {"judgment"}
    assert report.metrics["source.judgment"] == 3
    assert report.metrics["times_judgments"] == 1.0


def test_judged_items_that_the_catalogue_lacks_are_counted(tmp_path: Path):
    uris = write_shop(tmp_path, judgments=[*SHOP["judgments"], judgment("t2", "gone", "train")])
    table, report = pool(uris, tmp_path / "out")
    assert "gone" not in table["item_id"].to_pylist()
    assert (report.read, report.kept, report.dropped["unknown_item"]) == (4, 3, 1)


def test_impressions_are_added_over_days_and_the_most_shown_come_first(tmp_path: Path):
    # red shoe: shoe-green 20 + 15 = 35, shoe-red 30 (judged already), hat-red 10
    uris = write_shop(tmp_path)
    assert items_of(pool(uris, tmp_path / "one", num_impressions=1)[0], "t1", "impression") == {"shoe-green"}
    assert items_of(pool(uris, tmp_path / "two", num_impressions=2)[0], "t1", "impression") == {"shoe-green"}
    assert items_of(pool(uris, tmp_path / "six", num_impressions=3)[0], "t1", "impression") == {"shoe-green", "hat-red"}


def test_items_without_impressions_or_unknown_are_not_shown(tmp_path: Path):
    uris = write_shop(tmp_path, interactions=[shown("hat", "hat-red", 0, 1), shown("hat", "gone", 9), shown("hat", "hat-blue", 1)])
    assert items_of(pool(uris, tmp_path / "out", num_impressions=9)[0], "l1", "impression") == {"hat-blue"}


def test_lexical_takes_the_top_and_nothing_without_a_common_word(tmp_path: Path):
    uris = write_shop(tmp_path, judgments=[row for row in SHOP["judgments"] if row["query_id"] != "t1"])
    table, _ = pool(uris, tmp_path / "out", num_lexical=2)
    # two words of "red shoe" stand in shoe-red; the other reds and shoes: "red" is rarer (2 items of 12) than "shoe" (6)
    assert items_of(table, "t1", "lexical") == {"shoe-red", "hat-red"}
    wide, _ = pool(uris, tmp_path / "wide", num_lexical=50)
    # "brown" stands in two titles only; items of equal score count in item order
    assert items_of(wide, "l3", "lexical") == {"shoe-brown", "hat-brown"}


def test_hard_items_lie_in_the_given_ranks(tmp_path: Path):
    uris = write_shop(tmp_path, items=[item(f"i{n:02}", "shoe " + "filler " * n) for n in range(40)])
    # BM25 falls with length, so item n has rank n + 1
    settings = {"num_lexical": 3, "hard_first_rank": 11, "hard_last_rank": 20}
    table, _ = pool(uris, tmp_path / "all", num_hard=50, **settings)
    assert items_of(table, "l2", "lexical") == {"i00", "i01", "i02"}
    assert items_of(table, "l2", "hard") == {f"i{n:02}" for n in range(10, 20)}
    four = items_of(pool(uris, tmp_path / "four", num_hard=4, **settings)[0], "l2", "hard")
    assert len(four) == 4
    assert four < {f"i{n:02}" for n in range(10, 20)}
    assert four != items_of(pool(uris, tmp_path / "seed", num_hard=4, seed=14, **settings)[0], "l2", "hard")


def test_hard_items_are_drawn_below_the_lexical_top(tmp_path: Path):
    uris = write_shop(tmp_path, items=[item(f"i{n:02}", "shoe " + "filler " * n) for n in range(40)])
    table, _ = pool(uris, tmp_path / "out", num_lexical=15, num_hard=5, hard_first_rank=11, hard_last_rank=20)
    assert items_of(table, "t1", "hard") == {f"i{n:02}" for n in range(15, 20)}  # ranks 16 to 20; 11 to 15 are in already


def test_hard_ranks_in_the_wrong_order_are_refused():
    with pytest.raises(InputError, match="'hard_first_rank' = 30 is above 'hard_last_rank' = 20"):
        BuildPoolConfig.from_mapping({"hard_last_rank": 20}, section="pool")


def test_same_category_items_were_not_clicked(tmp_path: Path):
    uris = write_shop(tmp_path)
    table, _ = pool(uris, tmp_path / "out", num_same_category=50)
    # shoppers of "hat" clicked hat-white: the other five hats; of "red shoe" shoe-red: the other shoes, of which blue is judged
    assert items_of(table, "l1", "hard") == {f"hat-{color}" for color in ("red", "blue", "green", "black", "brown")}
    assert items_of(table, "t1", "hard") == {f"shoe-{color}" for color in ("green", "black", "white", "brown")}
    assert items_of(table, "l2", "hard") == set()
    few, _ = pool(uris, tmp_path / "few", num_same_category=2)
    assert len(items_of(few, "l1", "hard")) == 2


def test_items_without_a_category_share_none_and_a_seed_draws_among_the_others(tmp_path: Path):
    bare = [item("x1", "one", ""), item("x2", "two", ""), item("y1", "three"), item("y2", "four")]
    log = [*SHOP["interactions"], shown("blue hat", "x1", 5, 1), shown("blue hat", "y1", 5, 1)]
    uris = write_shop(tmp_path, items=[*SHOP["items"], *bare], interactions=log)
    table, _ = pool(uris, tmp_path / "all", num_same_category=50)
    assert items_of(table, "t2", "hard") == set()
    draws = [items_of(pool(uris, tmp_path / f"s{seed}", num_same_category=2, seed=seed)[0], "t1", "hard") for seed in range(5)]
    assert len(set(map(frozenset, draws))) > 1


def test_large_categories_are_cut_before_they_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(candidates, "MOST_PER_CATEGORY", 3)
    table, _ = pool(write_shop(tmp_path), tmp_path / "out", num_same_category=50)
    assert 1 <= len(items_of(table, "t1", "hard")) <= 3  # of four shoes that nobody clicked or judged


def test_random_items_follow_the_seed(tmp_path: Path):
    uris = write_shop(tmp_path)
    draws = {seed: pool(uris, tmp_path / f"out-{seed}", num_random=3, seed=seed)[0] for seed in (1, 2)}
    again, _ = pool(uris, tmp_path / "again", num_random=3, seed=1)
    assert again.equals(draws[1])
    assert not again.equals(draws[2])
    assert all(1 <= len(items_of(draws[1], one, "random")) <= 3 for one in ("l1", "l2", "l3"))


def test_the_first_source_in_order_wins(tmp_path: Path):
    table, report = pool(write_shop(tmp_path), tmp_path / "out", num_impressions=9, num_lexical=50, num_same_category=50, num_random=50)
    assert len({(row["query_id"], row["item_id"]) for row in table.to_pylist()}) == len(table)
    assert items_of(table, "t1", "judgment") == {"shoe-red", "shoe-blue"}
    assert items_of(table, "t1", "impression") == {"shoe-green", "hat-red"}
    assert items_of(table, "t1", "lexical") == {"shoe-black", "shoe-white", "shoe-brown"}
    assert items_of(table, "t1", "hard") == set()
    assert items_of(table, "t1", "random") <= {f"hat-{color}" for color in ("blue", "green", "black", "white", "brown")}
    assert report.dropped["repeated"] > 0
    assert sum(report.metrics[f"source.{name}"] for name in ("judgment", "impression", "lexical", "hard", "random")) == len(table)


def test_most_frequent_log_queries_up_to_max_queries(tmp_path: Path):
    uris = write_shop(tmp_path)
    two, report = pool(uris, tmp_path / "two", num_random=1, max_queries=2)
    assert set(two["query_id"].to_pylist()) == {"t1", "t2", "l1", "l2"}
    assert report.metrics["queries.beyond_max_queries"] == 1
    none, _ = pool(uris, tmp_path / "none", num_random=1, max_queries=0)
    assert set(none["query_id"].to_pylist()) == {"t1", "t2"}


def test_equally_frequent_queries_are_taken_by_id(tmp_path: Path):
    queries = [*SHOP["queries"], query("l8", "belt", None, 60), query("l7", "scarf", None, 60)]
    table, _ = pool(write_shop(tmp_path, queries=queries), tmp_path / "out", num_random=1, max_queries=1)
    assert set(table["query_id"].to_pylist()) == {"t1", "t2", "l7"}


def test_a_log_query_with_the_text_of_a_train_query_is_one_query(tmp_path: Path):
    uris = write_shop(tmp_path, queries=[*SHOP["queries"], query("l9", "red shoe", None, 99)])
    assert "l9" not in pool(uris, tmp_path / "out", num_random=1)[0]["query_id"].to_pylist()


CLICKS = [
    # l1 and l2 share item a; l2 leads to b (1 of its 4 clicks) and c (2 of 4), l3 shares nothing
    *[shown("hat", "hat-red", 9, 3), shown("shoe", "hat-red", 9, 1), shown("shoe", "hat-blue", 9, 1), shown("shoe", "hat-green", 9, 2)],
    *[shown("brown", "shoe-black", 9, 5), shown("red shoe", "shoe-red", 30, 9)],
]


def test_co_engagement_walks_over_other_queries_by_hand(tmp_path: Path):
    # from `hat`: hat-red (3/3), back to `shoe` (1/4), on to hat-green (2/4) with 0.125 and hat-blue (1/4) with 0.0625
    uris = write_shop(tmp_path, interactions=CLICKS)
    table, report = pool(uris, tmp_path / "out", num_co_engagement=1)
    assert items_of(table, "l1", "co_engagement") == {"hat-green"}
    assert items_of(pool(uris, tmp_path / "two", num_co_engagement=9)[0], "l1", "co_engagement") == {"hat-green", "hat-blue"}
    assert items_of(table, "l2", "co_engagement") == set()  # `hat` leads back to what was clicked already
    assert items_of(table, "l3", "co_engagement") == set()
    assert report.metrics["source.co_engagement"] == 1


def test_no_walk_leads_over_a_query_that_is_evaluated(tmp_path: Path):
    dev = [shown("green suede shoe", "hat-red", 50, 20), shown("green suede shoe", "shoe-green", 50, 40)]
    uris = write_shop(tmp_path, interactions=[*CLICKS, *dev])
    table, _ = pool(uris, tmp_path / "out", num_co_engagement=9)
    assert "shoe-green" not in {row["item_id"] for row in table.to_pylist() if row["source"] == "co_engagement"}


def test_nearest_items_by_hand(monkeypatch: pytest.MonkeyPatch):
    items = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.6, 0.8], [-1, 0]], np.float32)
    queries = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    expected = [[0, 2, 3], [1, 2, 3], [4, 1, 2]]  # equal cosines by place
    for cells in (1, 10, 1 << 20):
        monkeypatch.setattr(nearest, "BLOCK_CELLS", cells)
        assert nearest.top_cosines(queries, items, 3).tolist() == expected
    assert nearest.top_cosines(queries, items, 9)[0].tolist() == [0, 2, 3, 1, 4]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base = tmp_path_factory.mktemp("models")
    return {kind: tiny_model(str(base / kind), kind) for kind in ("bi_encoder", "cross_encoder")}


def test_nearest_items_of_a_model(tmp_path: Path, models: dict[str, str]):
    uris = write_shop(tmp_path)
    table, report = pool(uris, tmp_path / "out", num_nearest=3, bi_encoder=models["bi_encoder"])
    scorer = Scorer(models["bi_encoder"])
    cosines = {one["item_id"]: scorer.scores(["hat"], [one["title"] + " | category: " + one["category"]])[0] for one in SHOP["items"]}
    assert items_of(table, "l1", "nearest") == set(sorted(cosines, key=lambda name: (-cosines[name], name))[:3])
    assert {row["query_id"] for row in table.to_pylist()} == {"t1", "t2", "l1", "l2", "l3"}  # no evaluated query
    assert report.metrics["source.nearest"] > 0


def test_without_a_champion_there_are_no_nearest_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(nearest, "resolve", lambda address: "")
    table, report = pool(write_shop(tmp_path), tmp_path / "out", num_nearest=3, bi_encoder="models:/shop@champion")
    assert (len(table), report.metrics["source.nearest"]) == (3, 0)
    assert "'models:/shop@champion' is not there yet" in caplog.text


def test_a_model_that_reads_jointly_has_no_vectors(tmp_path: Path, models: dict[str, str]):
    with pytest.raises(InputError, match="is a cross_encoder, which has no vectors; name an encoder"):
        pool(write_shop(tmp_path), tmp_path / "out", num_nearest=3, bi_encoder=models["cross_encoder"])
    with pytest.raises(InputError, match="key 'num_nearest' = 3 needs 'bi_encoder'"):
        pool(write_shop(tmp_path), tmp_path / "out", num_nearest=3)
