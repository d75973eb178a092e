"""The two other callers of the same `run`: the command line and kfp."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import Toy
from safetensors.torch import load

from components.shared import cli, storage
from components.shared.tracking import NullTracker
from components.train_student.component import train_student
from components.train_student.config import TrainStudentConfig
from components.train_student.step import run

SETTINGS = {"architecture": "bi_encoder", "learning_rate": 0.003, "max_tokens": 24, "max_pairs": 480, "validation_share": 0.05}


@pytest.fixture(scope="module")
def expected(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    model = tmp_path_factory.mktemp("expected") / "model"
    run(TrainStudentConfig(**SETTINGS), **toy.inputs(), model=str(model), tracker=NullTracker())
    return (model / "model.safetensors").read_bytes()


def command(toy: Toy, model: Path, *more: str) -> subprocess.CompletedProcess[str]:
    flags = {**toy.inputs(), "model": str(model), **SETTINGS}
    words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    whole = [sys.executable, "-m", "components.train_student", *words, *more]
    return subprocess.run(whole, capture_output=True, text=True, check=False)


def test_the_command_line_trains_the_same_student(toy: Toy, tmp_path: Path, expected: bytes) -> None:
    done = command(toy, tmp_path / "m")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m" / "relevance.json").is_file()
    assert "validation.spearman" in done.stdout
    # another process may have another number of threads, and then sums round differently
    trained, wanted = load((tmp_path / "m" / "model.safetensors").read_bytes()), load(expected)
    assert trained.keys() == wanted.keys()
    for name, weights in wanted.items():
        torch.testing.assert_close(trained[name], weights, rtol=0, atol=5e-3, msg=name)


def test_a_wrong_setting_ends_with_2_and_one_line(toy: Toy, tmp_path: Path) -> None:
    done = command(toy, tmp_path / "m", "--loss", "mse")
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "key 'loss' = 'mse'" in lines[0]
    assert "margin_mse" in lines[0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("pickle", "model folder '{encoder}' has no *.safetensors (pytorch_model.bin); save it with safetensors"),
        ("code", "'{encoder}/config.json' asks for remote code (auto_map), which is refused; use a model that transformers knows itself"),
    ],
)
def test_an_encoder_that_is_not_safe_ends_with_2_one_line_and_no_model(
    toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: str, message: str
) -> None:
    encoder = tmp_path / "encoder"
    shutil.copytree(toy.encoder, encoder)
    if spoil == "pickle":
        (encoder / "model.safetensors").rename(encoder / "pytorch_model.bin")
    else:
        settings = json.loads((encoder / "config.json").read_text())
        (encoder / "config.json").write_text(json.dumps({**settings, "auto_map": {"AutoModel": "modeling.Evil"}}))
    inputs = {**toy.inputs(), "encoder": str(encoder), "model": str(tmp_path / "m")}
    flags = [word for name, value in inputs.items() for word in (f"--{name.replace('_', '-')}", value)]
    assert cli.main(run, TrainStudentConfig, "cross_encoder", flags) == 2
    assert capsys.readouterr().err == f"error: {message.format(encoder=encoder)}\n"
    assert [one.name for one in tmp_path.iterdir()] == ["encoder"]


def test_the_component_writes_the_same_student_and_says_where(toy: Toy, tmp_path: Path, expected: bytes) -> None:
    def artifact(name: str, uri: str | None = None) -> SimpleNamespace:
        path = tmp_path / "artifacts" / name
        if uri:
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps({"uri": uri, "digest": storage.content_digest(uri), "rows": 0}))
        return SimpleNamespace(path=str(path), metadata={})

    places = {**toy.inputs(), "judgments": toy.pairs, "neighbors": toy.items}
    inputs = {name: artifact(name, uri) for name, uri in places.items()}
    model, summary = artifact("model"), artifact("summary")
    place = {"section": "bi_encoder", "workspace": str(tmp_path / "work"), "run_id": "r1"}
    train_student.python_func(config={**SETTINGS, "max_pairs": 480.0}, **place, **inputs, model=model, summary=summary)
    folder = storage.local_path(model.metadata["uri"])
    assert (folder / "model.safetensors").read_bytes() == expected
    assert json.loads((folder / "relevance.json").read_text())["kind"] == "bi_encoder"
    assert "| validation.spearman |" in Path(summary.path).read_text()
    spool = [json.loads(line) for line in (tmp_path / "work" / "tracking" / "r1" / "bi_encoder.jsonl").read_text().splitlines()]
    assert {"bi_encoder.validation.spearman", "bi_encoder.kept"} <= {name for line in spool for name in line.get("values", {})}
