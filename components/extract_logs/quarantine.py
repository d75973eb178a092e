"""Malformed rows, described so that somebody can mend the log and nobody's data leaves the warehouse.

A row of the quarantine is: reason, file (below the log's root), row of the file where the format numbers them (Parquet, from 0), the
field at fault, the shape of its value, and whether that value stands in full. A shape has `a` for letters, `9` for digits, other
characters as they are, and at most 40 of them. In full stand only positions of up to four characters, and action names that at least
`min_clients` clients sent. Query texts, clients, sessions and items never stand there.
"""

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.staging import IGNORED
from components.shared import storage

FIELDS = {"unknown_action": "action", "bad_position": "ordinal", "bad_timestamp": "time"}
MAX_CHARS = 40
SCHEMA = pa.schema(
    {"reason": pa.string(), "file": pa.string(), "row": pa.int64(), "field": pa.string(), "value": pa.string(), "is_shape": pa.bool_()}
)


def write(connection: duckdb.DuckDBPyConnection, uri: str, config: ExtractLogsConfig, root: str) -> tuple[int, int]:
    """Write the malformed rows of table `staged` as Parquet; returns (rows written, rows left out).

    Of each reason at most `max_quarantine_rows`, in order of file and row.
    """
    case = " ".join(f"WHEN '{fault}' THEN origin.{field}" for fault, field in FIELDS.items())
    names = " ".join(f"WHEN '{fault}' THEN '{field}'" for fault, field in FIELDS.items())
    ((total,),) = connection.execute("SELECT count(*) FROM staged WHERE fault <> ?", [IGNORED]).fetchall()
    rows = connection.sql(
        f"""WITH faulty AS (
              SELECT fault, origin.file AS file, origin.row AS row, client, CASE fault {names} END AS field,
                     CASE fault {case} END AS value
              FROM staged WHERE fault <> $ignored),
            shared AS (SELECT value FROM faulty WHERE fault = 'unknown_action' GROUP BY value HAVING count(DISTINCT client) >= $clients),
            judged AS (
              SELECT *, coalesce(CASE fault WHEN 'unknown_action' THEN value IN (SELECT value FROM shared)
                                            WHEN 'bad_position' THEN regexp_matches(value, '^-?[0-9]{{1,4}}$') END, false) AS is_open
              FROM faulty),
            described AS (
              SELECT fault, file, row, field, value IS NOT NULL AND NOT is_open AS is_shape,
                     CASE WHEN is_open THEN left(value, {MAX_CHARS})
                          ELSE regexp_replace(regexp_replace(left(value, {MAX_CHARS}), '\\p{{L}}', 'a', 'g'), '\\p{{N}}', '9', 'g')
                     END AS value
              FROM judged),
            numbered AS (SELECT *, row_number() OVER (PARTITION BY fault ORDER BY file, row, value) AS n FROM described)
            SELECT fault AS reason, file, row, field, value, is_shape FROM numbered WHERE n <= $most ORDER BY fault, file, row, value""",
        params={"ignored": IGNORED, "clients": config.min_clients, "most": config.max_quarantine_rows},
    ).to_arrow_table()
    files = pa.array([_below(file, root) for file in rows["file"].to_pylist()], pa.string())
    table = rows.set_column(1, "file", files).cast(SCHEMA)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    storage.write_bytes(uri, sink.getvalue().to_pybytes())
    return table.num_rows, total - table.num_rows


def _below(file: str, root: str) -> str:
    base = storage.normalise(root).removeprefix("file://")
    return file.removeprefix("file://").removeprefix(base).lstrip("/")
