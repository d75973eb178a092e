"""A data folder becomes three tables and a resolved card, whatever its files' kind."""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.import_dataset.component import import_dataset
from components.shared import storage
from components.shared.card import read_card
from components.shared.tables import Manifest


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".ndjson", ".ndjson.gz", ".jsonl"])
def test_every_kind_of_file_gives_the_same_tables(folder, suffix: str) -> None:
    data = folder(suffix)
    data.run()
    # titles cleaned, attribute columns joined, ids kept as text (007 is not 7), rows by id
    assert data.rows("items", "item_id", "title", "attributes", "brand") == [
        ("007", "Red shoe", "42 canvas", None), ("1", "Blue boot", "wool", None), ("2", "Sock", None, None),
    ]  # fmt: skip
    assert data.rows("judged_queries", "query_id", "query_text", "query", "frequency", "segment") == [
        ("q1", "Red SHOE", "red shoe", 0, "unseen"), ("q2", "boots", "boots", 0, "unseen"),
    ]  # fmt: skip
    day = date(2026, 9, 30)
    assert data.rows("judgments", "query_id", "item_id", "grade", "gain", "judged_at") == [
        ("q1", "007", 1, 1.0, day), ("q1", "1", 0, 0.0, day), ("q2", "1", 1, 1.0, day),
    ]  # fmt: skip


def test_the_resolved_card_names_root_snapshot_and_files(folder) -> None:
    data = folder(".csv")
    report = data.run()
    card = read_card(str(data.out / "card"))
    assert card.root == f"file://{data.root}"
    assert card.snapshot == storage.listing_digest(str(data.root)) == report.notes["snapshot"]
    assert (card.items.file, card.queries.file, card.log.queries, card.log.events) == ("items.csv", "queries.csv", "searches", "events")
    assert card.gains() == [0.0, 1.0]


def test_a_pointer_is_followed(folder, tmp_path: Path) -> None:
    data = folder()
    storage.write_json(str(tmp_path / "pointer" / "given.json"), {"uri": f"file://{data.root}", "snapshot": "x"})
    pointed = type(data)(tmp_path / "pointer", data.out)
    pointed.run()
    assert read_card(str(data.out / "card")).root == f"file://{data.root}"
    assert len(pointed.rows("items", "item_id")) == 3


def test_folders_of_files_are_one_table(folder) -> None:
    from_one = folder()
    from_one.run()
    digest = Manifest.read(str(from_one.out / "items")).digest
    (from_one.root / "items.parquet").rename(from_one.root / "moved.parquet")
    (from_one.root / "items" / "dt=1").mkdir(parents=True)
    (from_one.root / "moved.parquet").rename(from_one.root / "items" / "dt=1" / "part-0.parquet")
    again = type(from_one)(from_one.root, from_one.out / "again")
    again.run()
    assert Manifest.read(str(again.out / "items")).digest == digest


def test_rows_left_out_are_counted_with_their_judgments(folder) -> None:
    data = folder(
        items=[*({"sku": sku, "name": name} for sku, name in (("1", "boot"), ("2", " "), ("3", None), (None, "ghost")))],
        queries=[{"id": "q1", "text": "boot"}, {"id": "q2", "text": "\u200b"}],
        judgments=[
            {"id": "q1", "sku": "1", "label": "good"}, {"id": "q1", "sku": "1", "label": "good"}, {"id": "q1", "sku": "2", "label": "bad"},
            {"id": "q2", "sku": "1", "label": "bad"}, {"id": None, "sku": "1", "label": "bad"},
        ],
        card=CARD_TITLE_ONLY,
    )  # fmt: skip
    report = data.run()
    assert report.dropped == {
        "items.no_id_or_title": 3, "queries.no_id_or_text": 1,
        "judgments.no_id": 1, "judgments.repeated": 1, "judgments.item_or_query_left_out": 2,
    }  # fmt: skip
    assert (report.read, report.kept) == (4 + 2 + 5, 1 + 1 + 1)
    assert report.metrics["grade_1_share"] == 1.0


CARD_TITLE_ONLY = """\
name: tiny
grades: {bad: {grade: 0, gain: 0}, good: {grade: 1, gain: 1}}
items: {file: items, columns: {item_id: sku, title: name}}
queries: {file: queries, columns: {query_id: id, query_text: text}}
judgments: {file: judgments, columns: {query_id: id, item_id: sku, grade: label}}
log: {queries: searches, events: events}
"""


