"""What a simulation of workers on one sharded table is given, what comes out, and which shard a worker takes next."""

import math
import random
from collections import deque
from dataclasses import dataclass

import numpy as np

POLICIES = ("handed_out", "own_slice", "random", "in_order")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One simulated table. Times are seconds.

    `policy` says which pending shard a worker takes: `handed_out` by a coordinator that gives each to one worker at a time (what
    `score_pairs/workers.py` does within one machine); without one, and so without knowing what others are at, the next of its `own_slice`
    and then any, any at `random`, or the first `in_order` (what several runs of the step on the same table do).
    """

    pairs: int
    shards: int
    workers: int
    pairs_per_s: float
    speed_spread: float = 0.0  # standard deviation over mean of the workers' speeds, log-normal
    mean_life_s: float = math.inf  # from a worker's start to its preemption
    fixed_life: bool = False  # every life is exactly `mean_life_s`; else exponential
    restart_s: float = 0.0  # from a preemption until the next worker in its place has loaded the model
    commit_s: float = 0.0
    notice_s: float = 0.0  # from a preemption until the coordinator hands the shard out again; `handed_out` only
    policy: str = "handed_out"
    seed: int = 0
    max_attempts_per_shard: int = 100  # on average; beyond it the table is reported as never finished

    def __post_init__(self) -> None:
        if min(self.pairs, self.shards, self.workers, self.max_attempts_per_shard) < 1 or self.policy not in POLICIES:
            raise ValueError(f"pairs, shards, workers and max_attempts_per_shard must be at least 1, policy one of {', '.join(POLICIES)}")
        if not (self.pairs_per_s > 0 and self.mean_life_s > 0):
            raise ValueError("pairs_per_s and mean_life_s must be above 0")
        if not min(self.speed_spread, self.restart_s, self.commit_s, self.notice_s) >= 0:
            raise ValueError("speed_spread, restart_s, commit_s and notice_s must not be negative")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What happened. Work is in worker-seconds; `committed_at` [shards] is NaN where a shard was never committed."""

    finished: bool
    committed_at: np.ndarray
    ideal_s: float
    attempts: int
    preempted_attempts: int
    winning_commits: int
    losing_commits: int
    useful_work_s: float
    lost_work_s: float

    @property
    def makespan_s(self) -> float:
        return float(self.committed_at.max()) if self.finished else math.inf

    @property
    def rework_share(self) -> float:
        return self.lost_work_s / max(self.useful_work_s + self.lost_work_s, 1e-12)

    @property
    def duplicates(self) -> int:
        """Commits that won on a shard that had one already."""
        return self.winning_commits - int(np.count_nonzero(~np.isnan(self.committed_at)))

    def seconds_until(self, share: float) -> float:
        """When this share of the shards was committed; infinite when it never was."""
        done = np.sort(self.committed_at[~np.isnan(self.committed_at)])
        needed = math.ceil(share * len(self.committed_at))
        return float(done[needed - 1]) if 0 < needed <= len(done) else (0.0 if needed == 0 else math.inf)


class Pending:
    """Shards without a commit, and which of them a worker takes next."""

    def __init__(self, setting: Setting, chance: random.Random) -> None:
        self.setting, self.chance = setting, chance
        self.free = deque(range(setting.shards))  # handed_out: neither committed nor at a worker
        self.absent = list(range(setting.shards))
        self.place = list(range(setting.shards))  # of a shard in `absent`
        self.next_in_slice = [self._bound(worker) for worker in range(setting.workers)]
        self.first = 0

    def _bound(self, worker: int) -> int:
        return worker * self.setting.shards // self.setting.workers

    def take(self, worker: int) -> int | None:
        """A pending shard for this worker, or None when there is none for it."""
        policy = self.setting.policy
        if policy == "handed_out":
            return self.free.popleft() if self.free else None
        if not self.absent:
            return None
        if policy == "in_order":
            while self.place[self.first] < 0:
                self.first += 1
            return self.first
        if policy == "own_slice":
            while self.next_in_slice[worker] < self._bound(worker + 1):
                if self.place[self.next_in_slice[worker]] >= 0:
                    return self.next_in_slice[worker]
                self.next_in_slice[worker] += 1
        return self.absent[int(self.chance.random() * len(self.absent))]

    def commit(self, shard: int) -> bool:
        """False when the shard was committed before."""
        place = self.place[shard]
        if place < 0:
            return False
        last = self.absent.pop()
        if last != shard:
            self.absent[place], self.place[last] = last, place
        self.place[shard] = -1
        return True
