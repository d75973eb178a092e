"""A bucket for tests of what happens on remote storage."""

import asyncio
import types

import pytest


@pytest.fixture
def gcs(monkeypatch):
    """A Google Cloud Storage of this test's own, where all `gs://` addresses lead; gcsfs pauses a thousandth of its time between tries."""
    import gcsfs.retry  # most tests need no bucket, and these imports take a second
    from fake_gcs import FakeGcs, serve

    from components.shared import storage

    hasty = types.SimpleNamespace(**{**vars(asyncio), "sleep": lambda seconds: asyncio.sleep(seconds / 1000)})
    monkeypatch.setattr(gcsfs.retry, "asyncio", hasty)
    with serve(FakeGcs()) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{running.host}")
        storage.filesystem.cache_clear()
        yield running
    storage.filesystem.cache_clear()


@pytest.fixture
def bucket(gcs) -> str:
    """Address of a bucket."""
    return "gs://bucket"
