"""The files of a UBI log as one SQL relation, whatever their format and however their schemas differ.

UBI is read leniently: a column or a nested field that a file lacks is null there, a JSON line that cannot be parsed is a row of
nulls (and counted as malformed later).
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from components.shared import storage
from components.shared.errors import InputError

LINE_SUFFIXES = (".ndjson", ".jsonl", ".json", ".ndjson.gz", ".jsonl.gz", ".json.gz")
MAX_RAW_CHARS = 1024  # of a query; more than enough for MAX_QUERY_CHARS after cleaning, and bounds the memory of a row
NESTED = ("event_attributes", "query_attributes")
Places = Mapping[str, tuple[str, ...]]

EVENT_PLACES: Places = {
    "query_id": ("query_id",),
    "client": ("client_id",),
    "session": ("session_id", "event_attributes.session_id"),
    "time": ("timestamp",),
    "action": ("action_name",),
    "item_id": ("event_attributes.object.object_id",),
    "ordinal": ("event_attributes.position.ordinal",),
    "text": ("user_query",),
}
QUERY_PLACES: Places = {
    "query_id": ("query_id",),
    "client": ("client_id",),
    "time": ("timestamp",),
    "text": ("user_query",),
    "experiment": ("query_attributes.experiment",),
}


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


def relation(files: Sequence[str], places: Places) -> str:
    """A SELECT over all files with one VARCHAR column per place; the first place that is not empty wins.

    Raises:
        InputError: for a Parquet file that cannot be opened, or a file without any of the columns.
    """
    selects = []
    lines = [file for file in files if not file.endswith(".parquet")]
    if lines:
        columns = {path.split(".")[0] for paths in places.values() for path in paths}
        kinds = ", ".join(f"{name}: '{'JSON' if name in NESTED else 'VARCHAR'}'" for name in sorted(columns))
        source = f"read_json({_names(lines)}, format = 'newline_delimited', columns = {{{kinds}}}, ignore_errors = true)"
        selects.append(_select(source, places, {name: _JSON if name in NESTED else _TEXT for name in columns}))
    for schema, group in _by_schema([file for file in files if file.endswith(".parquet")]):
        source = f"read_parquet({_names(group)}, hive_partitioning = false)"
        selects.append(_select(source, places, {column.name: column.type for column in schema}, group[0]))
    return " UNION ALL ".join(selects)


_TEXT = pa.string()
_JSON = pa.large_string()  # stands for a JSON document that is parsed when a place lies inside it


def _by_schema(files: Sequence[str]) -> list[tuple[pa.Schema, list[str]]]:
    groups: list[tuple[pa.Schema, list[str]]] = []
    for file in files:
        schema = _schema_of(file)
        same = next((group for known, group in groups if known.equals(schema)), None)
        if same is None:
            groups.append((schema, [file]))
        else:
            same.append(file)
    return groups


def _schema_of(file: str) -> pa.Schema:
    fs, path = storage.arrow_filesystem(file)
    try:
        return pq.read_schema(path, filesystem=fs).remove_metadata()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"'{file}' is not readable Parquet ({error}); write it again or move it out of the log") from None


def _select(source: str, places: Places, columns: Mapping[str, pa.DataType], example: str = "") -> str:
    found = {name: [value for path in paths if (value := _value(path, columns))] for name, paths in places.items()}
    if not any(found.values()):
        raise InputError(f"'{example}' has none of the UBI columns; it has {', '.join(columns)}; check the card's keys under 'log'")
    values = [f"{_first(name, candidates)} AS {name}" for name, candidates in found.items()]
    return f"SELECT {', '.join(values)} FROM {source}"


def _first(name: str, candidates: list[str]) -> str:
    if not candidates:
        return "CAST(NULL AS VARCHAR)"
    filled = [f"nullif(CAST({value} AS VARCHAR), '')" for value in candidates]
    value = filled[0] if len(filled) == 1 else f"coalesce({', '.join(filled)})"
    return f"left({value}, {MAX_RAW_CHARS})" if name == "text" else value


def _value(path: str, columns: Mapping[str, pa.DataType]) -> str | None:
    """SQL of a dotted path through structs or through JSON text; None where a file lacks it."""
    head, *rest = path.split(".")
    if head not in columns:
        return None
    sql, kind = f'"{head}"', columns[head]
    while rest:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return f"CASE WHEN json_valid({sql}) THEN json_extract_string({sql}, '$.{'.'.join(rest)}') END"
        if not pa.types.is_struct(kind) or kind.get_field_index(rest[0]) < 0:
            return None
        sql, kind = f'{sql}."{rest[0]}"', kind.field(rest[0]).type
        rest = rest[1:]
    return sql


def _names(files: Sequence[str]) -> str:
    plain = [file.removeprefix("file://").replace("'", "''") for file in files]
    return "[" + ", ".join(f"'{name}'" for name in plain) + "]"


def _is_hidden(file: str) -> bool:
    return file.rsplit("/", 1)[1].startswith((".", "_"))
