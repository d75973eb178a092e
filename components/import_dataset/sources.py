"""Reading Parquet, CSV and NDJSON (also .gz), one file or a folder of them, into text columns under our names."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from components.shared import storage
from components.shared.card import TableSource
from components.shared.errors import InputError

PARQUET, CSV, NDJSON = (".parquet",), (".csv", ".csv.gz"), (".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz", ".json", ".json.gz")
SUFFIXES = (*PARQUET, *CSV, *NDJSON)
PATH_SEPARATOR = " > "
BLOCK_BYTES = 16 << 20  # a row of NDJSON or CSV must fit
COLUMNS = {
    "items": (("item_id", "title"), ("brand", "category", "color", "attributes", "description")),
    "queries": (("query_id", "query_text"), ("kind", "split")),
    "judgments": (("query_id", "item_id", "grade"), ("judged_at", "split", "votes")),
}


def find_place(root: str, place: str) -> str | None:
    """`place` below the folder as it is called there: as given, or with a known suffix; None when absent."""
    for name in (place, *(place + suffix for suffix in SUFFIXES)):
        if storage.exists(storage.join(root, name)):
            return name
    return None


def read_source(root: str, source: TableSource, table: str) -> pa.Table:
    """Table `table` of the folder [rows as in the files]: text columns under our names, null where the card names none.

    `judged_at` keeps its type.

    Raises:
        InputError: for a card key that is not ours, an absent column, unreadable or empty files.
    """
    required, optional = COLUMNS[table]
    theirs = {name: [given] if isinstance(given, str) else given for name, given in source.columns.items()}
    unknown = [name for name in theirs if name not in required + optional]
    if unknown:
        raise InputError(f"card: key '{table}.columns.{unknown[0]}' is not one of ours; known: {', '.join(required + optional)}")
    lacking = [name for name in required if not theirs.get(name)]
    if lacking:
        raise InputError(f"card: key '{table}.columns' lacks '{lacking[0]}'; say which column of '{source.file}' it is")
    raw = _read(root, source.file, table, theirs)
    if raw.num_rows == 0:
        raise InputError(f"'{storage.join(root, source.file)}': table '{table}' has no rows; it must have at least one")
    return pa.table({name: _column(raw, theirs.get(name, []), name, source.file) for name in required + optional})


def _column(raw: pa.Table, theirs: list[str], name: str, file: str) -> pa.ChunkedArray:
    if not theirs:
        return pa.chunked_array([pa.nulls(raw.num_rows, pa.string())])
    if name == "judged_at":
        return raw[theirs[0]]
    texts = [as_text(raw[one], f"'{file}': column '{one}'") for one in theirs]
    if len(texts) == 1:
        return texts[0]
    return pc.binary_join_element_wise(*(pc.fill_null(one, "") for one in texts), " ")  # white space is cleaned later


def as_text(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Numbers as written (whole floats without `.0`), lists as a path ('Shoes > Boots').

    Raises:
        InputError: for nested values that are not lists of plain ones.
    """
    try:
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            return pc.binary_join(column.cast(pa.list_(pa.string())), PATH_SEPARATOR)
        return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise InputError(f"{where} of type {column.type} cannot be read as text ({error}); give text, numbers or lists of text") from None


def _read(root: str, place: str, table: str, theirs: dict[str, list[str]]) -> pa.Table:
    uri = storage.join(root, place)
    files = [file for file in storage.list_files(uri) if file.lower().endswith(SUFFIXES)]
    if not files:
        raise InputError(f"'{uri}': no file of a known kind; known suffixes: {', '.join(SUFFIXES)}")
    parts = [_read_file(file, table, theirs) for file in files]
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"'{uri}': its files have columns of different types ({error}); write them alike") from None


def _read_file(uri: str, table: str, theirs: dict[str, list[str]]) -> pa.Table:
    wanted = list(dict.fromkeys(one for names in theirs.values() for one in names))
    try:
        if uri.lower().endswith(PARQUET):
            return _read_parquet(uri, table, theirs, wanted)
        raw = _read_csv(uri) if uri.lower().endswith(CSV) else _read_ndjson(uri)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"'{uri}' cannot be read ({str(error).splitlines()[0]}); write it again as Parquet, CSV or NDJSON in UTF-8"
        ) from None
    _check_columns(raw.column_names, uri, table, theirs)
    return raw.select(wanted)


def _read_parquet(uri: str, table: str, theirs: dict[str, list[str]], wanted: list[str]) -> pa.Table:
    fs, path = storage.arrow_filesystem(uri)
    with pq.ParquetFile(path, filesystem=fs) as file:
        _check_columns(file.schema_arrow.names, uri, table, theirs)
        return file.read(columns=wanted)


def _read_csv(uri: str) -> pa.Table:
    """All columns as text, so that an id like 007 stays one; quoted fields may span lines."""
    fs, path = storage.arrow_filesystem(uri)
    parse = pacsv.ParseOptions(newlines_in_values=True)
    read = pacsv.ReadOptions(block_size=BLOCK_BYTES)
    with fs.open_input_stream(path) as stream, pacsv.open_csv(stream, parse_options=parse, read_options=read) as reader:
        names = reader.schema.names
    as_strings = pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""])
    with fs.open_input_stream(path) as stream:
        return pacsv.read_csv(stream, parse_options=parse, read_options=read, convert_options=as_strings)


def _read_ndjson(uri: str) -> pa.Table:
    fs, path = storage.arrow_filesystem(uri)
    with fs.open_input_stream(path) as stream:
        return pajson.read_json(stream, read_options=pajson.ReadOptions(block_size=BLOCK_BYTES))


def _check_columns(names: list[str], uri: str, table: str, theirs: dict[str, list[str]]) -> None:
    for ours, given in theirs.items():
        for name in given:
            if name not in names:
                raise InputError(f"card: key '{table}.columns.{ours}' = '{name}': '{uri}' has no such column; it has {', '.join(names)}")
