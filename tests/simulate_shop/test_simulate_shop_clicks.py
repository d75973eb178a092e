"""The click model against hand-made values, and against the clicks that it draws."""

import numpy as np
import pyarrow.compute as pc
import pytest

from components.simulate_shop.clicks import attraction, cart_probability, click_probability, examination


def test_examination_is_a_power_of_the_position() -> None:
    # 4 ** -0.5 = 1 / 2
    assert examination(4, 0.5)[[0, 3]].tolist() == [1.0, 0.5]
    assert examination(3, 0.0).tolist() == [1.0, 1.0, 1.0]


def test_click_probability_is_examination_times_attraction() -> None:
    # grade 4: 0.02 + 0.6 x 1 = 0.62; grade 2: 0.02 + 0.6 x 0.3 = 0.2, at position 2 examined with 1 / 2
    np.testing.assert_allclose(click_probability(np.array([[4, 2]]), 1.0, False), [[0.62, 0.1]])
    np.testing.assert_allclose(attraction(np.arange(5)), [0.02, 0.08, 0.2, 0.38, 0.62])


def test_trust_bias_favors_the_top() -> None:
    # position 1, grade 0: (0.98 - 1/200) x 0.02 + 0.08 x 0.98 = 0.0195 + 0.0784
    biased = click_probability(np.array([[0, 0]]), 0.0, True)
    assert biased[0, 0] == pytest.approx(0.0979)
    # position 2: (0.98 - 2/200) x 0.02 + 0.04 x 0.98 = 0.0194 + 0.0392
    assert biased[0, 1] == pytest.approx(0.0586)


def test_cart_probability_rises_with_the_gain() -> None:
    np.testing.assert_allclose(cart_probability(np.array([0, 4])), [0.03, 0.18])


def test_click_rates_of_the_log_follow_the_model(shop) -> None:
    """By position, people's click rate per impression is examination x mean attraction x 0.7; the engine puts better items first."""
    events = shop.log("ubi_events")
    bots = shop.read("truth/bot_sessions.parquet")["session_id"]
    people = events.filter(pc.invert(pc.is_in(events["session_id"], value_set=bots.combine_chunks())))
    position = pc.struct_field(people["event_attributes"], ["position", "ordinal"]).to_numpy()
    action = people["action_name"].to_numpy(zero_copy_only=False)
    rates = [((action == "click") & (position == k)).sum() / ((action == "impression") & (position == k)).sum() for k in range(1, 11)]
    highest, lowest = 0.7 * attraction(np.array([4]))[0], 0.7 * attraction(np.array([0]))[0]
    theta = shop.read("truth/examination.parquet")["propensity"].to_numpy()[:10]
    np.testing.assert_allclose(theta, 1 / np.arange(1, 11))
    assert all(lowest * t < rate < highest * t for t, rate in zip(theta, rates, strict=True))
    assert rates[0] > 1.5 * rates[1] > 2 * rates[4]
