"""Losses against values computed by hand, against their quadratic definition, and against what they must not see."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.losses import LOSSES, PAIRWISE, bce, kl_listwise, listnet, margin_mse, pointwise_mse, ranknet


def batch(scores: list[float], targets: list[float], groups: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    return torch.tensor(scores, dtype=torch.float64), torch.tensor(targets, dtype=torch.float64), torch.tensor(groups), max(groups) + 1


def margin_mse_by_pairs(scores: list[float], targets: list[float], groups: list[int]) -> float:
    """The paper's own double sum."""
    losses = []
    for group in sorted(set(groups)):
        rows = [row for row, one in enumerate(groups) if one == group]
        n = len(rows)
        if n < 2:
            continue
        pairs = [(i, j) for at, i in enumerate(rows) for j in rows[at + 1 :]]
        total = sum(((scores[i] - scores[j]) - (targets[i] - targets[j])) ** 2 for i, j in pairs)
        losses.append(2.0 / (n * (n - 1)) * total)
    return sum(losses) / len(losses) if losses else 0.0


def test_margin_mse_by_hand() -> None:
    # query 0: e = (1, 0, -1): margins of e 1, 2, 1 -> squares 1 + 4 + 1 = 6; 2 / (3*2) * 6 = 2 (= 2 Var, Var = 1)
    # query 1: e = (0.5, -0.5): one margin 1 -> 2 / (2*1) * 1 = 1;  query 2 has one item and does not count. Mean = 1.5
    scores, targets, groups = [3.0, 1.0, 0.0, 0.5, 0.0, 9.0], [2.0, 1.0, 1.0, 0.0, 0.5, 0.0], [0, 0, 0, 1, 1, 2]
    assert margin_mse(*batch(scores, targets, groups)).item() == pytest.approx(1.5)


def test_margin_mse_is_twice_the_variance_of_the_residual() -> None:
    residual = np.random.default_rng(0).normal(size=40)
    loss = margin_mse(*batch(residual.tolist(), [0.0] * 40, [0] * 40)).item()
    assert loss == pytest.approx(2 * residual.var(ddof=1), abs=1e-12)


rows = st.lists(st.tuples(st.floats(-8, 8), st.floats(-8, 8), st.integers(0, 4)), min_size=1, max_size=30)


@given(rows)
@settings(max_examples=150, deadline=None)
def test_margin_mse_equals_the_double_sum_in_any_row_order(drawn: list[tuple[float, float, int]]) -> None:
    scores, targets, groups = (list(column) for column in zip(*drawn, strict=True))
    assert margin_mse(*batch(scores, targets, groups)).item() == pytest.approx(margin_mse_by_pairs(scores, targets, groups), abs=1e-6)


@pytest.mark.parametrize("name", PAIRWISE)
def test_a_constant_per_query_changes_neither_loss_nor_gradient(name: str) -> None:
    rng = np.random.default_rng(1)
    groups = torch.from_numpy(np.repeat([0, 1, 2], [5, 1, 4]))
    targets, offset = torch.from_numpy(rng.normal(size=10)), torch.tensor([3.0, -7.0, 0.5], dtype=torch.float64)
    found = []
    for teacher in (targets, targets + offset[groups]):
        scores = torch.from_numpy(np.linspace(-1, 1, 10)).requires_grad_()
        loss = LOSSES[name](scores, teacher, groups, 3)
        loss.backward()
        found.append((loss.item(), scores.grad))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-9)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-9, rtol=0)
    assert found[0][1][5].item() == 0.0  # the query with one item gets no gradient


def test_pointwise_mse_sees_the_constant() -> None:
    # (1-0)^2, (2-4)^2 -> mean 2.5; targets + 1: (1-1)^2, (2-5)^2 -> 4.5
    assert pointwise_mse(*batch([1.0, 2.0], [0.0, 4.0], [0, 0])).item() == pytest.approx(2.5)
    assert pointwise_mse(*batch([1.0, 2.0], [1.0, 5.0], [0, 0])).item() == pytest.approx(4.5)


def test_weights_by_hand() -> None:
    # residuals 1, 3, 0 with weights 1, 2, 4: pairs 1*2 (1-3)^2 + 1*4 (1-0)^2 + 2*4 (3-0)^2 = 8 + 4 + 72 over 2 + 4 + 8
    given = batch([1.0, 3.0, 0.0, 7.0], [0.0, 0.0, 0.0, 0.0], [0, 0, 0, 1])
    weights = torch.tensor([1.0, 2.0, 4.0, 0.5], dtype=given[0].dtype)
    assert margin_mse(*given, weights).item() == pytest.approx(84 / 14)
    # (1*1 + 2*9 + 4*0 + 0.5*49) / 7.5
    assert pointwise_mse(*given, weights).item() == pytest.approx(43.5 / 7.5)
    # s = 0: ln 2 each; s = ln 3 with t = 1: -ln 3/4; weights 3 and 1
    pair = batch([0.0, math.log(3)], [0.3, 1.0], [0, 0])
    assert bce(*pair, torch.tensor([3.0, 1.0], dtype=pair[0].dtype)).item() == pytest.approx((3 * math.log(2) - math.log(0.75)) / 4)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_equal_weights_change_nothing(name: str) -> None:
    rng, loss = np.random.default_rng(5), LOSSES[name]
    given = batch(rng.normal(size=12).tolist(), rng.random(12).tolist(), rng.integers(0, 3, 12).tolist())
    assert loss(*given, torch.full((12,), 0.3, dtype=given[0].dtype)).item() == pytest.approx(loss(*given).item())


