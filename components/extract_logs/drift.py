"""Schemas that change from day to day: what is added or missing is read, what is renamed or retyped is refused with the difference.

A column that vanished is null from then on, as in any lenient reader, unless a column of the same kind that no earlier file has
appeared with it: then it was most likely renamed, and its rows would silently lose what we look for.
"""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from components.shared.errors import InputError

ID, TIME, NUMBER, TEXT = ("text", "integer"), ("text", "integer", "float", "time"), ("text", "integer", "float"), ("text",)
KINDS: Mapping[str, tuple[str, ...]] = {
    "query_id": ID, "client": ID, "session": ID, "item_id": ID, "time": TIME, "ordinal": NUMBER, "action": TEXT, "text": TEXT,
    "message": TEXT, "application": TEXT, "experiment": ID, "params": ("list",), "items": ("list",),
}  # fmt: skip
INSIDE = ("struct", "text", "null")  # what a dotted path can lead through; text is JSON

Group = tuple[pa.Schema, list[str]]
Places = Mapping[str, tuple[str, ...]]
Seen = tuple[str, str, pa.DataType]  # file, path and type where a place was seen first


def check(groups: Sequence[Group], places: Places) -> None:
    """Compare the schemas of a log's Parquet files, in the order of the files.

    Raises:
        InputError: for a column of a type that its meaning cannot have (a float id loses leading zeros and gains `.0`), or that
            was renamed; with file, column, old and new.
    """
    first: dict[str, Seen] = {}
    known = {path for paths in places.values() for path in paths}
    for schema, (file, *_) in groups:
        leaves = dict(_leaves(schema))
        here = {place: found for place, paths in places.items() if (found := _find(file, place, paths, schema, first.get(place)))}
        if not here:
            raise InputError(f"'{file}' has none of the log's columns; it has {', '.join(leaves)}; check the card's keys under 'log'")
        gone = {place: first[place] for place in first if place not in here}
        appeared = {path: kind for path, kind in leaves.items() if path not in known}
        pairs = [(path, new) for _, path, kind in gone.values() for new, other in appeared.items() if family(kind) == family(other)]
        if pairs:
            old, new = (", ".join(dict.fromkeys(one[side] for one in pairs)) for side in (0, 1))
            earlier = next(iter(gone.values()))[0]
            raise InputError(
                f"'{file}' lacks '{old}', which '{earlier}' has, and has '{new}' instead: {old} -> {new}; write the file with the old "
                "name, or move it to a log with a card of its own"
            )
        known |= set(leaves)
        first = {place: (file, path, kind) for place, (path, kind) in here.items()} | first


def check_needed(groups: Sequence[Group], places: Places, needed: Sequence[str]) -> None:
    """Raises InputError when no file has a place without which no row says anything."""
    for place in needed:
        if not any(_find(files[0], place, places[place], schema, None) for schema, files in groups):
            schema, files = groups[0]
            has = ", ".join(path for path, _ in _leaves(schema))
            raise InputError(
                f"no file of the log has column '{' or '.join(places[place])}' ({place}); '{files[0]}' has {has}; "
                "check the card's keys under 'log'"
            )


def family(kind: pa.DataType) -> str:
    """text, integer, float, time, struct, list, null, or the type's own name."""
    types = pa.types
    if types.is_dictionary(kind):
        return family(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return "text" if "uuid" in str(kind) else family(kind.storage_type)
    tests = {
        "text": (types.is_string, types.is_large_string, types.is_string_view),
        "integer": (types.is_integer,),
        "float": (types.is_floating, types.is_decimal),
        "time": (types.is_timestamp, types.is_date),
        "struct": (types.is_struct,),
        "list": (types.is_list, types.is_large_list),
        "null": (types.is_null,),
    }
    return next((name for name, ones in tests.items() if any(one(kind) for one in ones)), str(kind))


def _find(file: str, place: str, paths: Sequence[str], schema: pa.Schema, earlier: Seen | None) -> tuple[str, pa.DataType] | None:
    for path in paths:
        head, *rest = path.split(".")
        index = schema.get_field_index(head)
        kind = schema.field(index).type if index >= 0 else None
        walked = head
        while kind is not None and rest and family(kind) != "text":
            if family(kind) not in INSIDE:
                raise InputError(_retyped(file, walked, str(kind), "a struct or JSON text", earlier))
            at = kind.get_field_index(rest[0]) if pa.types.is_struct(kind) else -1
            walked, kind, rest = f"{walked}.{rest[0]}", kind.field(at).type if at >= 0 else None, rest[1:]
        if kind is None:
            continue
        if not rest and family(kind) not in (*KINDS[place], "null"):
            raise InputError(_retyped(file, path, str(kind), " or ".join(KINDS[place]), earlier))
        return path, kind
    return None


def _retyped(file: str, path: str, kind: str, wanted: str, earlier: Seen | None) -> str:
    before = f"'{earlier[0]}' has {earlier[2]}: {earlier[2]} -> {kind}" if earlier else f"it must be {wanted}"
    return f"'{file}': column '{path}' is {kind}, {before}; write it as {wanted}"


def _leaves(schema: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    def walk(prefix: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
        if pa.types.is_struct(kind):
            for index in range(kind.num_fields):
                field = kind.field(index)
                yield from walk(f"{prefix}.{field.name}", field.type)
        else:
            yield prefix, kind

    for column in schema:
        yield from walk(column.name, column.type)
