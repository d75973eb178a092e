"""The same promises on a bucket as on disk: made once, listed with its scheme, committed by a manifest, spools kept for later."""

import pyarrow as pa
import pytest
import torch
from fake_gcs import QUANTUM, Trouble

from components.shared import checked_gcs, shards, spools, storage, tables, tracking_mlflow
from components.shared.errors import InputError, TemporaryError
from components.shared.tracking import SpoolTracker
from components.shared.training import Checkpoints, Curve


def rankings(num_rows: int) -> pa.Table:
    names = [f"i{row}" for row in range(num_rows)]
    ranks = pa.array(range(num_rows), pa.int32())
    return pa.table({"query_id": ["q"] * num_rows, "item_id": names, "score": [0.5] * num_rows, "rank": ranks, "system": ["s"] * num_rows})


def test_an_object_is_made_once_and_replaced_only_when_asked(bucket):
    assert storage.create_once(f"{bucket}/once", b"first")
    assert not storage.create_once(f"{bucket}/once", b"second")
    assert storage.read_bytes(f"{bucket}/once") == b"first"
    storage.write_bytes(f"{bucket}/once", b"third")
    assert storage.read_bytes(f"{bucket}/once") == b"third"


def test_objects_are_listed_digested_and_removed_below_their_folder_only(bucket, tmp_path):
    for root in (f"{bucket}/a", str(tmp_path / "a")):
        storage.write_bytes(f"{root}/x/1", b"one")
        storage.write_bytes(f"{root}/2", b"two")
    storage.write_bytes(f"{bucket}/other", b"")
    assert storage.list_files(f"{bucket}/a") == ["gs://bucket/a/2", "gs://bucket/a/x/1"]
    assert storage.content_digest(f"{bucket}/a") == storage.content_digest(str(tmp_path / "a"))
    for _ in range(2):
        storage.remove(f"{bucket}/a")
    assert (storage.list_files(f"{bucket}/a"), storage.exists(f"{bucket}/other")) == ([], True)
    with pytest.raises(InputError, match=r"^'gs://bucket/a/2' does not exist or is not a file; check the address$"):
        storage.read_bytes(f"{bucket}/a/2")


def test_a_checkpoint_goes_through_a_file_and_is_read_by_the_process_that_writes(bucket, tmp_path):
    tensors = {"weights/a": torch.arange(200_000, dtype=torch.float32)}
    for root in (f"{bucket}/m", str(tmp_path / "m")):
        Checkpoints(root, "same").save(Curve([0.5], epoch=1), tensors)
        curve, found = Checkpoints(root, "same").newest()
        assert (curve.losses, curve.epoch, found.keys()) == ([0.5], 1, tensors.keys())
        assert torch.equal(found["weights/a"], tensors["weights/a"])
        assert Checkpoints(root, "same", writes=False).newest() == (curve, {})
        assert Checkpoints(root, "other").newest() is None


def test_a_table_is_committed_and_read_and_its_second_writer_leaves_nothing(bucket):
    first = tables.write_table(f"{bucket}/t", "rankings", rankings(3))
    assert tables.write_table(f"{bucket}/t", "rankings", rankings(3)) == first
    assert sorted(storage.list_files(f"{bucket}/t")) == sorted(f"gs://bucket/t/{name}" for name in ("manifest.json", *first.parts))
    assert tables.read_table(f"{bucket}/t", "rankings")["item_id"].to_pylist() == ["i0", "i1", "i2"]


def test_a_table_made_in_shards_is_swept_of_leftovers(bucket):
    plan = shards.open_plan(f"{bucket}/t", "rankings", 2, {"pairs": "aa"})
    storage.write_bytes(f"{bucket}/t/part-00000-dead.parquet", b"half")
    assert shards.commit(plan, 1, rankings(2))
    assert not shards.commit(plan, 1, rankings(2))
    assert (shards.pending(plan), shards.is_pending(plan, 0), shards.is_pending(plan, 1)) == ([0], True, False)
    shards.commit(plan, 0, rankings(0))
    manifest = shards.finish(plan)
    parts = [name.rsplit("/", 1)[1] for name in storage.list_files(f"{bucket}/t") if "/part-" in name]
    assert (manifest.rows, sorted(parts)) == (2, sorted(manifest.parts))


