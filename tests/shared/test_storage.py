"""Bytes at a URI: which addresses are refused, create-once under races, what readers see, which trouble may pass."""

import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared import storage
from components.shared.errors import InputError, TemporaryError


@pytest.mark.parametrize("uri", ["s3://bucket/x", "http://host/x", "gs://bucket/../x", "file:///a/../../etc/passwd", "gs://b/a\x00b"])
def test_addresses_that_are_refused(uri):
    with pytest.raises(InputError, match=r"supported|refused"):
        storage.normalise(uri)


@pytest.mark.parametrize("part", ["../x", "a/../../x", "/etc/passwd", "a\x00b"])
def test_join_stays_below_its_folder(tmp_path, part):
    with pytest.raises(InputError, match="refused"):
        storage.join(str(tmp_path), part)


def test_plain_path_becomes_absolute_uri(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage.normalise("a/../b") == f"file://{tmp_path}/b"
    assert storage.join("gs://bucket/x/", "y", "z.json") == "gs://bucket/x/y/z.json"
    assert storage.local_path("b") == tmp_path / "b"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert storage.normalise("~/shop") == f"file://{tmp_path}/home/shop"
    with pytest.raises(InputError, match="not on this machine"):
        storage.local_path("gs://bucket/x")


def _create(uri: str, number: int, begin, won) -> None:
    begin.wait()
    if storage.create_once(uri, str(number).encode()):
        won.put(number)


def test_create_once_has_one_winner_of_20_processes(tmp_path):
    uri = str(tmp_path / "once")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["components.shared.storage"])
    begin, won = context.Barrier(20), context.Queue()
    several = [context.Process(target=_create, args=(uri, number, begin, won)) for number in range(20)]
    for process in several:
        process.start()
    winner = won.get(timeout=60)
    for process in several:
        process.join(60)
    assert won.empty()
    assert storage.read_bytes(uri) == str(winner).encode()
    assert [one.name for one in tmp_path.iterdir()] == ["once"]  # the losers leave nothing beside it


@pytest.mark.parametrize("races", [50, pytest.param(1000, marks=pytest.mark.nightly)])
def test_create_once_has_one_winner_of_20_threads(tmp_path, races):
    with ThreadPoolExecutor(20) as pool:
        for race in range(races):
            uri = str(tmp_path / f"{race}")
            won = list(pool.map(lambda number, uri=uri: storage.create_once(uri, b"%d" % number), range(20)))
            assert sum(won) == 1
            assert storage.read_bytes(uri) == b"%d" % won.index(True)


def test_write_replaces_and_leaves_no_leftovers(tmp_path):
    uri = str(tmp_path / "deep" / "x.json")
    storage.write_json(uri, {"b": 1, "a": "ß"})
    assert storage.read_bytes(uri) == '{\n "a": "ß",\n "b": 1\n}\n'.encode()
    storage.write_json(uri, {"b": 2})
    assert storage.read_json(uri) == {"b": 2}
    assert [one.name for one in (tmp_path / "deep").iterdir()] == ["x.json"]


def test_failed_write_keeps_the_old_content(tmp_path, monkeypatch):
    uri = str(tmp_path / "x")
    storage.write_bytes(uri, b"old")
    monkeypatch.setattr(storage.os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        storage.write_bytes(uri, b"half")
    assert storage.read_bytes(uri) == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["x"]


def test_absent_and_cut_files_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        storage.read_bytes(str(tmp_path / "absent"))
    with pytest.raises(InputError, match="does not exist or is not a file"):
        storage.read_bytes(str(tmp_path))
    (tmp_path / "cut.json").write_text('{"a": ')
    with pytest.raises(InputError, match=r"cut.json' is not valid JSON"):
        storage.read_json(str(tmp_path / "cut.json"))


def test_digests_follow_content_and_names_not_places(tmp_path):
    for name in ("a", "b"):
        storage.write_bytes(str(tmp_path / name / "x" / "1"), b"one")
        storage.write_bytes(str(tmp_path / name / "2"), b"two")
    assert storage.content_digest(str(tmp_path / "a")) == storage.content_digest(str(tmp_path / "b"))
    storage.write_bytes(str(tmp_path / "b" / "2"), b"twO")
    assert storage.content_digest(str(tmp_path / "a")) != storage.content_digest(str(tmp_path / "b"))
    before = storage.listing_digest(str(tmp_path / "a"))
    storage.write_bytes(str(tmp_path / "a" / "3"), b"")
    assert storage.listing_digest(str(tmp_path / "a")) != before
    before = storage.listing_digest(str(tmp_path / "a"))
    storage.write_bytes(str(tmp_path / "a" / "3"), b"grown")
    assert storage.listing_digest(str(tmp_path / "a")) != before
    storage.write_bytes(str(tmp_path / "c" / "2"), b"two")
    named = storage.content_digest(str(tmp_path / "c"))
    (tmp_path / "c" / "2").rename(tmp_path / "c" / "3")
    assert storage.content_digest(str(tmp_path / "c")) != named
    assert [one.rsplit("/a/", 1)[1] for one in storage.list_files(str(tmp_path / "a"))] == ["2", "3", "x/1"]


def test_remove_is_quiet_where_nothing_is(tmp_path):
    storage.write_bytes(str(tmp_path / "f" / "x"), b"1")
    for _ in range(2):
        storage.remove(str(tmp_path / "f"))
    assert not storage.exists(str(tmp_path / "f"))
    assert storage.list_files(str(tmp_path / "f")) == []


@pytest.mark.parametrize("trouble", [ConnectionResetError("reset"), TimeoutError("late")])
def test_network_trouble_may_be_tried_again(trouble):
    def fails():
        raise trouble

    with pytest.raises(TemporaryError, match=r"gs://b/x.*try again"):
        storage.temporary_on_trouble(fails, "gs://b/x")


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5), max_size=5))
def test_equal_values_are_equal_bytes(value):
    backwards = dict(reversed(value.items()))
    surrogates = any("\ud800" <= one <= "\udfff" for one in str(value))
    if not surrogates:
        assert storage.to_json(value) == storage.to_json(backwards)
        assert json.loads(storage.to_json(value)) == value
