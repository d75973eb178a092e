"""The SQL that BigQuery would be given by the rooms that have relations, as it was last read by a person. Nothing here runs on BigQuery.

After a wanted change: PYTHONPATH=. python tests/rooms/test_bigquery_sql.py writes the files again; read the difference.
"""

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlglot
from sqlglot import exp
from written_warehouse import WrittenWarehouse

from components.extract_logs import chain, propensity, staging
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.window import Window
from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.counts import ONE_DAY, advance, begin, count_fates, stored_counts
from components.retrieve_neighbors.evidence import list_known
from components.retrieve_neighbors.ranking import rank_neighbors

FOLDER = Path(__file__).with_name("bigquery")
LOG = {
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
COUNTS = {"query": "string", "item_id": "string", "impressions": "int64", "clicks": "int64", "clients": "int64"}
EVIDENCE = {
    "interactions": COUNTS | {"day": "date", "corrected_impressions": "float64", "corrected_clicks": "float64"},
    "texts": {"is_item": "boolean", "name": "string", "text": "string"},
    "accepted": COUNTS | {"looks": "int64", **dict.fromkeys(("rate", "lower_bound", "upper_bound", "strength"), "float64")},
}


def extract_logs() -> str:
    warehouse: Any = WrittenWarehouse(LOG)
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


def retrieve_neighbors() -> str:
    warehouse: Any = WrittenWarehouse(EVIDENCE)
    first_day = date(2026, 9, 1)
    warehouse.rows(count_fates(warehouse.table("interactions"), warehouse.table("texts"), first_day - ONE_DAY))
    span = advance(warehouse, begin(warehouse, first_day, 30), first_day + ONE_DAY)
    warehouse.arrow(list_known(warehouse.table("counts"), warehouse.table("texts")))
    rank_neighbors(warehouse, RetrieveNeighborsConfig(order=2))
    stored_counts(warehouse, span)
    return warehouse.written()


ROOMS = (extract_logs, retrieve_neighbors)


def golden(room: Any) -> Path:
    return FOLDER / f"{room.__name__}.sql"


@pytest.mark.parametrize("room", ROOMS)
def test_the_sql_for_bigquery_is_the_one_that_was_read(room):
    assert room() == golden(room).read_text(encoding="utf-8")


@pytest.mark.parametrize("room", ROOMS)
def test_every_statement_parses_and_leaves_no_order_to_chance(room):
    for statement in sqlglot.parse(golden(room).read_text(encoding="utf-8"), dialect="bigquery"):
        assert statement is not None
        assert all(order.expressions for order in statement.find_all(exp.Order))
        assert statement.find(exp.Limit) is None


if __name__ == "__main__":
    for one in ROOMS:
        golden(one).write_text(one(), encoding="utf-8")
