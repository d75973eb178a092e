"""Tables have the types that their relations say, and a relation that is built again is not compiled again."""

from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest

from components.shared import warehouse as module
from components.shared.columns import _
from components.shared.warehouse import Warehouse


@pytest.fixture
def warehouse() -> Iterator[Warehouse]:
    with duckdb.connect() as connection:
        yield Warehouse(connection)


def test_sums_are_kept_in_64_bits(warehouse: Warehouse):
    sums = warehouse.put("rows", pa.table({"key": ["a", "a"], "count": [1, 2]})).group_by("key").agg(count=_["count"].sum())
    assert warehouse.arrow(warehouse.keep("sums", sums)).schema.field("count").type == pa.int64()
    assert warehouse.arrow(warehouse.view("sums_view", sums)).to_pylist() == [{"key": "a", "count": 3}]


def test_a_table_can_be_made_from_the_one_that_it_replaces(warehouse: Warehouse):
    doubled = warehouse.put("rows", pa.table({"count": [1, 2]})).mutate(count=_["count"] * 2)
    for _night in range(2):
        warehouse.keep("rows", doubled)
    assert sorted(row["count"] for row in warehouse.rows(warehouse.table("rows"))) == [4, 8]
    assert warehouse.put("rows", pa.table({"name": ["a"]})).columns == warehouse.table("rows").columns == ("name",)


def test_an_equal_relation_is_compiled_once(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch):
    rows = warehouse.put("rows_of_this_test", pa.table({"count": [1, 2]}))
    statements = {module.compile_relation(rows.filter(_["count"] > 1)) for _night in range(2)}
    monkeypatch.setattr(module.ibis, "to_sql", None)
    assert {module.compile_relation(rows.filter(_["count"] > 1))} == statements
