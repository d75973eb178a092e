"""Real SIGKILLs, real races and a bucket in trouble: nothing is lost, doubled or unreadable, a kill costs at most one shard of work."""

import multiprocessing
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from fake_gcs import KINDS, Trouble
from shard_worker import num_scored, race, score, work

from components.shared import shards, storage, tables
from components.shared.leases import Worker

NUM_SHARDS, PAIRS_PER_SHARD = 12, 20
LONG_S = 600.0
CONTEXT = multiprocessing.get_context("forkserver")
# imported once, so that a worker begins within milliseconds
CONTEXT.set_forkserver_preload(["components.shared.leases", "components.shared.checked_gcs", "gcsfs.extended_gcsfs", "pyarrow.dataset"])


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
    rows = pa.concat_tables([score(table, shard) for shard in range(NUM_SHARDS)])
    return rows.cast(tables.TABLES["rankings"].schema)


@dataclass(frozen=True)
class Site:
    """Where tables are made: a folder or a fake bucket, and always a folder for logs."""

    root: str
    logs: Path
    host: str = ""

    def start(self, pairs: str, name: str, worker: Worker | None = None, reverse: bool = False):
        keys = {"worker": worker, "reverse": reverse, "host": self.host}
        process = CONTEXT.Process(target=work, args=(pairs, f"{self.root}/{name}", NUM_SHARDS, self.log(name)), kwargs=keys)
        process.start()
        return process

    def log(self, name: str) -> str:
        return str(self.logs / f"{name}.log")

    def undisturbed_s(self, pairs: str) -> float:
        self.start(pairs, "warm").join()
        began = time.monotonic()
        self.start(pairs, "calm").join()
        return time.monotonic() - began


@pytest.fixture
def disk(tmp_path) -> Site:
    return Site(str(tmp_path / "tables"), tmp_path)


@pytest.fixture
def cloud(gcs, bucket, tmp_path) -> Site:
    return Site(bucket, tmp_path, gcs.host)


def kill_until_done(site: Site, pairs: str, workers: list[Worker | None], kills: int, seed: int) -> Iterator[tuple[str, int, int]]:
    """Start, kill each worker within the time that undisturbed work takes, start again, table after table, until there were so many kills.

    Yields (name of a finished table, kills it had, shards that were begun for it).
    """
    chance = random.Random(seed)
    total, number, whole_s = 0, 0, site.undisturbed_s(pairs)
    while total < kills:
        name, had = str(number), 0
        while not tables.is_committed(f"{site.root}/{name}"):
            running = [site.start(pairs, name, worker) for worker in workers]
            for process in running:
                process.join(chance.uniform(0.0, whole_s))
                if process.is_alive():
                    process.kill()
                    process.join()
                    had += 1
            assert had < 200, "killed 200 times without an end: the workers make no progress"
        yield name, had, num_scored(site.log(name))
        total, number = total + had, number + 1


def check_kills(site: Site, pairs: str, expected: pa.Table, workers: list[Worker | None], kills: int) -> dict[str, int]:
    """What was counted, for the record of the nightly run."""
    total = again = made = 0
    for name, had, begun in kill_until_done(site, pairs, workers, kills, seed=kills):
        assert tables.read_table(f"{site.root}/{name}", "rankings").equals(expected)
        assert begun <= NUM_SHARDS + had, f"{begun - NUM_SHARDS} shards scored again after {had} kills"
        total, again, made = total + had, again + begun - NUM_SHARDS, made + 1
    return {"kills": total, "shards_scored_again": again, "tables_equal": made}


TWO: list[Worker | None] = [Worker(0, 2, LONG_S), Worker(1, 2, LONG_S)]


@pytest.mark.parametrize("kills", [15, pytest.param(300, marks=pytest.mark.nightly)])
def test_kills_lose_and_double_nothing(disk, pairs, expected, kills, record_property):
    record_property("counts", check_kills(disk, pairs, expected, [None], kills))


@pytest.mark.parametrize("kills", [6, pytest.param(300, marks=pytest.mark.nightly)])
def test_kills_of_two_workers_with_leases_lose_and_double_nothing(disk, pairs, expected, kills, record_property):
    record_property("counts", check_kills(disk, pairs, expected, TWO, kills))


@pytest.mark.parametrize("kills", [3, pytest.param(300, marks=pytest.mark.nightly)])
def test_kills_of_two_workers_on_a_bucket_lose_and_double_nothing(cloud, pairs, expected, kills, record_property):
    record_property("counts", check_kills(cloud, pairs, expected, TWO, kills))


