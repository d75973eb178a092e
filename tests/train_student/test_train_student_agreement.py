"""Agreement with the teacher, by hand and against scipy."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from components.shared.errors import InputError
from components.train_student.agreement import agreement, pairwise_agreement, ranks_within, spearman_within


def test_ranks_share_the_average_of_a_tie_and_start_anew_in_each_group() -> None:
    values, groups = np.array([0.5, 0.1, 0.5, 7.0, 3.0]), np.array([4, 4, 4, 2, 2])
    assert ranks_within(values, groups).tolist() == [2.5, 1.0, 2.5, 2.0, 1.0]


def test_spearman_equals_scipy_for_each_query() -> None:
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(6), [3, 5, 8, 20, 2, 11]))
    student, teacher = rng.normal(size=len(groups)).round(1), rng.normal(size=len(groups)).round(1)
    expected = [spearmanr(student[groups == one], teacher[groups == one]).statistic for one in range(6)]
    np.testing.assert_allclose(spearman_within(student, teacher, groups), expected, atol=1e-12)


def test_spearman_skips_what_the_teacher_ties_and_blames_what_the_student_ties() -> None:
    groups = np.array([0, 0, 1, 1])
    found = spearman_within(np.array([1.0, 2.0, 3.0, 3.0]), np.array([5.0, 5.0, 1.0, 2.0]), groups)
    assert np.isnan(found[0])
    assert found[1] == 0.0


def test_pairwise_agreement_by_hand() -> None:
    # query 0, t = (2, 1, 0), s = (5, 5, 9): pair 0-1 tied by the student 1/2, 0-2 wrong 0, 1-2 wrong 0
    # query 1, t = (1, 1, 0), s = (0, 3, -1): 0-1 is not told apart by the teacher, 0-2 right 1, 1-2 right 1 -> 2.5 of 5
    student = np.array([5.0, 0.0, 5.0, 3.0, 9.0, -1.0])
    teacher = np.array([2.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    assert pairwise_agreement(student, teacher, np.array([0, 1, 0, 1, 0, 1])) == pytest.approx(0.5)


def test_offsets_per_query_hurt_only_the_agreement_across_queries() -> None:
    groups = np.repeat(np.arange(5), 4)
    teacher = np.tile([0.1, 0.2, 0.3, 0.4], 5)
    found = agreement(teacher + 10.0 * np.array([3, 1, 4, 0, 2])[groups], teacher, groups)
    assert found["spearman"] == pytest.approx(1.0)
    assert found["pairwise_agreement"] == 1.0
    assert found["spearman_across"] < 0.5


@pytest.mark.parametrize("student", [np.full(6, 0.3), np.array([1.0, 1, 1, 2, 2, 2]), np.array([1.0, 2, np.nan, 1, 2, 3])])
def test_a_collapsed_student_is_refused(student: np.ndarray) -> None:
    with pytest.raises(InputError, match="collapsed"):
        agreement(student, np.arange(6.0), np.array([0, 0, 0, 1, 1, 1]))


def test_undetermined_numbers_are_left_out() -> None:
    found = agreement(np.array([1.0, 2.0]), np.array([0.5, 0.5]), np.array([0, 0]))
    assert set(found) == {"score_std"}
