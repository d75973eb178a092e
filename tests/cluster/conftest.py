"""A Kubeflow server in a thread, a fixed revision, images, and the command line against them."""

import shutil
from dataclasses import replace
from pathlib import Path

import kfp
import pytest
from fake_kubeflow import serving
from fsspec.implementations.memory import MemoryFileSystem
from submission_case import CPU, GPU, REVISION

from components.shared import storage
from pipelines import package, run_local
from pipelines.__main__ import main


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """Packages that were made, by request and revision: compiling takes seconds, and the same request gives the same bytes."""
    return tmp_path_factory.mktemp("packages"), {}


@pytest.fixture
def prepare_once(monkeypatch, packages):
    place, made = packages
    plain = package.prepare

    def prepare(request: package.Request, folder: Path) -> package.Package:
        key = repr((request, run_local.git_revision()))
        if key not in made:
            ready = plain(request, folder)
            made[key] = replace(ready, file=Path(shutil.copy(ready.file, place / f"{len(made)}.yaml")))
        return made[key]

    monkeypatch.setattr(package, "prepare", prepare)


@pytest.fixture
def server(monkeypatch, tmp_path, prepare_once):
    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))  # else this reads the developer's own
    monkeypatch.setattr(run_local, "git_revision", lambda: REVISION)  # others may edit files while this runs
    monkeypatch.setattr(run_local, "code_digest", lambda: "c0de")
    monkeypatch.setenv("RELEVANCE_CPU_IMAGE", CPU)
    monkeypatch.setenv("RELEVANCE_GPU_IMAGE", GPU)
    for name in ("KFP_TOKEN", "KF_PIPELINES_SA_TOKEN_PATH", "KF_PIPELINES_UI_ENDPOINT", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    bucket = MemoryFileSystem()
    bucket.store.clear()
    monkeypatch.setattr(storage, "filesystem", lambda scheme: bucket)
    with serving() as state:
        monkeypatch.setenv("KFP_HOST", state.host)
        yield state


class Terminal:
    """The command line: `ok` returns what it printed, `fails` its exit code and the one line on standard error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def ok(self, *arguments: str) -> str:
        code = main(list(arguments))
        shown = self.capsys.readouterr()
        assert (code, shown.err) == (0, ""), shown.err
        return shown.out

    def fails(self, *arguments: str) -> tuple[int, str]:
        code = main(list(arguments))
        shown = self.capsys.readouterr()
        assert shown.out == ""
        (line,) = shown.err.splitlines()
        return code, line


@pytest.fixture
def terminal(capsys) -> Terminal:
    return Terminal(capsys)
