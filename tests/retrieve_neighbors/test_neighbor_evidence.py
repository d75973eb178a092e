"""The lower bound by closed forms of the Beta distribution, and which pairs count as accepted under each rule."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neighbor_shop import FIRST_DAY, evidence_of, shown

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.evidence import click_rate, is_accepted, mean_rate, quantile
from components.shared.errors import InputError


def bound(clicks: float, corrected: float, mean: float = 0.5, strength: float = 2.0, confidence: float = 0.95) -> float:
    return float(quantile(np.array([clicks]), np.array([corrected]), mean, strength, 1 - confidence)[0])


def bounds_of(*rows: dict, **settings: object) -> list[tuple[float, float]]:
    table = evidence_of(list(rows), RetrieveNeighborsConfig.from_mapping(settings, section="neighbors"))
    return list(zip(table["lower_bound"].to_pylist(), table["upper_bound"].to_pylist(), strict=True))


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


def test_both_bounds_travel_with_a_pair():
    # one pair with 4 clicks of 4: the log's mean is 1 - 1e-6 = about Beta(2 + 4, 0), so both are 1; with another pair's 4 misses the mean
    # is 4/8 and the prior Beta(1, 1): Beta(5, 1), whose 5 % and 95 % quantiles are 0.05^(1/5) and 0.95^(1/5)
    lower, upper = bounds_of(shown("q", "a", FIRST_DAY, 4, 4), shown("q", "b", FIRST_DAY, 4, 0), prior_strength=2)[0]
    assert (lower, upper) == (pytest.approx(0.05 ** (1 / 5), abs=1e-9), pytest.approx(0.95 ** (1 / 5), abs=1e-9))


def test_without_a_click_the_bounds_are_zero():
    assert bounds_of(shown("q", "a", FIRST_DAY, 50, 0)) == [(0.0, 0.0)]


def test_clicks_that_the_position_earned_are_no_evidence():
    # 20 clicks of 100 looks; position 1 earns 0.15 a look by itself, so 5 are left
    fair, trusted = shown("q", "a", FIRST_DAY, 100, 20), shown("q", "b", FIRST_DAY, 100, 20, credit=5.0)
    table = evidence_of([fair, trusted, shown("q", "c", FIRST_DAY, 100, 1, credit=-14.0)], RetrieveNeighborsConfig())
    assert table["rate"].to_pylist() == [0.2, 0.05, 0.0]
    assert table["clicks"].to_pylist() == [20, 20, 1]
    assert table["lower_bound"][0].as_py() > 4 * table["lower_bound"][1].as_py() > table["lower_bound"][2].as_py() == 0.0


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
    one = evidence_of(rows, RetrieveNeighborsConfig(), until=days[2]).to_pylist()[0]
    # the third day is the snapshot's own; 0.1 + 0.1 is exact in billionths
    assert (one["impressions"], one["clicks"], one["clients"], one["looks"]) == (20, 2, 7, 200_000_000)
    assert one["rate"] == 1.0  # 2 clicks / 0.2 looks, at most 1


def test_half_of_the_evidence_is_forgotten_after_a_half_life():
    # half-life 2 days: a day keeps 2^-0.5 = 0.707106781. Day 1 counts 8 looks, day 3 counts 1; day 2 has no row and ages all the same:
    # 8 x 0.707106781^2 + 1 = 5; clicks 4 x 0.5 + 0 = 2
    days = [FIRST_DAY, FIRST_DAY.replace(day=3)]
    rows = [shown("q", "i", days[0], 8, 4), shown("q", "i", days[1], 1, 0)]
    one = evidence_of(rows, RetrieveNeighborsConfig(half_life_days=2), until=FIRST_DAY.replace(day=4)).to_pylist()[0]
    assert (one["looks"], one["credit"]) == (pytest.approx(5e9, abs=20), pytest.approx(2e9, abs=20))
    assert (one["impressions"], one["clicks"], one["rate"]) == (9, 4, pytest.approx(0.4))
    # three days later, with nothing shown, 5 looks are 5 x 2^-1.5
    late = evidence_of(rows, RetrieveNeighborsConfig(half_life_days=2), until=FIRST_DAY.replace(day=7)).to_pylist()[0]
    assert late["looks"] == pytest.approx(5e9 * 2**-1.5, abs=20)


def test_old_acceptance_gives_way_to_new():
    days = [FIRST_DAY.replace(day=day) for day in (1, 20)]
    rows = [shown("q", "was", days[0], 100, 60), shown("q", "is", days[1], 100, 50), shown("q", "other", days[1], 400, 4)]
    for half_life, best in ((0, "was"), (7, "is")):
        table = evidence_of(rows, RetrieveNeighborsConfig(half_life_days=half_life), until=FIRST_DAY.replace(day=21)).sort_by("strength")
        assert table["item_id"][-1].as_py() == best


def test_sums_of_uneven_parts_do_not_depend_on_row_order():
    values = np.random.default_rng(1).random(3000)
    rows = [shown("q", "i", FIRST_DAY, 1, 0, corrected=float(value)) for value in values]
    sums = {evidence_of(order, RetrieveNeighborsConfig())["looks"][0].as_py() for order in (rows, rows[::-1])}
    assert len(sums) == 1
    assert sums.pop() / 1e9 == pytest.approx(values.sum(), abs=1e-5)


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
    corrected = {"corrected_impressions": None, "corrected_clicks": None}
    blank = {"impressions": None, "clicks": None, "clients": None, **corrected}
    rows = [shown("q", "a", FIRST_DAY, 10, 4) | corrected, shown("q", "b", FIRST_DAY, 1, 1) | blank]
    names = ("item_id", "impressions", "clicks", "clients", "looks", "rate")
    found = [tuple(row[name] for name in names) for row in evidence_of(rows, RetrieveNeighborsConfig()).to_pylist()]
    assert found == [("a", 10, 4, 9, 10_000_000_000, 0.4), ("b", 0, 0, 0, 0, 0.0)]  # uncorrected impressions count as looked at


def test_settings_out_of_range_name_the_key():
    with pytest.raises(InputError, match=r"section 'neighbors': key 'confidence' = 1.5"):
        RetrieveNeighborsConfig.from_mapping({"confidence": 1.5}, section="neighbors")
