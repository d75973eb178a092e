"""Requests that wait at the same time are computed together."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np

Score = Callable[[list[str], list[str]], np.ndarray]


class QueueFullError(Exception):
    """More pairs wait than may; `retry_after_s` is when it is worth trying again."""

    def __init__(self, num_queued: int, retry_after_s: int) -> None:
        super().__init__(f"{num_queued} pairs are waiting; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class TooLateError(Exception):
    """A request waited longer than it may; whoever sent it has mostly gone."""


@dataclass(frozen=True)
class Waiting:
    """One request's texts, where its scores go, and the loop's time until which they are worth computing."""

    left: Sequence[str]
    right: Sequence[str]
    scores: asyncio.Future[np.ndarray]
    until: float


class MicroBatcher:
    """While one batch is computed the next one gathers: whole requests in the order of their arrival, up to `max_pairs`.

    Args:
        score: what computes; called by one thread, never twice at a time.
        max_wait_s: how long an idle batcher waits for company before it begins with less than `max_pairs`; under load requests gather
            without waiting.
        max_queued: pairs that may wait.
        max_queued_s: how long a request may wait; looked at when the batch before it is done, so that no request needs a timer.
        on_batch: told the number of pairs of each batch.
    """

    def __init__(
        self, score: Score, *, max_pairs: int, max_wait_s: float, max_queued: int, max_queued_s: float,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.score, self.max_pairs, self.max_wait_s, self.on_batch = score, max_pairs, max_wait_s, on_batch
        self.max_queued, self.max_queued_s = max_queued, max_queued_s
        self.waiting: deque[Waiting] = deque()
        self.num_queued = 0
        self.busy = False
        self.wait: asyncio.TimerHandle | None = None  # for company
        self.thread = ThreadPoolExecutor(1, "scorer")

    async def scores(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        """Scores of one request [pairs].

        Raises:
            QueueFullError: at once, when too many pairs wait already.
            TooLateError: when it waited too long, and was not computed.
        """
        if self.num_queued and self.num_queued + len(left) > self.max_queued:
            raise QueueFullError(self.num_queued, retry_after_s=1)
        loop = asyncio.get_running_loop()
        one = Waiting(left, right, loop.create_future(), loop.time() + self.max_queued_s)
        self.waiting.append(one)
        self.num_queued += len(left)
        if not self.busy and not self.wait:
            self.wait = loop.call_later(self.max_wait_s, self._begin, loop)
        if self.wait and (not self.max_wait_s or self.num_queued >= self.max_pairs):
            self.wait.cancel()
            self._begin(loop)
        return await one.scores

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        batch, self.wait = self._take(loop.time() if self.busy else -math.inf), None
        self.busy = bool(batch)
        if batch:
            self.on_batch(sum(len(one.left) for one in batch))
            self.thread.submit(self._compute, batch, loop)

    def _take(self, now: float) -> list[Waiting]:
        """The next requests, without those that were cancelled or that waited too long."""
        batch: list[Waiting] = []
        size = 0
        while self.waiting and (not batch or size + len(self.waiting[0].left) <= self.max_pairs):
            one = self.waiting.popleft()
            self.num_queued -= len(one.left)
            if one.scores.done():
                continue
            if now > one.until:
                one.scores.set_exception(TooLateError(f"the request waited longer than {self.max_queued_s:g} s; try again"))
            else:
                batch.append(one)
                size += len(one.left)
        return batch

    def _compute(self, batch: list[Waiting], loop: asyncio.AbstractEventLoop) -> None:
        """In the thread; what it found goes to the loop, because futures may be set there alone."""
        parts: Sequence[np.ndarray | Exception]
        try:
            found = self.score(*(list(chain.from_iterable(getattr(one, side) for one in batch)) for side in ("left", "right")))
            parts = np.split(found, np.cumsum([len(one.left) for one in batch])[:-1])
        except Exception as error:  # noqa: BLE001 - whatever it is, the requests must hear of it and the next batch must run
            parts = [error] * len(batch)
        loop.call_soon_threadsafe(self._deliver, batch, parts, loop)

    def _deliver(self, batch: list[Waiting], parts: Sequence[np.ndarray | Exception], loop: asyncio.AbstractEventLoop) -> None:
        for one, part in zip(batch, parts, strict=True):
            if one.scores.done():
                continue
            if isinstance(part, Exception):
                one.scores.set_exception(part)
            else:
                one.scores.set_result(part)
        self._begin(loop)
