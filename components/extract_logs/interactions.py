"""Kept events -> what shoppers did with an item under a query on a day, with impressions corrected for position."""

import duckdb
import numpy as np
import pyarrow as pa

from components.extract_logs.propensity import NUM_POSITIONS, Examination
from components.extract_logs.window import DAY_US

_SCALE = 1_000_000_000  # propensities are summed as whole billionths, so that the sum does not depend on the order


def show_items(connection: duckdb.DuckDBPyConnection) -> None:
    """Table `shown`: one row per (search, item) of the kept events.

    Within one search an item is shown at most once and clicked, carted, bought at most once, so clicks never outnumber impressions;
    an item with a click but no recorded impression counts as shown. The day is that of the pair's first event, the position that of
    its highest impression (else of its click; position 1 when none is known, which corrects nothing).
    """
    connection.execute(
        f"""CREATE TABLE shown AS
            SELECT search, phrase, item_id, min(client) AS client, CAST(min(us) // {DAY_US} AS INTEGER) AS day,
                   bool_or(action = 0) AS seen, bool_or(action = 1) AS clicked, bool_or(action = 2) AS carted,
                   bool_or(action = 3) AS bought, min(experiment) AS experiment,
                   CAST(coalesce(min(position) FILTER (action = 0), min(position), 1) AS INTEGER) AS position
            FROM kept JOIN (SELECT search, experiment FROM typed) USING (search) GROUP BY search, phrase, item_id"""
    )


def count_interactions(connection: duckdb.DuckDBPyConnection, examination: Examination) -> None:
    """Table `interactions` from `shown`: looks, and clicks less those that the positions earn by themselves, under `examination`."""
    weight, trust = (np.rint(values * _SCALE).astype(np.int64) for values in (examination.examined, examination.trusted))
    position = np.arange(1, NUM_POSITIONS + 1, dtype=np.int32)
    connection.register("weights", pa.table({"position": position, "weight": weight, "trust": trust}))
    connection.execute(
        f"""CREATE TABLE interactions AS
            SELECT phrase, item_id, day, count(*) AS impressions, sum(clicked::INTEGER) AS clicks, sum(carted::INTEGER) AS add_to_carts,
                   sum(bought::INTEGER) AS purchases, count(DISTINCT client) AS clients, sum(weight) AS weight,
                   sum(clicked::INTEGER * {_SCALE} - trust) AS credit
            FROM shown JOIN weights ON weights.position = least(shown.position, {NUM_POSITIONS}) GROUP BY phrase, item_id, day"""
    )
    connection.unregister("weights")


def interactions_sql() -> str:
    """The rows of table `interactions`, by query, item and day."""
    return f"""SELECT query, item_id, DATE '1970-01-01' + day AS day, impressions, clicks, add_to_carts, purchases, interactions.clients,
                      CAST(weight AS DOUBLE) / {_SCALE} AS corrected_impressions, CAST(credit AS DOUBLE) / {_SCALE} AS corrected_clicks
               FROM interactions JOIN counted USING (phrase) ORDER BY query, item_id, interactions.day"""
