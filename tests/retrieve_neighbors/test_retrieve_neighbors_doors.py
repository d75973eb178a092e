"""The same neighbors through kfp and through the command line; a mistake is one line and exit code 2."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from neighbor_shop import FIRST_DAY, shown

from components.retrieve_neighbors.component import retrieve_neighbors
from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.step import run
from components.shared.tables import Manifest, read_table
from components.shared.tracking import NullTracker

LOG = [shown("shoe", "i1", FIRST_DAY, 100, 40), shown("shoe", "i2", FIRST_DAY, 100, 30), shown("hat", "i1", FIRST_DAY, 100, 20)]
Write = Callable[..., dict[str, str]]


def artifact(path: Path, uri: str | None = None) -> SimpleNamespace:
    """What kfp hands to a component: a file and its metadata; an input's file holds the address of the data."""
    if uri is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"uri": uri, "digest": Manifest.read(uri).digest}))
    return SimpleNamespace(path=str(path), metadata={})


def test_component(write: Write, tmp_path: Path):
    uris = write(LOG)
    run(RetrieveNeighborsConfig(), **uris, neighbors=str(tmp_path / "direct"), tracker=NullTracker())
    inputs = {name: artifact(tmp_path / "kfp" / name, uri) for name, uri in uris.items()}
    out, summary = artifact(tmp_path / "kfp" / "out"), artifact(tmp_path / "kfp" / "summary.md")
    evidence, page = artifact(tmp_path / "kfp" / "evidence"), artifact(tmp_path / "kfp" / "page")
    retrieve_neighbors.python_func(
        config={"num_neighbors": 3.0},
        section="neighbors",
        workspace=str(tmp_path / "work"),
        run_id="r1",
        **inputs,
        lineage=artifact(tmp_path / "kfp" / "lineage", uris["items"]),
        neighbors=out,
        evidence=evidence,
        page=page,
        summary=summary,
    )
    assert out.metadata["digest"] == Manifest.read(str(tmp_path / "direct")).digest
    assert out.metadata["rows"] == read_table(out.metadata["uri"], "neighbors").num_rows == 6
    assert read_table(evidence.metadata["uri"], "evidence").num_rows == 3
    assert "query: 2 of 2 have one" in Path(page.path).read_text()
    assert "| query.keys | 2 |" in Path(summary.path).read_text()


def command(uris: dict[str, str], out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    places = [f"--{name}={uri}" for name, uri in uris.items()]
    line = [sys.executable, "-m", "components.retrieve_neighbors", *places, f"--neighbors={out}", *more]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_command_line(write: Write, tmp_path: Path):
    uris = write(LOG)
    run(RetrieveNeighborsConfig(num_neighbors=1), **uris, neighbors=str(tmp_path / "direct"), tracker=NullTracker())
    done = command(uris, tmp_path / "out", "--num-neighbors=1")
    assert done.returncode == 0, done.stderr
    assert Manifest.read(str(tmp_path / "out")).digest == Manifest.read(str(tmp_path / "direct")).digest


def test_command_line_with_a_wrong_table(write: Write, tmp_path: Path):
    uris = write(LOG)
    done = command({**uris, "interactions": uris["items"]}, tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "holds table 'items' version 1; expected 'interactions'" in done.stderr
    assert not (tmp_path / "out").exists()
