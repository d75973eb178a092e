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
