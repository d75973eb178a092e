"""Which pairs people are asked about, what a spreadsheet may not run, and that grades come back as judgments."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.import_dataset import step as import_step
from components.import_dataset.config import ImportDatasetConfig
from components.sample_judgments.component import sample_judgments
from components.sample_judgments.config import SampleJudgmentsConfig
from components.sample_judgments.step import run
from components.shared import tables
from components.shared.errors import InputError
from components.shared.judgment_sheet import COLUMNS, read_sheet, write_sheet
from components.shared.report import Report
from components.shared.schema import TABLES
from components.shared.tracking import NullTracker

# query, item, entropy, disagreement
TARGETS = [
    ("q1", "i1", 0.9, None),
    ("q1", "=2", 0.1, 0.5),
    ("q1", "i3", 0.2, 0.5),
    ("q1", "i4", 0.3, 1.0),
    ("q2", "i1", 0.4, 0.0),
    ("q2", "i3", 0.8, None),
    ("q3", "i1", 0.7, 0.9),
]
TITLES = {"i1": "Red shoe", "=2": '=HYPERLINK("http://x")', "i3": '@SUM(1), boots; "tall"', "i4": "-5 °C sleeping bag"}
QUERIES = {"q1": "+red shoe", "q2": "sock", "q3": "boot"}
CARD = """
name: shop
grades: {bad: {grade: 0, gain: 0.0}, good: {grade: 1, gain: 1.0}}
judged_at: 2026-09-30
items: {file: items, columns: {item_id: sku, title: name}}
queries: {file: queries, columns: {query_id: id, query_text: text}}
judgments: {file: judgments, columns: {query_id: id, item_id: sku, grade: label}}
judgment_sheets: sheets
log: {queries: searches, events: events}
"""


def write(uri: Path, name: str, rows: list[dict]) -> str:
    schema = TABLES[name].schema
    tables.write_table(str(uri), name, pa.Table.from_pylist([{column: row.get(column) for column in schema.names} for row in rows], schema))
    return str(uri)


@pytest.fixture
def scored(tmp_path: Path) -> dict[str, str]:
    targets = [
        {"pair_id": f"p{place}", "query_id": query, "item_id": item, "probabilities": [0.5, 0.5], "score": 0.5, "entropy": entropy,
         "disagreement": disagreement}
        for place, (query, item, entropy, disagreement) in enumerate(TARGETS)
    ]  # fmt: skip
    queries = [{"query_id": one, "query_text": text, "query": text, "frequency": 1, "segment": "head"} for one, text in QUERIES.items()]
    items = [{"item_id": one, "title": title} for one, title in TITLES.items()]
    return {
        "soft_targets": write(tmp_path / "targets", "soft_targets", targets),
        "queries": write(tmp_path / "queries", "queries", queries),
        "items": write(tmp_path / "items", "items", items),
    }


def rows_of(sheet: Path) -> list[dict[str, str]]:
    with sheet.open(encoding="utf-8-sig", newline="") as handle:
        return list(csv.DictReader(handle))


def pairs_of(sheet: Path) -> list[tuple[str, str]]:
    return [(row["query_id"], row["item_id"].removeprefix("'")) for row in rows_of(sheet)]


def test_the_most_disputed_pairs_come_first_then_the_unsure(scored, tmp_path):
    sheet = tmp_path / "sheet.csv"
    report = run(SampleJudgmentsConfig(), **scored, sheet=str(sheet), tracker=NullTracker())
    # by disagreement, then entropy: 1.0, 0.9, (0.5 with 0.2), (0.5 with 0.1), then entropies 0.9, 0.8, 0.4
    order = [("q1", "i4"), ("q3", "i1"), ("q1", "i3"), ("q1", "=2"), ("q1", "i1"), ("q2", "i3"), ("q2", "i1")]
    assert pairs_of(sheet) == order
    assert (report.read, report.kept, report.metrics["disputed_pairs"]) == (7, 7, 4)
    run(SampleJudgmentsConfig(pairs_per_query=2, num_pairs=4), **scored, sheet=str(sheet), tracker=NullTracker())
    assert pairs_of(sheet) == [("q1", "i4"), ("q3", "i1"), ("q1", "i3"), ("q2", "i3")]


def test_judged_pairs_are_not_asked_again(scored, tmp_path):
    judged = [{"query_id": query, "item_id": item, "grade": 0, "gain": 0.0, "split": "train"} for query, item, _, _ in TARGETS[:5]]
    given = {**scored, "judgments": write(tmp_path / "judged", "judgments", judged)}
    report = run(SampleJudgmentsConfig(), **given, sheet=str(tmp_path / "sheet.csv"), tracker=NullTracker())
    assert pairs_of(tmp_path / "sheet.csv") == [("q3", "i1"), ("q2", "i3")]
    assert report.dropped == {"judged": 5, "less_valuable": 0}
    judged += [{**judged[0], "query_id": query, "item_id": item} for query, item, _, _ in TARGETS[5:]]
    given["judgments"] = write(tmp_path / "all", "judgments", judged)
    with pytest.raises(InputError, match="none of 7 pairs is left to judge"):
        run(SampleJudgmentsConfig(), **given, sheet=str(tmp_path / "other.csv"), tracker=NullTracker())
    assert not (tmp_path / "other.csv").exists()


def test_a_spreadsheet_runs_nothing(scored, tmp_path):
    run(SampleJudgmentsConfig(), **scored, sheet=str(tmp_path / "sheet.csv"), tracker=NullTracker())
    rows = rows_of(tmp_path / "sheet.csv")
    assert {row["title"] for row in rows} == {"Red shoe", '\'=HYPERLINK("http://x")', '\'@SUM(1), boots; "tall"', "'-5 °C sleeping bag"}
    assert not any(cell[:1] in "=+-@\t\r" for row in rows for cell in row.values() if cell)
    assert {row["query"] for row in rows} == {"'+red shoe", "sock", "boot"}


def fill(sheet: Path, grades: list[str], delimiter: str = ",") -> Path:
    rows = rows_of(sheet)
    with sheet.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS, delimiter=delimiter)
        writer.writeheader()
        writer.writerows({**row, "grade": grade} for row, grade in zip(rows, grades, strict=False))
    return sheet


@pytest.fixture
def data(scored, tmp_path) -> Path:
    """A data folder with an empty sheet in it."""
    data = tmp_path / "data"
    (data / "sheets").mkdir(parents=True)
    run(SampleJudgmentsConfig(), **scored, sheet=str(data / "sheets" / "one.csv"), tracker=NullTracker())
    pacsv.write_csv(pa.table({"sku": list(TITLES), "name": list(TITLES.values())}), data / "items.csv")
    pacsv.write_csv(pa.table({"id": ["q1"], "text": ["red shoe"]}), data / "queries.csv")
    pacsv.write_csv(pa.table({"id": ["q1"], "sku": ["i1"], "label": ["good"]}), data / "judgments.csv")
    for name in ("searches", "events"):
        pacsv.write_csv(pa.table({"query_id": ["a"]}), data / f"{name}.csv")
    (data / "dataset.yaml").write_text(CARD)
    return data


def imported(data: Path) -> tuple[dict[str, str], Report]:
    places = {name: str(data.parent / "out" / name) for name in ("card", "items", "judged_queries", "judgments")}
    settings = ImportDatasetConfig(train_share=1e-9, dev_share=1e-9)
    return places, import_step.run(settings, dataset=str(data), tracker=NullTracker(), **places)


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_grades_come_back_as_judgments(data, delimiter):
    fill(data / "sheets" / "one.csv", ["good", "bad", "", " good ", "", "", "bad"], delimiter)
    places, report = imported(data)
    rows = tables.read_table(places["judgments"], "judgments").to_pylist()
    found = {(row["query_id"], row["item_id"]): (row["grade"], row["split"], str(row["judged_at"])) for row in rows}
    # q1 is in the folder, so its split is hashed (all test here); q2 and q3 come from the sheet
    assert found == {
        ("q1", "i1"): (1, "test", "2026-09-30"), ("q1", "i4"): (1, "test", "2026-09-30"), ("q1", "=2"): (1, "test", "2026-09-30"),
        ("q2", "i1"): (0, "train", "2026-09-30"), ("q3", "i1"): (0, "train", "2026-09-30"),
    }  # fmt: skip
    asked = tables.read_table(places["judged_queries"], "queries")
    assert dict(zip(asked["query_id"].to_pylist(), asked["query"].to_pylist(), strict=True)) == {
        "q1": "red shoe",
        "q2": "sock",
        "q3": "boot",
    }
    assert report.dropped["judgment_sheets.no_grade"] == 3
    assert {row["votes"] for row in rows} == {None}


def test_several_people_are_votes(data):
    said = {"one": ["good", "bad", "good"], "two": ["bad", "bad", ""], "three": ["bad", "good", "good"]}
    empty = (data / "sheets" / "one.csv").read_bytes()
    for name, grades in said.items():
        (data / "sheets" / f"{name}.csv").write_bytes(empty)
        fill(data / "sheets" / f"{name}.csv", [*grades, "good" if name == "one" else ""])
    order = [(row["query_id"], row["item_id"].lstrip("'")) for row in rows_of(data / "sheets" / "one.csv")]
    places, report = imported(data)
    rows = tables.read_table(places["judgments"], "judgments").to_pylist()
    found = {(row["query_id"], row["item_id"]): (row["grade"], row["votes"]) for row in rows}
    assert [found[one] for one in order[:4]] == [(0, [2, 1]), (0, [2, 1]), (1, [0, 2]), (1, None)]
    # 9 grades of 4 pairs: 5 rows were joined to others
    assert report.dropped["judgment_sheets.joined_as_votes"] == 9 - 4
    assert report.read == report.kept + sum(report.dropped.values())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1,i1,gut,,red", r"^'.*s.csv' line 3: grade 'gut' is not one of bad, good; write one of them or leave it empty$"),
        ("q1,,good,,red", "line 3: has a grade and no item_id; fill it in or take the row out$"),
        ('"q1,i1,good', "line [23]: not valid CSV .*; save the sheet as CSV again$"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, line, message):
    sheet = tmp_path / "s.csv"
    sheet.write_text(f"query_id,item_id,grade,judged_at,query\nq1,i2,good,,red\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_sheet(str(sheet), ["bad", "good"])


def test_sheets_that_cannot_be_read(tmp_path):
    sheet = tmp_path / "s.csv"
    sheet.write_text("query_id,item_id,query\nq1,i1,red\n")
    with pytest.raises(InputError, match="has no column 'grade'; it has query_id, item_id, query; keep the sheet's first line"):
        read_sheet(str(sheet), ["good"])
    sheet.write_bytes("query_id,item_id,query,grade\nq1,i1,größe,good\n".encode("latin-1"))
    with pytest.raises(InputError, match="is not UTF-8"):
        read_sheet(str(sheet), ["good"])


WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).map(str.strip).filter(bool)
TEXT = WORDS | st.sampled_from(["=", "+", "-", "@", "'", "'=1", "''"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=5))
def test_any_id_and_query_comes_back_as_it_was(tmp_path_factory, rows):
    sheet = tmp_path_factory.mktemp("sheets") / "s.csv"
    columns = dict(zip(("query_id", "item_id", "query"), (list(column) for column in zip(*rows, strict=True)), strict=True))
    rest = dict.fromkeys((name for name in COLUMNS if name not in ("grade", "judged_at", *columns)), [""] * len(rows))
    write_sheet(str(sheet), pa.table({**columns, **rest}))
    fill(sheet, ["good"] * len(rows))
    found = read_sheet(str(sheet), ["good"]).rows
    assert list(zip(*(found[name].to_pylist() for name in columns), strict=True)) == rows


def test_through_kfp_and_the_command_line(scored, tmp_path):
    inputs = {}
    for name, uri in scored.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"uri": uri, "digest": tables.Manifest.read(uri).digest}))
        inputs[name] = SimpleNamespace(path=str(tmp_path / f"{name}.json"), metadata={})
    sheet, summary = (SimpleNamespace(path=str(tmp_path / f"kfp-{name}"), metadata={}) for name in ("sheet", "summary"))
    sample_judgments.python_func(
        config={"num_pairs": 3.0}, section="sheet", workspace=str(tmp_path / "work"), run_id="r", **inputs, sheet=sheet, summary=summary
    )
    assert "| kept | 3 |" in Path(summary.path).read_text()
    flags = [f"--{name.replace('_', '-')}={uri}" for name, uri in scored.items()]
    command = [sys.executable, "-m", "components.sample_judgments", *flags, f"--sheet={tmp_path / 'cli.csv'}", "--num-pairs=3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cli.csv").read_bytes() == Path(sheet.metadata["uri"].removeprefix("file://")).read_bytes()


def write_student(place: Path, calibration: dict) -> str:
    place.mkdir()
    (place / "relevance.json").write_text(json.dumps({"kind": "cross_encoder", "max_tokens": 32, "calibration": calibration}))
    return str(place)


LINE = {"scores": [0.0, 1.0], "gains": [0.0, 1.0]}
HALF = {"scores": [0.0, 1.0], "gains": [0.0, 0.5]}


@pytest.fixture
def ranked(scored: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A student's scores; q2 is of a segment whose scores are worth half, and the most frequent query."""
    scores = {
        ("q1", "i1"): 0.1,
        ("q1", "i3"): 0.45,
        ("q1", "i4"): 0.6,
        ("q1", "=2"): 0.9,
        ("q2", "i1"): 0.9,
        ("q2", "i3"): 0.5,
        ("q3", "i1"): 0.5,
    }
    rows = [{"query_id": query, "item_id": item, "score": score, "rank": 1, "system": "s"} for (query, item), score in scores.items()]
    queries = [
        {"query_id": one, "query_text": text, "query": text, "frequency": frequency, "segment": segment}
        for (one, text), frequency, segment in zip(QUERIES.items(), (5, 9, 1), ("head", "tail", "head"), strict=True)
    ]
    bounds = {"maps": {"": LINE, "tail": HALF}, "hide_below": 0.3, "sure_above": 0.8, "error": 0.05}
    places = {"rankings": write(tmp_path / "rankings", "rankings", rows), "model": write_student(tmp_path / "student", bounds)}
    return {**places, "queries": write(tmp_path / "queries2", "queries", queries), "items": scored["items"]}


