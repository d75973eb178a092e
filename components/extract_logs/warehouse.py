"""Where relations are made: DuckDB in this process, with bounded memory, spilling to a folder that is gone afterwards.

What a relation is stands elsewhere, as Ibis expressions that name no engine; here they are compiled, kept as tables, counted and
streamed.
"""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa

from components.extract_logs.columns import _
from components.shared import storage, text
from components.shared.errors import InputError, TemporaryError

BATCH_ROWS = 122_880  # one row group of the engine: equal input then gives equal pieces


class Warehouse:
    """Relations by name, over one connection `sql` that also runs what stays SQL: the readers and the rules for texts."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.sql = connection
        self._backend = ibis.duckdb.from_connection(connection)
        self._tables: dict[str, ibis.Table] = {}

    def table(self, name: str) -> ibis.Table:
        """A table or view that exists."""
        if name not in self._tables:
            self._tables[name] = ibis.table(self._backend.table(name).schema(), name=name)
        return self._tables[name]

    def keep(self, name: str, relation: ibis.Table) -> ibis.Table:
        """Compute a relation once, as a table."""
        return self._define("TABLE", name, relation)

    def view(self, name: str, relation: ibis.Table) -> ibis.Table:
        """Name a relation that is cheap enough to be computed whenever it is read."""
        return self._define("VIEW", name, relation)

    def _define(self, kind: str, name: str, relation: ibis.Table) -> ibis.Table:
        self.sql.execute(f'CREATE {kind} "{name}" AS {_compile(relation)}')
        self._tables[name] = ibis.table(relation.schema(), name=name)
        return self._tables[name]

    def put(self, name: str, rows: pa.Table) -> ibis.Table:
        """A small Arrow table as a table."""
        self.sql.register("given_rows", rows)
        self.sql.execute(f'CREATE TABLE "{name}" AS SELECT * FROM given_rows')
        self.sql.unregister("given_rows")
        return self.table(name)

    def encode(self, name: str, names: ibis.Table, encode: Callable[[pa.ChunkedArray], pa.Array]) -> ibis.Table:
        """Table (name, code) of the distinct texts in the one column of `names`, by our own function."""
        self.sql.create_function(f"encode_{name}", encode, ["VARCHAR"], "BIGINT", type="arrow")  # type: ignore[arg-type]
        distinct = _compile(names.rename(name=names.columns[0]).filter(_.name.notnull()).distinct())
        self.sql.execute(f'CREATE TABLE "{name}" AS SELECT name, encode_{name}(name) AS code FROM ({distinct})')
        return self.table(name)

    def drop(self, *names: str) -> None:
        """Give back the room of tables that nothing reads any more."""
        for name in names:
            self.sql.execute(f'DROP TABLE "{name}"')

    def arrow(self, relation: ibis.Table) -> pa.Table:
        """A relation that fits into memory, in its order."""
        return self.sql.sql(_compile(relation)).to_arrow_table()

    def rows(self, relation: ibis.Table) -> list[dict[str, Any]]:
        """All rows of a small relation."""
        return self.arrow(relation).to_pylist()

    def number(self, value: ibis.Value) -> int:
        """A whole number that a relation comes down to; null counts as 0."""
        return int(self.rows(value.name("value").as_table())[0]["value"] or 0)

    def stream(self, relation: ibis.Table) -> Iterator[pa.Table]:
        """A large relation in pieces, in its order; the engine makes the next piece while the caller works on this one."""
        reader = self.sql.sql(_compile(relation)).to_arrow_reader(BATCH_ROWS)
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(next, reader, None)
            while (batch := coming.result()) is not None:
                coming = ahead.submit(next, reader, None)
                yield pa.Table.from_batches([batch])


@lru_cache(maxsize=256)
def _compile(relation: ibis.Table) -> str:
    """The SQL of a relation; 20 ms each, and the relations of one night are those of the next."""
    return str(ibis.to_sql(relation, dialect="duckdb", pretty=False))


@contextmanager
def open_warehouse(*, threads: int, memory_limit_mib: int, temp_folder: str, remote: bool = False) -> Iterator[Warehouse]:
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
            connection.create_function("normalise", text.normalise_query, ["VARCHAR"], "VARCHAR", type="arrow")  # type: ignore[arg-type]
            if remote:
                connection.register_filesystem(storage.filesystem("gs"))
            yield Warehouse(connection)
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
