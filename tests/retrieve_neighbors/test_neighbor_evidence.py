"""The lower bound by closed forms of the Beta distribution, and which pairs count as accepted under each rule."""

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neighbor_shop import FIRST_DAY, arrow, shown

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.evidence import click_rate, collect_evidence, is_accepted, lower_bound, mean_rate
from components.shared.errors import InputError

NEXT_DAY = FIRST_DAY.replace(day=2)


def bound(clicks: float, corrected: float, mean: float = 0.5, strength: float = 2.0, confidence: float = 0.95) -> float:
    return float(lower_bound(np.array([clicks]), np.array([corrected]), mean, strength, confidence)[0])


def evidence_of(rows: list[dict], config: RetrieveNeighborsConfig) -> pa.Table:
    with duckdb.connect() as connection:
        connection.register("interactions", arrow("interactions", rows))
        return collect_evidence(connection, NEXT_DAY, config)


def accepted_items(rows: list[dict], **settings: object) -> list[str]:
    config = RetrieveNeighborsConfig.from_mapping(settings, section="neighbors")
    evidence = evidence_of(rows, config)
    return evidence.filter(is_accepted(evidence, config))["item_id"].to_pylist()


def test_lower_bound_by_hand():
    # prior Beta(1, 1); 4 clicks of 4: Beta(5, 1) has distribution x^5, so the 5 % quantile is 0.05^(1/5) = 0.549280272
    assert bound(4, 4) == pytest.approx(0.549280272, abs=1e-9)
    # 1 click of 1: Beta(2, 1): sqrt(0.05) = 0.223606798
    assert bound(1, 1) == pytest.approx(0.223606798, abs=1e-9)
    # prior Beta(0, 4) in the limit, 1 click of 5: Beta(1, 8): 1 - 0.95^(1/8) = 0.006391153
    assert bound(1, 5, mean=1e-12, strength=4) == pytest.approx(0.006391153, abs=1e-6)


def test_without_a_click_the_bound_is_zero():
    assert bound(0, 50) == 0.0


def test_more_clicks_than_corrected_impressions_are_no_misses():
    # 4 clicks where the position model expects 1.5 looks: as if all 4 were looked at
    assert bound(4, 1.5) == bound(4, 4)
    assert click_rate(np.array([4.0, 0.0]), np.array([1.5, 0.0])).tolist() == [1.0, 0.0]


def test_the_same_rate_counts_for_more_with_more_evidence():
    # ProRBP's cut sees no difference between 20 of 100 and 20,000 of 100,000
    few, many = bound(20, 100, mean=0.05, strength=10), bound(20_000, 100_000, mean=0.05, strength=10)
    assert few < 0.15
    assert 0.19 < many < 0.2


@settings(deadline=None)
@given(
    clicks=st.integers(1, 500),
    misses=st.integers(0, 500),
    mean=st.floats(0.01, 0.99),
    strength=st.floats(0.5, 100),
    confidence=st.floats(0.6, 0.99),
)
def test_lower_bound_is_below_the_posterior_mean_and_grows_with_clicks(
    clicks: int, misses: int, mean: float, strength: float, confidence: float
):
    here = bound(clicks, clicks + misses, mean, strength, confidence)
    assert 0 <= here <= 1
    assert bound(clicks + 1, clicks + 1 + misses, mean, strength, confidence) >= here
    assert bound(clicks, clicks + misses, mean, strength, 0.995) <= here


def test_mean_rate_stays_inside_zero_and_one():
    assert mean_rate(np.array([1.0, 1.0]), np.array([6.0, 2.0])) == 0.25
    assert mean_rate(np.zeros(2), np.ones(2)) == 1e-6
    assert mean_rate(np.ones(2), np.zeros(2)) == 1 - 1e-6


def test_days_are_added_exactly_and_the_busiest_day_gives_the_clients():
    days = [FIRST_DAY.replace(day=day) for day in (1, 2, 3)]
    rows = [shown("q", "i", day, 10, 1, corrected=0.1, clients=clients) for day, clients in zip(days, (3, 7, 90), strict=True)]
    with duckdb.connect() as connection:
        connection.register("interactions", arrow("interactions", rows))
        one = collect_evidence(connection, days[2], RetrieveNeighborsConfig()).to_pylist()[0]
    # the third day is the snapshot's own; 0.1 + 0.1 is exact in decimals
    assert (one["impressions"], one["clicks"], one["clients"], one["corrected_impressions"]) == (20, 2, 7, 0.2)
    assert one["rate"] == 1.0  # 2 clicks / 0.2 looks, at most 1


