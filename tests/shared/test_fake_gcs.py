"""Which behaviors of Google Cloud Storage our fake copies, as the official client and gcsfs see them.

From the service's documentation: request preconditions (`ifGenerationMatch=0` is create-once), generations that change with every write,
strong consistency after a write, resumable uploads (multiples of 256 KiB, 308 with Range, bytes that the session has are ignored, a
repeated last chunk is answered with the object), list pages with delimiter, CRC-32C and MD5 in metadata and in `X-Goog-Hash`, ranges.
"""

import base64
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import pytest
import requests
from fake_gcs import QUANTUM, Trouble
from google.api_core.exceptions import NotFound, PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY

from components.shared import storage


@pytest.fixture
def client(gcs):
    return Client(project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": f"http://{gcs.host}"})


@pytest.fixture
def blob(client):
    return client.bucket("bucket").blob("a/one.bin")


def test_every_write_has_a_generation_and_zero_means_absent(blob, client):
    blob.upload_from_string(b"first", if_generation_match=0)
    first = blob.generation
    with pytest.raises(PreconditionFailed):
        blob.upload_from_string(b"second", if_generation_match=0)
    assert blob.download_as_bytes() == b"first"
    blob.upload_from_string(b"third", if_generation_match=first)
    assert blob.generation > first
    with pytest.raises(PreconditionFailed):
        blob.delete(if_generation_match=first)
    blob.delete(if_generation_match=blob.generation)
    with pytest.raises(NotFound):
        blob.reload()
    with pytest.raises(NotFound):
        client.get_bucket("other")


def test_of_many_create_only_writes_one_wins(gcs):
    fs, _ = storage.resolve("gs://bucket/x")
    begin = threading.Barrier(16)

    def write(number: int) -> bool:
        begin.wait()
        try:
            fs.pipe_file("bucket/once", b"%d" % number, mode="create")
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(write, range(16)))
    assert sum(won) == 1
    assert gcs.buckets["bucket"]["once"].content == b"%d" % won.index(True)


def test_checksums_are_those_of_the_bytes(blob, gcs):
    blob.upload_from_string(b"hello", checksum="crc32c")  # the client compares with what the service answers
    blob.reload()
    assert blob.md5_hash == base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    assert blob.crc32c == base64.b64encode(google_crc32c.value(b"hello").to_bytes(4, "big")).decode()
    answer = requests.get(f"http://{gcs.host}/download/storage/v1/b/bucket/o/a%2Fone.bin?alt=media", timeout=5)
    assert answer.headers["X-Goog-Hash"] == f"crc32c={blob.crc32c},md5={blob.md5_hash}"


def test_ranges_are_cut_at_the_end_and_refused_beyond_it(blob, gcs):
    blob.upload_from_string(b"0123456789")
    assert blob.download_as_bytes(start=2, end=4) == b"234"
    place = f"http://{gcs.host}/download/storage/v1/b/bucket/o/a%2Fone.bin?alt=media"
    got = requests.get(place, headers={"Range": "bytes=8-20"}, timeout=5)
    assert (got.status_code, got.content, got.headers["Content-Range"]) == (206, b"89", "bytes 8-9/10")
    assert requests.get(place, headers={"Range": "bytes=-3"}, timeout=5).content == b"789"
    assert requests.get(place, headers={"Range": "bytes=10-"}, timeout=5).status_code == 416


def test_lists_come_in_pages_with_folders_as_prefixes(client, gcs):
    gcs.page = 2
    names = ["a/1", "a/2", "a/b/3", "a/b/4", "a/c/5", "b"]
    for name in names:
        client.bucket("bucket").blob(name).upload_from_string(b"")
    assert [one.name for one in client.list_blobs("bucket")] == names
    assert sum(request == "GET /storage/v1/b/bucket/o" for request in gcs.requests) == 3
    below = client.list_blobs("bucket", prefix="a/", delimiter="/")
    assert ([one.name for one in below], below.prefixes) == (["a/1", "a/2"], {"a/b/", "a/c/"})
    fs, _ = storage.resolve("gs://bucket/x")
    assert fs.find("bucket/a") == [f"bucket/{name}" for name in names[:5]]
    assert fs.ls("bucket/a") == ["bucket/a/1", "bucket/a/2", "bucket/a/b", "bucket/a/c"]


