"""The shard protocol: plans that refuse other content, one winner per shard, the same table whatever the order."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared import shards, storage, tables
from components.shared.errors import InputError

CONTENT = {"pairs": "aa", "model": "bb"}


def rows_of(shard: int, num_rows: int = 2) -> pa.Table:
    names = [f"i{shard}-{row}" for row in range(num_rows)]
    scores = [shard + row / 10 for row in range(num_rows)]
    ranks = pa.array(range(1, num_rows + 1), pa.int32())
    return pa.table({"query_id": [f"q{shard}"] * num_rows, "item_id": names, "score": scores, "rank": ranks, "system": ["s"] * num_rows})


def test_table_is_in_shard_order_and_counts_rows(tmp_path):
    plan = shards.open_plan(str(tmp_path / "t"), "rankings", 3, CONTENT)
    assert shards.pending(plan) == [0, 1, 2]
    for shard in (2, 0):
        assert shards.commit(plan, shard, rows_of(shard))
    assert shards.pending(plan) == [1]
    with pytest.raises(InputError, match="1 of 3 shards are not committed, first 1"):
        shards.finish(plan)
    assert not tables.is_committed(plan.uri)
    shards.commit(plan, 1, rows_of(1, num_rows=0))
    manifest = shards.finish(plan)
    assert manifest.rows == 4
    assert tables.read_table(plan.uri, "rankings")["item_id"].to_pylist() == ["i0-0", "i0-1", "i2-0", "i2-1"]
    assert shards.finish(plan) == manifest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_shards": 4}, "num_shards = 3, now it is 4"),
        ({"content": {**CONTENT, "model": "cc"}}, "model = 'bb', now it is 'cc'"),
        ({"content": {**CONTENT, "neighbors": "dd"}}, "neighbors = None, now it is 'dd'"),
        ({"table": "soft_targets"}, "table = 'rankings', now it is 'soft_targets'"),
    ],
)
def test_resume_with_other_work_is_refused(tmp_path, change, message):
    wanted = {"table": "rankings", "num_shards": 3, "content": CONTENT}
    uri = str(tmp_path / "t")
    assert shards.open_plan(uri, **wanted) == shards.open_plan(uri, **wanted)
    with pytest.raises(InputError, match=message):
        shards.open_plan(uri, **{**wanted, **change})


def test_resume_of_an_older_table_version_is_refused(tmp_path):
    plan = shards.open_plan(str(tmp_path / "t"), "rankings", 3, CONTENT)
    storage.write_json(plan.uri + "/plan.json", {**storage.read_json(plan.uri + "/plan.json"), "version": 0})
    with pytest.raises(InputError, match=r"begun with version = 0, now it is 1; choose a fresh folder, or delete this one to begin again$"):
        shards.open_plan(plan.uri, "rankings", 3, CONTENT)


def test_table_made_otherwise_is_not_touched(tmp_path):
    tables.write_table(str(tmp_path / "t"), "rankings", rows_of(0))
    with pytest.raises(InputError, match="not written in shards"):
        shards.open_plan(str(tmp_path / "t"), "rankings", 1, CONTENT)


def test_second_commit_loses_and_leaves_nothing(tmp_path):
    plan = shards.open_plan(str(tmp_path / "t"), "rankings", 2, CONTENT)
    assert shards.commit(plan, 0, rows_of(0))
    assert not shards.commit(plan, 0, rows_of(1))
    assert len(list((tmp_path / "t").glob("part-*"))) == 1
    entry = json.loads((tmp_path / "t" / "commits" / "shard-00000.json").read_text())
    assert entry["rows"] == 2
    assert entry["digest"] == storage.content_digest_of(str(tmp_path / "t" / entry["part"]))


def test_rows_of_another_schema_and_unknown_shards_are_refused(tmp_path):
    plan = shards.open_plan(str(tmp_path / "t"), "rankings", 2, CONTENT)
    with pytest.raises(InputError, match="lacks column 'score'"):
        shards.commit(plan, 0, rows_of(0).drop_columns(["score"]))
    with pytest.raises(InputError, match="repeated keys"):
        shards.commit(plan, 0, pa.concat_tables([rows_of(0), rows_of(0)]))
    with pytest.raises(InputError, match="shard 2 is not in the plan"):
        shards.commit(plan, 2, rows_of(2))
    assert shards.pending(plan) == [0, 1]


@pytest.mark.parametrize("damage", ["cut", "flipped", "lost"])
def test_damaged_part_is_never_published(tmp_path, damage):
    plan = shards.open_plan(str(tmp_path / "t"), "rankings", 1, CONTENT)
    shards.commit(plan, 0, rows_of(0))
    part = next((tmp_path / "t").glob("part-*"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    {"cut": lambda: part.write_bytes(content[:-9]), "flipped": lambda: part.write_bytes(content), "lost": part.unlink}[damage]()
    with pytest.raises(InputError, match=r"lost or damaged.*delete '.*shard-00000.json'"):
        shards.finish(plan)
    (tmp_path / "t" / "commits" / "shard-00000.json").unlink()  # what the message says
    shards.commit(plan, 0, rows_of(0))
    assert shards.finish(plan).rows == 2


def test_leftovers_of_killed_workers_are_swept(tmp_path):
    plan = shards.open_plan(str(tmp_path / "t"), "rankings", 1, CONTENT)
    for name in ("part-00000-dead.parquet", "part-00000-dead.parquet.123.tmp"):
        (tmp_path / "t" / name).write_bytes(b"half")
    shards.commit(plan, 0, rows_of(0))
    manifest = shards.finish(plan)
    assert [one.name for one in (tmp_path / "t").glob("part-*")] == manifest.parts


def test_small_parts_are_joined_and_the_digest_is_that_of_the_shards(tmp_path, monkeypatch):
    sizes, digests, found = {}, set(), {}
    for limit in (1, 6000, 1 << 20):
        monkeypatch.setattr(shards, "FILE_BYTES", limit)
        plan = shards.open_plan(str(tmp_path / str(limit)), "rankings", 6, CONTENT)
        for shard in range(6):
            shards.commit(plan, shard, rows_of(shard, num_rows=900 if shard == 3 else 3))
        sizes = [entry["bytes"] for entry in shards.commits(plan)]
        manifest = shards.finish(plan)
        digests.add(manifest.digest)
        found[limit] = [name.removeprefix("part-").split("-") for name in manifest.parts]
        table = tables.read_table(plan.uri, "rankings")
        assert table["query_id"].unique().to_pylist() == [f"q{shard}" for shard in range(6)]
        assert sorted(manifest.parts) == sorted(one.name for one in (tmp_path / str(limit)).glob("part-*"))
    assert len(digests) == 1
    assert max(sizes[:3]) * 3 < 6000 < sizes[3]  # three small parts fit together, the large one stands alone
    assert [parts[:-1] for parts in found[1]] == [[f"0000{shard}"] for shard in range(6)]
    assert [parts[:-1] for parts in found[6000]] == [["00000", "00002"], ["00003"], ["00004", "00005"]]
    assert [parts[:-1] for parts in found[1 << 20]] == [["00000", "00005"]]


def race(uri: str, attempt: int) -> tuple[list[bool], list[str]]:
    plan = shards.open_plan(uri, "rankings", 1, {"attempt": str(attempt)})
    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda _: shards.commit(plan, 0, rows_of(0)), range(4)))
        digests = list(pool.map(lambda _: shards.finish(plan).digest, range(4)))
    return won, digests


@pytest.mark.parametrize("races", [50, pytest.param(1000, marks=pytest.mark.nightly)])
def test_races_have_one_winner(tmp_path, races):
    for attempt in range(races):
        won, digests = race(str(tmp_path / str(attempt)), attempt)
        assert sorted(won) == [False, False, False, True]
        assert len(set(digests)) == 1
        assert len(list((tmp_path / str(attempt)).glob("part-*"))) == 1


def undisturbed(num_shards: int) -> str:
    with TemporaryDirectory() as folder:
        plan = shards.open_plan(folder + "/t", "rankings", num_shards, CONTENT)
        for shard in range(num_shards):
            shards.commit(plan, shard, rows_of(shard))
        return shards.finish(plan).digest


EXPECTED = undisturbed(5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), max_size=25))
def test_any_interleaving_of_two_workers_gives_the_same_table(steps):
    """Each step is (which of two workers, which shard); what is left then is committed by the first."""
    with TemporaryDirectory() as folder:
        both = [shards.open_plan(folder + "/t", "rankings", 5, CONTENT) for _ in range(2)]
        done: set[int] = set()
        for second, shard in steps:
            assert shards.commit(both[second], shard, rows_of(shard)) == (shard not in done)
            done.add(shard)
        for shard in shards.pending(both[0]):
            shards.commit(both[0], shard, rows_of(shard))
        assert shards.finish(both[1]).digest == EXPECTED
        assert len(list(Path(folder, "t").glob("part-*"))) == 1
