"""A worker that scores real files in a deterministic way; the tests kill it. Imported by its processes, not run by pytest."""

import hashlib
import os
import time

import pyarrow as pa
import pyarrow.compute as pc

from components.shared import shards, storage, tables


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


def work(pairs_uri: str, out: str, num_shards: int, log: str, reverse: bool = False) -> None:
    """Score what is pending and publish, as the scoring step does."""
    pairs = tables.read_table(pairs_uri, "pairs")
    plan = shards.open_plan(out, "rankings", num_shards, {"pairs": storage.content_digest(pairs_uri)})
    todo = shards.pending(plan)
    for shard in reversed(todo) if reverse else todo:
        if shards.is_pending(plan, shard):
            descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, b"x")
            os.close(descriptor)
            time.sleep(0.001)
            shards.commit(plan, shard, score(pairs, shard))
    if not shards.pending(plan):
        shards.finish(plan)
