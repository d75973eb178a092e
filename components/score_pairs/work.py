"""What is to be scored: pairs with their shard, and the queries and items they name."""

import zlib
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.own_pairs import is_table_file, read_own_pairs
from components.shared import storage, tables
from components.shared.errors import InputError
from components.shared.tables import Manifest


@dataclass(frozen=True)
class Work:
    """Pairs to score [pair_id, query_id, item_id, judged_at, shard], sorted by shard, query and pair, and what they name."""

    pairs: pa.Table
    queries: pa.Table
    items: pa.Table
    num_shards: int
    num_read: int
    content: dict[str, str] = field(default_factory=dict)

    def shard(self, number: int) -> pa.Table:
        return self.pairs.filter(pc.equal(self.pairs["shard"], number))


def read_work(config: ScorePairsConfig, pairs: str, queries: str, items: str) -> Work:
    """Pairs from a `pairs` or `judgments` table with its queries and items, or a user's own file that holds everything inline.

    Raises:
        InputError: for a table that is absent or of another kind, unknown ids, repeated pairs, queries cut over two shards.
    """
    if bool(queries) != bool(items):
        raise InputError(f"'{'items' if queries else 'queries'}' is not given; give both tables, or neither with a file of your own pairs")
    if not queries:
        own = read_own_pairs(pairs)
        content = {"pairs": storage.content_digest_of(pairs)}
        return _cut(config, own.pairs, own.queries, own.items, len(own.pairs), content)
    found, num_read = _listed_pairs(config, pairs)
    content = {name: digest_of(uri) for name, uri in (("pairs", pairs), ("queries", queries), ("items", items))}
    return _cut(config, found, tables.read_table(queries, "queries"), tables.read_table(items, "items"), num_read, content)


def digest_of(uri: str) -> str:
    """Content digest of a committed table, or of a single file."""
    return storage.content_digest_of(uri) if is_table_file(uri) else Manifest.read(uri).digest


def _listed_pairs(config: ScorePairsConfig, uri: str) -> tuple[pa.Table, int]:
    """(pairs with `judged_at` and, where the table has it, `shard`; rows read)."""
    if _kind(uri) == "pairs":
        table = tables.read_table(uri, "pairs")
        return table.append_column("judged_at", pa.nulls(len(table), pa.date32())), len(table)
    judgments = tables.read_table(uri, "judgments")
    kept = judgments.filter(pc.is_in(judgments["split"], value_set=pa.array(config.splits, pa.string())))
    if not len(kept):
        raise InputError(f"'{uri}' has no judgments of splits {', '.join(config.splits)}; set `splits` or judge some queries of them")
    names = pc.binary_join_element_wise(kept["query_id"], kept["item_id"], ":")
    return kept.select(["query_id", "item_id", "judged_at"]).append_column("pair_id", names), len(judgments)


def _kind(uri: str) -> str:
    if not is_table_file(uri):
        kind = Manifest.read(uri).table
    elif uri.endswith(".parquet"):
        kind = "pairs" if "pair_id" in tables.dataset(uri, "pairs").schema.names else "judgments"
    else:
        raise InputError(f"pairs '{uri}' with --queries and --items must be a table folder or .parquet; a file of your own stands alone")
    if kind not in ("pairs", "judgments"):
        raise InputError(f"pairs '{uri}' is a table '{kind}'; give a table 'pairs' or 'judgments'")
    return kind


def _cut(config: ScorePairsConfig, pairs: pa.Table, queries: pa.Table, items: pa.Table, num_read: int, content: dict[str, str]) -> Work:
    for key, table in (("query_id", queries), ("item_id", items)):
        _refuse_unknown(pairs, key, table)
    num_shards = config.num_shards
    if "shard" in pairs.column_names:
        num_shards = _shards_of(pairs) if len(pairs) else 1
    else:
        pairs = pairs.append_column("shard", shard_by_query(pairs["query_id"], num_shards))
    if config.output != "soft_targets":
        _refuse_not_rankable(pairs)
    columns = ["pair_id", "query_id", "item_id", "judged_at", "shard"]
    ordered = pairs.select(columns).sort_by([("shard", "ascending"), ("query_id", "ascending"), ("pair_id", "ascending")])
    return Work(ordered.combine_chunks(), queries, items, num_shards, num_read, content)


def shard_by_query(query_ids: pa.ChunkedArray, num_shards: int) -> pa.Array:
    """Shard of each row [rows]: CRC-32 of the query's id, so that all items of a query are in one shard, on every machine."""
    encoded = pc.dictionary_encode(query_ids.combine_chunks())
    shards = [zlib.crc32(query_id.encode()) % num_shards for query_id in encoded.dictionary.to_pylist()]
    return pa.array(np.asarray(shards, np.int32)[encoded.indices.to_numpy()] if shards else [], pa.int32())


def _refuse_unknown(pairs: pa.Table, key: str, table: pa.Table) -> None:
    unknown = pairs[key].filter(pc.invert(pc.is_in(pairs[key], value_set=table[key].combine_chunks())))
    if len(unknown):
        name = "queries" if key == "query_id" else "items"
        raise InputError(f"pairs: {len(unknown)} rows have a '{key}' that is not in table '{name}', first '{unknown[0]}'; give its row")


def _shards_of(pairs: pa.Table) -> int:
    bounds = pc.min_max(pairs["shard"])
    if bounds["min"].as_py() < 0:
        raise InputError(f"pairs: column 'shard' has {bounds['min']}; shards count from 0")
    return bounds["max"].as_py() + 1


def _refuse_not_rankable(pairs: pa.Table) -> None:
    """A query is ranked within one shard, each of its items once."""
    for column, trouble in (("shard", "is cut over several shards"), ("pair_id", "has the same item in several pairs")):
        key = ["query_id"] if column == "shard" else ["query_id", "item_id"]
        groups = pairs.group_by(key).aggregate([(column, "count_distinct")])
        several = groups.filter(pc.greater(groups[f"{column}_count_distinct"], 1))
        if len(several):
            first = pc.min(several["query_id"])
            raise InputError(f"pairs: query '{first}' {trouble}; rankings need every (query, item) once and a query in one shard")
