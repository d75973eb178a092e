"""Relations on PySpark: the same calls as `Warehouse`, for the parity tests of the rooms that have relations."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ibis
import pyarrow as pa
import pytest


@contextmanager
def open_session() -> Iterator[Any]:
    """Spark in this process, on one thread; the test is skipped where it cannot be had."""
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed (extra `spark`)")
    if shutil.which("java") is None:
        pytest.skip("no Java: PySpark cannot be compared (apt: openjdk-17-jre-headless)")
    options = {
        "spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "1", "spark.default.parallelism": "1", "spark.sql.codegen.wholeStage": "false",
        "spark.sql.adaptive.enabled": "false", "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
        "spark.sql.session.timeZone": "Europe/Berlin",  # the clock of an engine is no part of any rule
    }  # fmt: skip
    session = sql.SparkSession.builder.master("local[1]").config(map=options).getOrCreate()
    yield session
    session.stop()


class SparkWarehouse:
    """What a room asks of a warehouse, on a Spark session; what is kept goes out of Spark as Arrow and in again."""

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
