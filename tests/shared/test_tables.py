"""Tables: nothing is there until the manifest is, one manifest of two writers, errors that name the place."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.shared import storage, tables
from components.shared.errors import InputError
from components.shared.schema import RANKINGS


def rankings(num_rows: int = 3, first: int = 0) -> pa.Table:
    names = [f"i{row}" for row in range(first, first + num_rows)]
    columns = {"query_id": ["q"] * num_rows, "item_id": names, "score": [1.0 / (row + 1) for row in range(num_rows)]}
    return pa.table({**columns, "rank": pa.array(range(1, num_rows + 1), pa.int32()), "system": ["s"] * num_rows})


def test_what_was_written_is_read(tmp_path):
    uri = str(tmp_path / "t")
    manifest = tables.write_table(uri, "rankings", rankings())
    assert (manifest.table, manifest.rows, len(manifest.parts)) == ("rankings", 3, 1)
    assert manifest.digest == storage.content_digest_of(storage.join(uri, manifest.parts[0]))
    assert tables.read_table(uri, "rankings").equals(rankings().cast(RANKINGS.schema))
    assert tables.read_table(uri, "rankings", ["item_id"], filter=pc.field("rank") > 2)["item_id"].to_pylist() == ["i2"]


def test_pieces_are_one_table_and_are_scanned_in_order(tmp_path):
    uri = str(tmp_path / "t")
    manifest = tables.write_table(uri, "rankings", (rankings(4, first) for first in (0, 4, 8)))
    assert manifest.rows == 12
    scanned = list(tables.scan_table(uri, "rankings", ["item_id"], batch_rows=5))
    assert max(len(one) for one in scanned) <= 5
    assert pa.concat_tables(scanned)["item_id"].to_pylist() == [f"i{row}" for row in range(12)]


def test_same_rows_give_the_same_digest(tmp_path):
    digests = {tables.write_table(str(tmp_path / name), "rankings", rankings()).digest for name in ("a", "b")}
    assert len(digests) == 1


def test_killed_writer_leaves_no_table(tmp_path):
    def dies():
        yield rankings()
        raise KeyboardInterrupt

    uri = str(tmp_path / "t")
    with pytest.raises(KeyboardInterrupt):
        tables.write_table(uri, "rankings", dies())
    assert list((tmp_path / "t").iterdir())  # the part of the dead is there, and nobody reads it
    with pytest.raises(InputError, match="not a committed table"):
        tables.read_table(uri, "rankings")
    assert tables.write_table(uri, "rankings", rankings()).rows == 3


def test_second_writer_gets_the_first_table_or_is_refused(tmp_path):
    uri = str(tmp_path / "t")
    first = tables.write_table(uri, "rankings", rankings())
    assert tables.write_table(uri, "rankings", rankings()) == first
    with pytest.raises(InputError, match="already holds another table"):
        tables.write_table(uri, "rankings", rankings(2))
    assert tables.read_table(uri, "rankings").num_rows == 3
    assert [one.name for one in (tmp_path / "t").glob("part-*")] == first.parts


def test_table_of_another_kind_or_version_is_refused(tmp_path):
    uri = str(tmp_path / "t")
    tables.write_table(uri, "rankings", rankings())
    with pytest.raises(InputError, match="holds table 'rankings' version 1; expected 'pairs'"):
        tables.read_table(uri, "pairs")
    storage.write_json(storage.join(uri, tables.MANIFEST), {**storage.read_json(storage.join(uri, tables.MANIFEST)), "version": 2})
    with pytest.raises(InputError, match="version 2; expected 'rankings' version 1"):
        tables.read_table(uri, "rankings")


def test_single_parquet_file_is_a_table_too(tmp_path):
    file = str(tmp_path / "r.parquet")
    pq.write_table(rankings().select(["system", "rank", "score", "item_id", "query_id"]), file)
    assert tables.read_table(file, "rankings").equals(rankings().cast(RANKINGS.schema))
    with pytest.raises(InputError, match="does not exist"):
        tables.read_table(str(tmp_path / "no.parquet"), "rankings")


@pytest.mark.parametrize("damage", [b"", b"not parquet", "half"])
def test_unreadable_parquet_is_named(tmp_path, damage):
    file = tmp_path / "r.parquet"
    pq.write_table(rankings(), str(file))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if damage == "half" else damage)
    with pytest.raises(InputError, match=r"r\.parquet"):
        tables.read_table(str(file), "rankings")


def test_lost_part_is_the_users_to_mend(tmp_path):
    uri = str(tmp_path / "t")
    manifest = tables.write_table(uri, "rankings", rankings())
    (tmp_path / "t" / manifest.parts[0]).unlink()
    message = rf"{manifest.parts[0]}.* of table 'rankings' is gone; delete the folder and write the table again$"
    with pytest.raises(InputError, match=message):
        tables.read_table(uri, "rankings")


def test_rows_that_do_not_fit_publish_nothing(tmp_path):
    uri = str(tmp_path / "t")
    with pytest.raises(InputError, match=r"writing .*lacks column 'score'"):
        tables.write_table(uri, "rankings", rankings().drop_columns(["score"]))
    assert not tables.is_committed(uri)


def test_a_flipped_bit_in_any_page_is_noticed_when_the_table_is_read(tmp_path):
    rows = pa.table(
        {"query_id": ["q"] * 500, "item_id": [f"i{n}" for n in range(500)], "score": [n / 7 for n in range(500)],
         "rank": pa.array(range(1, 501), pa.int32()), "system": ["s"] * 500}
    )  # fmt: skip
    manifest = tables.write_table(str(tmp_path / "t"), "rankings", rows)
    part = tmp_path / "t" / manifest.parts[0]
    whole = part.read_bytes()
    columns = pq.ParquetFile(part).metadata.row_group(0)
    for number in range(columns.num_columns):
        column = columns.column(number)
        damaged = bytearray(whole)
        first = column.dictionary_page_offset or column.data_page_offset
        damaged[first + column.total_compressed_size // 2] ^= 4
        part.write_bytes(damaged)
        with pytest.raises(InputError, match="write table 'rankings' again"):
            tables.read_table(str(tmp_path / "t"), "rankings")
    part.write_bytes(whole)
    assert tables.read_table(str(tmp_path / "t"), "rankings").equals(rows.cast(tables.TABLES["rankings"].schema))


def test_a_cut_footer_is_an_error_of_the_file(tmp_path):
    manifest = tables.write_table(str(tmp_path / "t"), "rankings", rankings())
    part = tmp_path / "t" / manifest.parts[0]
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(InputError, match="is not readable Parquet"):
        tables.read_table(str(tmp_path / "t"), "rankings")
