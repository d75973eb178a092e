"""Grouped batches: every row once per epoch, whole groups, and partners for all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.shared.models.batches import grouped_batches


@given(st.lists(st.integers(1, 40), min_size=1, max_size=25), st.integers(1, 5), st.integers(2, 9), st.integers(0, 3))
def test_each_row_once_in_groups_that_are_not_alone(sizes: list[int], queries_per_batch: int, items_per_query: int, epoch: int) -> None:
    query = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = np.flatnonzero(query != 0) if len(sizes) > 1 else np.arange(len(query))
    batches = grouped_batches(query, rows, epoch, queries_per_batch=queries_per_batch, items_per_query=items_per_query, seed=5)
    assert sorted(np.concatenate(batches).tolist()) == rows.tolist()
    num_groups = sum(-(-size // items_per_query) for size in np.bincount(query[rows]))
    assert len(batches) == -(-num_groups // queries_per_batch)
    for batch in batches:
        assert len(batch) <= queries_per_batch * items_per_query
        for name in np.unique(query[batch]):
            alone = np.count_nonzero(query[batch] == name) == 1
            assert not alone or np.count_nonzero(query[rows] == name) == 1 or items_per_query == 2


def test_seventeen_items_in_groups_of_sixteen_are_nine_and_eight() -> None:
    batches = grouped_batches(np.zeros(17, np.int64), np.arange(17), 0, queries_per_batch=1, items_per_query=16, seed=0)
    assert sorted(map(len, batches)) == [8, 9]


def test_epoch_and_seed_decide_the_order() -> None:
    query = np.repeat(np.arange(10), 6)

    def order(epoch: int, seed: int) -> list[int]:
        return np.concatenate(grouped_batches(query, np.arange(60), epoch, queries_per_batch=3, items_per_query=4, seed=seed)).tolist()

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(1, 1)
    assert order(0, 1) != order(0, 2)
