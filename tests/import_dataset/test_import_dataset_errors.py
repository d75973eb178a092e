"""Every mistake a user can make in folder, card or tables is one line that says what to mend."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.import_dataset.cards import packaged_cards, parse_card
from components.import_dataset.config import ImportDatasetConfig
from components.import_dataset.step import run
from components.shared import cli, storage
from components.shared.errors import InputError


def expect_refused(data, *words: str, **settings: object) -> None:
    with pytest.raises(InputError) as caught:
        data.run(**settings)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not data.out.exists()


def spoiled(folder, old: str, new: str):
    data = folder()
    place = data.root / "dataset.yaml"
    assert old in place.read_text()
    place.write_text(place.read_text().replace(old, new))
    return data


def test_absent_empty_and_file_folders(folder, tmp_path: Path) -> None:
    data = folder()
    expect_refused(type(data)(tmp_path / "none", data.out), f"data folder '{tmp_path / 'none'}' does not exist, is empty or cannot be read")
    (tmp_path / "hollow").mkdir()
    expect_refused(type(data)(tmp_path / "hollow", data.out), "is empty", "give the path of a folder")
    expect_refused(type(data)(data.root / "dataset.yaml", data.out), "is a file; give the folder that holds it")


def test_a_pointer_to_a_folder_that_is_gone_names_that_folder(folder, tmp_path: Path) -> None:
    data = folder()
    storage.write_json(str(tmp_path / "pointer" / "given.json"), {"uri": f"file://{tmp_path}/moved", "snapshot": "x"})
    expect_refused(type(data)(tmp_path / "pointer", data.out), f"data folder 'file://{tmp_path}/moved' does not exist")


def test_no_card_and_no_known_shape(folder) -> None:
    expect_refused(
        folder(card=None),
        "has no dataset.yaml and its files fit no known shape",
        "esci (products, queries, judgments, logs/ubi_queries, logs/ubi_events)",
        "ubi (items, queries, judgments, ubi_queries, ubi_events)",
    )


def test_unknown_and_unfitting_shapes(folder) -> None:
    expect_refused(folder(card=None), "key 'shape' = 'wands' is not a packaged card; known: esci, ga4, ubi", shape="wands")
    expect_refused(folder(card=None), "key 'items.file' = 'products' does not exist", shape="esci")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("title: name", "title: nome", ("'items.columns.title' = 'nome'", "it has sku, name, size, fabric")),
        ("title: name", "title: name, colour: name", ("'items.columns.colour' is not one of ours", "color")),
        ("item_id: sku, title: name", "item_id: sku", ("'items.columns' lacks 'title'",)),
        ("{file: items,", "{file: products,", ("key 'items.file' = 'products' does not exist",)),
        ("{file: items,", "{file: ../items,", ("'../items'", "'..' are refused")),
        ("{file: items,", "{file: searches/dt=2026-09-01/../x,", ("are refused",)),
        ("events: events", "events: clicks", ("key 'log.events' = 'clicks' does not exist",)),
        ("bad: {grade: 0", "bad: {grade: 5", ("key 'grades' has the values [1, 5]",)),
        ("gain: 1.0", "gain: 1.5", ("'grades.good.gain' = 1.5", "less than or equal to 1")),
        ("bad: {grade: 0, gain: 0.0}", "bad: {grade: 0, gain: 1.0}\n  fair: {grade: 2, gain: 0.5}", ("must not be worth less",)),
        ("bad: {", "no: {", ("label False", "put the label in quotes")),
        (
            "  bad: {grade: 0, gain: 0.0}\n  good: {grade: 1",
            "  good: {grade: 0",
            ("has the values [0]", "use each of 0, 1, 2, ... once, at least two"),
        ),
        ("bad: {grade: 0", "bad: {grade: 1", ("key 'grades' has the values [1, 1]",)),
        ("name: tiny", "nome: tiny", ("unknown key 'nome'", "known keys: grades, items")),
        ("name: tiny", "name: tiny\n  grades: x", ("line 2", "not valid YAML")),
    ],
)
def test_spoiled_cards(folder, old: str, new: str, words: tuple[str, ...]) -> None:
    expect_refused(spoiled(folder, old, new), *words)


def test_a_card_must_be_a_mapping() -> None:
    with pytest.raises(InputError, match=r"dataset\.yaml: holds list, not keys and values"):
        parse_card(b"- a\n- b\n", "dataset.yaml")


@pytest.mark.parametrize(
    ("judgments", "words"),
    [
        ([("q1", "1", "great")], ("1 rows have a grade that the card does not list, first 'great'; listed: bad, good",)),
        ([("q1", "1", None)], ("first None",)),
        ([("q1", "x", "bad"), ("q1", "y", "bad")], ("2 rows have a item_id that is not in table 'items', first 'x'",)),
        ([("q9", "1", "bad")], ("1 rows have a query_id that is not in table 'queries', first 'q9'",)),
        ([("q1", "1", "bad"), ("q1", "1", "good")], ("1 pairs have several labels", "query_id 'q1', item_id '1' with bad and good")),
        ([(None, "1", "bad")], ("no judgment is left",)),
    ],
)
def test_spoiled_judgments(folder, judgments: list[tuple[str, str, str]], words: tuple[str, ...]) -> None:
    expect_refused(folder(judgments=[dict(zip(("id", "sku", "label"), row, strict=True)) for row in judgments]), *words)


@pytest.mark.parametrize("votes", ["3", "1 2 3", "1 -2", "1.5 2", "0 0", "some", "1 99999999999999999999"])
def test_spoiled_votes(folder, votes: str) -> None:
    judged = [{"id": "q1", "sku": "1", "label": "bad", "said": "2 1"}, {"id": "q2", "sku": "1", "label": "bad", "said": votes}]
    data = folder(judgments=judged)
    (data.root / "dataset.yaml").write_text((data.root / "dataset.yaml").read_text().replace("label}", "label, votes: said}"))
    expect_refused(data, f"1 rows have votes that are not one count for each of 2 grades, first '{votes}'")


def test_repeated_ids(folder) -> None:
    twice = [{"sku": "b", "name": "x", "size": "", "fabric": ""}, {"sku": "b", "name": "y", "size": "", "fabric": ""}]
    expect_refused(
        folder(items=twice, judgments=[{"id": "q1", "sku": "b", "label": "bad"}]), "table 'items': 1 values of item_id", "first 'b'"
    )
    asked = [{"id": "q1", "text": "x"}, {"id": "q1", "text": "y"}, {"id": "q2", "text": "z"}]
    expect_refused(folder(queries=asked), "table 'queries': 1 values of query_id are on several rows, first 'q1'")


def test_empty_tables_and_files_of_no_known_kind(folder) -> None:
    data = folder(".csv")
    (data.root / "items.csv").write_text("sku,name,size,fabric\n")
    expect_refused(data, "items.csv': table 'items' has no rows")
    data = folder(".parquet")
    (data.root / "items.csv").unlink()
    (data.root / "items.parquet").unlink()
    (data.root / "items").mkdir()
    (data.root / "items" / "rows.xml").write_text("<x/>")
    expect_refused(data, "no file of a known kind; known suffixes: .parquet, .csv")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".ndjson", ".ndjson.gz"])
def test_unreadable_files(folder, suffix: str) -> None:
    data = folder(suffix)
    (data.root / f"items{suffix}").write_bytes(b'\xff\xfe{"sku": \x00\n"')
    with pytest.raises(InputError, match=re.escape(f"items{suffix}")):
        data.run()


def test_nested_columns_are_refused(folder) -> None:
    items = [{"sku": "1", "name": {"en": "shoe"}, "size": "", "fabric": ""}]
    expect_refused(folder(items=items), "column 'name' of type struct", "give text, numbers or lists of text")


def test_spoiled_dates_and_shares(folder) -> None:
    data = spoiled(folder, "grade: label", "grade: label, judged_at: label")
    expect_refused(data, "column 'judged_at' of type string is not a date", "write YYYY-MM-DD")
    expect_refused(folder(), "train_share + dev_share = 1.4 is above 1", train_share=0.9, dev_share=0.5)


def test_packaged_cards_are_valid() -> None:
    cards = packaged_cards()
    assert list(cards) == ["esci", "ga4", "ubi"]
    assert dict(zip(cards["esci"].labels(), cards["esci"].gains(), strict=True)) == {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}
    # (2 ** grade - 1) / 7
    assert cards["ubi"].gains() == cards["ga4"].gains() == pytest.approx([0, 1 / 7, 3 / 7, 1], abs=1e-4)
    assert {name: card.log.format for name, card in cards.items()} == {"esci": "ubi", "ga4": "ga4", "ubi": "ubi"}


def test_files_of_one_table_must_have_the_same_kinds_of_columns(folder) -> None:
    data = folder()
    (data.root / "items").mkdir()
    (data.root / "items.parquet").rename(data.root / "items" / "part-0.parquet")
    pq.write_table(
        pa.table({"sku": ["9"], "name": [["a", "list"]], "size": ["1"], "fabric": ["x"]}), data.root / "items" / "part-1.parquet"
    )
    expect_refused(data, f"'file://{data.root}/items': its files have columns of different types", "write them alike")


BAD_FOLDERS = {
    "absent": (None, "data folder '{root}' does not exist, is empty or cannot be read; give the path of a folder with dataset.yaml"),
    "column": (
        ("dataset.yaml", "grade: label", "grade: stars"),
        "card: key 'judgments.columns.grade' = 'stars': 'file://{root}/judgments.csv' has no such column; it has id, sku, label",
    ),
    "item": (
        ("judgments.csv", '"q2","1"', '"q2","77"'),
        "judgments: 1 rows have a item_id that is not in table 'items', first '77'; add it there or remove the rows",
    ),
    "query": (
        ("judgments.csv", '"q2","1"', '"q7","1"'),
        "judgments: 1 rows have a query_id that is not in table 'queries', first 'q7'; add it there or remove the rows",
    ),
    "grade": (
        ("judgments.csv", '"1","bad"', '"1","meh"'),
        "judgments: 1 rows have a grade that the card does not list, first 'meh'; listed: bad, good",
    ),
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_bad_folders_end_with_2_one_line_and_nothing_written(folder, tmp_path: Path, capsys, name: str) -> None:
    data = folder(".csv")
    change, message = BAD_FOLDERS[name]
    if change is None:
        data = type(data)(tmp_path / "moved", data.out)
    else:
        file, old, new = change
        spoiled_text = (data.root / file).read_text().replace(old, new)
        assert spoiled_text != (data.root / file).read_text()
        (data.root / file).write_text(spoiled_text)
    flags = [word for place, uri in data.places().items() for word in ("--" + place.replace("_", "-"), uri)]
    assert cli.main(run, ImportDatasetConfig, "dataset", ["--dataset", str(data.root), *flags]) == 2
    assert capsys.readouterr().err == f"error: {message.format(root=data.root)}\n"
    assert not data.out.exists()
