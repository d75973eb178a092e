"""The queue in front of the model: every request gets its own scores, and what is computed together is bounded."""

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.serving.batching import MicroBatcher, QueueFullError, TooLateError

QUEUE = {"max_queued": 100, "max_queued_s": 3600}


class Model:
    """Scores are the lengths of the texts; holds its first batch until it is let go."""

    def __init__(self):
        self.go, self.begun, self.batches = threading.Event(), threading.Event(), []

    def __call__(self, left, right):
        self.batches.append(list(right))
        self.begun.set()
        assert self.go.wait(30)
        return np.array([len(one) + len(two) for one, two in zip(left, right, strict=True)], float)


async def ask(batcher, *texts):
    return (await batcher.scores(["q"] * len(texts), texts)).tolist()


async def begun(model):
    await asyncio.get_running_loop().run_in_executor(None, model.begun.wait, 30)


@given(st.lists(st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=4), min_size=1, max_size=8), st.integers(1, 6))
def test_each_request_gets_its_own_scores_and_no_batch_is_larger_than_may_be(requests, max_pairs):
    model, sizes = Model(), []
    model.go.set()

    async def run():
        batcher = MicroBatcher(model, max_pairs=max_pairs, max_wait_s=0, **QUEUE, on_batch=sizes.append)
        return await asyncio.gather(*(ask(batcher, *one) for one in requests)), batcher.num_queued

    found, left = asyncio.run(run())
    assert found == [[1 + len(text) for text in one] for one in requests]
    assert left == 0
    assert [text for batch in model.batches for text in batch] == [text for one in requests for text in one]
    assert sizes == [len(batch) for batch in model.batches]
    assert all(size <= max(max_pairs, *map(len, requests)) for size in sizes)


def test_requests_that_wait_while_a_batch_is_computed_are_the_next_one_without_those_that_were_cancelled():
    model = Model()

    async def run():
        batcher = MicroBatcher(model, max_pairs=10, max_wait_s=0, max_queued=4, max_queued_s=3600)
        first = asyncio.create_task(ask(batcher, "a"))
        await begun(model)
        gone, last = (asyncio.create_task(ask(batcher, *texts)) for texts in (("bb", "bb"), ("ccc",)))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="3 pairs are waiting"):
            await batcher.scores(["q"] * 2, ["d"] * 2)
        gone.cancel()
        await asyncio.sleep(0)
        model.go.set()
        return await asyncio.gather(first, last)

    assert asyncio.run(run()) == [[2.0], [4.0]]
    assert model.batches == [["a"], ["ccc"]]


def test_a_request_that_waited_too_long_for_those_before_it_is_refused_and_not_computed():
    model = Model()

    async def run():
        loop = asyncio.get_running_loop()
        real = loop.time
        batcher = MicroBatcher(model, max_pairs=10, max_wait_s=0, max_queued=100, max_queued_s=2000)
        first = asyncio.create_task(ask(batcher, "a"))
        await begun(model)
        late = asyncio.create_task(ask(batcher, "bb"))
        await asyncio.sleep(0)
        loop.time = lambda: real() + 1500
        last = asyncio.create_task(ask(batcher, "ccc"))
        await asyncio.sleep(0)
        loop.time = lambda: real() + 2500
        model.go.set()
        return await asyncio.gather(first, late, last, return_exceptions=True), batcher.num_queued

    (first, late, last), left = asyncio.run(run())
    assert (first, last, left) == ([2.0], [4.0], 0)
    assert isinstance(late, TooLateError)
    assert str(late) == "the request waited longer than 2000 s; try again"
    assert model.batches == [["a"], ["ccc"]]


def test_an_idle_batcher_waits_for_company_unless_a_batch_is_full():
    async def run(wait):
        model = Model()
        model.go.set()
        batcher = MicroBatcher(model, max_pairs=2, max_wait_s=wait, max_queued=100, max_queued_s=0 if wait else 3600)
        first = asyncio.create_task(ask(batcher, "a"))
        await begun(model) if not wait else await asyncio.sleep(0)
        await asyncio.gather(first, ask(batcher, "b"))
        return model.batches

    assert asyncio.run(run(0.2)) == [["a", "b"]]
    assert asyncio.run(run(0)) == [["a"], ["b"]]

    async def full():
        model = Model()
        model.go.set()
        batcher = MicroBatcher(model, max_pairs=3, max_wait_s=3600, **QUEUE)
        return await asyncio.wait_for(asyncio.gather(ask(batcher, "a", "b"), ask(batcher, "c")), 30), model.batches

    assert asyncio.run(full()) == ([[2.0, 2.0], [2.0]], [["a", "b", "c"]])


def test_an_error_of_the_model_is_one_of_all_its_requests_and_the_next_batch_is_computed():
    answers = [ValueError("broken"), np.ones(1)]

    def model(left, right):
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def run():
        batcher = MicroBatcher(model, max_pairs=10, max_wait_s=0.05, **QUEUE)
        failed = await asyncio.gather(ask(batcher, "a"), ask(batcher, "b"), return_exceptions=True)
        return [str(one) for one in failed], await ask(batcher, "c")

    assert asyncio.run(run()) == (["broken", "broken"], [1.0])
