"""Real SIGKILLs and real races: nothing is lost, doubled or unreadable, and a kill costs at most one shard of work."""

import multiprocessing
import random
import time

import pyarrow as pa
import pytest
from shard_worker import num_scored, score, work

from components.shared import shards, tables

NUM_SHARDS, PAIRS_PER_SHARD = 12, 20
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["components.shared.shards"])  # started once, so that a worker begins within milliseconds


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    uri = str(tmp_path_factory.mktemp("faults") / "pairs")
    rows = [(f"q{shard}", f"i{place}", shard) for shard in range(NUM_SHARDS) for place in range(PAIRS_PER_SHARD)]
    queries, items, numbers = (list(column) for column in zip(*rows, strict=True))
    names = [f"{query}{item}" for query, item in zip(queries, items, strict=True)]
    columns = {"pair_id": names, "query_id": queries, "item_id": items, "source": ["random"] * len(rows)}
    tables.write_table(uri, "pairs", pa.table({**columns, "shard": pa.array(numbers, pa.int32())}))
    return uri


@pytest.fixture(scope="module")
def expected(pairs):
    table = tables.read_table(pairs, "pairs")
    return pa.concat_tables([score(table, shard) for shard in range(NUM_SHARDS)])


def start(pairs: str, out: str, log: str, reverse: bool = False):
    process = CONTEXT.Process(target=work, args=(pairs, out, NUM_SHARDS, log, reverse))
    process.start()
    return process


def undisturbed_s(pairs: str, folder) -> float:
    start(pairs, str(folder / "warm"), str(folder / "warm.log")).join()
    began = time.monotonic()
    start(pairs, str(folder / "calm"), str(folder / "calm.log")).join()
    return time.monotonic() - began


def kill_until_done(pairs: str, folder, kills: int, seed: int):
    """Start, kill within the time that undisturbed work takes, start again, on table after table, until there were so many kills.

    Yields (folder of a finished table, kills it had, shards that were begun for it).
    """
    chance = random.Random(seed)
    total, number, whole_s = 0, 0, undisturbed_s(pairs, folder)
    while total < kills:
        out, log = str(folder / f"{number}"), str(folder / f"{number}.log")
        had = 0
        while not tables.is_committed(out):
            process = start(pairs, out, log)
            process.join(chance.uniform(0.0, whole_s))
            if process.is_alive():
                process.kill()
                process.join()
                had += 1
                assert had < 200, "killed 200 times without an end: the worker makes no progress"
        yield out, had, num_scored(log)
        total, number = total + had, number + 1


@pytest.mark.parametrize("kills", [25, pytest.param(300, marks=pytest.mark.nightly)])
def test_kills_lose_and_double_nothing(pairs, expected, tmp_path, kills):
    for out, had, begun in kill_until_done(pairs, tmp_path, kills, seed=kills):
        assert tables.read_table(out, "rankings").equals(expected.cast(tables.TABLES["rankings"].schema))
        assert begun <= NUM_SHARDS + had, f"{begun - NUM_SHARDS} shards scored again after {had} kills"


@pytest.mark.parametrize("races", [5, pytest.param(100, marks=pytest.mark.nightly)])
def test_doubled_workers_publish_one_table(pairs, expected, tmp_path, races):
    for number in range(races):
        out, log = str(tmp_path / str(number)), str(tmp_path / f"{number}.log")
        several = [start(pairs, out, log, reverse) for reverse in (False, True, False)]
        for process in several:
            process.join(60)
        assert [process.exitcode for process in several] == [0, 0, 0]
        assert tables.read_table(out, "rankings").equals(expected.cast(tables.TABLES["rankings"].schema))
        assert sorted(part.name for part in (tmp_path / str(number)).glob("part-*")) == sorted(tables.Manifest.read(out).parts)


def test_zombie_after_the_end_changes_nothing(pairs, tmp_path):
    out, log = str(tmp_path / "t"), str(tmp_path / "log")
    work(pairs, out, NUM_SHARDS, log)
    before = tables.Manifest.read(out)
    plan = shards.ShardPlan("file://" + out, "rankings", NUM_SHARDS)
    assert not shards.commit(plan, 3, score(tables.read_table(pairs, "pairs"), 4))  # wrong rows, from a worker gone mad
    assert tables.Manifest.read(out) == before
    work(pairs, out, NUM_SHARDS, log)
    assert num_scored(log) == NUM_SHARDS
