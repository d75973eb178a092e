"""Tables on storage: Parquet parts and a manifest written last.

A table is a folder. Its `manifest.json` is created once and names the parts; without it the folder holds nothing. A killed
writer leaves parts that nobody reads, two writers leave one manifest.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.shared import storage
from components.shared.errors import InputError, TemporaryError
from components.shared.schema import TABLES, TableSchema

MANIFEST = "manifest.json"
PARQUET: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}  # a reader compares every page with its CRC-32


@dataclass(frozen=True)
class Manifest:
    """What a committed table is: rows, schema version, parts and the SHA-256 of their bytes."""

    table: str
    version: int
    rows: int
    parts: list[str]
    digest: str

    @staticmethod
    def read(uri: str) -> "Manifest":
        """Raises InputError when the folder is not a committed table."""
        if not storage.exists(storage.join(uri, MANIFEST)):
            raise InputError(f"'{uri}' is not a committed table (no {MANIFEST}); run the step that writes it, or give a .parquet file")
        return Manifest(**storage.read_json(storage.join(uri, MANIFEST)))


def is_committed(uri: str) -> bool:
    return storage.exists(storage.join(uri, MANIFEST))


def write_table(uri: str, name: str, rows: pa.Table | Iterable[pa.Table]) -> Manifest:
    """Check rows against schema `name` and publish them as one table at folder `uri`.

    An iterable is written table by table, in bounded memory; keys are then checked within each table only.

    Raises:
        InputError: when rows do not fit the schema, or the folder is committed already with other content.
    """
    spec = TABLES[name]
    part = f"part-{uuid.uuid4().hex[:12]}.parquet"
    num_rows = _write_part(storage.join(uri, part), spec, [rows] if isinstance(rows, pa.Table) else rows)
    digest = storage.content_digest_of(storage.join(uri, part))
    manifest = Manifest(name, spec.version, num_rows, [part], digest)
    return publish(uri, manifest)


def publish(uri: str, manifest: Manifest) -> Manifest:
    """Create the manifest once; a writer that comes second with equal content gets the first one's manifest."""
    text = storage.to_json(asdict(manifest))
    if storage.create_once(storage.join(uri, MANIFEST), text):
        return manifest
    standing = Manifest.read(uri)
    for part in set(manifest.parts) - set(standing.parts):
        storage.remove(storage.join(uri, part))
    if standing.digest != manifest.digest:
        raise InputError(f"'{uri}' already holds another table '{standing.table}'; choose a fresh folder or delete it")
    return standing


def to_parquet(rows: pa.Table) -> bytes:
    """The bytes of a Parquet file, as `write_table` makes them."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, **PARQUET)
    return sink.getvalue().to_pybytes()


def _write_part(uri: str, spec: TableSchema, tables: Iterable[pa.Table]) -> int:
    if storage.is_local(uri):
        storage.local_path(uri).parent.mkdir(parents=True, exist_ok=True)
    fs, path = storage.arrow_filesystem(uri)
    num_rows = 0
    with pq.ParquetWriter(path, spec.schema, filesystem=fs, **PARQUET) as writer:
        for table in tables:
            writer.write_table(spec.check(table, where=f"writing '{uri}'"))
            num_rows += table.num_rows
    return num_rows


def dataset(uri: str, name: str) -> Any:
    """A committed table, or a single Parquet file of the same columns, to be scanned in batches."""
    full = storage.normalise(uri)
    files = [full]
    if not full.endswith(".parquet"):
        manifest = Manifest.read(full)
        spec = TABLES[name]
        if (manifest.table, manifest.version) != (name, spec.version):
            raise InputError(f"'{uri}' holds table '{manifest.table}' version {manifest.version}; expected '{name}' version {spec.version}")
        files = [storage.join(full, part) for part in manifest.parts]
    elif not storage.exists(full):
        raise InputError(f"'{uri}' does not exist; check the path of table '{name}'")
    import pyarrow.dataset as pads  # noqa: PLC0415 - it imports pandas, and a re-used step reads no table

    fs, _ = storage.arrow_filesystem(full)
    try:
        checked = pads.ParquetFileFormat(default_fragment_scan_options=pads.ParquetFragmentScanOptions(page_checksum_verification=True))
        paths = [storage.resolve(file)[1] for file in files]
        return storage.temporary_on_trouble(lambda: pads.dataset(paths, filesystem=fs, format=checked), full)
    except FileNotFoundError:
        gone = next((file for file in files if not storage.exists(file)), None)  # pyarrow says "not found" whatever the trouble is
        if gone is None:
            raise TemporaryError(f"'{uri}': storage did not answer; try again") from None
        raise InputError(f"'{uri}': part '{gone}' of table '{name}' is gone; delete the folder and write the table again") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"'{uri}' is not readable Parquet ({error}); write it again") from None


def read_table(uri: str, name: str, columns: Sequence[str] | None = None, *, filter: Any = None) -> pa.Table:
    """A table checked against its schema; with `columns`, only those, unchecked keys.

    Raises:
        InputError: when absent, unreadable, or not of the schema.
    """
    source = dataset(uri, name)
    try:
        table = storage.temporary_on_trouble(lambda: source.to_table(columns=list(columns) if columns else None, filter=filter), uri)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"'{uri}': {error}; write table '{name}' again") from None
    return table if columns else TABLES[name].check(table, where=f"'{uri}'")


def scan_table(uri: str, name: str, columns: Sequence[str] | None = None, batch_rows: int = 131_072) -> Iterator[pa.Table]:
    """The table in pieces of at most `batch_rows` rows, in file order."""
    for batch in dataset(uri, name).to_batches(columns=list(columns) if columns else None, batch_size=batch_rows):
        if batch.num_rows:
            yield pa.Table.from_batches([batch])


def rows_of(table: pa.Table, key: str, wanted: Any, *, where: str) -> pa.Table:
    """The rows of `table` whose `key` equals each of `wanted` [n], in that order.

    Raises:
        InputError: when some are absent, with their number and the first.
    """
    index = pc.index_in(wanted, value_set=table[key].combine_chunks())
    if index.null_count:
        missing = wanted.filter(pc.is_null(index))
        raise InputError(f"{where}: {len(missing)} values of '{key}' are not in the {key.removesuffix('_id')} table, first '{missing[0]}'")
    return table.take(index)
