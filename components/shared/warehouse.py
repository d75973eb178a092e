"""Where relations are made: DuckDB in this process.

What a relation is stands in the rooms, as Ibis expressions that name no engine; here they are compiled, kept as tables, counted and
streamed.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import duckdb
import ibis
import pyarrow as pa

BATCH_ROWS = 122_880  # one row group of the engine: equal input then gives equal pieces


class Warehouse:
    """Relations by name, over one connection `sql` that also runs what stays SQL."""

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
        """Compute a relation once, as a table, in place of one of that name; the relation may read the one that it replaces."""
        return self._define("TABLE", name, relation)

    def view(self, name: str, relation: ibis.Table) -> ibis.Table:
        """Name a relation that is cheap enough to be computed whenever it is read."""
        return self._define("VIEW", name, relation)

    def _define(self, kind: str, name: str, relation: ibis.Table) -> ibis.Table:
        self.sql.execute(f'CREATE OR REPLACE {kind} "{name}" AS {compile_typed(relation)}')
        self._tables[name] = ibis.table(relation.schema(), name=name)
        return self._tables[name]

    def put(self, name: str, rows: pa.Table) -> ibis.Table:
        """An Arrow table as a table, in place of one of that name."""
        self.sql.register("given_rows", rows)
        self.sql.execute(f'CREATE OR REPLACE TABLE "{name}" AS SELECT * FROM given_rows')
        self.sql.unregister("given_rows")
        self._tables[name] = ibis.table(ibis.Schema.from_pyarrow(rows.schema), name=name)
        return self._tables[name]

    def drop(self, *names: str) -> None:
        """Give back the room of tables that nothing reads any more."""
        for name in names:
            self.sql.execute(f'DROP TABLE "{name}"')

    def arrow(self, relation: ibis.Table) -> pa.Table:
        """A relation that fits into memory, in its order."""
        return self.sql.sql(compile_relation(relation)).to_arrow_table()

    def rows(self, relation: ibis.Table) -> list[dict[str, Any]]:
        """All rows of a small relation."""
        return self.arrow(relation).to_pylist()

    def number(self, value: ibis.Value) -> int:
        """A whole number that a relation comes down to; null counts as 0."""
        return int(self.rows(value.name("value").as_table())[0]["value"] or 0)

    def stream(self, relation: ibis.Table) -> Iterator[pa.Table]:
        """A large relation in pieces, in its order; the engine makes the next piece while the caller works on this one."""
        reader = self.sql.sql(compile_relation(relation)).to_arrow_reader(BATCH_ROWS)
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(next, reader, None)
            while (batch := coming.result()) is not None:
                coming = ahead.submit(next, reader, None)
                yield pa.Table.from_batches([batch])


def compile_relation(relation: ibis.Table) -> str:
    """The SQL of a relation."""
    node: Any = relation.op()  # two expressions are never equal, their nodes are when they say the same
    return _compile(node)


@lru_cache(maxsize=256)
def _compile(node: Any) -> str:
    """20 ms each, and the relations of one snapshot are those of the next."""
    return str(ibis.to_sql(node.to_expr(), dialect="duckdb", pretty=False))


def compile_typed(relation: ibis.Table) -> str:
    """The SQL with whole numbers of the width that the relation says: the engine's own sums are 128 bits wide."""
    narrow = [f'"{name}"::BIGINT AS "{name}"' for name, kind in relation.schema().items() if kind.is_int64()]
    return f"SELECT *{' REPLACE (' + ', '.join(narrow) + ')' if narrow else ''} FROM ({compile_relation(relation)})"
