"""How well a student orders items as its teacher does, within queries, without loops over queries or rows."""

import numpy as np

from components.shared.errors import InputError

MIN_SCORE_STD = 1e-6


def ranks_within(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Average rank, from 1, of each value among its group's [rows]."""
    order = np.lexsort((values, groups))
    sorted_values, sorted_groups = values[order], groups[order]
    first_of_group = np.r_[True, sorted_groups[1:] != sorted_groups[:-1]]
    first_of_tie = first_of_group | np.r_[True, sorted_values[1:] != sorted_values[:-1]]
    tie = np.cumsum(first_of_tie) - 1
    starts = np.flatnonzero(first_of_tie)
    ends = np.r_[starts[1:], len(values)]
    group_start = np.flatnonzero(first_of_group)[np.cumsum(first_of_group) - 1]
    out = np.empty(len(values))
    out[order] = ((starts + ends - 1) / 2.0)[tie] - group_start + 1.0
    return out


def spearman_within(student: np.ndarray, teacher: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Spearman correlation of each group [groups], NaN where the teacher gives all items one score, 0 where only the student does."""
    number = np.unique(groups, return_inverse=True)[1]
    size = np.bincount(number)
    a, b = (_centred(ranks_within(values, number), number, size) for values in (student, teacher))
    told = np.bincount(number, b * b)
    norm = np.sqrt(np.bincount(number, a * a) * told)
    return np.where(told > 0, np.bincount(number, a * b) / np.where(norm > 0, norm, 1.0), np.nan)


def pairwise_agreement(student: np.ndarray, teacher: np.ndarray, groups: np.ndarray) -> float:
    """Share of within-group pairs that the teacher tells apart and the student orders alike; a student's tie counts one half.

    NaN when the teacher tells no pair apart. Runs once per distance between rows of a group, so in rows x longest group.
    """
    order = np.argsort(groups, kind="stable")
    student, teacher, groups = student[order], teacher[order], groups[order]
    longest = int(np.unique(groups, return_counts=True)[1].max(initial=0))
    right = total = 0.0
    for distance in range(1, longest):
        together = groups[distance:] == groups[:-distance]
        told = np.sign(teacher[distance:] - teacher[:-distance])[together]
        product = told * np.sign(student[distance:] - student[:-distance])[together]
        total += np.count_nonzero(told)
        right += 0.5 * float((product + 1.0)[told != 0].sum())
    return float(right / total) if total else float("nan")


def agreement(student: np.ndarray, teacher: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Agreement of scores with the teacher's [rows], under the names that are logged.

    `spearman` is the mean over queries, `spearman_across` is over all rows at once: a margin loss keeps the first and may lose the
    second, because it leaves scores uncalibrated across queries.

    A number that the held-out rows do not determine (the teacher tells none of them apart) is left out.

    Raises:
        InputError: when the student has collapsed: scores that are not finite, or all the same within their queries.
    """
    spread = float(np.sqrt(np.mean(_centred(student, *_numbers(groups)) ** 2)))
    if not np.isfinite(spread) or spread < MIN_SCORE_STD:
        raise InputError(
            f"the student gives all items of a query the same score (std {spread:.3g} within queries): it has collapsed; "
            "lower learning_rate, check that texts and soft targets differ between items"
        )
    each = spearman_within(student, teacher, groups)
    everywhere = spearman_within(student, teacher, np.zeros_like(groups))
    found = {
        "spearman": float(each[np.isfinite(each)].mean()) if np.isfinite(each).any() else float("nan"),
        "spearman_across": float(everywhere[0]),
        "pairwise_agreement": pairwise_agreement(student, teacher, groups),
        "score_std": float(student.std()),
    }
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _numbers(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    number = np.unique(groups, return_inverse=True)[1]
    return number, np.bincount(number)


def _centred(values: np.ndarray, number: np.ndarray, size: np.ndarray) -> np.ndarray:
    return values - (np.bincount(number, values) / size)[number]
