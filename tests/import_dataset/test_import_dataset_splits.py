"""Splits by query, from columns or from the hash, and other protocols that hold for any table."""

from datetime import date

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.import_dataset.judged import drop_repeated, grade_labels, hashed_split, split_of_queries
from components.import_dataset.sources import as_text
from components.shared.card import DatasetCard
from components.shared.errors import InputError

WITH_SPLITS = """\
name: tiny
grades: {bad: {grade: 0, gain: 0}, good: {grade: 1, gain: 1}}
items: {file: items, columns: {item_id: sku, title: name}}
queries: {file: queries, columns: {query_id: id, query_text: text%s}}
judgments: {file: judgments, columns: {query_id: id, item_id: sku, grade: label%s}}
log: {queries: searches, events: events}
"""


def judged(*rows: tuple[str, str]) -> list[dict[str, str]]:
    return [{"id": query_id, "sku": "1", "label": "bad", "part": part} for query_id, part in rows]


def test_the_judgments_column_is_taken(folder) -> None:
    data = folder(card=WITH_SPLITS % ("", ", split: part"), judgments=judged(("q1", "dev"), ("q2", "test")))
    data.run()
    assert data.rows("judgments", "query_id", "split") == [("q1", "dev"), ("q2", "test")]
    assert data.rows("judged_queries", "query_id", "split") == [("q1", "dev"), ("q2", "test")]


def test_the_queries_column_reaches_the_judgments(folder) -> None:
    asked = [{"id": "q1", "text": "a", "part": "test"}, {"id": "q2", "text": "b", "part": "train"}]
    data = folder(card=WITH_SPLITS % (", split: part", ""), queries=asked)
    data.run()
    assert data.rows("judgments", "query_id", "split") == [("q1", "test"), ("q1", "test"), ("q2", "train")]


def test_a_query_in_two_splits_and_other_words_are_refused(folder) -> None:
    rows = [*judged(("q1", "dev")), {"id": "q1", "sku": "2", "label": "bad", "part": "train"}]
    with pytest.raises(InputError, match="query_id 'q1' is in the splits dev and train; a query must be in one"):
        folder(card=WITH_SPLITS % ("", ", split: part"), judgments=rows).run()
    with pytest.raises(InputError, match="column 'split' has 'valid' for query_id 'q1'; allowed: train, dev, test"):
        folder(card=WITH_SPLITS % ("", ", split: part"), judgments=judged(("q1", "valid"))).run()


def test_hashed_splits_have_the_asked_shares_and_never_move() -> None:
    splits = [hashed_split(f"q{number}", 0.6, 0.15) for number in range(4000)]
    assert [splits.count(name) / 4000 for name in ("train", "dev", "test")] == pytest.approx([0.6, 0.15, 0.25], abs=0.02)
    # sha256("q1") begins with c75d: 0xc75d / 65536 = 0.7788 of the range
    assert [hashed_split("q1", train, 0.15) for train in (0.6, 0.7, 0.8)] == ["test", "dev", "train"]


@given(st.lists(st.text(min_size=1), unique=True, min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_a_split_depends_on_nothing_but_the_id(ids: list[str]) -> None:
    queries = pa.table({"query_id": pa.array(ids, pa.string()), "split": pa.nulls(len(ids), pa.string())})
    together = split_of_queries(queries, queries, 0.6, 0.15)
    assert together == {one: hashed_split(one, 0.6, 0.15) for one in ids}


pairs = st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"))


@given(st.dictionaries(pairs, st.sampled_from(["bad", "good"]), min_size=1), st.data())
@settings(max_examples=50, deadline=None)
def test_repeating_rows_changes_nothing(labels: dict[tuple[str, str], str], data: st.DataObject) -> None:
    rows = [(query, item, grade) for (query, item), grade in labels.items()]
    repeated = data.draw(st.permutations(rows + data.draw(st.lists(st.sampled_from(rows), max_size=4))))
    kept = drop_repeated(table_of(repeated))
    assert sorted(zip(*(kept[name].to_pylist() for name in ("query_id", "item_id", "grade")), strict=True)) == sorted(rows)


def table_of(rows: list[tuple[str, str, str]]) -> pa.Table:
    columns = dict(zip(("query_id", "item_id", "grade"), zip(*rows, strict=True), strict=True))
    return pa.table({**columns, "judged_at": pa.nulls(len(rows), pa.date32()), "split": pa.nulls(len(rows), pa.string())})


def test_a_repeated_judgment_keeps_its_latest_day() -> None:
    rows = table_of([("a", "x", "bad")] * 3)
    rows = rows.set_column(3, "judged_at", pa.array([date(2026, 9, 2), date(2026, 9, 9), None], pa.date32()))
    assert drop_repeated(rows)["judged_at"].to_pylist() == [date(2026, 9, 9)]


def test_conflicts_are_counted_by_pair() -> None:
    with pytest.raises(InputError, match="2 pairs have several labels, first query_id 'a', item_id 'x' with bad and good"):
        drop_repeated(table_of([("b", "x", "bad"), ("b", "x", "good"), ("a", "x", "good"), ("a", "x", "bad"), ("a", "y", "bad")]))


def test_labels_become_grades_and_gains_by_the_card() -> None:
    source = {"file": "f", "columns": {}}
    grades = {
        "C": {"grade": 1, "gain": 0.01},
        "E": {"grade": 3, "gain": 1.0},
        "I": {"grade": 0, "gain": 0.0},
        "S": {"grade": 2, "gain": 0.1},
    }
    mapping = {
        "name": "x",
        "grades": grades,
        "items": source,
        "queries": source,
        "judgments": source,
        "log": {"queries": "q", "events": "e"},
    }
    grade, gain = grade_labels(pa.chunked_array([["S", "C", "E", "I"]]), DatasetCard.from_mapping(mapping, section="card"))
    assert grade.to_pylist() == [2, 1, 3, 0]
    assert gain.to_pylist() == [0.1, 0.01, 1.0, 0.0]


@pytest.mark.parametrize(
    ("values", "expected"), [([1, None], ["1", None]), ([2.0, 2.5], ["2", "2.5"]), ([True], ["true"]), ([[1, 2], []], ["1 > 2", ""])]
)
def test_values_are_read_as_written(values: list, expected: list) -> None:
    assert as_text(pa.chunked_array([pa.array(values)]), "x").to_pylist() == expected
