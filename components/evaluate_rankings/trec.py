"""Readers of TREC files: `.run` (query, Q0, item, rank, score, tag) and `.qrels` (query, iteration, item, grade)."""

from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from components.shared import storage
from components.shared.errors import InputError
from components.shared.schema import JUDGMENTS, RANKINGS

RUN_FIELDS = ("query", "Q0", "item", "rank", "score", "tag")
QRELS_FIELDS = ("query", "iteration", "item", "grade")
SUFFIXES = (".run", ".qrels", ".txt", ".trec")


def is_trec(uri: str) -> bool:
    return uri.endswith(SUFFIXES)


def read_run(uri: str) -> pa.Table:
    """Table `rankings`; the system is the run's tag, or the file's name where the tag is not one word for the whole file.

    Raises:
        InputError: for a line with other than six fields, a rank or score that is no number, or a repeated item.
    """
    columns = _fields(uri, RUN_FIELDS)
    tags = pc.unique(columns["tag"])
    system = tags[0].as_py() if len(tags) == 1 else PurePosixPath(uri).stem
    rows = pa.table(
        {
            "query_id": columns["query"],
            "item_id": columns["item"],
            "score": _numbers(uri, columns["score"], "score", pa.float64()),
            "rank": _numbers(uri, columns["rank"], "rank", pa.int32()),
            "system": pa.repeat(pa.scalar(system, pa.string()), len(columns["query"])),
        }
    )
    return RANKINGS.check(rows, where=f"'{uri}'")


def read_qrels(uri: str, gains: list[float] | None = None) -> pa.Table:
    """Table `judgments`, all of split `test`; grades below 0 (spam, in TREC files) count as 0.

    Args:
        gains: gain of each grade; without it a grade is worth its share of the file's highest.

    Raises:
        InputError: for a line with other than four fields, a grade that is no whole number or has no gain, or a repeated item.
    """
    columns = _fields(uri, QRELS_FIELDS)
    grade = pc.max_element_wise(_numbers(uri, columns["grade"], "grade", pa.int32()), 0)
    top = pc.max(grade).as_py()
    if gains is None:
        gains = [step / max(top, 1) for step in range(top + 1)]
    elif top >= len(gains):
        raise InputError(f"'{uri}': grade {top} has no gain; the data card knows grades 0 to {len(gains) - 1}")
    rows = pa.table(
        {
            "query_id": columns["query"],
            "item_id": columns["item"],
            "grade": grade,
            "gain": pa.array(gains, pa.float64()).take(grade),
            "judged_at": pa.nulls(len(grade), pa.date32()),
            "split": pa.repeat(pa.scalar("test"), len(grade)),
        }
    )
    return JUDGMENTS.check(rows, where=f"'{uri}'")


def _fields(uri: str, names: tuple[str, ...]) -> dict[str, pa.Array]:
    try:
        text = storage.read_bytes(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"'{uri}' is not UTF-8 text ({error.reason} at byte {error.start}); convert it") from None
    # only line feeds end a line: str.splitlines would also cut inside ids that hold rarer separators
    lines = pa.array([line for line in text.split("\n") if line.strip()], pa.string())
    if len(lines) == 0:
        raise InputError(f"'{uri}' is empty; expected lines of {' '.join(names)}")
    parts = pc.ascii_split_whitespace(pc.ascii_trim_whitespace(lines))
    wrong = pc.index(pc.equal(pc.list_value_length(parts), len(names)), False).as_py()
    if wrong >= 0:
        raise InputError(f"'{uri}': line {wrong + 1} of the filled ones is {lines[wrong].as_py()[:120]!r}; expected {' '.join(names)}")
    return {name: pc.list_element(parts, place) for place, name in enumerate(names)}


def _numbers(uri: str, column: pa.Array, name: str, kind: pa.DataType) -> pa.Array:
    try:
        return pc.cast(column, kind)
    except pa.ArrowInvalid as error:
        raise InputError(f"'{uri}': field '{name}': {error}; it must be a number") from None
