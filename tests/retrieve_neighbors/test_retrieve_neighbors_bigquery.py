"""The SQL that BigQuery would be given, as it was last read by a person. Nothing here runs on BigQuery.

After a wanted change: PYTHONPATH=.:tests python tests/retrieve_neighbors/test_retrieve_neighbors_bigquery.py writes the file again; read
the difference.
"""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from written_warehouse import WrittenWarehouse, check_statement

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.counts import ONE_DAY, advance, begin, count_fates, stored_counts
from components.retrieve_neighbors.evidence import list_known
from components.retrieve_neighbors.ranking import rank_neighbors

GOLDEN = Path(__file__).with_name("bigquery.sql")
COUNTS = {"query": "string", "item_id": "string", "impressions": "int64", "clicks": "int64", "clients": "int64"}
GIVEN = {
    "interactions": COUNTS | {"day": "date", "corrected_impressions": "float64", "corrected_clicks": "float64"},
    "texts": {"is_item": "boolean", "name": "string", "text": "string"},
    "accepted": COUNTS | {"looks": "int64", **dict.fromkeys(("rate", "lower_bound", "upper_bound", "strength"), "float64")},
}


def write_sql() -> str:
    warehouse: Any = WrittenWarehouse(GIVEN)
    first_day = date(2026, 9, 1)
    warehouse.rows(count_fates(warehouse.table("interactions"), warehouse.table("texts"), first_day - ONE_DAY))
    span = advance(warehouse, begin(warehouse, first_day, 30), first_day + ONE_DAY)
    warehouse.arrow(list_known(warehouse.table("counts"), warehouse.table("texts")))
    rank_neighbors(warehouse, RetrieveNeighborsConfig(order=2))
    stored_counts(warehouse, span)
    return warehouse.written()


def test_the_sql_for_bigquery_is_the_one_that_was_read():
    assert write_sql() == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("statement", sqlglot.parse(GOLDEN.read_text(encoding="utf-8"), dialect="bigquery") if GOLDEN.exists() else [])
def test_every_statement_parses_and_leaves_no_order_to_chance(statement):
    check_statement(statement)


if __name__ == "__main__":
    GOLDEN.write_text(write_sql(), encoding="utf-8")
