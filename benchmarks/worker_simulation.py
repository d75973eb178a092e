"""Discrete events of many preemptible workers on one sharded table, by the rules of `components/shared/shards.py`.

A shard is absent or committed. A worker takes a shard that nobody has committed, scores it, and commits: the first commit of a shard
wins, a later one is refused and its work is lost. A preempted worker loses the shard it was at and nothing else; it comes back as a new
worker. Nothing here reads a clock or an ambient seed.
"""

import heapq
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from sharded_work import Outcome, Pending, Setting


class _Run:
    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.chance = random.Random(setting.seed)
        self.pending = Pending(setting, self.chance)
        self.speeds = setting.pairs_per_s * self._spread()
        self.shard_s = (setting.pairs / setting.shards / self.speeds + setting.commit_s).tolist()
        self.ends_at = [0.0] * setting.workers
        self.idle: list[int] = []
        self.committed_at = np.full(setting.shards, np.nan)
        self.attempts = self.preempted = self.winning = self.losing = 0
        self.useful = self.lost = 0.0
        self.events: list[tuple[float, int, Callable[..., None], Any]] = []
        self.num_events = 0

    def _spread(self) -> np.ndarray:
        sigma = math.sqrt(math.log1p(self.setting.speed_spread**2))
        return np.exp(sigma * np.random.default_rng(self.setting.seed).standard_normal(self.setting.workers) - sigma**2 / 2)

    def _at(self, time: float, event: Callable[..., None], subject: Any) -> None:
        heapq.heappush(self.events, (time, self.num_events, event, subject))
        self.num_events += 1

    def run(self) -> Outcome:
        for worker in range(self.setting.workers):
            self._start(0.0, worker)
        most = self.setting.max_attempts_per_shard * self.setting.shards
        while self.events and self.attempts <= most:
            time, _, event, subject = heapq.heappop(self.events)
            event(time, subject)
        return Outcome(
            finished=not self.pending.absent, committed_at=self.committed_at, ideal_s=self.setting.pairs / float(self.speeds.sum()),
            attempts=self.attempts, preempted_attempts=self.preempted, winning_commits=self.winning, losing_commits=self.losing,
            useful_work_s=self.useful, lost_work_s=self.lost,
        )  # fmt: skip

    def _start(self, now: float, worker: int) -> None:
        mean = self.setting.mean_life_s
        life = mean if self.setting.fixed_life or math.isinf(mean) else self.chance.expovariate(1 / mean)
        self.ends_at[worker] = now + life
        self._work(now, worker)

    def _work(self, now: float, worker: int) -> None:
        shard = self.pending.take(worker, now)
        if shard is None:
            self._wait(now, worker)
            return
        self.attempts += 1
        done = now + self.shard_s[worker]
        if done > self.ends_at[worker]:
            self._at(self.ends_at[worker], self._preempt, (worker, shard, now))
        else:
            self._at(done, self._commit, (worker, shard, now))

    def _wait(self, now: float, worker: int) -> None:
        """A worker with leases looks again when the next one ends; it may be preempted meanwhile."""
        if self.setting.policy != "leased":
            self.idle.append(worker)
        elif (end := self.pending.leases.next_end(self.pending.is_absent)) is not None:
            if self.ends_at[worker] > end:
                self._at(max(end, now), self._work, worker)
            else:
                self._at(max(self.ends_at[worker], now) + self.setting.restart_s, self._start, worker)

    def _commit(self, now: float, subject: tuple[int, int, float]) -> None:
        worker, shard, began = subject
        if self.pending.commit(shard):
            self.winning += 1
            self.committed_at[shard] = now
            self.useful += now - began
        else:
            self.losing += 1
            self.lost += now - began
        self._work(now, worker)

    def _preempt(self, now: float, subject: tuple[int, int, float]) -> None:
        worker, shard, began = subject
        self.preempted += 1
        self.lost += now - began
        self._at(now + self.setting.restart_s, self._start, worker)
        if self.setting.policy == "handed_out":
            self._at(now + self.setting.notice_s, self._give_back, shard)

    def _give_back(self, now: float, shard: int) -> None:
        """A coordinator hands the shard to a worker that has nothing to do; a worker that comes back later takes it otherwise."""
        self.pending.free.append(shard)
        if not self.idle:
            return
        place = max(range(len(self.idle)), key=lambda one: self.ends_at[self.idle[one]] > now)
        worker = self.idle.pop(place)
        if self.ends_at[worker] > now:
            self._work(now, worker)
        else:  # preempted while it had nothing to do
            self._at(max(now, self.ends_at[worker] + self.setting.restart_s), self._start, worker)


def simulate(setting: Setting) -> Outcome:
    """Follow every worker until all shards are committed and the last worker has stopped."""
    return _Run(setting).run()
