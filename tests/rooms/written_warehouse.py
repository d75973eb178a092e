"""The SQL that BigQuery would be given for a room's relations. Nothing here runs on BigQuery."""

from typing import Any

import ibis
import pyarrow as pa


class WrittenWarehouse:
    """What a room asks of a warehouse, written down as BigQuery's SQL instead of done; tables are empty, numbers are 0."""

    def __init__(self, given: dict[str, dict[str, str]]) -> None:
        self.statements: list[str] = []
        self._tables = {name: ibis.table(schema, name=name) for name, schema in given.items()}

    def table(self, name: str) -> ibis.Table:
        return self._tables[name]

    def keep(self, name: str, relation: ibis.Table) -> ibis.Table:
        self.statements.append(f"CREATE OR REPLACE TABLE `{name}` AS\n{ibis.to_sql(relation, dialect='bigquery')}")
        self._tables[name] = ibis.table(relation.schema(), name=name)
        return self._tables[name]

    def view(self, name: str, relation: ibis.Table) -> ibis.Table:
        self.keep(name, relation)
        self.statements[-1] = self.statements[-1].replace(" TABLE", " VIEW", 1)
        return self._tables[name]

    def encode(self, name: str, names: ibis.Table, encode: Any) -> None:
        self._tables[name] = ibis.table({"name": "string", "code": "int64"}, name=name)

    def put(self, name: str, rows: pa.Table) -> ibis.Table:
        self._tables[name] = ibis.table(ibis.Schema.from_pyarrow(rows.schema), name=name)
        return self._tables[name]

    def drop(self, *names: str) -> None:
        pass

    def number(self, value: Any) -> int:
        return 0

    def arrow(self, relation: ibis.Table) -> pa.Table:
        self.statements.append(str(ibis.to_sql(relation, dialect="bigquery")))
        return relation.schema().to_pyarrow().empty_table()

    def rows(self, relation: ibis.Table) -> list[dict[str, int]]:
        return [dict.fromkeys(self.arrow(relation).column_names, 0)]

    def stream(self, relation: ibis.Table) -> list:
        self.rows(relation)
        return []

    def written(self) -> str:
        """All of it, as one file."""
        return ";\n\n".join(self.statements) + ";\n"
