"""The same plan through kfp and through the command line; a mistake is one line and exit code 2."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from pool_shop import write_shop

from components.build_pool.component import build_pool
from components.build_pool.config import BuildPoolConfig
from components.build_pool.step import run
from components.shared.tables import Manifest
from components.shared.tracking import NullTracker


def artifact(path: Path, uri: str | None = None) -> SimpleNamespace:
    """What kfp hands to a component: a file and its metadata; an input's file holds the address of the data."""
    if uri is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"uri": uri, "digest": Manifest.read(uri).digest}))
    return SimpleNamespace(path=str(path), metadata={})


def direct(uris: dict[str, str], out: Path) -> str:
    run(BuildPoolConfig(num_shards=4), **uris, pairs=str(out), tracker=NullTracker())
    return Manifest.read(str(out)).digest


def test_component(tmp_path: Path):
    uris = write_shop(tmp_path / "given")
    inputs = {name: artifact(tmp_path / "kfp" / name, uri) for name, uri in uris.items()}
    out, summary = artifact(tmp_path / "kfp" / "out"), artifact(tmp_path / "kfp" / "summary.md")
    config = {"num_shards": 4.0}  # kfp's local runner turns integers into floats
    build_pool.python_func(
        config=config, section="pool", workspace=str(tmp_path / "work"), run_id="r1", **inputs, pairs=out, summary=summary
    )
    assert out.metadata["digest"] == direct(uris, tmp_path / "direct")
    page = Path(summary.path).read_text()
    assert "| source.judgment | 3 |" in page
    assert "| queries.held_out | 0 |" in page


def command(uris: dict[str, str], out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    places = [f"--{name}={uri}" for name, uri in uris.items()]
    line = [sys.executable, "-m", "components.build_pool", *places, f"--pairs={out}", *more]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_command_line(tmp_path: Path):
    uris = write_shop(tmp_path / "given")
    done = command(uris, tmp_path / "out", "--num-shards=4")
    assert done.returncode == 0, done.stderr
    assert Manifest.read(str(tmp_path / "out")).digest == direct(uris, tmp_path / "direct")


def test_command_line_with_a_wrong_setting(tmp_path: Path):
    done = command(write_shop(tmp_path / "given"), tmp_path / "out", "--num-shards=0")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "recipe section 'pool': key 'num_shards' = 0" in done.stderr
    assert not (tmp_path / "out").exists()
