"""Examination and trust of positions, estimated from clicks."""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from tiny_ubi import event, search, write_parquet

from components.extract_logs import click_model, propensity
from components.extract_logs.click_model import PlacedCounts, fit_click_model
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.propensity import Examination
from components.shared.errors import InputError
from components.shared.warehouse import Warehouse


def _examine(shown: pa.Table, propensity_method: str = "estimated", **settings: Any) -> Examination:
    with duckdb.connect() as connection:
        warehouse = Warehouse(connection)
        warehouse.put("shown", shown)
        config = ExtractLogsConfig.from_mapping({"propensity": propensity_method, **settings}, section="logs")
        return propensity.examine(warehouse, config)


def _shown(phrase: Any, position: Any, clicked: Any, item: Any = None, experiment: Any = None) -> pa.Table:
    num = len(phrase)
    items = pa.array(["i"] * num if item is None else [str(one) for one in item], pa.string())
    columns = {"phrase": np.asarray(phrase, np.int64), "item_id": items, "position": np.asarray(position, np.int32)}
    named = pa.array([None] * num if experiment is None else experiment, pa.string())
    return pa.table({**columns, "clicked": np.asarray(clicked, bool), "seen": np.ones(num, bool), "experiment": named})


def test_one_pair_by_hand():
    # one pair: 4 impressions with 2 clicks at position 1, 8 with 2 at position 2: ratio (2/8) / (2/4) = 0.5
    found = _examine(_shown([1] * 12, [1] * 4 + [2] * 8, [1, 1, 0, 0] + [1, 1] + [0] * 6), propensity_min_clicks=2)
    assert found.last == 2
    np.testing.assert_allclose(found.examined[:4], [1, 0.5, 0.5 * 2 / 3, 0.5 * 2 / 4], rtol=1e-6)  # then the power law goes on
    assert not found.trusted.any()


def test_pairs_are_pooled_with_the_weights_of_mantel_and_haenszel():
    # pair 1: 2 of 4 at position 1, 2 of 8 at position 2; pair 2: 3 of 6 and 1 of 2
    # (2 x 4 / 12 + 1 x 6 / 8) / (2 x 8 / 12 + 3 x 2 / 8) = (17 / 12) / (25 / 12) = 0.68; the plain rates would say 0.3 / 0.5 = 0.6
    clicked = [1, 1, 0, 0] + [1, 1] + [0] * 6 + [1, 1, 1, 0, 0, 0] + [1, 0]
    shown = _shown([1] * 12 + [2] * 8, [1] * 4 + [2] * 8 + [1] * 6 + [2] * 2, clicked)
    assert _examine(shown, propensity_min_clicks=1).examined[1] == pytest.approx(0.68, abs=1e-6)


def test_clicks_without_an_impression_say_nothing_of_examination():
    columns = _shown([1] * 12, [1] * 4 + [2] * 8, [1, 1, 0, 0] + [1, 1] + [0] * 6)
    unseen = _shown([1] * 5, [2] * 5, [1] * 5).set_column(4, "seen", pa.array([False] * 5))
    assert _examine(pa.concat_tables([columns, unseen]), propensity_min_clicks=2).examined[1] == pytest.approx(0.5, abs=1e-6)


def test_a_position_that_nobody_saw_ends_the_estimate():
    clicked = [1, 1, 0, 0] + [1, 1] + [0] * 6 + [1] * 8
    found = _examine(_shown([1] * 20, [1] * 4 + [2] * 8 + [4] * 8, clicked), propensity_min_clicks=2)
    assert found.last == 2
    np.testing.assert_allclose(found.examined[[2, 3]], [0.5 * 2 / 3, 0.5 * 2 / 4], rtol=1e-6)  # though position 4 has clicks


@pytest.mark.parametrize("method", ["estimated", "em"])
@pytest.mark.parametrize("shown", [_shown([1] * 4, [1, 1, 2, 2], [1, 0, 1, 0]), _shown([], [], [])])
def test_too_little_evidence_leaves_the_power_law(shown: pa.Table, method: str):
    found = _examine(shown, method, propensity_exponent=0.5, propensity_min_impressions=2)
    assert found.last == 1
    np.testing.assert_array_equal(found.examined, propensity.power_law(0.5))


