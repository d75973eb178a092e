"""A user's own pairs: one Parquet, CSV or NDJSON file with the query's text and the item's fields in every row."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from components.shared import storage, text
from components.shared.errors import InputError
from components.shared.schema import ITEMS, QUERIES

QUERY_COLUMNS = ("query", "query_text")
ITEM_FIELDS = ("title", "brand", "category", "color", "attributes", "description")
IDS = ("query_id", "item_id")
SUFFIXES = (".parquet", ".csv", ".ndjson", ".jsonl")


@dataclass(frozen=True)
class OwnPairs:
    """The file as our tables: pairs [pair_id, query_id, item_id, judged_at], queries, items."""

    pairs: pa.Table
    queries: pa.Table
    items: pa.Table


def is_table_file(uri: str) -> bool:
    return uri.endswith(SUFFIXES)


def read_own_pairs(uri: str) -> OwnPairs:
    """Columns: `query` (or `query_text`) and `title`; may have brand, color, category, description, attributes, query_id, item_id.

    Without `query_id` equal texts are one query; without `item_id` a row is item `row<number>`, counted from 1.

    Raises:
        InputError: for a file that is absent or unreadable, an absent column, an empty value, an id with two meanings, a pair twice.
    """
    table = _known_columns(uri, _read(uri))
    queries = _distinct(uri, table, "query_id", ["query_text", "query"])
    items = _distinct(uri, table, "item_id", list(ITEM_FIELDS))
    key = table.select(list(IDS))
    if len(key.group_by(list(IDS)).aggregate([])) < len(table):
        raise InputError(f"'{uri}': the same (query, item) stands in several rows; keep one row each")
    rows = pc.cast(pa.array(np.arange(1, len(table) + 1)), pa.string())
    names = pc.binary_join_element_wise(pa.scalar("row"), rows, "")
    pairs = key.append_column("pair_id", names).append_column("judged_at", pa.nulls(len(table), pa.date32()))
    nothing = pa.nulls(len(queries), pa.string())
    counts = {"frequency": pa.array(np.zeros(len(queries), np.int64)), "segment": pa.array(["unseen"] * len(queries), pa.string())}
    for name, column in {**counts, "kind": nothing, "split": nothing}.items():
        queries = queries.append_column(name, column)
    return OwnPairs(pairs, QUERIES.check(queries, where=f"'{uri}'"), ITEMS.check(items, where=f"'{uri}'"))


def _read(uri: str) -> pa.Table:
    if not is_table_file(uri):
        raise InputError(f"pairs '{uri}': give a file that ends in {', '.join(SUFFIXES)}, or a table folder with --queries and --items")
    if not storage.exists(uri):
        raise InputError(f"pairs '{uri}' does not exist; check the path")
    fs, path = storage.arrow_filesystem(uri)
    try:
        with fs.open_input_file(path) as stream:
            table = _parse(uri, stream)
        table.validate(full=True)  # Parquet may hold strings that are not UTF-8
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
        raise InputError(f"pairs '{uri}' is not readable ({' '.join(str(error).split())}); write it again") from None
    return table


def _parse(uri: str, stream: pa.NativeFile) -> pa.Table:
    if uri.endswith(".parquet"):
        return pq.read_table(stream)
    if not uri.endswith(".csv"):
        return pajson.read_json(stream)
    strings = pacsv.ConvertOptions(column_types={name: pa.string() for name in (*QUERY_COLUMNS, *ITEM_FIELDS, *IDS)})
    return pacsv.read_csv(stream, parse_options=pacsv.ParseOptions(newlines_in_values=True), convert_options=strings)


def _known_columns(uri: str, given: pa.Table) -> pa.Table:
    """query_id, query_text, query, item_id and the item fields, all strings; what the file lacks is null or made up."""
    spelled = next((name for name in QUERY_COLUMNS if name in given.column_names), "")
    for name, standing in (("query", spelled), ("title", "title" if "title" in given.column_names else "")):
        if not standing:
            raise InputError(f"pairs '{uri}' has no column '{name}'; it has {', '.join(given.column_names)}; rename one of them")
    query_text, title = (_filled(uri, given, name) for name in (spelled, "title"))
    query = text.normalise_query(query_text)
    nothing = pa.nulls(len(given), pa.string())
    fields = {name: _strings(uri, given, name) if name in given.column_names else nothing for name in ITEM_FIELDS[1:]}
    query_id = _filled(uri, given, "query_id") if "query_id" in given.column_names else _query_ids(query)
    rows = pc.cast(pa.array(np.arange(1, len(given) + 1)), pa.string())
    item_id = _filled(uri, given, "item_id") if "item_id" in given.column_names else pc.binary_join_element_wise("row", rows, "")
    return pa.table({"query_id": query_id, "query_text": query_text, "query": query, "item_id": item_id, "title": title, **fields})


def _query_ids(query: pa.ChunkedArray) -> pa.Array:
    encoded = pc.dictionary_encode(query.combine_chunks())
    names = ["q" + hashlib.sha256(one.encode()).hexdigest()[:16] for one in encoded.dictionary.to_pylist()]
    return pa.array(names, pa.string()).take(encoded.indices)


def _strings(uri: str, given: pa.Table, name: str) -> pa.ChunkedArray:
    try:
        return pc.cast(given[name], pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputError(f"pairs '{uri}': column '{name}' is {given[name].type}; it must be text") from None


def _filled(uri: str, given: pa.Table, name: str) -> pa.ChunkedArray:
    column = _strings(uri, given, name)
    empty = pc.fill_null(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0), True)
    if pc.any(empty).as_py():
        row = pc.index(empty, True).as_py() + 1
        raise InputError(f"pairs '{uri}': column '{name}' is empty in row {row}; fill it or leave the row out")
    return column


def _distinct(uri: str, table: pa.Table, key: str, columns: list[str]) -> pa.Table:
    """One row per id: the first; the columns that models read must agree in all rows of an id."""
    compared = [name for name in columns if name != "query_text"]
    if len(table.group_by([key, *compared]).aggregate([])) > pc.count_distinct(table[key]).as_py():
        counts = table.select([key, *compared]).group_by([key, *compared]).aggregate([]).group_by([key]).aggregate([([], "count_all")])
        first = pc.min(counts.filter(pc.greater(counts["count_all"], 1))[key])
        raise InputError(f"pairs '{uri}': {key} '{first}' has rows with different {', '.join(compared)}; give one text per id")
    firsts = table.append_column("row", pa.array(np.arange(len(table)))).group_by([key]).aggregate([("row", "min")])
    return table.select([key, *columns]).take(pa.array(np.sort(firsts["row_min"].to_numpy())))
