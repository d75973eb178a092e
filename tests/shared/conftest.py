"""A bucket for tests of what happens on remote storage."""

import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from components.shared import storage


@pytest.fixture
def bucket(tmp_path, monkeypatch) -> str:
    """Address of a bucket: fsspec's calls as on Google Cloud Storage, bytes in a folder of this test."""
    on_disk = storage.filesystem
    cloud = DirFileSystem(path=str(tmp_path / "cloud"), fs=LocalFileSystem(auto_mkdir=True))
    monkeypatch.setattr(storage, "filesystem", lambda scheme: cloud if scheme == "gs" else on_disk(scheme))
    return "gs://bucket"
