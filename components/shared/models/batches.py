"""Which rows stand together: similar lengths under a token budget (little padding, bounded memory), or some items of some queries."""

import numpy as np

SIMILAR = 0.8


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


def similar_batches(lengths: np.ndarray) -> list[np.ndarray]:
    """Row numbers in as few batches, longest first, as have no row shorter than SIMILAR of their longest; bounds padding, not size."""
    order = np.argsort(-lengths, kind="stable")
    batches = []
    while len(order):
        size = np.count_nonzero(lengths[order] >= SIMILAR * lengths[order[0]])
        batches.append(order[:size])
        order = order[size:]
    return batches


def padding_share(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """Share of the positions computed in `batches` that are padding, 0 to 1."""
    computed = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    return 1.0 - float(sum(lengths[rows].sum() for rows in batches)) / max(1, computed)


def grouped_batches(query: np.ndarray, rows: np.ndarray, epoch: int, *, queries_per_batch: int, items_per_query: int, seed: int) -> list:
    """Batches of row numbers for one epoch, each a list of whole groups.

    A query's rows are dealt at random into as few groups of at most `items_per_query` as hold them, of sizes that differ by at most
    one, so that no row is left without a partner; a batch is `queries_per_batch` groups in random order. The number of batches does
    not depend on epoch and seed.

    Args:
        query: query number of every row [all rows].
        rows: the rows to use [n].
        epoch: another number deals other groups; equal arguments give equal batches.
    """
    rng = np.random.default_rng([seed, epoch])
    rows = rng.permutation(rows)
    rows = rows[np.argsort(query[rows], kind="stable")]
    _, number, sizes = np.unique(query[rows], return_inverse=True, return_counts=True)
    place = np.arange(len(rows)) - (np.cumsum(sizes) - sizes)[number]
    num_groups = -(-sizes // items_per_query)
    group = (np.cumsum(num_groups) - num_groups)[number] + place % num_groups[number]
    turn = rng.permutation(int(num_groups.sum()))[group]
    order = np.argsort(turn, kind="stable")
    cuts = np.flatnonzero(np.diff(turn[order] // queries_per_batch)) + 1
    return np.split(rows[order], cuts)
