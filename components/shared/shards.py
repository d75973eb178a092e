"""Exactly-once shards: a table made piece by piece, by workers that may be killed, repeated or doubled.

A shard is absent or committed, nothing between. Its rows are written under a name of this attempt only; then
`commits/shard-00012.json` is created once and names that part. Of any number of workers on one shard one wins, and the parts of
the others are removed. When all shards are committed, `finish` publishes them, in shard order, as an ordinary table.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
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
LEASES = "leases"
READERS, WRITERS = 32, 4  # of `finish`; object storage answers a request in tens of milliseconds, whatever its size
FILE_BYTES = 64 << 20  # small parts are joined up to this size

Commit = dict[str, Any]  # a shard's commit: shard, part, rows, bytes, spent, digest


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


def commit(plan: ShardPlan, shard: int, rows: pa.Table, spent: Mapping[str, float] | None = None) -> bool:
    """Publish the rows of one shard; False when another worker had done so before.

    Args:
        spent: what the rows cost, kept beside them for `commits`; no part of the table.

    Raises:
        InputError: when the rows do not fit the table's schema, or the plan has no such shard.
    """
    if not 0 <= shard < plan.num_shards:
        raise InputError(f"shard {shard} is not in the plan '{plan.uri}' of {plan.num_shards} shards")
    checked = TABLES[plan.table].check(rows, where=f"shard {shard} of '{plan.uri}'")
    content = tables.to_parquet(checked)
    part = f"part-{shard:05d}-{uuid.uuid4().hex[:12]}.parquet"
    try:
        storage.write_bytes(storage.join(plan.uri, part), content)
    except FileNotFoundError:  # a finished worker swept our half-written part away: it has committed this shard
        if is_pending(plan, shard):
            raise
        return False
    about = {"shard": shard, "part": part, "rows": len(rows), "bytes": len(content), "spent": dict(spent or {})}
    entry = {**about, "digest": hashlib.sha256(content).hexdigest()}
    if storage.create_once(_entry(plan, shard), storage.to_json(entry)):
        return True
    storage.remove(storage.join(plan.uri, part))
    return False


def commits(plan: ShardPlan) -> list[Commit]:
    """What was committed so far, in shard order."""
    todo = set(pending(plan))
    with ThreadPoolExecutor(READERS) as readers:
        there = (shard for shard in range(plan.num_shards) if shard not in todo)
        return list(readers.map(lambda shard: read_commit(plan, shard), there))


def read_commit(plan: ShardPlan, shard: int) -> Commit:
    """What was committed for one shard."""
    return storage.read_json(_entry(plan, shard))


def finish(plan: ShardPlan) -> Manifest:
    """Publish all shards, in order, as one table that `tables.read_table` reads; leftovers of killed workers are swept away.

    Every part is read, many at a time, and compared with its commit. Neighbors that are small together become one file, because a reader
    pays for every file that it opens; the table's digest is that of its shards and does not depend on it.

    Raises:
        InputError: when a shard is absent, or a part's bytes are not those that were committed.
    """
    if tables.is_committed(plan.uri):
        return Manifest.read(plan.uri)
    if absent := pending(plan):
        raise InputError(
            f"'{plan.uri}': {len(absent)} of {plan.num_shards} shards are not committed, first {absent[0]}; run the step again"
        )
    entries = commits(plan)
    digest = hashlib.sha256(json.dumps([(one["shard"], one["rows"], one["digest"]) for one in entries]).encode()).hexdigest()
    try:
        with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(WRITERS) as writers:
            parts = list(writers.map(lambda group: _compact(plan, readers, group), _groups(entries)))
    except (InputError, FileNotFoundError):
        if tables.is_committed(plan.uri):  # another worker has finished meanwhile and swept what we were reading
            return Manifest.read(plan.uri)
        raise
    manifest = Manifest(plan.table, TABLES[plan.table].version, sum(one["rows"] for one in entries), parts, digest)
    published = tables.publish(plan.uri, manifest)
    _sweep(plan, {*published.parts})
    storage.remove(storage.join(plan.uri, LEASES))
    return published


def _groups(entries: list[Commit]) -> list[list[Commit]]:
    """Runs of shards whose parts have at most `FILE_BYTES` together; a larger part stays alone."""
    groups: list[list[Commit]] = []
    size = FILE_BYTES
    for entry in entries:
        if size + entry["bytes"] > FILE_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(entry)
        size += entry["bytes"]
    return groups


def _compact(plan: ShardPlan, readers: ThreadPoolExecutor, group: list[Commit]) -> str:
    """The name of one part that holds the rows of a group of shards, checked."""
    contents = readers.map(lambda entry: _read_part(plan, entry), group)
    if len(group) == 1:
        next(contents)
        return group[0]["part"]
    part = f"part-{group[0]['shard']:05d}-{group[-1]['shard']:05d}-{uuid.uuid4().hex[:12]}.parquet"
    rows = pa.concat_tables(pq.read_table(pa.BufferReader(content)) for content in contents)
    storage.write_bytes(storage.join(plan.uri, part), tables.to_parquet(rows))
    return part


def _read_part(plan: ShardPlan, entry: Commit) -> bytes:
    part = storage.join(plan.uri, entry["part"])
    content = storage.read_bytes(part) if storage.exists(part) else b""
    if hashlib.sha256(content).hexdigest() != entry["digest"]:
        raise InputError(f"'{part}' is not what was committed (lost or damaged); delete '{_entry(plan, entry['shard'])}' and run again")
    return content


def _sweep(plan: ShardPlan, kept: set[str]) -> None:
    base = plan.uri + "/"
    relative = {name: name.removeprefix(base) for name in storage.list_files(plan.uri)}
    leftovers = [name for name, own in relative.items() if own.startswith("part-") and own not in kept]
    with ThreadPoolExecutor(READERS) as removers:
        list(removers.map(storage.remove, leftovers))


def _entry_name(shard: int) -> str:
    return f"shard-{shard:05d}.json"


def _entry(plan: ShardPlan, shard: int) -> str:
    return storage.join(plan.uri, COMMITS, _entry_name(shard))