def test_people_look_at_what_the_student_can_neither_hide_nor_call_sure(ranked, tmp_path):
    sheet = tmp_path / "sheet.csv"
    report = run(SampleJudgmentsConfig(), **ranked, sheet=str(sheet), tracker=NullTracker())
    # hidden: q1 i1 (.1) and q2 i3 (.5 is worth .25); sure: q1 =2 (.9); q2 first, then of q1 what is nearest to .3
    assert pairs_of(sheet) == [("q2", "i1"), ("q1", "i3"), ("q1", "i4"), ("q3", "i1")]
    assert [float(row["expected_gain"]) for row in rows_of(sheet)] == pytest.approx([0.45, 0.45, 0.6, 0.5], abs=1e-4)
    assert (report.read, report.kept, report.dropped["decided"]) == (7, 4, 3)


def test_a_student_without_calibration_is_refused(ranked, tmp_path):
    given = {**ranked, "sheet": str(tmp_path / "sheet.csv"), "tracker": NullTracker()}
    with pytest.raises(InputError, match=r"has no calibration.*train with calibration: isotonic"):
        run(SampleJudgmentsConfig(), **{**given, "model": write_student(tmp_path / "bare", {})})
    with pytest.raises(InputError, match=r"there is no relevance\.json"):
        run(SampleJudgmentsConfig(), **{**given, "model": str(tmp_path / "nowhere")})
    with pytest.raises(InputError, match="either soft_targets"):
        run(SampleJudgmentsConfig(), **given, soft_targets=ranked["rankings"])