def test_sums_of_uneven_parts_do_not_depend_on_row_order():
    values = np.random.default_rng(1).random(3000)
    rows = [shown("q", "i", FIRST_DAY, 1, 0, corrected=float(value)) for value in values]
    sums = {evidence_of(order, RetrieveNeighborsConfig())["corrected_impressions"][0].as_py() for order in (rows, rows[::-1])}
    assert len(sums) == 1
    assert sums.pop() == pytest.approx(values.sum(), abs=1e-5)


def test_corrected_counts_lift_an_item_that_stood_low():
    # equal raw rates; the second stood where only a tenth of the shoppers look
    rows = [shown("q", "top", FIRST_DAY, 100, 10, corrected=100), shown("q", "deep", FIRST_DAY, 100, 10, corrected=20)]
    bounds = evidence_of(rows, RetrieveNeighborsConfig())
    by_item = dict(zip(bounds["item_id"].to_pylist(), bounds["lower_bound"].to_pylist(), strict=True))
    assert by_item["deep"] > 2 * by_item["top"]


LOG = [
    shown("q", "good", FIRST_DAY, 100, 20),
    shown("q", "one_shopper", FIRST_DAY, 100, 50, clients=1),
    shown("q", "rare", FIRST_DAY, 4, 4),
    shown("q", "poor", FIRST_DAY, 1000, 5),
    shown("q", "never", FIRST_DAY, 1000, 0),
]


def test_accepted_by_lower_bound():
    assert accepted_items(LOG) == ["good"]
    assert accepted_items(LOG, min_clients=0) == ["good", "one_shopper"]
    assert accepted_items(LOG, min_impressions=0) == ["good", "rare"]
    assert accepted_items(LOG, min_lower_bound=0) == ["good", "poor"]


def test_accepted_by_the_published_rule():
    # 100 exposures and 0.2: both bounds are included; position and clients do not count
    assert accepted_items(LOG, rule="published") == ["good", "one_shopper"]
    assert accepted_items(LOG, rule="published", min_exposures=101) == []
    assert accepted_items(LOG, rule="published", min_rate=0.21) == ["one_shopper"]
    assert accepted_items(LOG, rule="published", min_rate=0, min_exposures=0) == ["good", "one_shopper", "poor", "rare"]


def test_each_least_is_itself_enough():
    rows = [shown("q", "i", FIRST_DAY, 5, 2, corrected=4, clients=2)]
    assert accepted_items(rows, min_impressions=5, min_clients=2) == ["i"]
    assert accepted_items(rows, min_impressions=6) == accepted_items(rows, min_clients=3) == []
    exact = float(evidence_of(rows, RetrieveNeighborsConfig())["lower_bound"][0].as_py())
    assert accepted_items(rows, min_lower_bound=exact) == ["i"]
    assert accepted_items(rows, min_lower_bound=np.nextafter(exact, 1)) == []


def test_the_published_rule_reads_raw_impressions():
    # 20 clicks of 100 impressions, of which the position model thinks 25 were looked at: 0.2, not 0.8
    rows = [shown("q", "i", FIRST_DAY, 100, 20, corrected=25)]
    assert accepted_items(rows, rule="published") == ["i"]
    assert accepted_items(rows, rule="published", min_rate=0.21) == []
    assert evidence_of(rows, RetrieveNeighborsConfig())["rate"].to_pylist() == [0.8]


def test_counts_that_a_table_leaves_out():
    blank = {"impressions": None, "clicks": None, "clients": None, "corrected_impressions": None}
    rows = [shown("q", "a", FIRST_DAY, 10, 4) | {"corrected_impressions": None}, shown("q", "b", FIRST_DAY, 1, 1) | blank]
    names = ("item_id", "impressions", "clicks", "clients", "corrected_impressions", "rate")
    found = [tuple(row[name] for name in names) for row in evidence_of(rows, RetrieveNeighborsConfig()).to_pylist()]
    assert found == [("a", 10, 4, 9, 10.0, 0.4), ("b", 0, 0, 0, 0.0, 0.0)]  # uncorrected impressions count as looked at


def test_settings_out_of_range_name_the_key():
    with pytest.raises(InputError, match=r"section 'neighbors': key 'confidence' = 1.5"):
        RetrieveNeighborsConfig.from_mapping({"confidence": 1.5}, section="neighbors")
