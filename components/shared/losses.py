"""Losses over a flat batch of pairs, by the names they were published under.

Shapes: `scores` and `targets` are float [rows]; `groups` is int64 [rows], the number (from 0) of each row's query within the
batch, in any order; `num_groups` is how many there are. Every loss is one scalar and linear in rows: no loop over queries. Where a loss
takes `weights` [rows], above 0, a row counts that much, and a pair of rows the product; without them all count alike.
"""

from collections.abc import Callable

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

Loss = Callable[..., torch.Tensor]
Weights = torch.Tensor | None


def group_sum(values: torch.Tensor, groups: torch.Tensor, num_groups: int) -> torch.Tensor:
    """Sum of each query's rows [num_groups]."""
    return torch.zeros(num_groups, dtype=values.dtype, device=values.device).index_add(0, groups, values)


def mean_of_groups(per_group: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Mean of `per_group` over the queries that are `counted` [num_groups] bool; 0, with a gradient of 0, where none is."""
    return per_group.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)


def margin_mse(scores: torch.Tensor, targets: torch.Tensor, groups: torch.Tensor, num_groups: int, weights: Weights = None) -> torch.Tensor:
    """Margin-MSE over all item pairs of each query, averaged over the queries that have at least two items here.

    L(q) = 2 / (n (n-1)) * sum_{i<j} ((s_i - s_j) - (t_i - t_j))^2, in linear time: it equals 2 Var(s - t) with the n-1
    denominator, because sum_{i<j} (e_i - e_j)^2 = n sum_i (e_i - mean e)^2. With weights sum_{i<j} w_i w_j (e_i - e_j)^2 =
    W sum_i w_i (e_i - weighted mean e)^2, over sum_{i<j} w_i w_j = (W^2 - sum_i w_i^2) / 2. A constant added to a query's targets
    changes nothing, so the student spends no capacity on it and is not calibrated across queries.

    Source: margin-MSE of Hofstatter et al. 2020 (arXiv 2010.02666) with the all-pairs weights of arXiv 2505.07105 (Walmart).
    """
    residual, ones = scores - targets, torch.ones_like(scores)
    weights = ones if weights is None else weights
    size, total = (group_sum(one, groups, num_groups) for one in (ones, weights))
    mean = group_sum(weights * residual, groups, num_groups) / total.clamp(min=1e-12)
    squares = group_sum(weights * (residual - mean[groups]) ** 2, groups, num_groups)
    pairs = (total**2 - group_sum(weights**2, groups, num_groups)) / 2.0
    return mean_of_groups(total * squares / pairs.clamp(min=1e-12), size > 1)


def pointwise_mse(
    scores: torch.Tensor, targets: torch.Tensor, groups: torch.Tensor, num_groups: int, weights: Weights = None
) -> torch.Tensor:
    """Mean of (s - t)^2 over rows: the student learns the teacher's absolute score (Ba & Caruana 2014, arXiv 1312.6184)."""
    del groups, num_groups
    return _mean((scores - targets) ** 2, weights)


def bce(scores: torch.Tensor, targets: torch.Tensor, groups: torch.Tensor, num_groups: int, weights: Weights = None) -> torch.Tensor:
    """Mean of -t log p - (1-t) log(1-p) with p = sigmoid(s), t a probability (Hinton et al. 2015, arXiv 1503.02531, two classes)."""
    del groups, num_groups
    return _mean(binary_cross_entropy_with_logits(scores, targets, reduction="none"), weights)


def _mean(costs: torch.Tensor, weights: Weights) -> torch.Tensor:
    return costs.mean() if weights is None else (weights * costs).sum() / weights.sum()


def kl_listwise(
    scores: torch.Tensor, targets: torch.Tensor, groups: torch.Tensor, num_groups: int, weights: Weights = None
) -> torch.Tensor:
    """KL(softmax(t) || softmax(s)) over the items of each query, averaged over queries with at least two items here.

    Distillation with the temperature folded into the targets (Hinton et al. 2015, arXiv 1503.02531, section 2), over a list in place of
    classes: ListNet minus the entropy of the teacher's list. Blind to a constant per query, as margin-MSE is. A list counts the mean
    weight of its items.
    """
    log_p, log_q = (_log_softmax(values, groups, num_groups) for values in (targets, scores))
    return _mean_of_lists(log_p.exp() * (log_p - log_q), groups, num_groups, weights)


def listnet(scores: torch.Tensor, targets: torch.Tensor, groups: torch.Tensor, num_groups: int, weights: Weights = None) -> torch.Tensor:
    """-sum_i softmax(t)_i log softmax(s)_i over the items of each query, averaged as `kl_listwise`, whose gradient it has.

    Source: Cao et al. 2007 (ICML), top-one probabilities.
    """
    log_p, log_q = (_log_softmax(values, groups, num_groups) for values in (targets, scores))
    return _mean_of_lists(-log_p.exp() * log_q, groups, num_groups, weights)


def _mean_of_lists(costs: torch.Tensor, groups: torch.Tensor, num_groups: int, weights: Weights) -> torch.Tensor:
    ones = torch.ones_like(costs)
    size, total = (group_sum(one, groups, num_groups) for one in (ones, ones if weights is None else weights))
    per_list = (total / size.clamp(min=1.0)).masked_fill(size < 2, 0.0)
    return (group_sum(costs, groups, num_groups) * per_list).sum() / per_list.sum().clamp(min=1e-12)


def ranknet(scores: torch.Tensor, targets: torch.Tensor, groups: torch.Tensor, num_groups: int, weights: Weights = None) -> torch.Tensor:
    """Mean over each query's pairs with t_i > t_j of -log sigmoid(s_i - s_j), averaged over queries that have such a pair.

    Source: Burges et al. 2005. Ties teach nothing, and neither does an item whose target is NaN. Quadratic in the rows of the batch,
    unlike the others.
    """
    better = ((targets[:, None] > targets[None, :]) & (groups[:, None] == groups[None, :])).to(scores.dtype)
    if weights is not None:
        better = better * weights[:, None] * weights[None, :]
    cost = (-logsigmoid(scores[:, None] - scores[None, :]) * better).sum(1)
    pairs = group_sum(better.sum(1), groups, num_groups)
    return mean_of_groups(group_sum(cost, groups, num_groups) / pairs.clamp(min=1e-12), pairs > 0)


def _log_softmax(values: torch.Tensor, groups: torch.Tensor, num_groups: int) -> torch.Tensor:
    lowest = torch.full((num_groups,), -torch.inf, dtype=values.dtype, device=values.device)
    top = lowest.scatter_reduce(0, groups, values.detach(), "amax")
    shifted = values - top[groups]
    return shifted - group_sum(shifted.exp(), groups, num_groups).log()[groups]


LOSSES: dict[str, Loss] = {
    "margin_mse": margin_mse,
    "pointwise_mse": pointwise_mse,
    "bce": bce,
    "kl_listwise": kl_listwise,
    "listnet": listnet,
    "ranknet": ranknet,
}
PAIRWISE = ("margin_mse", "kl_listwise", "listnet", "ranknet")
