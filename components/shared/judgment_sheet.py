"""A judgment sheet: a CSV file that goes to people who fill in grades, and comes back.

Titles and queries are untrusted and a spreadsheet runs what begins with `=`, `+`, `-` or `@` (CWE-1236), so such cells get an apostrophe in
front, which is taken off when the sheet is read. Written with a byte order mark, so that spreadsheets take it for UTF-8; read with commas
or semicolons, as spreadsheets of some countries save it.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.shared import storage
from components.shared.errors import InputError

FILLED_IN = ("grade", "judged_at")
COLUMNS = ("query_id", "item_id", *FILLED_IN, "query", "title", "brand", "category", "expected_gain", "entropy", "disagreement")
NEEDED = ("query_id", "item_id", "query", "grade")
DANGEROUS = r"['=+\-@\t\r]"


@dataclass(frozen=True)
class Sheet:
    """Rows that have a grade: query_id, item_id, query, grade (their label), judged_at (text); and how many rows have none."""

    rows: pa.Table
    num_empty: int


def write_sheet(uri: str, rows: pa.Table) -> None:
    """Write (replace) the sheet; `rows` has `COLUMNS` without those that people fill in."""
    texts = {name: pc.fill_null(rows[name].cast(pa.string()), "") for name in COLUMNS if name not in FILLED_IN}
    guarded = [pc.replace_substring_regex(texts[name], f"^({DANGEROUS})", r"'\1") if name in texts else None for name in COLUMNS]
    listed = [["" for _ in range(len(rows))] if column is None else column.to_pylist() for column in guarded]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(zip(*listed, strict=True))
    storage.write_bytes(uri, text.getvalue().encode("utf-8-sig"))


def read_sheet(uri: str, labels: list[str]) -> Sheet:
    """A sheet that people have filled in, wholly or in part; other columns are left alone.

    Args:
        labels: the grades that may stand in it.

    Raises:
        InputError: naming file and line, for a grade that is not listed, a row without its ids, an absent column, another encoding.
    """
    try:
        text = storage.read_bytes(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"'{uri}' is not UTF-8 ({error}); save the sheet as CSV UTF-8") from None
    found: list[tuple[str, ...]] = []
    num_empty = 0
    for line, row in _rows(uri, text):
        grade = row["grade"].strip()
        if not grade:
            num_empty += 1
            continue
        if grade not in labels:
            raise InputError(f"'{uri}' line {line}: grade {grade!r} is not one of {', '.join(labels)}; write one of them or leave it empty")
        absent = next((name for name in ("query_id", "item_id", "query") if not row[name].strip()), None)
        if absent:
            raise InputError(f"'{uri}' line {line}: has a grade and no {absent}; fill it in or take the row out")
        found.append((*(_plain(row[name]) for name in ("query_id", "item_id", "query")), grade, row.get("judged_at", "").strip()))
    names = ("query_id", "item_id", "query", "grade", "judged_at")
    columns = zip(*found, strict=True) if found else [()] * len(names)
    return Sheet(pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)}), num_empty)


def _rows(uri: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line of the file on which a row ends, row); cells that a short row lacks are empty."""
    head = text.partition("\n")[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="", strict=True)
    lacking = [name for name in NEEDED if name not in (reader.fieldnames or ())]
    if lacking:
        raise InputError(f"'{uri}' has no column '{lacking[0]}'; it has {', '.join(reader.fieldnames or ())}; keep the sheet's first line")
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"'{uri}' line {reader.line_num}: not valid CSV ({error}); save the sheet as CSV again") from None


def _plain(cell: str) -> str:
    """A cell without the apostrophe that `write_sheet` put in front."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in set("'=+-@\t\r") else cell
