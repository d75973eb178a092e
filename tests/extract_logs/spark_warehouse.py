"""The relations of extract_logs on PySpark: the same calls as `Warehouse`, for the parity tests."""

from collections.abc import Callable, Iterator
from typing import Any

import ibis
import pyarrow as pa


class SparkWarehouse:
    """What `chain` asks of a warehouse, on a Spark session; what is kept goes out of Spark as Arrow and in again."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._backend = ibis.pyspark.connect(session)
        self._tables: dict[str, ibis.Table] = {}

    def table(self, name: str) -> ibis.Table:
        return self._tables[name]

    def keep(self, name: str, relation: ibis.Table) -> ibis.Table:
        return self.put(name, self.arrow(relation).cast(relation.schema().to_pyarrow()))  # cut off from how it was made: short plans

    view = keep

    def put(self, name: str, rows: pa.Table) -> ibis.Table:
        self._session.createDataFrame(rows).createOrReplaceTempView(name)
        self._tables[name] = ibis.table(ibis.Schema.from_pyarrow(rows.schema), name=name)
        return self._tables[name]

    def encode(self, name: str, names: ibis.Table, encode: Callable[[pa.ChunkedArray], pa.Array]) -> ibis.Table:
        distinct = self.arrow(names.filter(names["name"].notnull()).distinct())["name"].cast(pa.string())
        return self.put(name, pa.table({"name": distinct, "code": encode(distinct)}))

    def drop(self, *names: str) -> None:
        for name in names:
            del self._tables[name]

    def arrow(self, relation: ibis.Table) -> pa.Table:
        return self._session.sql(self._backend.compile(relation)).toArrow()

    def rows(self, relation: ibis.Table) -> list[dict[str, Any]]:
        return self.arrow(relation).to_pylist()

    def number(self, value: ibis.Value) -> int:
        return int(self.rows(value.name("value").as_table())[0]["value"] or 0)

    def stream(self, relation: ibis.Table) -> Iterator[pa.Table]:
        yield self.arrow(relation)
