"""The SQL that BigQuery would be given, as it was last read by a person. Nothing here runs on BigQuery.

After a wanted change: PYTHONPATH=.:tests python tests/extract_logs/test_extract_logs_bigquery.py writes the file again; read the
difference.
"""

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlglot
from written_warehouse import WrittenWarehouse, check_statement

from components.extract_logs import chain, propensity, staging
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.window import Window

GOLDEN = Path(__file__).with_name("bigquery.sql")
GIVEN = {
    "read_events": {"query_id": "string", "client": "string", "session": "string", "us": "int64", "name": "string", "item_id": "string",
                    "position": "int64", "text": "string", "has_position": "boolean", "is_blank": "boolean",
                    "origin": "struct<file: string, row: int64, action: string, ordinal: string, time: string>"},
    "read_queries": {"query_id": "string", "client": "string", "text": "string", "us": "int64", "experiment": "string"},
    "judged": {"query_id": "string", "query_text": "string", "query": "string", "frequency": "int64", "segment": "string", "kind": "string",
               "split": "string"},
    "phrases": {"phrase": "int64", "query": "string", "query_id": "string", "judged": "boolean", "personal_only": "boolean"},
    "spellings": {"text": "string", "phrase": "int64"}, "hidden": {"query": "string"},
}  # fmt: skip


REWORDED = pa.table({"before": pa.array([], pa.int64()), "phrase": pa.array([], pa.int64())})


def write_sql() -> str:
    warehouse: Any = WrittenWarehouse(GIVEN)
    config, window = ExtractLogsConfig(), Window(date(2024, 5, 1), date(2024, 5, 28))
    staged = warehouse.keep("staged", staging.judge_rows(warehouse.table("read_events"), config))
    warehouse.keep("searches", staging.find_searches(warehouse.table("read_queries"), staged))
    chain.encode_names(warehouse, lambda names: names)
    chain.clean_events(warehouse, config, window)
    chain.show_items(warehouse)
    for method in ("estimated", "em", "swap"):
        warehouse.rows(propensity.place_clicks(warehouse.table("shown"), ExtractLogsConfig(propensity=method)))
    chain.count_interactions(warehouse, propensity.examine(warehouse, config))
    chain.find_turns(warehouse, config, window)
    warehouse.put("reworded", REWORDED)
    chain.count_sessions(warehouse)
    for published in (chain.publish_events(warehouse), chain.publish_interactions(warehouse)):
        list(published)
    chain.publish_queries(warehouse, config)
    chain.publish_reformulations(warehouse, config)
    return warehouse.written()


def test_the_sql_for_bigquery_is_the_one_that_was_read():
    assert write_sql() == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("statement", sqlglot.parse(GOLDEN.read_text(encoding="utf-8"), dialect="bigquery") if GOLDEN.exists() else [])
def test_every_statement_parses_and_leaves_no_order_to_chance(statement):
    check_statement(statement)


if __name__ == "__main__":
    GOLDEN.write_text(write_sql(), encoding="utf-8")
