"""DuckDB and PySpark make the same counts and snapshots of the same rows. What this suite covers is what may be said of PySpark."""

import random
from datetime import date, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from neighbor_shop import FIRST_DAY, Rows, arrow, shown
from spark_warehouse import SparkWarehouse

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.counts import ONE_DAY, begin, count_fates, stored_counts
from components.retrieve_neighbors.snapshots import make_snapshots
from components.shared.warehouse import Warehouse

CONFIG = RetrieveNeighborsConfig(order=2, num_neighbors=2, hop_size=4, half_life_days=3, min_lower_bound=0.01, min_clients=0)
QUERIES = ("red shoes", "Red shoes", "stra\u00dfe", "strasse", "\u0130stanbul", "istanbul", "\U0001f45f", "caf\u00e9", "\ufffd", "a;b")
ITEMS = ("i1", "I1", "i1 ", "\u00df", "SS", "\U0001f45f", "\ufffd", "i\\1", "i'1", "i\0")
NUM_DAYS = 6


def hard_log(seed: int) -> Rows:
    """Every name with every other on some days, with ties, nulls, halves of a unit, and clicks that positions earn."""
    rng = random.Random(seed)
    rows = []
    for number in range(NUM_DAYS):
        for query in QUERIES:
            for item in rng.sample(ITEMS, 6):
                seen = rng.choice((0, 1, 20, 20, 400, 500_000_000))
                row = shown(query, item, FIRST_DAY + timedelta(days=number), seen, seen // rng.choice((2, 2, 5)), clients=rng.randrange(9))
                row["corrected_impressions"] = rng.choice((None, seen * rng.random(), seen + 0.5e-9, float(seen)))
                row["corrected_clicks"] = rng.choice((None, row["clicks"] * rng.random(), -seen * rng.random(), -0.5e-9))
                rows.append(row | rng.choice(({}, {}, {}, {"clients": None}, {"clicks": None}, {"impressions": None})))
    return rng.sample(rows, len(rows))


def relate(warehouse: Any, rows: Rows) -> dict[str, Any]:
    """Counts and snapshots of a log in which one query and one item are unknown."""
    texts = [{"is_item": True, "name": name, "text": f"Title of {name}"} for name in ITEMS[1:]]
    texts += [{"is_item": False, "name": name, "text": name} for name in QUERIES[1:]]
    interactions, known = warehouse.put("interactions", arrow("interactions", rows)), warehouse.put("texts", pa.Table.from_pylist(texts))
    days: list[date] = [FIRST_DAY + timedelta(days=number) for number in (2, NUM_DAYS)]
    span, snapshots, evidence = make_snapshots(warehouse, begin(warehouse, FIRST_DAY, CONFIG.half_life_days), days, CONFIG)
    tables = {"evidence": evidence, "stored": stored_counts(warehouse, span), "neighbors": pa.concat_tables(snapshots)}
    fates = warehouse.rows(count_fates(interactions, known, FIRST_DAY + ONE_DAY))[0]
    return {"fates": fates} | {name: table.to_pylist() for name, table in tables.items()}


def results(spark: Any, seed: int) -> list[dict[str, Any]]:
    rows = hard_log(seed)
    with duckdb.connect() as connection:
        return [relate(warehouse, rows) for warehouse in (Warehouse(connection), SparkWarehouse(spark))]


def test_duckdb_and_pyspark_make_the_same_tables(spark: Any):
    ours, theirs = results(spark, seed=1)
    assert theirs == ours


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@settings(max_examples=12, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(seed=st.integers(2, 10_000))
def test_duckdb_and_pyspark_make_the_same_tables_of_many_logs(spark: Any, seed: int):
    ours, theirs = results(spark, seed)
    assert theirs == ours


def test_the_log_of_the_comparison_has_what_is_to_be_compared():
    with duckdb.connect() as connection:
        ours = relate(Warehouse(connection), hard_log(1))
    assert {row["side"] for row in ours["neighbors"]} == {"query", "item", "query_query", "item_item"}
    assert all(ours["fates"].values()), ours["fates"]
    assert min(row["credit"] for row in ours["stored"]) < 0 < 2**57 < max(row["looks"] for row in ours["stored"])
    assert any(row["left_out"] for row in ours["neighbors"])
