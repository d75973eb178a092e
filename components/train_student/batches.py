"""Which rows stand together in a training step: some items of some queries, every row once per epoch."""

import numpy as np


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