def test_weights_of_lists_and_their_pairs_by_hand() -> None:
    # query 0: teacher (3/4, 1/4), student (1/2, 1/2), weights 1 and 3, so the list counts 2; query 1: student = teacher, counts 6
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    given = batch([5.0, 5.0, 0.0, 0.0], [math.log(3), 0.0, 1.0, 1.0], [0, 0, 1, 1])
    weights = torch.tensor([1.0, 3.0, 6.0, 6.0], dtype=given[0].dtype)
    assert kl_listwise(*given, weights).item() == pytest.approx(2 * kl / 8)
    assert listnet(*given, weights).item() == pytest.approx(math.log(2))  # -3/4 ln 1/2 - 1/4 ln 1/2 in both
    # pairs (0,1) s 0 - 0 -> ln 2 with weight 1*2, (0,2) and (1,2) s -ln 3 -> ln 4 with weights 1*4 and 2*4
    three = batch([0.0, 0.0, math.log(3)], [2.0, 1.0, 0.0], [0, 0, 0])
    weights = torch.tensor([1.0, 2.0, 4.0], dtype=given[0].dtype)
    assert ranknet(*three, weights).item() == pytest.approx((2 * math.log(2) + 12 * math.log(4)) / 14)


def test_listnet_by_hand() -> None:
    # teacher (3/4, 1/4), student softmax(0, ln 3) = (1/4, 3/4): -3/4 ln 1/4 - 1/4 ln 3/4
    expected = -0.75 * math.log(0.25) - 0.25 * math.log(0.75)
    assert listnet(*batch([0.0, math.log(3), 2.0], [math.log(3), 0.0, 9.0], [0, 0, 1])).item() == pytest.approx(expected)


def test_bce_by_hand() -> None:
    # s = 0 -> p = 1/2: ln 2 whatever t is; s = ln 3 -> p = 3/4, t = 1/4: -(1/4 ln 3/4 + 3/4 ln 1/4)
    expected = (math.log(2) - 0.25 * math.log(0.75) - 0.75 * math.log(0.25)) / 2
    assert bce(*batch([0.0, math.log(3)], [0.3, 0.25], [0, 0])).item() == pytest.approx(expected)


def test_kl_listwise_by_hand() -> None:
    # teacher softmax(ln 3, 0) = (3/4, 1/4), student (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2); the single item of query 1 does not count
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert kl_listwise(*batch([5.0, 5.0, 2.0], [math.log(3), 0.0, 9.0], [0, 0, 1])).item() == pytest.approx(expected)


def test_kl_listwise_survives_large_scores() -> None:
    # as above: softmax sees differences only, but exp(1000) alone is infinite
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert kl_listwise(*batch([-1e3, -1e3, 2.0], [1e3 + math.log(3), 1e3, 9.0], [0, 0, 1])).item() == pytest.approx(expected)


def test_ranknet_by_hand() -> None:
    # query 0: t 2 > 1 > 0; s = (0, 0, ln 3): pairs (0,1) diff 0 -> ln 2; (0,2) and (1,2) diff -ln 3 -> ln(1 + 3) each. Query 1 is a tie.
    expected = (math.log(2) + 2 * math.log(4)) / 3
    assert ranknet(*batch([0.0, 0.0, math.log(3), 1.0, 2.0], [2.0, 1.0, 0.0, 1.0, 1.0], [0, 0, 0, 1, 1])).item() == pytest.approx(expected)


def test_an_item_without_a_target_teaches_ranknet_nothing() -> None:
    scores, targets, groups, number = batch([0.0, 1.0, 9.0], [1.0, 0.0, math.nan], [0, 0, 0])
    scores.requires_grad_()
    loss = ranknet(scores, targets, groups, number)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(1 + math.e))
    assert scores.grad is not None
    assert scores.grad[2].item() == 0.0


@pytest.mark.parametrize("name", sorted({*LOSSES} - {"ranknet"}))  # ranknet has no least value: wider margins always cost less
def test_a_loss_is_least_where_the_student_is_the_teacher(name: str) -> None:
    targets = torch.tensor([0.9, 0.5, 0.1, 0.7, 0.2])
    best = torch.logit(targets) if name == "bce" else targets
    groups = torch.tensor([0, 0, 0, 1, 1])
    least = LOSSES[name](best, targets, groups, 2)
    for shift in torch.eye(5):
        assert LOSSES[name](best - 4.0 * shift, targets, groups, 2) > least


def test_no_query_with_two_items_gives_zero_with_a_gradient() -> None:
    scores = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = margin_mse(scores, torch.zeros(2), torch.tensor([0, 1]), 2)
    loss.backward()
    assert loss.item() == 0.0
    assert scores.grad is not None
    assert scores.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_of_a_split_batch_is_the_mean_of_its_parts_by_their_queries(name: str) -> None:
    """What workers that share a batch's queries would add up: each part's gradient times its share of the queries."""
    rng = np.random.default_rng(3)
    scores, targets = torch.from_numpy(rng.normal(size=12)), torch.from_numpy(rng.uniform(size=12))
    groups = torch.from_numpy(np.repeat(np.arange(4), 3))

    def gradient(part: slice, number: torch.Tensor, count: int) -> torch.Tensor:
        leaf = scores[part].clone().requires_grad_()
        return torch.autograd.grad(LOSSES[name](leaf, targets[part], number, count), leaf)[0]

    parts = [gradient(slice(0, 3), groups[:3], 1) / 4, gradient(slice(3, 12), groups[:9], 3) * 3 / 4]
    torch.testing.assert_close(gradient(slice(0, 12), groups, 4), torch.cat(parts))
