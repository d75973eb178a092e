"""Grades from cosines: the fit against known models, and the rules that it keeps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.models.scoring import grade_logits
from components.train_teacher.similarity import LEAST_SLOPE, MARGIN_SCALE, SeparateReader, cross_fitted_grades, fit_grades


def probabilities(cosines: np.ndarray, slope: float, offsets: list[float]) -> np.ndarray:
    return torch.softmax(torch.from_numpy(grade_logits(cosines[:, None], slope, offsets)), dim=-1).numpy()


def test_logits_rise_by_slope_times_grade() -> None:
    # slope 2, cosine 0.5: 0, 1, 2 on top of the offsets
    np.testing.assert_allclose(grade_logits(np.array([[0.5]]), 2.0, [0.5, 0.0, -0.5]), [[0.5, 1.0, 1.5]])


def test_a_model_that_made_the_grades_is_found_again() -> None:
    rng = np.random.default_rng(0)
    cosines = rng.uniform(0, 1, 40_000)
    truth = probabilities(cosines, 6.0, [1.0, 0.0, -2.0])
    grades = (rng.random((len(cosines), 1)) > truth.cumsum(axis=1)[:, :2]).sum(axis=1)
    slope, offsets = fit_grades(cosines, grades, 3)
    assert slope == pytest.approx(6.0, rel=0.03)
    assert sum(offsets) == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(probabilities(cosines[:50], slope, offsets), truth[:50], atol=0.01)


def test_without_a_difference_each_grade_gets_its_share() -> None:
    # every grade counts once more: (3 + 1, 0 + 1, 6 + 1) of 12
    slope, offsets = fit_grades(np.full(9, 0.3), np.array([0] * 3 + [2] * 6), 3)
    np.testing.assert_allclose(probabilities(np.array([0.3]), slope, offsets)[0], [4 / 12, 1 / 12, 7 / 12], atol=1e-3)


@given(seed=st.integers(0, 50), num_grades=st.integers(2, 5), num_pairs=st.integers(1, 60))
@settings(deadline=None, max_examples=40)
def test_the_order_of_the_cosine_is_never_turned_around(seed: int, num_grades: int, num_pairs: int) -> None:
    rng = np.random.default_rng(seed)
    cosines = rng.uniform(-1, 1, num_pairs)
    slope, offsets = fit_grades(cosines, np.argsort(np.argsort(-cosines)) * num_grades // num_pairs, num_grades)  # worse where nearer
    assert slope >= LEAST_SLOPE
    gains = probabilities(np.sort(cosines), slope, offsets) @ np.linspace(0, 1, num_grades)
    assert (np.diff(gains) > -1e-6).all()


def test_the_reader_gives_scaled_cosines_of_the_texts_that_a_row_names() -> None:
    class Network(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
            del attention_mask
            return type("Output", (), {"last_hidden_state": torch.eye(2)[input_ids]})

    # texts: (1, 0), (0, 1), their mean; cosines of rows (0, 1), (0, 2)
    ids, mask = torch.tensor([[0, 0], [1, 1], [0, 1]]), torch.ones(3, 2, dtype=torch.long)
    texts = [{"input_ids": ids[:1], "attention_mask": mask[:1]}, {"input_ids": ids[1:], "attention_mask": mask[1:]}]
    answer = SeparateReader(Network())(left=torch.tensor([0, 0]), right=torch.tensor([1, 2]), texts=texts)
    np.testing.assert_allclose(answer.logits, [[0.0], [MARGIN_SCALE * np.sqrt(0.5)]], atol=1e-5)


def test_a_query_is_predicted_by_grades_that_were_fitted_to_the_others() -> None:
    cosines = np.array([0.1, 0.9, 0.2, 0.8, 0.3, 0.6])
    grades = np.array([0, 1, 0, 1, 1, 0])
    queries = np.array(["a", "a", "b", "b", "c", "c"])
    found = cross_fitted_grades(cosines, grades, queries, 2)
    for query in "abc":
        here = queries == query
        expected = probabilities(cosines[here], *fit_grades(cosines[~here], grades[~here], 2))
        np.testing.assert_allclose(found[here], expected, atol=1e-6)
    turned = np.where(queries == "a", 1 - grades, grades)
    np.testing.assert_array_equal(cross_fitted_grades(cosines, turned, queries, 2)[:2], found[:2])
    assert cross_fitted_grades(cosines[:2], grades[:2], queries[:2], 2).size == 0
