"""Which judged pairs are hard and clean: the rule of three selectors (LREF, arXiv 2503.09223, its data selection), over predicted grades.

IM has seen a random sample and knows the easy majority; CI has seen head, middle and tail alike and is good at hard pairs; MS has
learnt with which wrong grade a pair is most plausibly confused. A pair is kept where CI(x) = L(x), IM(x) != L(x) and MS(x) != L(x):
learnable, hard, and not suspected to be mislabelled. Stored notes on the paper print the last condition as an equality, which would keep
the suspects.
"""

import numpy as np

KEPT, KNOWN, NOT_LEARNABLE, SUSPECTED = "kept", "already_known", "not_learnable", "suspected_label"
REASONS = (KEPT, KNOWN, NOT_LEARNABLE, SUSPECTED)


def reasons(judged: np.ndarray, im: np.ndarray, ci: np.ndarray, ms: np.ndarray) -> np.ndarray:
    """`kept`, or the first condition that a pair fails, in the order IM, CI, MS: text [pairs].

    Args:
        judged: grades by people [pairs]; im, ci, ms: grades by the selectors [pairs], each by a model that has not seen the pair's query.
    """
    return np.select([im == judged, ci != judged, ms == judged], [KNOWN, NOT_LEARNABLE, SUSPECTED], default=KEPT)


def likely_mistakes(probabilities: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """The wrong grade that is likeliest for each pair [pairs]: what MS learns.

    The paper asks GPT for it. Ours comes without another model: the likeliest grade but the judged one, by a selector that has not seen
    the pair's query.

    Args:
        probabilities: [pairs, grades]; judged: [pairs].
    """
    others = probabilities.astype(np.float64, copy=True)
    others[np.arange(len(judged)), judged] = -1.0
    return others.argmax(axis=1)


def balanced_rows(strata: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """`number` rows drawn at random, equally many of each stratum as far as it has them; ascending.

    Args:
        strata: stratum of every row, any sortable type [rows].
    """
    shuffled = rng.permutation(len(strata))
    _, group, sizes = np.unique(strata[shuffled], return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    turn = np.empty(len(strata), np.int64)
    turn[order] = np.arange(len(strata)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(shuffled[np.argsort(turn, kind="stable")[:number]])
