"""The tables that rooms meet in: columns, keys, invariants. Their only home.

Bump a table's `version` when a column is added, removed or changes its meaning.
"""

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from components.shared.errors import InputError

SPLITS = ("train", "dev", "test")
ACTIONS = ("impression", "click", "add_to_cart", "purchase")
SEGMENTS = ("head", "torso", "tail", "unseen")
SIDES = ("query", "item", "query_query", "item_item")  # of neighbors: first order, then second
ASPECTS = ("category", "brand", "attribute", "negation", "accessory_for")  # of a query; attribute: color, material, number with unit, model
VERDICTS = ("match", "mismatch", "not_mentioned")  # of an item on an aspect; not_mentioned: the query asks for nothing there
PAIR_SOURCES = ("judgment", "impression", "lexical", "nearest", "co_engagement", "hard", "random")

_text = pa.string()
_time = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class TableSchema:
    """One table: `key` columns are never null and together unique; `required` columns are never null; rows may come without `may_lack`."""

    name: str
    version: int
    schema: pa.Schema
    key: tuple[str, ...]
    required: tuple[str, ...] = ()
    allowed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    may_lack: tuple[str, ...] = ()

    def check(self, table: pa.Table, *, where: str, unique: bool = True) -> pa.Table:
        """The table with exactly our columns and types.

        Raises:
            InputError: for an absent column, a type that does not fit, a null, a repeated key or a value outside the list.
        """
        for name in self.may_lack:
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(len(table), self.schema.field(name).type))
        absent = [name for name in self.schema.names if name not in table.column_names]
        if absent:
            raise InputError(f"{where}: table '{self.name}' lacks column '{absent[0]}'; it has {', '.join(table.column_names)}")
        table = table.select(self.schema.names)
        try:
            table = table.cast(self.schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(f"{where}: table '{self.name}': {error}; expected {_types(self.schema)}") from None
        for name in (*self.key, *self.required):
            if table[name].null_count:
                raise InputError(f"{where}: column '{name}' of '{self.name}' has {table[name].null_count} nulls; it must be filled")
        for name, values in self.allowed.items():
            self._check_values(table[name], values, where, name)
        if unique and table.num_rows:
            self._check_key(table, where)
        return table

    def _check_values(self, column: pa.ChunkedArray, values: tuple[str, ...], where: str, name: str) -> None:
        wrong = column.filter(pc.invert(pc.is_in(column, value_set=pa.array(values, column.type))))
        if len(wrong):
            raise InputError(f"{where}: column '{name}' of '{self.name}' has {wrong[0].as_py()!r}; allowed: {', '.join(values)}")

    def _check_key(self, table: pa.Table, where: str) -> None:
        groups = table.select(self.key).group_by(list(self.key)).aggregate([([], "count_all")])
        if groups.num_rows == table.num_rows:
            return
        first = groups.filter(pc.greater(groups["count_all"], 1)).select(self.key).slice(0, 1).to_pylist()[0]
        raise InputError(
            f"{where}: table '{self.name}' has {table.num_rows - groups.num_rows} repeated keys, first {first}; keep one row each"
        )


def _types(schema: pa.Schema) -> str:
    return ", ".join(f"{column.name}: {column.type}" for column in schema)


def _table(
    name: str,
    columns: dict[str, pa.DataType],
    key: tuple[str, ...],
    required: tuple[str, ...] = (),
    version: int = 1,
    may_lack: tuple[str, ...] = (),
    **allowed: tuple[str, ...],
) -> TableSchema:
    return TableSchema(name, version, pa.schema(list(columns.items())), key, required, allowed, may_lack)


EVENTS = _table(
    "events",
    {"event_id": _text, "query_id": _text, "query": _text, "client": _text, "session_id": _text, "timestamp": _time,
     "action": _text, "item_id": _text, "position": pa.int32()},
    key=("event_id",), required=("query", "timestamp", "action", "item_id"), action=ACTIONS,
)  # fmt: skip
INTERACTIONS = _table(
    "interactions",
    {"query": _text, "item_id": _text, "day": pa.date32(), "impressions": pa.int64(), "clicks": pa.int64(),
     "add_to_carts": pa.int64(), "purchases": pa.int64(), "clients": pa.int64(), "corrected_impressions": pa.float64(),
     "corrected_clicks": pa.float64()},
    key=("query", "item_id", "day"), version=2,
)  # fmt: skip
QUERIES = _table(
    "queries",
    {"query_id": _text, "query_text": _text, "query": _text, "frequency": pa.int64(), "segment": _text, "kind": _text,
     "split": _text},
    key=("query_id",), required=("query_text", "query", "frequency", "segment"), segment=SEGMENTS,
)  # fmt: skip
REFORMULATIONS = _table(
    "reformulations",
    {"query": _text, "next_query": _text, "times": pa.int64(), "clients": pa.int64(), "satisfied": pa.int64()},
    key=("query", "next_query"), required=("times", "clients", "satisfied"),
)  # fmt: skip
ITEMS = _table(
    "items",
    {"item_id": _text, "title": _text, "brand": _text, "category": _text, "color": _text, "attributes": _text,
     "description": _text},
    key=("item_id",), required=("title",),
)  # fmt: skip
JUDGMENTS = _table(
    "judgments",
    {"query_id": _text, "item_id": _text, "grade": pa.int32(), "gain": pa.float64(), "judged_at": pa.date32(),
     "split": _text, "votes": pa.list_(pa.int32())},  # votes: people who gave grade 0, 1, 2, ...
    key=("query_id", "item_id"), required=("grade", "gain", "split"), version=2, may_lack=("votes",), split=SPLITS,
)  # fmt: skip
EVIDENCE = _table(
    "evidence",
    {"query": _text, "item_id": _text, "impressions": pa.int64(), "clicks": pa.int64(), "clients": pa.int64(),
     "looks": pa.int64(), "credit": pa.int64(), "first_day": pa.date32(), "last_day": pa.date32(), "half_life_days": pa.float64()},
    key=("query", "item_id"), required=("looks", "credit", "first_day", "last_day", "half_life_days"),
)  # fmt: skip
NEIGHBORS = _table(
    "neighbors",
    {"snapshot": pa.date32(), "side": _text, "key": _text, "left_out": _text, "rank": pa.int32(), "neighbor": _text,
     "text": _text, "corrected_impressions": pa.float64(), "clicks": pa.int64(), "clients": pa.int64(), "rate": pa.float64(),
     "lower_bound": pa.float64(), "upper_bound": pa.float64()},
    key=("snapshot", "side", "key", "left_out", "rank"), required=("neighbor", "text", "lower_bound"), version=2, side=SIDES,
)  # fmt: skip
PAIRS = _table(
    "pairs",
    {"pair_id": _text, "query_id": _text, "item_id": _text, "source": _text, "shard": pa.int32()},
    key=("pair_id",), required=("query_id", "item_id", "source", "shard"), source=PAIR_SOURCES,
)  # fmt: skip
SOFT_TARGETS = _table(
    "soft_targets",
    {"pair_id": _text, "query_id": _text, "item_id": _text, "probabilities": pa.list_(pa.float32()), "score": pa.float64(),
     "entropy": pa.float32(), "disagreement": pa.float32(), "text_digest": _text, "model_digest": _text, "engine": _text},
    key=("pair_id",), required=("query_id", "item_id", "probabilities", "score", "entropy"), version=2,
)  # fmt: skip
SUB_JUDGMENTS = _table(
    "sub_judgments",
    {"query_id": _text, "item_id": _text, "aspect": _text, "verdict": _text, "query_span": _text, "item_span": _text, "annotator": _text},
    key=("query_id", "item_id", "aspect"), required=("verdict", "annotator"), aspect=ASPECTS, verdict=VERDICTS,
)  # fmt: skip
RANKINGS = _table(
    "rankings",
    {"query_id": _text, "item_id": _text, "score": pa.float64(), "rank": pa.int32(), "system": _text},
    key=("system", "query_id", "item_id"), required=("score", "rank"),
)  # fmt: skip

TABLES = {
    t.name: t
    for t in (
        EVENTS, INTERACTIONS, QUERIES, REFORMULATIONS, ITEMS, JUDGMENTS, EVIDENCE, NEIGHBORS, PAIRS, SOFT_TARGETS, SUB_JUDGMENTS, RANKINGS,
    )
}  # fmt: skip
