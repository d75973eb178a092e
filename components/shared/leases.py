"""Which worker of many takes which shard next. A lease saves work; truth is the commit alone (`shards.py`).

A lease is the object `leases/shard-00012-0003`, created once by the worker that makes the third attempt at shard 12. It holds for
`lease_s` after the time that storage notes for it; then the worker counts as dead and whoever creates attempt 4 has its shard. Clocks that
differ, and a shard that takes longer than its lease, cost a shard of work and never a row.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from components.shared import shards, storage
from components.shared.errors import InputError
from components.shared.shards import LEASES, ShardPlan

POLL_SHARE = 0.05  # of a lease, between looks at shards that others hold
MOST_POLL_S = 5.0


@dataclass(frozen=True)
class Worker:
    """Which of `count` workers this is, counting from 0; a worker that starts again under its number has its leases back at once."""

    index: int
    count: int
    lease_s: float

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count or self.lease_s <= 0:
            raise InputError(f"worker {self.index} of {self.count} with a lease of {self.lease_s:g} s: an index below the count is needed")


@dataclass(frozen=True)
class Lease:
    """The latest attempt at a shard."""

    attempt: int
    uri: str
    since: float


def take_shards(plan: ShardPlan, worker: Worker) -> Iterator[int]:
    """Shards for this worker to score and commit, one after another, until all of the plan are committed.

    First those of its own slice, then what is left anywhere. While others hold all that is left it waits, to step in for the dead.
    """
    names_itself = str(worker.index).encode()
    mine = _held_before(plan, names_itself)
    while todo := shards.pending(plan):
        leases = _latest(plan)
        took = False
        for shard in _from(todo, worker.index * plan.num_shards // worker.count):
            lease = leases.get(shard)
            if lease and shard not in mine and time.time() < lease.since + worker.lease_s:
                continue
            attempt = lease.attempt + 1 if lease else 1
            if shards.is_pending(plan, shard) and storage.create_once(_place(plan, shard, attempt), names_itself):
                took = True
                yield shard
        mine = set()
        if not took:
            time.sleep(min(POLL_SHARE * worker.lease_s, MOST_POLL_S))


def _from(todo: list[int], first: int) -> list[int]:
    return [shard for shard in todo if shard >= first] + [shard for shard in todo if shard < first]


def _latest(plan: ShardPlan) -> dict[int, Lease]:
    """Shard -> its latest lease."""
    found: dict[int, Lease] = {}
    for uri, since in sorted(storage.change_times(storage.join(plan.uri, LEASES)).items()):
        if uri.endswith(".tmp"):
            continue
        shard, attempt = (int(part) for part in uri.rsplit("/", 1)[1].split("-")[1:])
        found[shard] = Lease(attempt, uri, since)
    return found


def _held_before(plan: ShardPlan, names_itself: bytes) -> set[int]:
    """Pending shards whose lease an earlier life of this worker holds."""
    leases, todo = _latest(plan), set(shards.pending(plan))
    return {shard for shard, lease in leases.items() if shard in todo and storage.read_bytes(lease.uri) == names_itself}


def _place(plan: ShardPlan, shard: int, attempt: int) -> str:
    return storage.join(plan.uri, LEASES, f"shard-{shard:05d}-{attempt:04d}")
