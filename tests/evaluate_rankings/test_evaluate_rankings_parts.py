"""The report's parts one by one: what is compared, listed, ranked and drawn, by hand."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judged_shop import ranking

from components.evaluate_rankings import comparison, figures, report_page, sources, trec
from components.evaluate_rankings.config import EvaluateRankingsConfig
from components.evaluate_rankings.step import run
from components.shared import tables
from components.shared.errors import InputError
from components.shared.tracking import NullTracker

CONFIG = EvaluateRankingsConfig(num_resamples=100, min_slice_queries=2, num_listed_queries=2)


def values_of(**systems: dict[str, float]) -> pa.Table:
    rows = [(system, query, "ndcg@10", value) for system, of_query in systems.items() for query, value in of_query.items()]
    return pa.table(list(map(pa.array, zip(*rows, strict=True))), names=["system", "query_id", "metric", "value"])


def judged(*rows: tuple[str, str, int, float, str]) -> pa.Table:
    query, item, grade, gain, split = zip(*rows, strict=True)
    names = ["query_id", "item_id", "grade", "gain", "judged_at", "split"]
    return pa.table([query, item, pa.array(grade, pa.int32()), gain, pa.nulls(len(rows), pa.date32()), split], names=names)


QUERIES = ("a", "b", "c", "d", "e", "f")
OURS = dict(zip(QUERIES, (0.5, 0.25, 1.0, 0.75, 0.5, 0.0), strict=True))
THEIRS = dict(zip(QUERIES, (0.75, 0.75, 0.5, 0.5, 0.5, 0.125), strict=True))


def test_the_most_lost_and_then_the_most_won_queries_are_listed():
    against, rows = comparison.losses_and_wins(values_of(cross_encoder=OURS, teacher=THEIRS, bm25=OURS), CONFIG)
    # differences a -.25, b -.5, c +.5, d +.25, e 0, f -.125: two of each, the tie e in neither
    assert against == "teacher"
    assert [(row["query_id"], row["difference"]) for row in rows] == [("b", -0.5), ("a", -0.25), ("c", 0.5), ("d", 0.25)]
    assert (rows[0]["ours"], rows[0]["theirs"]) == (0.25, 0.75)
    many = CONFIG.model_copy(update={"num_listed_queries": 9})
    assert [row["query_id"] for row in comparison.losses_and_wins(values_of(cross_encoder=OURS, teacher=THEIRS), many)[1]] == list("bafcd")


@pytest.mark.parametrize(
    ("others", "against"),
    [(("champion", "teacher", "bm25"), "champion"), (("untrained", "bm25"), "bm25"), (("untrained",), "untrained"), ((), "")],
)
def test_queries_are_listed_against_the_nearest_rival(others, against):
    assert comparison.losses_and_wins(values_of(cross_encoder=OURS, **dict.fromkeys(others, THEIRS)), CONFIG)[0] == against


def test_without_the_challenger_nothing_is_listed():
    assert comparison.losses_and_wins(values_of(teacher=OURS, bm25=THEIRS), CONFIG) == ("", [])
    champion = CONFIG.model_copy(update={"challenger": "champion"})
    assert comparison.losses_and_wins(values_of(champion=OURS), champion) == ("", [])


def test_each_pair_is_compared_once_and_nobody_with_itself():
    pairs = comparison.compared_pairs(["bm25", "champion", "cross_encoder", "untrained"], CONFIG)
    assert pairs == [
        ("champion", "bm25"), ("cross_encoder", "bm25"), ("untrained", "bm25"), ("champion", "untrained"),
        ("cross_encoder", "untrained"), ("cross_encoder", "champion"),
    ]  # fmt: skip


def test_a_slice_that_is_everything_says_nothing():
    rows = [(query, "i", 1, 1.0, "test") for query in QUERIES]
    segments = ["head", "head", "tail", "tail", None, None]
    queries = pa.table({"query_id": QUERIES, "segment": segments, "kind": ["negation"] * 6})
    slices = comparison.slices_of(judged(*rows), queries)
    assert slices["segment"].to_pylist() == [*segments[:4], "unknown", "unknown"]
    found = comparison.by_slice(values_of(cross_encoder=OURS), slices, CONFIG)
    # head: a, b -> .375; tail: c, d -> .875; e and f are of unknown segment, all are of one kind and one split
    assert [(row["slice"], row["value"], row["mean"], row["num_queries"]) for row in found] == [
        ("segment", "head", 0.375, 2), ("segment", "tail", 0.875, 2),
    ]  # fmt: skip


def test_listed_queries_show_the_top_items_with_their_grade_as_a_reader_sees_them():
    listed_items, scores = ["i1", "i4", "i3", "i2", "i1"], [0.5, 0.5, 0.75, 0.25, 1.0]
    given = pa.table({"system": ["x"] * 4 + ["y"], "query_id": ["a"] * 5, "item_id": listed_items, "score": scores})
    items = pa.table({"item_id": ["i1", "i3"], "title": ["t" * 100, "Red\u202e\nshoe"]})
    queries = pa.table({"query_id": ["a"], "query_text": [" red  shoe "]})
    graded = judged(("a", "i3", 1, 1.0, "test"), ("a", "i1", 0, 0.0, "test"))
    listed = [{"query_id": "a", "difference": 0.5}, {"query_id": "b", "difference": 0.25}]
    rows = report_page.with_items(listed, {"ours": "x", "theirs": "y"}, given, graded, ["bad", "good"], (queries, items), 3)
    assert (rows[0]["query"], rows[1]["query"], rows[1]["ours_items"]) == ("red shoe", "b", [])
    # i3 leads, i1 and i4 tie and go by id, i2 is fourth of three
    assert rows[0]["ours_items"] == [
        {"title": "Red shoe", "label": "good"}, {"title": "t" * 90, "label": "bad"}, {"title": "i4", "label": "not judged"},
    ]  # fmt: skip
    assert rows[0]["theirs_items"] == [{"title": "t" * 90, "label": "bad"}]


@pytest.mark.parametrize(
    ("low", "high", "color"),
    [
        (0.1, 0.3, figures.BETTER),
        (-0.3, -0.1, figures.WORSE),
        (-0.1, 0.1, figures.OPEN),
        (0.0, 0.2, figures.OPEN),
        (-0.2, 0.0, figures.OPEN),
    ],
)
def test_an_interval_that_touches_zero_is_neither_better_nor_worse(low, high, color):
    svg = figures.forest_plot([{"system": "a", "against": "b", "mean": (low + high) / 2, "low": low, "high": high}], "ndcg@10")
    assert [one for one in (figures.BETTER, figures.WORSE, figures.OPEN) if one in svg] == [color]
    assert "a - b" in svg


def test_ranks_count_from_one_within_a_query_and_ties_go_by_item():
    scored = pa.table({"query_id": ["q2", "q1", "q1", "q1"], "item_id": ["i1", "i3", "i2", "i1"], "score": [5.0, 1.0, 2.0, 1.0]})
    rows = sources.with_ranks(scored, "bm25").to_pylist()
    assert [(row["query_id"], row["item_id"], row["rank"], row["system"]) for row in rows] == [
        ("q1", "i2", 1, "bm25"), ("q1", "i1", 2, "bm25"), ("q1", "i3", 3, "bm25"), ("q2", "i1", 1, "bm25"),
    ]  # fmt: skip
    assert sources.with_ranks(scored.slice(0, 0), "bm25").num_rows == 0


def test_the_lexical_baseline_leaves_out_what_it_has_no_text_of(shop):
    queries, items = tables.read_table(shop["queries"], "queries"), tables.read_table(shop["items"], "items")
    pairs = judged(("q01", "i1", 1, 1.0, "test"), ("q01", "gone", 1, 1.0, "test"), ("gone", "i1", 1, 1.0, "test"))
    rows = sources.rank_lexically(pairs, queries, items).to_pylist()
    assert [(row["query_id"], row["item_id"]) for row in rows] == [("q01", "i1")]
    assert rows[0]["score"] > 0  # `red shoe 1` and a title with `red`, `shoe` and `1`


def write(rows: pa.Table, place) -> str:
    pq.write_table(rows, str(place))
    return str(place)


def test_without_a_card_the_judgments_say_what_a_grade_is_worth(tmp_path):
    rows = judged(("a", "i1", 2, 1.0, "test"), ("a", "i2", 0, 0.125, "dev"))
    chosen, scale = sources.read_judgments(write(rows, tmp_path / "j.parquet"), ["dev"], None)
    assert chosen["item_id"].to_pylist() == ["i2"]
    assert (scale.gains, scale.labels) == ([0.125, 0.0, 1.0], ["grade 0", "grade 1", "grade 2"])


def test_judgments_that_contradict_themselves_or_the_splits_are_refused(tmp_path):
    place = write(judged(("a", "i1", 1, 1.0, "test"), ("a", "i2", 1, 0.5, "test")), tmp_path / "j.parquet")
    with pytest.raises(InputError, match=rf"^'{place}': column 'gain' has 0.5 and 1 for grade 1; one grade has one gain$"):
        sources.read_judgments(place, ["test"], None)
    place = write(judged(("a", "i1", 1, 1.0, "train")), tmp_path / "j.parquet")
    with pytest.raises(InputError, match=rf"^'{place}': no judgment is in split dev, test; set key 'splits' of section 'evaluation'$"):
        sources.read_judgments(place, ["dev", "test"], None)


@pytest.mark.parametrize(
    ("broken", "queries", "message"),
    [(np.inf, None, "column 'score' of every system has values that are NaN or infinite; score again"),
     (None, "x", "no system has a ranking for the evaluated queries; check that query ids are the judgments' ids")],
)  # fmt: skip
def test_rankings_with_nothing_to_measure_are_refused(shop, tmp_path, broken, queries, message):
    rows = ranking("teacher", 0.5, broken)
    if queries:
        rows = rows.set_column(0, "query_id", pa.array([queries] * len(rows))).slice(0, 1)
    tables.write_table(str(tmp_path / "r"), "rankings", rows)
    with pytest.raises(InputError, match=f"^rankings: {message}$"):
        run(CONFIG, judgments=shop["judgments"], rankings=str(tmp_path / "r"), evaluation=str(tmp_path / "out"), tracker=NullTracker())
    assert not (tmp_path / "out").exists()


def test_qrels_of_an_editor_and_without_a_relevant_item_are_read(tmp_path):
    (tmp_path / "x.qrels").write_bytes("\ufeffq1 0 i1 0\r\nq1 0 i2 -2\r\n".encode())
    rows = trec.read_qrels(str(tmp_path / "x.qrels"))
    assert rows["query_id"].to_pylist() == ["q1", "q1"]
    assert (rows["grade"].to_pylist(), rows["gain"].to_pylist()) == ([0, 0], [0.0, 0.0])
