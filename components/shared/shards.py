"""Exactly-once shards: a table made piece by piece, by workers that may be killed, repeated or doubled.

A shard is absent or committed, nothing between. Its rows are written under a name of this attempt only; then
`commits/shard-00012.json` is created once and names that part. Of any number of workers on one shard one wins, and the parts of
the others are removed. When all shards are committed, `finish` publishes them, in shard order, as an ordinary table.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.shared import storage, tables
from components.shared.errors import InputError
from components.shared.schema import TABLES
from components.shared.tables import Manifest

PLAN = "plan.json"
COMMITS = "commits"


@dataclass(frozen=True)
class ShardPlan:
    """A table under way: its folder, the name of its schema, and into how many shards it is cut."""

    uri: str
    table: str
    num_shards: int


def open_plan(uri: str, table: str, num_shards: int, content: Mapping[str, str]) -> ShardPlan:
    """Begin a table at folder `uri`, or go on with one that was begun for the same content and the same number of shards.

    Args:
        content: what the rows are made from and by, name -> digest or version; work that differs in any of them is refused.

    Raises:
        InputError: when the folder was begun with other content or another number of shards, or holds a table made otherwise.
    """
    wanted = {"table": table, "version": TABLES[table].version, "num_shards": num_shards, "content": dict(content)}
    place = storage.join(uri, PLAN)
    if tables.is_committed(uri) and not storage.exists(place):
        raise InputError(f"'{uri}' already holds a table that was not written in shards; choose a fresh folder or delete it")
    if not storage.create_once(place, storage.to_json(wanted)):
        _refuse_difference(uri, _flat(storage.read_json(place)), _flat(wanted))
    return ShardPlan(storage.normalise(uri), table, num_shards)


def _flat(plan: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in plan.items() if key != "content"}, **plan["content"]}


def _refuse_difference(uri: str, standing: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name in sorted({*standing, *wanted}):
        if standing.get(name) != wanted.get(name):
            raise InputError(
                f"'{uri}' was begun with {name} = {standing.get(name)!r}, now it is {wanted.get(name)!r}; "
                "choose a fresh folder, or delete this one to begin again"
            )


def pending(plan: ShardPlan) -> list[int]:
    """Shards that nobody has committed, in order."""
    known = {name.rsplit("/", 1)[1] for name in storage.list_files(storage.join(plan.uri, COMMITS))}
    return [shard for shard in range(plan.num_shards) if _entry_name(shard) not in known]


def is_pending(plan: ShardPlan, shard: int) -> bool:
    return not storage.exists(_entry(plan, shard))


def commit(plan: ShardPlan, shard: int, rows: pa.Table) -> bool:
    """Publish the rows of one shard; False when another worker had done so before.

    Raises:
        InputError: when the rows do not fit the table's schema, or the plan has no such shard.
    """
    if not 0 <= shard < plan.num_shards:
        raise InputError(f"shard {shard} is not in the plan '{plan.uri}' of {plan.num_shards} shards")
    checked = TABLES[plan.table].check(rows, where=f"shard {shard} of '{plan.uri}'")
    sink = pa.BufferOutputStream()
    pq.write_table(checked, sink, compression="zstd")
    content = sink.getvalue().to_pybytes()
    part = f"part-{shard:05d}-{uuid.uuid4().hex[:12]}.parquet"
    try:
        storage.write_bytes(storage.join(plan.uri, part), content)
    except FileNotFoundError:  # a finished worker swept our half-written part away: it has committed this shard
        if is_pending(plan, shard):
            raise
        return False
    entry = {"shard": shard, "part": part, "rows": len(rows), "digest": hashlib.sha256(content).hexdigest()}
    if storage.create_once(_entry(plan, shard), storage.to_json(entry)):
        return True
    storage.remove(storage.join(plan.uri, part))
    return False


def finish(plan: ShardPlan) -> Manifest:
    """Publish all shards, in order, as one table that `tables.read_table` reads; leftovers of killed workers are swept away.

    Raises:
        InputError: when a shard is absent, or a part's bytes are not those that were committed.
    """
    if tables.is_committed(plan.uri):
        return Manifest.read(plan.uri)
    absent = pending(plan)
    if absent:
        raise InputError(
            f"'{plan.uri}': {len(absent)} of {plan.num_shards} shards are not committed, first {absent[0]}; run the step again"
        )
    entries = [storage.read_json(_entry(plan, shard)) for shard in range(plan.num_shards)]
    for entry in entries:
        _verify(plan, entry)
    digest = hashlib.sha256(json.dumps([(one["shard"], one["rows"], one["digest"]) for one in entries]).encode()).hexdigest()
    parts = [one["part"] for one in entries]
    manifest = Manifest(plan.table, TABLES[plan.table].version, sum(one["rows"] for one in entries), parts, digest)
    published = tables.publish(plan.uri, manifest)
    _sweep(plan, set(published.parts))
    return published


def _verify(plan: ShardPlan, entry: Mapping[str, Any]) -> None:
    part = storage.join(plan.uri, entry["part"])
    if not storage.exists(part) or storage.content_digest_of(part) != entry["digest"]:
        raise InputError(f"'{part}' is not what was committed (lost or damaged); delete '{_entry(plan, entry['shard'])}' and run again")


def _sweep(plan: ShardPlan, kept: set[str]) -> None:
    base = plan.uri + "/"
    for name in storage.list_files(plan.uri):
        relative = name.removeprefix(base)
        if relative.startswith("part-") and relative not in kept:
            storage.remove(name)


def _entry_name(shard: int) -> str:
    return f"shard-{shard:05d}.json"


def _entry(plan: ShardPlan, shard: int) -> str:
    return storage.join(plan.uri, COMMITS, _entry_name(shard))
