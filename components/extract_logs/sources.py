"""The files of a log as one SQL relation, whatever their format and however their schemas differ.

A log is read leniently: a column or a nested field that a file lacks is null there, a JSON line that cannot be parsed is a row of
nulls (and counted as malformed later). What would silently change the meaning of rows is refused (`drift.py`).
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from components.extract_logs import drift
from components.shared import storage
from components.shared.errors import InputError

LINE_SUFFIXES = (".ndjson", ".jsonl", ".json", ".ndjson.gz", ".jsonl.gz", ".json.gz")
MAX_RAW_CHARS = 1024  # of a query; more than enough for MAX_QUERY_CHARS after cleaning, and bounds the memory of a row
MAX_ID_BYTES = 1024  # of an id; UBI allows 256 characters
IDS = ("query_id", "client", "session", "item_id")
TEXTS = ("text", "message")
FILE = "log_file"
Places = Mapping[str, tuple[str, ...]]


def list_log(root: str, path: str, key: str) -> list[str]:
    """URIs of the Parquet and NDJSON files at `root/path`, sorted.

    Raises:
        InputError: when there are none.
    """
    uri = storage.join(root, path)
    files = [file for file in storage.list_files(uri) if file.endswith((".parquet", *LINE_SUFFIXES)) and not _is_hidden(file)]
    if not files:
        raise InputError(f"'{uri}' (card key 'log.{key}') holds no .parquet, .ndjson or .ndjson.gz file; check the card and the folder")
    return files


def relation(files: Sequence[str], places: Places, needed: Sequence[str] = ()) -> str:
    """A SELECT over all files with one VARCHAR column per place, and `file` and `row` (from 0; null in lines).

    The first path of a place that is not empty wins. A text is cut at MAX_RAW_CHARS, an id above MAX_ID_BYTES is null.

    Args:
        needed: places that at least one file must have.

    Raises:
        InputError: for a Parquet file that cannot be opened, or whose columns were renamed or retyped.
    """
    lines, groups = split_by_schema(files)
    drift.check(groups, places)
    if groups and not lines:
        drift.check_needed(groups, places, needed)
    selects = [
        _select(f"read_parquet({parquet_options(group)})", places, columns_of(schema), "file_row_number") for schema, group in groups
    ]
    if lines:
        is_deep = {path.split(".")[0]: False for paths in places.values() for path in paths}
        is_deep |= {path.split(".")[0]: True for paths in places.values() for path in paths if "." in path}
        kinds = ", ".join(f"{quoted(name)}: '{'JSON' if deep else 'VARCHAR'}'" for name, deep in sorted(is_deep.items()))
        columns = {name: _JSON if deep else pa.string() for name, deep in is_deep.items()}
        selects.append(_select(f"read_json({line_options(lines, kinds)})", places, columns, "NULL"))
    return " UNION ALL ".join(selects) or f"SELECT {', '.join(f'CAST(NULL AS VARCHAR) AS {name}' for name in places)} WHERE false"


_JSON = pa.json_()  # of a column of lines: a document that is parsed when a place lies inside it


def parquet_options(files: Sequence[str]) -> str:
    """Arguments of read_parquet that also give each row's file and number."""
    return f"{names(files)}, hive_partitioning = false, filename = '{FILE}', file_row_number = true"


def line_options(files: Sequence[str], kinds: str) -> str:
    """Arguments of read_json that also give each row's file; a line that is no JSON is a row of nulls."""
    return f"{names(files)}, format = 'newline_delimited', columns = {{{kinds}}}, ignore_errors = true, filename = '{FILE}'"


def split_by_schema(files: Sequence[str]) -> tuple[list[str], list[tuple[pa.Schema, list[str]]]]:
    """(files of lines, Parquet files by schema in order of first appearance)."""
    groups: list[tuple[pa.Schema, list[str]]] = []
    for file in files:
        if not file.endswith(".parquet"):
            continue
        schema = _schema_of(file)
        same = next((group for known, group in groups if known.equals(schema)), None)
        if same is None:
            groups.append((schema, [file]))
        else:
            same.append(file)
    return [file for file in files if not file.endswith(".parquet")], groups


def columns_of(schema: pa.Schema) -> dict[str, pa.DataType]:
    """Name -> type of the columns of a file."""
    return {column.name: column.type for column in schema}


def _schema_of(file: str) -> pa.Schema:
    fs, path = storage.arrow_filesystem(file)
    try:
        return pq.read_schema(path, filesystem=fs).remove_metadata()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"'{file}' is not readable Parquet ({error}); write it again or move it out of the log") from None


def _select(source: str, places: Places, columns: Mapping[str, pa.DataType], row: str) -> str:
    found = {name: [value for path in paths if (value := _value(path, columns))] for name, paths in places.items()}
    values = [f"{_first(name, candidates)} AS {name}" for name, candidates in found.items()]
    return f"SELECT {', '.join(values)}, {FILE} AS file, CAST({row} AS BIGINT) AS row FROM {source}"


def _first(name: str, candidates: list[str]) -> str:
    if not candidates:
        return "CAST(NULL AS VARCHAR)"
    filled = [f"nullif(CAST({value} AS VARCHAR), '')" for value in candidates]
    value = filled[0] if len(filled) == 1 else f"coalesce({', '.join(filled)})"
    if name in IDS:
        return f"CASE WHEN strlen({value}) <= {MAX_ID_BYTES} THEN {value} END"
    return f"left({value}, {MAX_RAW_CHARS})" if name in TEXTS else value


def _value(path: str, columns: Mapping[str, pa.DataType]) -> str | None:
    """SQL of a dotted path through structs or through JSON text; None where a file lacks it."""
    head, *rest = path.split(".")
    if head not in columns:
        return None
    sql, kind = quoted(head), columns[head]
    while rest or kind == _JSON:
        if drift.family(kind) == "text":
            inner = "".join(f".{quoted(name)}" for name in rest)
            return f"CASE WHEN json_valid({sql}) THEN json_extract_string({sql}, {literal('$' + inner)}) END"
        if not pa.types.is_struct(kind) or kind.get_field_index(rest[0]) < 0:
            return None
        sql, kind = f"{sql}.{quoted(rest[0])}", kind.field(rest[0]).type
        rest = rest[1:]
    return None if pa.types.is_null(kind) else sql  # DuckDB 2.0 fails on a nested column of type null


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string."""
    return "'" + text.replace("'", "''") + "'"


def names(files: Sequence[str]) -> str:
    """The SQL list of the files."""
    return "[" + ", ".join(literal(file.removeprefix("file://")) for file in files) + "]"


def _is_hidden(file: str) -> bool:
    return file.rsplit("/", 1)[1].startswith((".", "_"))
