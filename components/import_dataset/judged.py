"""Judgments: labels to grades and gains, splits by query, and what must not be there."""

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from components.shared.card import DatasetCard
from components.shared.errors import InputError
from components.shared.schema import SPLITS

PAIR = ["query_id", "item_id"]


def drop_repeated(judgments: pa.Table) -> pa.Table:
    """Judgments without rows that say the same twice.

    Raises:
        InputError: when a pair has several different labels.
    """
    kept = {name: "max" if name == "judged_at" else "first" for name in judgments.column_names if name not in (*PAIR, "grade")}
    distinct = judgments.group_by([*PAIR, "grade"], use_threads=False).aggregate(list(kept.items()))
    distinct = distinct.rename_columns({f"{name}_{how}": name for name, how in kept.items()}).select(judgments.column_names)
    pairs = distinct.group_by(PAIR, use_threads=False).aggregate([([], "count_all"), ("grade", "list")])
    conflicts = pairs.filter(pc.greater(pairs["count_all"], 1)).sort_by([(name, "ascending") for name in PAIR])
    if conflicts.num_rows:
        first = conflicts.slice(0, 1).to_pylist()[0]
        labels = " and ".join(sorted(first["grade_list"]))
        pair = f"query_id '{first['query_id']}', item_id '{first['item_id']}'"
        remedy = "keep one label for each, and count what people said in columns that the card names as 'votes'"
        raise InputError(f"judgments: {conflicts.num_rows} pairs have several labels, first {pair} with {labels}; {remedy}")
    return distinct


def grade_labels(labels: pa.ChunkedArray, card: DatasetCard) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Grade (int32) and gain (float64) of each label, by the card.

    Raises:
        InputError: for a label that the card does not list.
    """
    known = card.labels()
    place = pc.index_in(labels, value_set=pa.array(known, pa.string()))
    if place.null_count:
        wrong = labels.filter(pc.is_null(place))
        raise InputError(
            f"judgments: {len(wrong)} rows have a grade that the card does not list, first {wrong[0].as_py()!r}; listed: {', '.join(known)}"
        )
    return place, pa.array(card.gains(), pa.float64()).take(place)


def vote_counts(texts: pa.ChunkedArray, num_grades: int) -> pa.ChunkedArray:
    """People who gave each grade, worst first, as list<int32>; null stays null.

    Args:
        texts: counts with spaces or ` > ` between them, as `sources.read_source` joins several columns or a list.

    Raises:
        InputError: unless there is one whole number per grade, none below 0 and not all 0.
    """
    parts = pc.utf8_split_whitespace(pc.replace_substring(texts, ">", " "))
    fits = pc.equal(pc.list_value_length(parts), num_grades)
    fits = pc.and_(fits, pc.match_substring_regex(texts, r"^\d{1,9}([ >]+\d{1,9})*$"))
    fits = pc.and_(fits, pc.match_substring_regex(texts, "[1-9]"))
    if pc.all(fits).as_py() is False:
        wrong = texts.filter(pc.invert(fits))
        raise InputError(
            f"judgments: {len(wrong)} rows have votes that are not one count for each of {num_grades} grades, first {wrong[0].as_py()!r}; "
            f"write whole numbers from the worst grade to the best, or leave them all empty"
        )
    return pa.chunked_array([chunk.cast(pa.list_(pa.int32())) for chunk in parts.chunks], pa.list_(pa.int32()))


def refuse_unknown(judgments: pa.Table, column: str, known: pa.ChunkedArray, table: str) -> None:
    """Raises InputError when judgments name ids that table `table` lacks."""
    strange = judgments[column].filter(pc.invert(pc.is_in(judgments[column], value_set=known.combine_chunks())))
    if len(strange):
        raise InputError(
            f"judgments: {len(strange)} rows have a {column} that is not in table '{table}', first '{strange[0].as_py()}'; "
            f"add it there or remove the rows"
        )


def days(column: pa.ChunkedArray, constant: object) -> pa.ChunkedArray:
    """`judged_at` as dates; the card's constant (or null) where empty.

    Raises:
        InputError: for text that does not begin with YYYY-MM-DD.
    """
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.utf8_slice_codeunits(pc.utf8_trim_whitespace(column), 0, 10)
        column = pc.if_else(pc.equal(pc.utf8_length(column), 0), pa.scalar(None, column.type), column)
    try:
        dates = pa.chunked_array([pc.cast(chunk, pa.date32(), safe=False) for chunk in column.chunks], pa.date32())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"judgments: column 'judged_at' of type {column.type} is not a date ({error}); write YYYY-MM-DD") from None
    return pc.fill_null(dates, pa.scalar(constant, pa.date32())) if constant else dates


def split_of_queries(queries: pa.Table, judgments: pa.Table, train_share: float, dev_share: float) -> dict[str, str]:
    """train, dev or test of each query_id: from the queries' column, else the judgments', else by the hash of the query_id.

    Raises:
        InputError: for another word, or a query in two splits.
    """
    said = pa.concat_tables([table.select(["query_id", "split"]) for table in (queries, judgments)])
    said = said.filter(pc.is_valid(said["split"])).group_by(["query_id", "split"], use_threads=False).aggregate([])
    splits: dict[str, str] = {}
    for query_id, split in zip(said["query_id"].to_pylist(), said["split"].to_pylist(), strict=True):
        if split not in SPLITS:
            raise InputError(f"column 'split' has {split!r} for query_id '{query_id}'; allowed: {', '.join(SPLITS)}")
        if splits.setdefault(query_id, split) != split:
            raise InputError(f"query_id '{query_id}' is in the splits {splits[query_id]} and {split}; a query must be in one")
    return {one: splits.get(one) or hashed_split(one, train_share, dev_share) for one in queries["query_id"].to_pylist()}


def hashed_split(query_id: str, train_share: float, dev_share: float) -> str:
    """A split that depends on nothing but the id."""
    place = int.from_bytes(hashlib.sha256(query_id.encode()).digest()[:8]) / 2**64
    if place < train_share:
        return "train"
    return "dev" if place < train_share + dev_share else "test"
