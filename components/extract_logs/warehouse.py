"""The SQL engine: DuckDB in this process, with bounded memory, spilling to a folder that is gone afterwards."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from components.shared import storage, text
from components.shared.errors import InputError, TemporaryError

BATCH_ROWS = 122_880  # one row group of the engine: equal input then gives equal pieces


@contextmanager
def open_warehouse(*, threads: int, memory_limit_mib: int, temp_folder: str, remote: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with our text normalisation as SQL function `normalise`; its tables lie on disk and die with it.

    Raises:
        InputError: when rows cannot be read or the memory is too small.
        TemporaryError: when the disk is full.
    """
    if temp_folder and not Path(temp_folder).is_dir():
        raise InputError(f"recipe section 'logs': temp_folder '{temp_folder}' is not a folder; create it, or leave it empty")
    with tempfile.TemporaryDirectory(prefix="extract-logs-", dir=temp_folder or None) as folder:
        settings: dict[str, Any] = {
            "threads": threads, "memory_limit": f"{memory_limit_mib}MiB", "temp_directory": f"{folder}/spill",
            "preserve_insertion_order": False, "autoinstall_known_extensions": False, "autoload_known_extensions": False,
        }  # fmt: skip
        connection = duckdb.connect(f"{folder}/log.duckdb", config=settings)
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.create_function("normalise", text.normalise_query, ["VARCHAR"], "VARCHAR", type="arrow")  # type: ignore[arg-type]
            if remote:
                connection.register_filesystem(storage.filesystem("gs"))
            yield connection
        except duckdb.OutOfMemoryException as error:
            raise InputError(
                f"recipe section 'logs': memory_limit_mib = {memory_limit_mib} is too small ({_line(error)}); raise it"
            ) from None
        except (duckdb.IOException, duckdb.InvalidInputException, duckdb.ConversionException) as error:
            if "No space left" in str(error):
                raise TemporaryError(f"the disk below '{folder}' is full ({_line(error)}); free it or set temp_folder") from error
            raise InputError(f"the log cannot be read: {_line(error)}; write that file again or move it out of the log") from None
        finally:
            connection.close()


def rows(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    """All rows of a small result."""
    return connection.execute(sql, parameters).fetchall()


def number(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Any = None) -> int:
    """The one number of a result; null counts as 0."""
    return int(rows(connection, sql, parameters)[0][0] or 0)


def stream(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[pa.Table]:
    """A large result in pieces, in its order."""
    reader = connection.sql(sql).to_arrow_reader(BATCH_ROWS)
    for batch in reader:
        yield pa.Table.from_batches([batch])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
