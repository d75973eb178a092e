"""What a simulation of workers on one sharded table is given, what comes out, and which shard a worker takes next."""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

POLICIES = ("leased", "handed_out", "own_slice", "random", "in_order")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One simulated table. Times are seconds.

    `policy` says which pending shard a worker takes: the next that nobody has `leased`, from its own slice on (what machines of a group do,
    `shared/leases.py`: a lease ends after `lease_s`, and a worker that comes back in the place of another has its lease back);
    `handed_out` by a coordinator that gives each to one worker at a time (what `score_pairs/workers.py` does within one machine); without
    either, and so without knowing what others are at, the next of its `own_slice` and then any, any at `random`, or the first `in_order`
    (what several runs of the step on the same table do).
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
    lease_s: float = 1800.0  # `leased` only
    policy: str = "handed_out"
    seed: int = 0
    max_attempts_per_shard: int = 100  # on average; beyond it the table is reported as never finished

    def __post_init__(self) -> None:
        if min(self.pairs, self.shards, self.workers, self.max_attempts_per_shard) < 1 or self.policy not in POLICIES:
            raise ValueError(f"pairs, shards, workers and max_attempts_per_shard must be at least 1, policy one of {', '.join(POLICIES)}")
        if not (self.pairs_per_s > 0 and self.mean_life_s > 0 and self.lease_s > 0):
            raise ValueError("pairs_per_s, mean_life_s and lease_s must be above 0")
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


class Leases:
    """Who holds which shard, and until when; the latest lease of a shard counts."""

    def __init__(self, setting: Setting) -> None:
        self.lease_s, self.num_shards = setting.lease_s, setting.shards
        self.next_untouched = list(range(setting.shards + 1))  # of a shard that nobody ever held: itself; else a later one to look at
        self.latest: dict[int, tuple[float, int]] = {}  # shard -> (since, worker)
        self.held: dict[int, int] = {}  # worker -> the shard it leased last
        self.ends: list[tuple[float, int, float]] = []  # heap of (end, shard, since)

    def take(self, worker: int, first: int, now: float, is_absent: Callable[[int], bool]) -> int | None:
        """What an earlier life of this worker holds, else what nobody held from `first` on, else what is held no longer."""
        own = self.held.get(worker)
        if own is None or not is_absent(own) or self.latest[own][1] != worker:
            own = next((shard for start in (first, 0) if (shard := self._untouched(start)) < self.num_shards), None)
        if own is None and (end := self.next_end(is_absent)) is not None and end <= now:
            own = heapq.heappop(self.ends)[1]
        if own is not None:
            self.latest[own], self.held[worker], self.next_untouched[own] = (now, worker), own, own + 1
            heapq.heappush(self.ends, (now + self.lease_s, own, now))
        return own

    def next_end(self, is_absent: Callable[[int], bool]) -> float | None:
        """When the next lease on an absent shard ends."""
        while self.ends and not (is_absent(self.ends[0][1]) and self.latest[self.ends[0][1]][0] == self.ends[0][2]):
            heapq.heappop(self.ends)
        return self.ends[0][0] if self.ends else None

    def _untouched(self, start: int) -> int:
        """The first shard from `start` on that nobody ever held; `num_shards` for none."""
        found = start
        while self.next_untouched[found] != found:
            found = self.next_untouched[found]
        while self.next_untouched[start] != start:
            self.next_untouched[start], start = found, self.next_untouched[start]
        return found


class Pending:
    """Shards without a commit, and which of them a worker takes next."""

    def __init__(self, setting: Setting, chance: random.Random) -> None:
        self.setting, self.chance = setting, chance
        self.free = deque(range(setting.shards))  # handed_out: neither committed nor at a worker
        self.absent = list(range(setting.shards))
        self.place = list(range(setting.shards))  # of a shard in `absent`
        self.next_in_slice = [self._bound(worker) for worker in range(setting.workers)]
        self.first = 0
        self.leases = Leases(setting)

    def _bound(self, worker: int) -> int:
        return worker * self.setting.shards // self.setting.workers

    def take(self, worker: int, now: float) -> int | None:
        """A pending shard for this worker, or None when there is none for it."""
        policy = self.setting.policy
        if policy == "handed_out":
            return self.free.popleft() if self.free else None
        if not self.absent:
            return None
        if policy == "leased":
            return self.leases.take(worker, self._bound(worker), now, self.is_absent)
        if policy == "in_order":
            while not self.is_absent(self.first):
                self.first += 1
            return self.first
        if policy == "own_slice":
            while self.next_in_slice[worker] < self._bound(worker + 1):
                if self.is_absent(self.next_in_slice[worker]):
                    return self.next_in_slice[worker]
                self.next_in_slice[worker] += 1
        return self.absent[int(self.chance.random() * len(self.absent))]

    def is_absent(self, shard: int) -> bool:
        return self.place[shard] >= 0

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