def test_never_rises_and_never_exceeds_one():
    shown = _shown([1] * 8, [1] * 4 + [2] * 4, [1, 0, 0, 0, 1, 1, 1, 0])  # 3/4 at position 2 over 1/4 at position 1
    found = _examine(shown, propensity_min_clicks=1)
    assert found.examined[1] == 1.0
    assert (np.diff(found.examined) <= 0).all()


def test_shuffled_searches_compare_the_positions_of_a_query():
    # query 1, shuffled: other items at each position, 2 of 4 clicked at position 1 and 1 of 4 at 2: ratio 0.5. Ranked traffic is not read
    shuffled = _shown([1] * 8, [1] * 4 + [2] * 4, [1, 1, 0, 0, 1, 0, 0, 0], list("abcdefgh"), ["explore"] * 8)
    ranked = _shown([1] * 8, [1] * 4 + [2] * 4, [1] * 8, ["a"] * 8, ["engine"] * 8)
    both = pa.concat_tables([shuffled, ranked])
    assert _examine(both, "swap", propensity_min_clicks=1).examined[1] == pytest.approx(0.5)
    with pytest.raises(InputError, match="propensity_bucket 'coin'; experiments of this log: engine, explore; name the shuffled one"):
        _examine(both, "swap", propensity_bucket="coin")


def test_trust_is_only_estimated_by_the_click_model():
    with pytest.raises(InputError, match="trust bias is estimated by propensity 'em' only, not by 'swap'"):
        ExtractLogsConfig.from_mapping({"propensity": "swap", "propensity_trust": True}, section="logs")


def _counts(rate: np.ndarray, impressions: int, seed: int | None = None) -> PlacedCounts:
    """Every group at every position, clicked at `rate` [groups, positions]: exactly, or drawn."""
    group, position = (places.ravel() for places in np.indices(rate.shape))
    shown = np.full(rate.size, impressions)
    clicks = rate.ravel() * impressions if seed is None else np.random.default_rng(seed).binomial(shown, rate.ravel())
    return PlacedCounts(group, position, shown, clicks)


def test_click_model_finds_what_made_the_counts():
    # 0.8 x 0.5 = 0.4 and 0.8 x 0.25 = 0.2 of the impressions of group 1, half of that of group 2: ratio 0.5 whatever the relevance
    slope, base = fit_click_model(_counts(np.outer([0.8, 0.4], [0.5, 0.25]), 1000), trust=False)
    np.testing.assert_allclose(slope, [1, 0.5], atol=1e-4)
    assert not base.any()


def test_click_model_with_trust_by_hand():
    # relevance 0, 1/2, 1. At position 1 relevant items get 0.6, others 0.1; at 2: 0.3 and 0, the deeper half, so it sets the shift.
    # slope (0.6 - 0.1, 0.3) / 0.5 = (1, 0.6); base (0.1, 0)
    rate = np.outer([0, 0.5, 1], [0.6, 0.3]) + np.outer([1, 0.5, 0], [0.1, 0.0])
    slope, base = fit_click_model(_counts(rate, 10_000), trust=True)
    np.testing.assert_allclose(slope, [1, 0.6], atol=0.01)
    np.testing.assert_allclose(base, [0.1, 0], atol=0.005)


def test_one_step_of_the_click_model_by_hand():
    # an item relevant with 0.5 is clicked at 0.8 if it is, at 0.2 if not: after a click 0.4 / (0.4 + 0.1) = 0.8,
    # without one 0.5 x 0.2 / (0.5 x 0.2 + 0.5 x 0.8) = 0.2
    half = np.array([0.5])
    assert click_model._posterior(half, np.array([0.8]), np.array([0.2]))[0] == pytest.approx(0.8)
    assert click_model._posterior(half, 1 - np.array([0.8]), 1 - np.array([0.2]))[0] == pytest.approx(0.2)


def test_steps_are_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(click_model, "MAX_STEPS", 2)
    fit_click_model(_counts(np.outer([0.8, 0.4], [0.5, 0.1]), 100), trust=False)
    assert "still moves by" in caplog.text
    assert "after 2 steps" in caplog.text


POSITIONS = np.arange(1, 7, dtype=float)
TRUST = 0.15 / POSITIONS**2


