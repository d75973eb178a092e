"""What each grade asks of the teacher, and the losses that compare its answer with that."""

import numpy as np
import torch


def folded_gains(gains: list[float], folding: str) -> list[float]:
    """Gain of each grade under a folding.

    'walmart' folds to 1 for the best grade, 0.5 for the next and 0 for the rest (arXiv 2505.07105 says {0, 0.5, 1}; which grades go
    where is not published). Others keep the card's.
    """
    if folding != "walmart":
        return list(gains)
    num_grades = len(gains)
    return [1.0 if grade == num_grades - 1 else 0.5 if grade == num_grades - 2 and grade > 0 else 0.0 for grade in range(num_grades)]


def grade_targets(num_grades: int, smoothing: float) -> np.ndarray:
    """Target distribution of each judged grade [grades, grades]: 1 - s on itself, s shared by the grades beside it."""
    beside = np.eye(num_grades, k=1) + np.eye(num_grades, k=-1)
    shared = beside / np.maximum(beside.sum(axis=1, keepdims=True), 1.0)
    return (1.0 - smoothing) * np.eye(num_grades) + smoothing * shared


def judged_targets(grades: np.ndarray, votes: np.ndarray, of_grades: np.ndarray, prior: float) -> np.ndarray:
    """Target distribution of each pair [pairs, grades]: its votes, where there are any, with `prior` votes for its grade's own target.

    That is the mean of a Dirichlet posterior; without votes the grade's own target is left, whatever the prior.

    Args:
        grades: [pairs]; votes: people per grade [pairs, grades], rows of 0 where they are not known; of_grades: [grades, grades].
    """
    own, totals = of_grades[grades], votes.sum(axis=1, keepdims=True)
    return np.where(totals > 0, (votes + prior * own) / np.maximum(totals + prior, 1e-12), own)


def grade_weights(grades: np.ndarray, num_grades: int, balance: float) -> np.ndarray:
    """Weight of each grade [grades]: frequency ** -balance, scaled so that the mean over the pairs is 1."""
    counts = np.bincount(grades, minlength=num_grades)
    raw = np.where(counts > 0, np.maximum(counts, 1) / max(1, len(grades)), 1.0) ** -balance
    return raw / max(float((raw * counts).sum()) / max(1, len(grades)), 1e-12)


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-sum_g target_g log softmax(logits)_g: [batch, grades], [batch, grades] -> [batch]."""
    return -(targets * torch.log_softmax(logits.float(), dim=-1)).sum(-1)


def expected_gain_logs(logits: torch.Tensor, gains: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log t and log(1-t) of the expected gain t: [batch, grades], [grades] -> two of [batch].

    Worked on log-probabilities: t and 1-t are both sums of softmax terms with weights in [0,1], so neither loses precision near 0.
    A gain of 0 adds -inf, that is nothing, to the sum; some grade must have a gain above 0 and some one below 1.
    """
    log_p = torch.log_softmax(logits.float(), dim=-1)
    return torch.logsumexp(log_p + torch.log(gains), dim=-1), torch.logsumexp(log_p + torch.log(1.0 - gains), dim=-1)


def expected_gain_cross_entropy(logits: torch.Tensor, gains: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """-y log t - (1-y) log(1-t), t the expected gain (teacher loss of arXiv 2505.07105): [batch, grades], [grades], [batch] -> [batch]."""
    log_t, log_rest = expected_gain_logs(logits, gains)
    return -(target * log_t + (1.0 - target) * log_rest)
