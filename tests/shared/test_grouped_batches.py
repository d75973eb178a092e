"""Grouped batches: every row once per epoch, whole groups, and partners for all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.shared.models.batches import SIMILAR, grouped_batches, padding_share, similar_batches


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


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60))
def test_no_row_of_a_similar_batch_is_much_shorter_than_its_longest(lengths: list[int]) -> None:
    array = np.asarray(lengths, np.int64)
    batches = similar_batches(array)
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(array)))
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        assert array[batch].min() >= SIMILAR * array[batch].max()
        assert following is None or array[following].max() < SIMILAR * array[batch].max()  # as few as can be


def test_similar_batches_of_a_queries_items_pad_little() -> None:
    # median 150 tokens, spread .4, at most 512: a queries' items of the benchmark `train_teacher`
    query, rng = np.repeat(np.arange(500), 16), np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(150), 0.4, len(query)).astype(int), 8, 512)
    for queries_per_batch in (2, 13):
        whole = grouped_batches(query, np.arange(len(query)), 0, queries_per_batch=queries_per_batch, items_per_query=8, seed=7)
        assert padding_share(lengths, whole) > 0.4
        assert padding_share(lengths, [rows[part] for rows in whole for part in similar_batches(lengths[rows])]) < 0.1


def test_padding_is_counted_of_the_rows_that_are_read() -> None:
    # rows of 2 and 4 in one batch: 8 positions for 6 tokens; the row of 9 is not read
    assert padding_share(np.array([2, 4, 9]), [np.array([0, 1])]) == 0.25
