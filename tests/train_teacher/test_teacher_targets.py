"""Targets and losses against values worked out by hand."""

import math

import numpy as np
import pytest
import torch

from components.shared.errors import InputError
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.targets import (
    expected_gain_cross_entropy,
    folded_gains,
    grade_targets,
    grade_weights,
    judged_targets,
    soft_cross_entropy,
)


def test_smoothed_targets_go_to_the_grades_beside() -> None:
    # s = 0.2: the ends give 0.2 to their one neighbor, the middle 0.1 to each of two
    expected = [[0.8, 0.2, 0.0], [0.1, 0.8, 0.1], [0.0, 0.2, 0.8]]
    np.testing.assert_allclose(grade_targets(3, 0.2), expected)
    np.testing.assert_array_equal(grade_targets(4, 0.0), np.eye(4))


def test_votes_are_the_target_beside_a_few_for_the_grade() -> None:
    # grade 1 smoothed is (.1, .8, .1); votes 3, 1, 0 with a prior of 2: (3.2, 2.6, .2) / 6; no votes leave the grade's own target
    found = judged_targets(np.array([1, 1]), np.array([[3, 1, 0], [0, 0, 0]]), grade_targets(3, 0.2), 2.0)
    np.testing.assert_allclose(found, [[3.2 / 6, 2.6 / 6, 0.2 / 6], [0.1, 0.8, 0.1]])
    only_votes = judged_targets(np.array([1, 1]), np.array([[3, 1, 0], [0, 0, 0]]), np.eye(3), 0.0)
    np.testing.assert_allclose(only_votes, [[0.75, 0.25, 0.0], [0.0, 1.0, 0.0]])


def test_soft_cross_entropy_by_hand() -> None:
    # softmax(0, ln 2, ln 5) = (1/8, 2/8, 5/8); target (0, .2, .8): -(.2 ln .25 + .8 ln .625) = .277259 + .376003 = .653262
    logits = torch.tensor([[0.0, math.log(2), math.log(5)]])
    loss = soft_cross_entropy(logits, torch.tensor([[0.0, 0.2, 0.8]]))
    assert float(loss) == pytest.approx(0.653262, abs=1e-6)


def test_one_grade_targets_are_torchs_cross_entropy() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    grades = torch.tensor([0, 2, 1, 1, 0])
    ours = soft_cross_entropy(logits, torch.eye(3)[grades])
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(logits, grades, reduction="none"))


@pytest.mark.parametrize(("target", "expected"), [(1.0, 0.287682), (0.0, 1.386294), (0.5, 0.836988)])
def test_expected_gain_cross_entropy_by_hand(target: float, expected: float) -> None:
    # t = 0 * 1/8 + .5 * 2/8 + 1 * 5/8 = .75: -ln .75 = .287682; -ln .25 = 1.386294; their mean for y = .5
    logits = torch.tensor([[0.0, math.log(2), math.log(5)]])
    loss = expected_gain_cross_entropy(logits, torch.tensor([0.0, 0.5, 1.0]), torch.tensor([target]))
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_expected_gain_cross_entropy_stays_finite_and_pulls_the_right_way() -> None:
    logits = torch.tensor([[60.0, 0.0, -60.0], [-60.0, 0.0, 60.0]], requires_grad=True)
    losses = expected_gain_cross_entropy(logits, torch.tensor([0.0, 0.5, 1.0]), torch.tensor([1.0, 0.0]))
    assert torch.isfinite(losses).all()
    losses.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 0] > 0  # the worst grade, wrongly certain, must lose
    assert logits.grad[1, 2] > 0


def test_expected_gain_cross_entropy_is_least_at_the_target() -> None:
    # with two grades t is a sigmoid, and -y log t - (1-y) log(1-t) is least where t = y
    shares = torch.linspace(0.01, 0.99, 99)
    logits = torch.stack([torch.log(1 - shares), torch.log(shares)], dim=1)
    losses = expected_gain_cross_entropy(logits, torch.tensor([0.0, 1.0]), torch.full((99,), 0.3))
    assert float(shares[losses.argmin()]) == pytest.approx(0.3, abs=1e-6)


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([0.0, 0.01, 0.1, 1.0], [0.0, 0.0, 0.5, 1.0]),
        ([0.0, 0.4, 1.0], [0.0, 0.5, 1.0]),
        ([0.0, 1.0], [0.0, 1.0]),
        ([0.0, 0.1, 0.2, 0.5, 1.0], [0.0, 0.0, 0.0, 0.5, 1.0]),
    ],
)
def test_walmart_folds_to_one_half_and_nothing(gains: list[float], expected: list[float]) -> None:
    assert folded_gains(gains, "walmart") == expected
    assert folded_gains(gains, "card") == gains


def test_weights_of_grades_by_hand() -> None:
    # frequencies 3/4 and 1/4; balance 1: raw 4/3 and 4; mean over pairs (3 * 4/3 + 4) / 4 = 2 -> 2/3 and 2
    grades = np.array([0, 0, 0, 1])
    np.testing.assert_allclose(grade_weights(grades, 2, 1.0), [2 / 3, 2.0])
    np.testing.assert_allclose(grade_weights(grades, 2, 0.0), [1.0, 1.0])
    assert grade_weights(grades, 3, 1.0)[grades].mean() == pytest.approx(1.0)


def test_settings_refuse_what_cannot_work() -> None:
    with pytest.raises(InputError, match="batch_size 1 is smaller than num_processes 2"):
        TrainTeacherConfig.from_mapping({"batch_size": 1, "num_processes": 2}, section="teacher")
    with pytest.raises(InputError, match=r"key 'folding' = 'hard'.*'card', 'walmart' or 'grades'"):
        TrainTeacherConfig.from_mapping({"folding": "hard"}, section="teacher")
    assert TrainTeacherConfig.from_mapping({"max_tokens": 64.0}, section="teacher").max_tokens == 64