@pytest.mark.parametrize("deaths", [2, pytest.param(60, marks=pytest.mark.nightly)])
def test_the_living_finish_what_the_dead_held(disk, pairs, expected, deaths, record_property):
    chance, whole_s = random.Random(deaths), disk.undisturbed_s(pairs)
    for number in range(deaths):
        doomed, heir = (disk.start(pairs, str(number), Worker(index, 2, 1.5)) for index in (0, 1))
        doomed.join(chance.uniform(0.0, whole_s))
        doomed.kill()
        heir.join(60)
        assert heir.exitcode == 0
        assert tables.read_table(f"{disk.root}/{number}", "rankings").equals(expected)
        assert num_scored(disk.log(str(number))) <= NUM_SHARDS + 1
    record_property("counts", {"dead_workers": deaths, "tables_equal": deaths})


@pytest.mark.parametrize("tables_made", [4, pytest.param(100, marks=pytest.mark.nightly)])
def test_doubled_workers_publish_one_table(disk, pairs, expected, tables_made, record_property):
    for number in range(tables_made):
        several = [disk.start(pairs, str(number), reverse=reverse) for reverse in (False, True, False)]
        for process in several:
            process.join(60)
        assert [process.exitcode for process in several] == [0, 0, 0]
        uri = f"{disk.root}/{number}"
        assert tables.read_table(uri, "rankings").equals(expected)
        assert sorted(part.name for part in Path(uri).glob("part-*")) == sorted(tables.Manifest.read(uri).parts)
    record_property("counts", {"tables_equal": tables_made, "workers_at_once": 3})


@pytest.mark.parametrize("races", [20, pytest.param(1000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("place", ["disk", "cloud"])
def test_of_two_racing_workers_one_commits(request, pairs, expected, place, races, record_property):
    site = request.getfixturevalue(place)
    begin, pipes = CONTEXT.Barrier(2), [CONTEXT.Pipe() for _ in range(2)]
    racers = [CONTEXT.Process(target=race, args=(theirs, begin, expected, site.host)) for _, theirs in pipes]
    for racer in racers:
        racer.start()
    for number in range(races):
        for ours, _ in pipes:
            ours.send(f"{site.root}/{number}")
        answers = [ours.recv() for ours, _ in pipes]
        assert sorted(won for won, _ in answers) == [False, True]
        assert len({digest for _, digest in answers}) == 1
        assert tables.read_table(f"{site.root}/{number}", "rankings").equals(expected)
        assert sum("/part-" in name for name in storage.list_files(f"{site.root}/{number}")) == 1
    for ours, _ in pipes:
        ours.send("")
    for racer in racers:
        racer.join(60)
    record_property("counts", {"races": races, "tables_equal": races})


@pytest.mark.parametrize("jobs", [2, pytest.param(60, marks=pytest.mark.nightly)])
def test_jobs_on_a_bucket_in_trouble_finish_with_the_right_bytes(gcs, cloud, pairs, expected, jobs, record_property):
    gcs.trouble = Trouble(0.3, KINDS, seed=jobs, slow_s=0.01)
    for number in range(jobs):
        work(pairs, f"{cloud.root}/{number}", NUM_SHARDS, cloud.log(str(number)), worker=Worker(0, 1, LONG_S))
        assert tables.read_table(f"{cloud.root}/{number}", "rankings").equals(expected)
        assert num_scored(cloud.log(str(number))) == NUM_SHARDS
    record_property("counts", {"jobs": jobs, "tables_equal": jobs, "requests": gcs.trouble.counts.total(), **gcs.trouble.counts})
    assert all(gcs.trouble.counts[kind] for kind in ("429", "503", "lost", "reset", "cut", "damaged", "slow"))


def test_zombie_after_the_end_changes_nothing(disk, pairs):
    out, log = f"{disk.root}/t", disk.log("t")
    work(pairs, out, NUM_SHARDS, log)
    before = tables.Manifest.read(out)
    plan = shards.ShardPlan("file://" + out, "rankings", NUM_SHARDS)
    assert not shards.commit(plan, 3, score(tables.read_table(pairs, "pairs"), 4))  # wrong rows, from a worker gone mad
    assert tables.Manifest.read(out) == before
    work(pairs, out, NUM_SHARDS, log)
    assert num_scored(log) == NUM_SHARDS
