"""Batches of similar length under a token budget: little padding, bounded memory."""

import numpy as np


def token_batches(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Row numbers in batches, longest first, each batch's rows x longest row at most `batch_tokens` (one row may exceed it alone).

    Args:
        lengths: tokens of each row [rows].
        batch_tokens: budget of one batch, padding included.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def padding_share(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """Share of computed positions that are padding, 0 to 1."""
    computed = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    return 1.0 - float(lengths.sum()) / max(1, computed)