def _log(eta: float, trust: bool, seed: int = 7) -> tuple[pa.Table, np.ndarray]:
    """Pairs wander over six positions, better items higher, so a plain click rate by position is biased; a tenth is shuffled."""
    rng = np.random.default_rng(seed)
    num, pairs = 600_000, 200
    pair = rng.integers(pairs, size=num)
    relevance = np.linspace(0.02, 0.6, pairs)
    shuffled = rng.random(num) < 0.1
    ranked = np.clip(np.rint(6 - 5 * relevance[pair] / 0.6 + rng.normal(0, 1.5, num)), 1, 6)
    place = np.where(shuffled, rng.integers(1, 7, num), ranked).astype(np.int32)
    attraction = relevance[pair] + (TRUST[place - 1] * (1 - relevance[pair]) if trust else 0)
    clicked = rng.random(num) < place.astype(float) ** -eta * attraction
    items = pa.array(pair).cast(pa.string())
    return _shown(pair % 5, place, clicked, items, np.where(shuffled, "explore", "engine")), POSITIONS**-eta


@pytest.mark.parametrize("eta", [0.6, 1.2])
@pytest.mark.parametrize("method", ["estimated", "em", "swap"])
def test_recovers_what_a_simulated_log_put_in(eta: float, method: str):
    shown, truth = _log(eta, trust=False)
    found = _examine(shown, method)
    assert found.last == 6
    np.testing.assert_allclose(found.examined[:6], truth, rtol=0.1)
    placed, clicked = shown["position"].to_numpy(), shown["clicked"].to_numpy()
    naive = clicked[placed == 6].mean() / clicked[placed == 1].mean()
    assert abs(naive - truth[5]) > 0.3 * truth[5]  # what the estimate corrects


def test_recovers_trust_where_a_model_without_it_cannot():
    shown, theta = _log(0.8, trust=True)
    slope, base = theta * (1 - TRUST), theta * TRUST
    shift = base[3:].sum() / slope[3:].sum()
    found = _examine(shown, "em", propensity_trust=True)
    np.testing.assert_allclose(found.examined[:6], slope / slope[0], rtol=0.1)
    np.testing.assert_allclose(found.trusted[:2], (base - shift * slope)[:2], atol=0.02)
    blind = _examine(shown, "em").examined[:6]
    assert np.abs(blind / (slope / slope[0]) - 1).max() > 0.12


def test_corrected_clicks_reach_the_interactions(extract: Any, monkeypatch: pytest.MonkeyPatch):
    examined, trusted = np.ones(propensity.NUM_POSITIONS), np.zeros(propensity.NUM_POSITIONS)
    examined[1], trusted[0] = 0.25, 0.1
    monkeypatch.setattr(propensity, "examine", lambda *_: Examination(examined, trusted, 2))
    rows = [event("a"), event("a", action="click"), event("b"), event("c", position=2)]
    got = extract(rows, [search("a", "red shoes"), search("b", "red shoes"), search("c", "red shoes")]).table("interactions")[0]
    # shown twice at position 1 and once at 2: 1 + 1 + 0.25 looks; one click less twice 0.1
    assert (got["clicks"], got["corrected_impressions"], got["corrected_clicks"]) == (1, 2.25, 0.8)


@pytest.mark.parametrize("as_parquet", [False, True])
def test_the_experiment_is_read_from_json_and_parquet(extract: Any, tmp_path: Path, as_parquet: bool):
    rows = [event(str(n), item=f"i{n}", position=1 + n % 2) for n in range(8)] + [event("0", "i0", "click"), event("1", "i1", "click", 2)]
    asked = [search(str(n), "red shoes") | {"query_attributes": {"experiment": "explore"}} for n in range(8)]
    if as_parquet:
        write_parquet(tmp_path / "shop/ubi_events/0.parquet", rows)
        write_parquet(tmp_path / "shop/ubi_queries/0.parquet", asked)
    root = tmp_path / "shop" if as_parquet else None
    report = extract(rows, asked, root=root, propensity="swap", propensity_min_clicks=1).report
    assert (report.metrics["propensity.estimated_positions"], report.metrics["propensity@2"]) == (2, 1.0)
    with pytest.raises(InputError, match="experiments of this log: none"):
        extract(rows, [search(str(n), "red shoes") for n in range(8)], propensity="swap")
