"""A worker that scores real files in a deterministic way; the tests kill it. Imported by its processes, not run by pytest."""

import hashlib
import os
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.shared import shards, storage, tables
from components.shared.leases import Worker, take_shards


def num_scored(log: str) -> int:
    """Shards begun so far; each worker adds one byte when it begins one."""
    return os.path.getsize(log) if os.path.exists(log) else 0


def score(pairs: pa.Table, shard: int) -> pa.Table:
    """A score per pair from its ids: the same in every process."""
    own = pairs.filter(pc.equal(pairs["shard"], shard)).select(["query_id", "item_id"]).to_pylist()
    scores = [int(hashlib.sha256(f"{one['query_id']} {one['item_id']}".encode()).hexdigest()[:8], 16) / 2**32 for one in own]
    ranks = pa.array(range(1, len(own) + 1), pa.int32())
    columns = {"query_id": [one["query_id"] for one in own], "item_id": [one["item_id"] for one in own]}
    return pa.table({**columns, "score": pa.array(scores, pa.float64()), "rank": ranks, "system": pa.array(["fake"] * len(own))})


def work(
    pairs_uri: str, out: str, num_shards: int, log: str, *, worker: Worker | None = None, reverse: bool = False, host: str = ""
) -> None:
    """Score what is pending and publish, as the scoring step does.

    Args:
        worker: shares the table with others by leases; without it, all pending shards in order, or in `reverse`.
        host: of a fake bucket.
    """
    _use(host)
    pairs = tables.read_table(pairs_uri, "pairs")
    plan = shards.open_plan(out, "rankings", num_shards, {"pairs": storage.content_digest(pairs_uri)})
    for shard in take_shards(plan, worker) if worker else _pending(plan, reverse):
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, b"x")
        os.close(descriptor)
        time.sleep(0.001)
        shards.commit(plan, shard, score(pairs, shard))
    if not shards.pending(plan):
        shards.finish(plan)


def _pending(plan: shards.ShardPlan, reverse: bool) -> Iterator[int]:
    todo = shards.pending(plan)
    return (shard for shard in (reversed(todo) if reverse else todo) if shards.is_pending(plan, shard))


def _use(host: str) -> None:
    if host:
        os.environ["STORAGE_EMULATOR_HOST"] = f"http://{host}"


def race(theirs: Any, begin: Any, rows: pa.Table, host: str) -> None:
    """Commit and finish one table after another, each at the same moment as the other racer; answers (won, digest)."""
    _use(host)
    while uri := theirs.recv():
        plan = shards.open_plan(uri, "rankings", 1, {"pairs": "aa"})
        begin.wait()
        won = shards.commit(plan, 0, rows)
        theirs.send((won, shards.finish(plan).digest))
