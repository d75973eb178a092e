"""One container engine and one built image of each kind for all tests here."""

import os
import shutil
from pathlib import Path

import pytest
from container_engine import KEPT, NEEDED, Engine


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """Skips where a tool is absent; what it stored goes away at the end, unless a folder for it is named."""
    if absent := [tool for tool in NEEDED if shutil.which(tool) is None]:
        pytest.skip(f"no {', '.join(absent)} here: apt-get install {' '.join(NEEDED)}")
    kept = os.environ.get(KEPT)
    made = Engine(Path(kept) if kept else tmp_path_factory.mktemp("engine"))
    yield made
    if not kept:
        made.call("podman", "system", "reset", "--force", check=False)


@pytest.fixture(scope="session")
def cpu(engine) -> str:
    return engine.build("cpu")


@pytest.fixture(scope="session")
def gpu(engine) -> str:
    """Every step of it; with torch for the CPU where pip here has no other."""
    return engine.build("gpu")


@pytest.fixture(scope="session")
def serve(engine) -> str:
    return engine.build("serve")
