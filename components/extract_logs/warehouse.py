"""The warehouse of a log: with bounded memory, spilling to a folder that is gone afterwards, and with our functions of texts."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa

from components.shared import storage, text
from components.shared.columns import _
from components.shared.errors import InputError, TemporaryError
from components.shared.warehouse import Warehouse, compile_relation


class LogWarehouse(Warehouse):
    """A warehouse that can also write names as codes."""

    def encode(self, name: str, names: ibis.Table, encode: Callable[[pa.ChunkedArray], pa.Array]) -> ibis.Table:
        """Table (name, code) of the distinct texts in the one column of `names`, by our own function."""
        self.sql.create_function(f"encode_{name}", encode, ["VARCHAR"], "BIGINT", type="arrow")  # type: ignore[arg-type]
        distinct = compile_relation(names.rename(name=names.columns[0]).filter(_.name.notnull()).distinct())
        self.sql.execute(f'CREATE TABLE "{name}" AS SELECT name, encode_{name}(name) AS code FROM ({distinct})')
        return self.table(name)


@contextmanager
def open_warehouse(*, threads: int, memory_limit_mib: int, temp_folder: str, remote: bool = False) -> Iterator[LogWarehouse]:
    """A warehouse with our text normalisation as SQL function `normalise`; its tables lie on disk and die with it.

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
            connection.execute("SET TimeZone = 'UTC'")  # else a time without a zone would be that of the machine
            connection.create_function("normalise", text.normalise_query, ["VARCHAR"], "VARCHAR", type="arrow")  # type: ignore[arg-type]
            if remote:
                connection.register_filesystem(storage.filesystem("gs"))
            yield LogWarehouse(connection)
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


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
