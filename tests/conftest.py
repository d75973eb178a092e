"""A bucket and a cluster for tests of what happens on remote storage and on Kubernetes."""

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


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A fake Kubernetes API server that this process is logged in to as the pod of a task."""
    from fake_kubernetes import TASK, FakeKubernetes, serve

    fake = FakeKubernetes()
    fake.pods["task-1"] = TASK
    monkeypatch.setenv("KFP_POD_NAME", "task-1")
    with serve(fake, tmp_path) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        yield fake


@pytest.fixture(scope="session")
def spark():
    """A session of PySpark; skips where there is none."""
    from spark_warehouse import open_session  # most tests need none, and Ibis takes a second

    with open_session() as session:
        yield session