def test_a_resumable_upload_goes_on_where_it_was_and_its_end_can_be_asked_for_again(gcs):
    data = bytes(range(256)) * 2048  # 512 KiB
    begin = requests.post(f"http://{gcs.host}/upload/storage/v1/b/bucket/o?uploadType=resumable&name=r&ifGenerationMatch=0", timeout=5)
    place = begin.headers["Location"]

    def put(start: int, end: int, total: str) -> requests.Response:
        return requests.put(place, data[start:end], headers={"Content-Range": f"bytes {start}-{end - 1}/{total}"}, timeout=5)

    assert requests.put(place, headers={"Content-Range": "bytes */*"}, timeout=5).headers.get("Range") is None
    assert put(0, 1000, "*").status_code == 400  # not a multiple of 256 KiB
    first = put(0, QUANTUM, "*")
    assert (first.status_code, first.headers["Range"]) == (308, f"bytes=0-{QUANTUM - 1}")
    assert put(QUANTUM + 1, 2 * QUANTUM, "*").status_code == 400  # a gap
    assert "r" not in gcs.buckets["bucket"]
    done = put(QUANTUM // 2, 2 * QUANTUM, str(len(data)))  # overlaps what the session has
    assert (done.status_code, gcs.buckets["bucket"]["r"].content == data) == (200, True)
    assert put(QUANTUM, 2 * QUANTUM, str(len(data))).json() == done.json()
    again = requests.post(f"http://{gcs.host}/upload/storage/v1/b/bucket/o?uploadType=resumable&name=r&ifGenerationMatch=0", timeout=5)
    assert again.status_code == 412


def test_a_resumable_create_loses_when_another_writer_was_faster(gcs):
    fs, _ = storage.resolve("gs://bucket/x")
    begin = requests.post(f"http://{gcs.host}/upload/storage/v1/b/bucket/o?uploadType=resumable&name=r&ifGenerationMatch=0", timeout=5)
    fs.pipe_file("bucket/r", b"faster")
    assert requests.put(begin.headers["Location"], b"later", timeout=5).status_code == 412
    assert fs.cat_file("bucket/r") == b"faster"


def test_an_abandoned_session_leaves_nothing(gcs):
    begin = requests.post(f"http://{gcs.host}/upload/storage/v1/b/bucket/o?uploadType=resumable&name=r", timeout=5)
    assert requests.delete(begin.headers["Location"], timeout=5).status_code == 499
    assert requests.put(begin.headers["Location"], b"x", timeout=5).status_code == 404
    assert gcs.buckets["bucket"] == {}


@pytest.mark.parametrize("kind", ["429", "503", "lost", "reset", "cut", "slow"])
def test_trouble_is_what_clients_know_to_repeat(blob, gcs, kind):
    blob.upload_from_string(b"0" * 1000)
    gcs.trouble = Trouble(0.5, (kind,), seed=1)
    hasty = DEFAULT_RETRY.with_delay(initial=0.001, maximum=0.01)
    for _ in range(10):
        assert blob.download_as_bytes(retry=hasty, checksum="crc32c") == b"0" * 1000
    assert gcs.trouble.counts[kind] > 1


def test_damage_on_the_way_shows_in_the_checksum(blob, gcs):
    blob.upload_from_string(b"0" * 1000)
    gcs.trouble = Trouble(1.0, ("damaged",))
    with pytest.raises(DataCorruption):
        blob.download_as_bytes(checksum="crc32c")
