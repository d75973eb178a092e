"""A cluster for tests of what runs on one."""

from pathlib import Path

import pytest
from fake_kubernetes import TASK, FakeKubernetes, serve


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch):
    """A fake API server that this process is logged in to as the pod of a task."""
    fake = FakeKubernetes()
    fake.pods["task-1"] = TASK
    monkeypatch.setenv("KFP_POD_NAME", "task-1")
    with serve(fake, tmp_path) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        yield fake
