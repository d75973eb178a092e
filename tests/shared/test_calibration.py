"""Calibration: maps by hand, order that stays, an error that falls, and bounds that hold on queries that were not seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.calibration import EVERYWHERE, MAPS, Bins, Calibration, controlled_bound, isotonic_map, platt_map


def test_isotonic_knots_by_hand():
    # gains 0, 1, 0, 1 at scores 0, 1, 2, 6: the middle two violate the order and pool to 1/2 at (1 + 2) / 2
    found = isotonic_map(np.array([0.0, 1.0, 2.0, 6.0]), np.array([0.0, 1.0, 0.0, 1.0]))
    assert found == {"scores": [0.0, 1.5, 6.0], "gains": [0.0, 0.5, 1.0]}
    # halfway from 1.5 to 6 lies 0.75; beyond the knots the ends are kept
    gains = Calibration({EVERYWHERE: found}).gains(np.array([3.75, -5.0, 50.0]), np.array(["head"] * 3))
    np.testing.assert_allclose(gains, [0.75, 0.0, 1.0], atol=2e-6)


def test_platt_finds_the_map_that_made_the_gains():
    scores = np.linspace(-4, 9, 400)
    found = platt_map(scores, 1 / (1 + np.exp(-(0.7 * scores - 2))))
    assert found["slope"][0] == pytest.approx(0.7, abs=1e-3)
    assert found["offset"][0] == pytest.approx(-2, abs=1e-2)


def test_error_by_hand():
    # two bins of two: predicted .15 and .8, judged .5 and .5 -> (.35 + .3) / 2
    assert Bins.of(np.array([0.9, 0.1, 0.2, 0.7]), np.array([0.0, 0.0, 1.0, 1.0]), 2).error() == pytest.approx(0.325)


@settings(max_examples=60, deadline=None)
@given(
    method=st.sampled_from(sorted(MAPS)),
    rows=st.lists(st.tuples(st.floats(-30, 30), st.sampled_from([0.0, 0.1, 1.0])), min_size=2, max_size=40),
)
def test_no_map_changes_an_order(method, rows):
    scores, gains = (np.array(column) for column in zip(*rows, strict=True))
    distinct = np.unique(np.round(scores, 3))
    found = Calibration.fit(scores, gains, np.full(len(scores), "tail"), method).gains(distinct, np.full(len(distinct), "tail"))
    assert (np.diff(found) > 0).all()


def margin_scores(rng: np.random.Generator, num_queries: int) -> tuple[np.ndarray, ...]:
    """Scores as a margin loss leaves them: right within queries, with an offset per query, and another scale in each segment."""
    query = np.repeat(np.arange(num_queries), 10)
    segment = np.where(query % 2, "head", "tail")
    truth = rng.random(len(query))
    gains = (rng.random(len(query)) < truth).astype(float)
    offset = rng.normal(0, 0.5, num_queries)[query] + np.where(segment == "head", 3.0, -2.0)
    return np.log(truth / (1 - truth)) * np.where(segment == "head", 0.5, 2.0) + offset, gains, segment, query


@pytest.mark.parametrize("method", sorted(MAPS))
def test_five_hundred_labels_halve_the_error_and_keep_every_order(method):
    rng = np.random.default_rng(3)
    scores, gains, segments, _ = margin_scores(rng, 50)
    new_scores, new_gains, new_segments, query = margin_scores(rng, 400)
    found = Calibration.fit(scores, gains, segments, method)
    assert {"head", "tail", EVERYWHERE} == set(found.maps)
    calibrated = found.gains(new_scores, new_segments)
    before = Bins.of(1 / (1 + np.exp(-new_scores)), new_gains).error()
    assert Bins.of(calibrated, new_gains).error() <= before / 2
    for one in range(400):
        assert (np.argsort(calibrated[query == one]) == np.argsort(new_scores[query == one])).all()


def test_one_map_for_all_segments_is_worse():
    rng = np.random.default_rng(4)
    scores, gains, segments, _ = margin_scores(rng, 50)
    new_scores, new_gains, new_segments, _ = margin_scores(rng, 400)
    errors = []
    for known, asked in ((segments, new_segments), (np.full_like(segments, "x"), np.full_like(new_segments, "x"))):
        calibrated = Calibration.fit(scores, gains, known, "isotonic").gains(new_scores, asked)
        errors.append(
            np.mean([Bins.of(calibrated[new_segments == one], new_gains[new_segments == one]).error() for one in ("head", "tail")])
        )
    assert errors[0] < errors[1]


def test_without_a_segments_own_map_an_item_is_hidden_only_where_every_map_hides_it():
    maps = {name: {"scores": [0.0, 10.0], "gains": [0.0, top]} for name, top in ((EVERYWHERE, 0.5), ("head", 0.2), ("tail", 1.0))}
    found = Calibration(maps, hide_below=0.15, sure_above=0.15)
    # a score of 2 has the gain .1 by the map of all, .04 by the head's and .2 by the tail's; 1 has at most .1, 9 at least .18
    scores, segments = np.array([2.0, 2.0, 2.0, 1.0, 9.0, 2.0]), np.array(["head", "tail", EVERYWHERE, EVERYWHERE, EVERYWHERE, "Tail"])
    told = found.safe_verdicts(scores, segments)
    assert told["hidden"].tolist() == [True, False, False, True, False, False]
    assert told["sure"].tolist() == [False, True, False, False, True, False]
    assert told["uncertain"].tolist() == [False, False, True, False, False, True]


def test_a_bound_by_hand():
    # 4 queries of 2, 1, 1, 1 items; error .6 allows .6 * 5 - 1 = 2 in sum of shares: .5 (at .1) + 1 (.2) = 1.5; with .3 it is 2.5
    values, queries = np.array([0.1, 0.9, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 2, 3])
    assert controlled_bound(values, queries, 0.6) == pytest.approx(0.3)
    assert controlled_bound(values, queries, 0.2) == pytest.approx(0.1)  # nothing may lie below
    assert controlled_bound(values, queries, 0.19) is None  # 1 / .19 - 1 queries are more than 4
    assert controlled_bound(np.array([]), np.array([]), 0.5) is None


def test_a_bound_errs_as_rarely_as_it_says():
    """Mean over many draws of the share of a new query's items below the bound; items of a query resemble each other."""
    rng, error, shares = np.random.default_rng(5), 0.1, []
    for _ in range(600):
        level = rng.normal(0, 1, 31)
        values = (level[:, None] + rng.normal(0, 0.3, (31, 6))).clip(-3, 3)
        bound = controlled_bound(values[:30].ravel(), np.repeat(np.arange(30), 6), error)
        shares.append((values[30] < bound).mean())
    assert np.mean(shares) <= error + 2 * np.std(shares) / np.sqrt(len(shares))
    assert np.mean(shares) >= error / 2  # and it does not hide behind caution