def test_what_a_task_could_not_send_waits_in_the_bucket_until_it_is_fetched_and_forgotten(bucket, tmp_path, monkeypatch):
    tracker = SpoolTracker(tmp_path / "task" / "r1" / "teacher.jsonl", "teacher")
    tracker.metrics({"loss": 0.5})
    monkeypatch.delenv("RELEVANCE_TRACKING", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    outcome = tracking_mlflow.send_at_task_end(tracker.file, f"{bucket}/w")
    assert outcome is not None
    assert outcome.unsent == 1
    storage.write_bytes(f"{bucket}/w/tracking/r1/notes.txt", b"no spool")
    (folder,) = spools.fetch(f"{bucket}/w", tmp_path / "copies")
    assert [(one.name, one.read_bytes()) for one in folder.iterdir()] == [("teacher.jsonl", tracker.file.read_bytes())]
    spools.forget(f"{bucket}/w", folder)
    assert storage.list_files(f"{bucket}/w/tracking") == ["gs://bucket/w/tracking/r1/notes.txt"]


def test_the_writer_whose_answer_was_lost_knows_that_it_won(gcs, bucket):
    gcs.trouble = Trouble(0.6, ("lost",), seed=3)
    for number in range(10):
        assert storage.create_once(f"{bucket}/{number}", b"ours")
        assert not storage.create_once(f"{bucket}/{number}", b"ours")
    assert gcs.trouble.counts["lost"] > 10


def test_a_shard_whose_answers_are_lost_keeps_its_part(gcs, bucket):
    """Would the winner take itself for the loser, it would remove the very part that its commit names."""
    plan = shards.open_plan(f"{bucket}/t", "rankings", 8, {"pairs": "aa"})
    gcs.trouble = Trouble(0.5, ("lost",), seed=5)
    for shard in range(8):
        assert shards.commit(plan, shard, rankings(0) if shard else rankings(3))
    assert gcs.trouble.counts["lost"] > 8
    gcs.trouble = Trouble(0.0, ("lost",), seed=5)  # `finish` asks from several threads: who meets which trouble would be chance
    assert shards.finish(plan).rows == 3
    assert len(tables.read_table(plan.uri, "rankings")) == 3


@pytest.mark.parametrize("kind", ["429", "503", "lost", "reset", "cut", "damaged", "slow", "partial"])
def test_any_trouble_ends_with_the_right_bytes(gcs, bucket, tmp_path, kind):
    data = bytes(range(256)) * 4096  # 1 MiB
    fs, path = storage.resolve(f"{bucket}/large")
    gcs.trouble = Trouble(0.4, (kind,), seed=7)
    fs.pipe_file(path, data, chunksize=2 * QUANTUM)
    with fs.open(f"{path}-streamed", "wb", block_size=QUANTUM) as handle:
        handle.write(data)
    for name in ("large", "large-streamed"):
        assert gcs.buckets["bucket"][name].content == data
        for _ in range(3):
            assert storage.read_bytes(f"{bucket}/{name}") == data
            assert b"".join(storage.chunks_of(f"{bucket}/{name}")) == data
    fs.get_file(path, str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == data
    assert storage.list_files(bucket) == [f"{bucket}/large", f"{bucket}/large-streamed"]
    assert gcs.trouble.counts[kind]


@pytest.mark.parametrize("kind", ["503", "reset", "damaged"])
def test_trouble_without_end_is_temporary(gcs, bucket, kind):
    storage.write_bytes(f"{bucket}/x", b"content")
    gcs.trouble = Trouble(1.0, (kind,))
    with pytest.raises(TemporaryError, match=r"^'gs://bucket/x': storage did not answer \(.*\); try again$"):
        storage.read_bytes(f"{bucket}/x")
    assert gcs.trouble.counts[kind] >= checked_gcs.TRIES


def test_a_table_that_cannot_be_read_for_now_is_temporary_trouble(gcs, bucket):
    tables.write_table(f"{bucket}/t", "rankings", rankings(3))
    gcs.missing = "/part-"  # the manifest is read, its parts are not
    with pytest.raises(TemporaryError, match="storage did not answer"):
        tables.read_table(f"{bucket}/t", "rankings")


def test_a_server_that_went_silent_is_given_up(gcs, bucket, monkeypatch):
    storage.write_bytes(f"{bucket}/x", b"content")
    monkeypatch.setattr(checked_gcs, "SILENCE_S", 0.05)
    storage.filesystem.cache_clear()
    checked_gcs.CheckedGcs.clear_instance_cache()
    gcs.trouble = Trouble(1.0, ("slow",), slow_s=0.5)
    with pytest.raises(TemporaryError, match="storage did not answer"):
        storage.read_bytes(f"{bucket}/x")
    checked_gcs.CheckedGcs.clear_instance_cache()


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("call", [storage.read_bytes, storage.exists, lambda uri: storage.create_once(uri, b"")])
def test_a_bucket_that_is_not_ours_is_a_mistake(gcs, bucket, status, call):
    gcs.denied = status
    with pytest.raises(
        InputError, match=rf"^'gs://bucket/x': storage refuses the request \(.*{status}\); check the address and your credentials$"
    ):
        call(f"{bucket}/x")


def test_finish_reads_many_shards_at_a_time(gcs, bucket):
    plan = shards.open_plan(f"{bucket}/t", "rankings", 40, {"pairs": "aa"})
    for shard in range(40):
        shards.commit(plan, shard, rankings(shard % 2))
    gcs.delay_s, gcs.peak_in_flight = 0.02, 0
    assert shards.finish(plan).rows == 20
    assert gcs.peak_in_flight >= 16
