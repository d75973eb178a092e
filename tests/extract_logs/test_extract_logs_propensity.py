"""Examination by position, estimated from clicks."""

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from components.extract_logs import propensity
from components.extract_logs.config import ExtractLogsConfig


def _estimate(shown, **settings):
    connection = duckdb.connect()
    connection.register("shown", shown)
    found = propensity.estimate(connection, ExtractLogsConfig(**settings))
    connection.close()
    return found


def _shown(phrase, position, clicked):
    num = len(phrase)
    columns = {"phrase": phrase, "item_id": ["i"] * num, "position": np.asarray(position, np.int32), "clicked": np.asarray(clicked, bool)}
    return pa.table({**columns, "seen": [True] * num})


def test_one_pair_by_hand():
    # one pair: 4 impressions with 2 clicks at position 1, 8 with 2 at position 2: ratio (2/8) / (2/4) = 0.5
    shown = _shown([1] * 12, [1] * 4 + [2] * 8, [1, 1, 0, 0] + [1, 1] + [0] * 6)
    values, last = _estimate(shown, propensity_min_clicks=2)
    assert last == 2
    np.testing.assert_allclose(values[:4], [1, 0.5, 0.5 * 2 / 3, 0.5 * 2 / 4], rtol=1e-6)  # then the power law goes on


def test_pairs_are_pooled_with_the_weights_of_mantel_and_haenszel():
    # pair 1: 2 of 4 at position 1, 2 of 8 at position 2; pair 2: 3 of 6 and 1 of 2
    # (2 x 4 / 12 + 1 x 6 / 8) / (2 x 8 / 12 + 3 x 2 / 8) = (17 / 12) / (25 / 12) = 0.68; the plain rates would say 0.3 / 0.5 = 0.6
    clicked = [1, 1, 0, 0] + [1, 1] + [0] * 6 + [1, 1, 1, 0, 0, 0] + [1, 0]
    shown = _shown([1] * 12 + [2] * 8, [1] * 4 + [2] * 8 + [1] * 6 + [2] * 2, clicked)
    assert _estimate(shown, propensity_min_clicks=1)[0][1] == pytest.approx(0.68, abs=1e-6)


def test_clicks_without_an_impression_say_nothing_of_examination():
    columns = _shown([1] * 12, [1] * 4 + [2] * 8, [1, 1, 0, 0] + [1, 1] + [0] * 6)
    unseen = _shown([1] * 5, [2] * 5, [1] * 5).set_column(4, "seen", pa.array([False] * 5))
    assert _estimate(pa.concat_tables([columns, unseen]), propensity_min_clicks=2)[0][1] == pytest.approx(0.5, abs=1e-6)


def test_a_position_that_nobody_saw_ends_the_estimate():
    clicked = [1, 1, 0, 0] + [1, 1] + [0] * 6 + [1] * 8
    values, last = _estimate(_shown([1] * 20, [1] * 4 + [2] * 8 + [4] * 8, clicked), propensity_min_clicks=2)
    assert last == 2
    np.testing.assert_allclose(values[[2, 3]], [0.5 * 2 / 3, 0.5 * 2 / 4], rtol=1e-6)  # the power law, though position 4 has clicks


def test_too_little_evidence_leaves_the_power_law():
    values, last = _estimate(_shown([1] * 4, [1, 1, 2, 2], [1, 0, 1, 0]), propensity_exponent=0.5)
    assert last == 1
    np.testing.assert_array_equal(values, propensity.power_law(0.5))


@pytest.mark.parametrize("eta", [0.6, 1.2])
def test_recovers_what_a_simulated_log_put_in(eta):
    # position-based model: click with probability relevance x position^-eta; pairs wander over positions 1 to 6,
    # and better items stand higher, so a plain click rate by position would be biased
    rng = np.random.default_rng(7)
    num, pairs = 400_000, 200
    pair = rng.integers(pairs, size=num)
    relevance = np.linspace(0.05, 0.6, pairs)
    position = np.clip(np.rint(6 - 5 * relevance[pair] / 0.6 + rng.normal(0, 1.5, num)), 1, 6).astype(np.int32)
    clicked = rng.random(num) < relevance[pair] * position.astype(float) ** -eta
    values, last = _estimate(_shown(pair, position, clicked))
    truth = np.arange(1, 7, dtype=float) ** -eta
    assert last == 6
    np.testing.assert_allclose(values[:6], truth, rtol=0.15)
    naive = np.array([clicked[position == p].mean() for p in range(1, 7)])
    assert abs(naive[5] / naive[0] - truth[5]) > 0.3 * truth[5]  # what the estimate corrects


def test_never_rises_and_never_exceeds_one():
    shown = _shown([1] * 8, [1] * 4 + [2] * 4, [1, 0, 0, 0, 1, 1, 1, 0])  # 3/4 at position 2 over 1/4 at position 1
    values, _ = _estimate(shown, propensity_min_clicks=1)
    assert values[1] == 1.0
    assert (np.diff(values) <= 0).all()