def test_lists_become_paths_and_markup_goes(folder) -> None:
    items = [{"sku": "1", "name": "x", "path": ["Shoes", "Boots"], "text": "<p>a <b>good</b> one</p> size < 4"}]
    columns = "{item_id: sku, title: name, category: path, description: text}"
    judged = [{"id": "q1", "sku": "1", "label": "good"}]
    data = folder(card=CARD_TITLE_ONLY.replace("{item_id: sku, title: name}", columns), items=items, judgments=judged)
    data.run()
    assert data.rows("items", "category", "description") == [("Shoes > Boots", "a good one size < 4")]


def test_numeric_labels_and_ids_are_read_as_written(folder) -> None:
    card = CARD_TITLE_ONLY.replace("bad: {", "0: {").replace("good: {", "3: {")
    items, queries = [{"sku": 10, "name": "x"}], [{"id": 5, "text": "x"}]
    data = folder(card=card, items=items, queries=queries, judgments=[{"id": 5, "sku": 10, "label": 3.0}])
    data.run()
    assert data.rows("judgments", "query_id", "item_id", "grade") == [("5", "10", 1)]


@pytest.mark.parametrize("given", ["2026-09-12", "2026-09-12T23:59:00Z", date(2026, 9, 12)])
def test_judged_at_of_the_table_wins_over_the_card(folder, given: object) -> None:
    card = CARD_TITLE_ONLY.replace("grade: label", "grade: label, judged_at: day") + "judged_at: 2026-01-01\n"
    rows = [{"id": "q1", "sku": "1", "label": "bad", "day": given}, {"id": "q2", "sku": "1", "label": "bad", "day": None}]
    data = folder(card=card, judgments=rows)
    data.run()
    assert data.rows("judgments", "judged_at") == [(date(2026, 9, 12),), (date(2026, 1, 1),)]


VOTES = {
    "in one list": ("said", {"said": [[3, 0], None, [1, 2]]}),
    "in a column per grade": ("[nays, yeas]", {"nays": [3, None, 1], "yeas": [0, None, 2]}),
}


@pytest.mark.parametrize("given", VOTES.values(), ids=VOTES)
@pytest.mark.parametrize("suffix", [".parquet", ".ndjson"])
def test_votes_are_counts_by_grade_where_the_data_has_them(folder, suffix: str, given: tuple[str, dict[str, list]]) -> None:
    named, columns = given
    judged = [
        {"id": "q1", "sku": sku, "label": "good", **{name: column[row] for name, column in columns.items()}}
        for row, sku in enumerate(("007", "1", "2"))
    ]
    data = folder(suffix, card=CARD_TITLE_ONLY.replace("grade: label", f"grade: label, votes: {named}"), judgments=judged)
    data.run()
    assert data.rows("judgments", "item_id", "votes") == [("007", [3, 0]), ("1", None), ("2", [1, 2])]


def test_command_line_writes_the_same_tables(folder) -> None:
    data = folder()
    data.run()
    digest = Manifest.read(str(data.out / "judgments")).digest
    other = type(data)(data.root, data.out / "cli")
    done = subprocess.run(command(other), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Manifest.read(str(other.out / "judgments")).digest == digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: name", "title: nome", "'items.columns.title' = 'nome'"),
        ("good: {grade: 1", "good: {grade: 2", "key 'grades' has the values [0, 2]"),
        ("name: tiny", "name: [tiny", "line 2"),
    ],
)
def test_command_line_refuses_bad_cards(folder, old: str, new: str, message: str) -> None:
    data = folder()
    place = data.root / "dataset.yaml"
    place.write_text(place.read_text().replace(old, new))
    done = subprocess.run(command(data), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not data.out.exists()


def command(data) -> list[str]:
    flags = [part for name, place in data.places().items() for part in ("--" + name.replace("_", "-"), place)]
    return [sys.executable, "-m", "components.import_dataset", "--dataset", str(data.root), *flags]


def test_component_hands_over_card_and_tables(folder, tmp_path: Path) -> None:
    data = folder()
    names = ("dataset", "card", "items", "judged_queries", "judgments", "summary")
    fake = {name: SimpleNamespace(path=str(tmp_path / "kfp" / name), metadata={}) for name in names}
    (tmp_path / "kfp").mkdir()
    Path(fake["dataset"].path).write_text(json.dumps({"uri": str(data.root), "digest": "d"}))
    import_dataset.python_func(config={}, section="dataset", workspace=str(tmp_path / "work"), run_id="r", **fake)
    data.run()
    assert fake["items"].metadata["rows"] == 3
    assert fake["items"].metadata["digest"] == Manifest.read(str(data.out / "items")).digest
    assert read_card(json.loads(Path(fake["card"].path).read_text())["uri"]).name == "tiny"
    assert "| read | 8 |" in Path(fake["summary"].path).read_text()
