"""Over- and under-grading: ratios, intervals, boundaries and the picture, against values worked by hand."""

import numpy as np
import pytest

from components.train_teacher.figures import confusion_plot
from components.train_teacher.grade_bias import bias_metrics, biased_boundary, boundary_precision, confusion, over_under_ratio

JUDGED = np.array([0, 0, 1, 1, 2, 2, 2, 0])
PREDICTED = np.array([0, 1, 2, 1, 1, 2, 2, 2])


def test_the_ratio_counts_pairs_above_and_below_their_grade() -> None:
    # above: 0 -> 1, 1 -> 2, 0 -> 2; below: 2 -> 1; half a pair is added to both
    assert over_under_ratio(JUDGED, PREDICTED) == pytest.approx(3.5 / 1.5)
    assert over_under_ratio(PREDICTED, JUDGED) == pytest.approx(1.5 / 3.5)
    assert over_under_ratio(JUDGED, JUDGED) == 1.0
    assert over_under_ratio(np.array([0, 0]), np.array([1, 1])) == 5.0


def test_shares_and_interval_of_the_ratio() -> None:
    query = np.arange(8)
    found = bias_metrics(JUDGED, PREDICTED, query)
    assert (found["over_share"], found["under_share"]) == (3 / 8, 1 / 8)
    assert found["over_under_ratio_low"] < found["over_under_ratio"] < found["over_under_ratio_high"]
    # one query has one resample only; the more queries the pairs come from, the narrower the interval
    alone = bias_metrics(JUDGED, PREDICTED, np.zeros(8))
    assert alone["over_under_ratio_low"] == alone["over_under_ratio_high"] == alone["over_under_ratio"]
    many = bias_metrics(np.tile(JUDGED, 50), np.tile(PREDICTED, 50), np.arange(400))
    widths = [one["over_under_ratio_high"] / one["over_under_ratio_low"] for one in (many, found)]
    assert widths[0] < 0.5 * widths[1]


def test_errors_of_a_query_are_resampled_together() -> None:
    judged, predicted, query = np.ones(80, int), np.tile([2, 0], 40), np.repeat(np.arange(10), 8)
    predicted = np.where(query < 5, 2, 0)  # half of the queries are graded too high as a whole, half too low
    by_query, by_pair = (bias_metrics(judged, predicted, one) for one in (query, np.arange(80)))
    widths = [found["over_under_ratio_high"] / found["over_under_ratio_low"] for found in (by_query, by_pair)]
    assert widths[0] > 2 * widths[1]


def test_the_boundary_that_errors_cross_one_sidedly_and_its_precision() -> None:
    counts = confusion(JUDGED, PREDICTED, 3)
    np.testing.assert_array_equal(counts, [[1, 1, 1], [0, 1, 1], [0, 1, 2]])
    # boundary 1: up 0 -> 1, 0 -> 2, down none: net 2; boundary 2: up 0 -> 2, 1 -> 2, down 2 -> 1: net 1
    assert biased_boundary(counts) == (1, True)
    assert boundary_precision(counts, 1, True) == pytest.approx(5 / 7)  # of 7 pairs predicted 1 or 2, 5 are judged so
    assert biased_boundary(counts.T) == (1, False)
    assert boundary_precision(counts.T, 1, False) == pytest.approx(1 / 3)
    assert boundary_precision(np.array([[0, 0], [3, 2]]), 1, False) == 0.0
    assert boundary_precision(np.array([[0, 0], [0, 2]]), 1, False) == 1.0


def test_the_picture_holds_the_counts_and_the_cards_words() -> None:
    drawn = confusion_plot([[1, 1], [1_234, 5]], ["<b>bad</b>", "a $x$ b"]).decode()
    assert "1 graded too high, 1,234 too low" in drawn
    assert "&lt;b&gt;bad&lt;/b&gt;" in drawn
    assert "a $x$ b" in drawn
