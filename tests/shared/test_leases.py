"""Workers that share a table: a shard is at one worker at a time, the dead have heirs after their lease, a restart waits for nothing."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_shards import CONTENT, rows_of

from components.shared import leases, shards
from components.shared.errors import InputError
from components.shared.leases import Worker, take_shards

LONG_S = 600.0


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    monkeypatch.setattr(leases, "MOST_POLL_S", 0.02)


def begin(folder: Path, num_shards: int) -> shards.ShardPlan:
    return shards.open_plan(str(folder / "t"), "rankings", num_shards, CONTENT)


def score_all(plan: shards.ShardPlan, worker: Worker) -> list[int]:
    taken = []
    for shard in take_shards(plan, worker):
        taken.append(shard)
        time.sleep(0.001)
        shards.commit(plan, shard, rows_of(shard))
    return taken


def age(plan: shards.ShardPlan, seconds: float) -> None:
    """Make all leases older than they are."""
    for lease in Path(plan.uri.removeprefix("file://"), "leases").iterdir():
        os.utime(lease, (time.time() - seconds, time.time() - seconds))


def test_a_worker_begins_with_its_own_slice(tmp_path):
    assert score_all(begin(tmp_path, 6), Worker(1, 3, LONG_S)) == [2, 3, 4, 5, 0, 1]


def test_no_two_workers_take_the_same_shard(tmp_path):
    plan = begin(tmp_path, 30)
    with ThreadPoolExecutor(3) as pool:
        taken = list(pool.map(lambda index: score_all(plan, Worker(index, 3, LONG_S)), range(3)))
    assert sorted(shard for own in taken for shard in own) == list(range(30))
    assert all(taken)
    shards.finish(plan)
    assert not (tmp_path / "t" / "leases").exists()


def test_the_shard_of_a_dead_worker_waits_for_its_lease_and_then_has_one_heir(tmp_path):
    plan = begin(tmp_path, 2)
    assert next(take_shards(plan, Worker(0, 3, LONG_S))) == 0  # and dies
    heirs = [take_shards(plan, Worker(index, 3, LONG_S)) for index in (1, 2)]
    assert next(heirs[0]) == 1
    shards.commit(plan, 1, rows_of(1))
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(lambda heir=heir: list(heir)) for heir in heirs]
        time.sleep(0.3)
        assert not any(one.done() for one in waiting)  # both wait for shard 0
        shards.commit(plan, 0, rows_of(0))  # it was not dead after all
        assert [one.result(timeout=30) for one in waiting] == [[], []]


@pytest.mark.parametrize("heir", [1, 2])
def test_after_the_lease_somebody_else_takes_over(tmp_path, heir):
    plan = begin(tmp_path, 1)
    next(take_shards(plan, Worker(0, 3, LONG_S)))
    age(plan, LONG_S + 1)
    assert next(take_shards(plan, Worker(heir, 3, LONG_S))) == 0
    assert sorted(one.name for one in (tmp_path / "t" / "leases").iterdir()) == ["shard-00000-0001", "shard-00000-0002"]


def test_of_many_heirs_one_takes_over(tmp_path):
    plan = begin(tmp_path, 1)
    next(take_shards(plan, Worker(0, 9, LONG_S)))
    age(plan, LONG_S + 1)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda index: score_all(plan, Worker(index, 9, LONG_S)), range(1, 9)))
    assert sum(map(len, taken)) == 1


def test_a_worker_that_starts_again_has_its_shard_back_at_once(tmp_path):
    plan = begin(tmp_path, 2)
    first = take_shards(plan, Worker(1, 2, LONG_S))
    assert next(first) == 1
    assert score_all(plan, Worker(1, 2, LONG_S)) == [1, 0]


def test_a_lease_that_is_being_written_is_no_lease(tmp_path):
    plan = begin(tmp_path, 1)
    (tmp_path / "t" / "leases").mkdir()
    (tmp_path / "t" / "leases" / "shard-00000-0001.ab12.tmp").write_bytes(b"")
    assert leases._latest(plan) == {}
    assert score_all(plan, Worker(0, 1, LONG_S)) == [0]


def test_a_bucket_lends_shards_as_a_disk_does(bucket):
    plan = shards.open_plan(f"{bucket}/t", "rankings", 4, CONTENT)
    assert next(take_shards(plan, Worker(1, 2, LONG_S))) == 2
    early = take_shards(plan, Worker(0, 2, LONG_S))
    assert [next(early), next(early), next(early)] == [0, 1, 3]
    assert next(take_shards(plan, Worker(0, 2, 1e-6))) in range(4)  # the bucket's own clock says when a lease began


@pytest.mark.parametrize(("index", "count", "lease_s"), [(2, 2, 1.0), (-1, 2, 1.0), (0, 1, 0.0)])
def test_workers_that_cannot_be(index, count, lease_s):
    with pytest.raises(InputError, match="an index below the count is needed"):
        Worker(index, count, lease_s)
