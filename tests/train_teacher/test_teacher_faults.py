"""Killed processes, other numbers of them, losses that blow up: the curve goes on as if nothing had been, or training says why not."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from decoder_folders import make_decoder
from transformers import AutoModelForSequenceClassification

from components.shared.errors import InputError, TemporaryError
from components.shared.launch import launch
from components.shared.models import folder
from components.shared.tracking import NullTracker
from components.shared.training import Checkpoints
from components.train_teacher import network
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.step import run

PROGRAM = Path(__file__).parent / "teacher_process.py"
LONG: dict[str, Any] = {"num_neighbors": 1, "max_tokens": 64, "batch_size": 32, "num_epochs": 40, "learning_rate": 1e-3, "log_steps": 1}
LONG |= {"precision": "fp32", "validation_share": 0.2, "checkpoint_steps": 5}
LONG |= {"min_pairwise_accuracy": 0.0}  # too short to learn much
NOTICED_S = 60.0  # torchrun looks ten times a second and kills after 30 s what does not end by itself; the rest is for a busy machine


def start(shop: dict[str, str], model: Path, **more: Any) -> subprocess.Popen[bytes]:
    call = {"config": {**LONG, **more}, "places": {**shop, "model": str(model)}, "spool": f"{model}.jsonl"}
    Path(f"{model}.call.json").write_text(json.dumps(call))
    environ = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, str(PROGRAM), f"{model}.call.json"], env=environ)


def curve_of(model: Path) -> dict[int, list[float]]:
    """Step -> its loss in every life that came to it."""
    found: dict[int, list[float]] = {}
    for line in Path(f"{model}.jsonl").read_text().splitlines():
        point = json.loads(line)
        if "teacher.loss" in point.get("values", {}):
            found.setdefault(point["step"], []).append(point["values"]["teacher.loss"])
    return found


def wait_for(holds: Callable[[], Any], timeout_s: float = 240.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def checkpoints(model: Path) -> list[str]:
    return sorted(one.parent.name for one in Path(f"{model}-checkpoints").glob("*/state.json"))


def ranks(model: Path) -> dict[int, int]:
    """Rank -> process id of the processes that train `model` now."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command, environ = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
        except OSError:
            continue
        variables = dict(part.partition("=")[::2] for part in environ.decode(errors="replace").split("\0"))
        if b"components.train_teacher.trainer" in command and "RANK" in variables and variables.get("TEACHER_OF") == str(model):
            found[int(variables["RANK"])] = int(place.name)
    return found


@pytest.mark.nightly
def test_a_step_that_is_killed_goes_on_with_the_same_curve(still_shop: dict[str, str], tmp_path: Path) -> None:
    assert start(still_shop, tmp_path / "whole").wait() == 0
    killed = start(still_shop, tmp_path / "killed")
    wait_for(lambda: checkpoints(tmp_path / "killed"))
    killed.kill()
    killed.wait()
    steps_before = len(curve_of(tmp_path / "killed"))
    assert not (tmp_path / "killed" / "relevance.json").exists()
    assert start(still_shop, tmp_path / "killed").wait() == 0
    whole, resumed = curve_of(tmp_path / "whole"), curve_of(tmp_path / "killed")
    assert 5 <= steps_before < len(whole)
    assert resumed.keys() == whole.keys()
    assert len(resumed[1]) == 1  # the second life did not begin anew
    for step, losses in resumed.items():
        np.testing.assert_allclose(losses, whole[step][0], atol=1e-6)


@pytest.mark.nightly
@pytest.mark.parametrize("stage", [2, 3])
def test_one_process_then_two_of_which_one_dies_then_one_again(
    still_shop: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int
) -> None:
    model = tmp_path / "changing"
    monkeypatch.setenv("TEACHER_OF", str(model))
    assert start(still_shop, tmp_path / "whole").wait() == 0
    first = start(still_shop, model)
    wait_for(lambda: checkpoints(model))
    first.kill()
    first.wait()
    before = checkpoints(model)[-1]
    second = start(still_shop, model, num_processes=2, zero_stage=stage)
    wait_for(lambda: checkpoints(model)[-1] > before)
    os.kill(ranks(model)[1], signal.SIGKILL)
    died = time.monotonic()
    assert second.wait() == 1
    assert time.monotonic() - died < NOTICED_S
    assert ranks(model) == {}
    told = Path(f"{model}.jsonl.error").read_text()
    assert told.startswith("TemporaryError: a process of components.train_teacher.trainer died (torchrun exit code")
    assert start(still_shop, model).wait() == 0
    whole, changing = curve_of(tmp_path / "whole"), curve_of(model)
    assert changing.keys() == whole.keys()
    assert len(changing[1]) == 1
    for step, losses in changing.items():
        np.testing.assert_allclose(losses, whole[step][0], rtol=5e-3)


@pytest.mark.nightly
def test_a_loss_that_blows_up_on_two_processes_keeps_the_last_good_checkpoint(still_shop: dict[str, str], tmp_path: Path) -> None:
    settings = {**LONG, "learning_rate": 1e30, "max_grad_norm": 1e30, "checkpoint_steps": 1, "num_processes": 2, "zero_stage": 2}
    with pytest.raises(InputError, match=r"training stopped at step \d+ of \d+: loss .*lower learning_rate.*checkpoint is unharmed"):
        run(TrainTeacherConfig(**settings), **still_shop, model=str(tmp_path / "m"), tracker=NullTracker())
    assert not (tmp_path / "m" / "relevance.json").exists()
    identity = json.loads((tmp_path / "m-checkpoints" / checkpoints(tmp_path / "m")[-1] / "state.json").read_text())["identity"]
    kept = Checkpoints(str(tmp_path / "m-checkpoints"), identity).newest()
    assert kept is not None
    assert np.isfinite(kept[0].losses).all()
    assert all(bool(torch.isfinite(value).all()) for value in kept[1].values())


@pytest.mark.nightly
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_what_is_exported_is_what_the_processes_hold(tmp_path: Path, stage: int) -> None:
    program = Path(__file__).parent / "zero_world.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone", str(program)]
    environ = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    subprocess.run([*command, str(stage), str(tmp_path)], check=True, env=environ)
    alone = AutoModelForSequenceClassification.from_pretrained(tmp_path, use_safetensors=True).eval()
    with torch.no_grad():
        logits = alone(input_ids=torch.arange(24).reshape(4, 6) % 30).logits
    torch.testing.assert_close(logits, torch.load(tmp_path / "answers.pt", weights_only=True), atol=1e-5, rtol=1e-5)


@pytest.mark.nightly
@pytest.mark.parametrize(("stage", "lora_rank"), [(2, 4), (3, 4), (2, 0), (3, 0)])
def test_bf16_follows_the_curve_of_float32(
    still_shop: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int, lora_rank: int
) -> None:
    monkeypatch.setattr(network, "LORA_DROPOUT", 0.0)
    settings = {**LONG, "num_epochs": 3, "lora_rank": lora_rank}
    places = {name: {**still_shop, "model": str(tmp_path / name)} for name in ("fp32", "bf16")}
    exact = Losses()
    run(TrainTeacherConfig(**settings), **places["fp32"], tracker=exact)
    half = Losses()
    config = TrainTeacherConfig(**{**settings, "precision": "bf16", "num_processes": 2, "zero_stage": stage})
    run(config, **places["bf16"], tracker=half)
    assert len(half.losses) == len(exact.losses) > 8
    np.testing.assert_allclose(half.losses, exact.losses, rtol=0.05)  # the processes that are launched do use LoRA's dropout
    assert folder.read_spec(tmp_path / "bf16").kind == "teacher"


@pytest.mark.nightly
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_decoder_that_is_loaded_in_parts_follows_the_curve_of_one_process(
    shop: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora_rank: int
) -> None:
    monkeypatch.setattr(network, "LORA_DROPOUT", 0.0)
    make_decoder(str(tmp_path), "qwen3")
    settings = {**LONG, "num_epochs": 2, "max_tokens": 96}
    # a head that starts fresh is drawn in another order where weights are shared out, so start where there is one
    run(TrainTeacherConfig(**settings), **shop | {"encoder": f"{tmp_path}/bare"}, model=str(tmp_path / "first"), tracker=NullTracker())
    start, one, two = shop | {"encoder": str(tmp_path / "first")}, Losses(), Losses()
    run(TrainTeacherConfig(**settings, lora_rank=lora_rank), **start, model=str(tmp_path / "one"), tracker=one)
    config = TrainTeacherConfig(**settings, lora_rank=lora_rank, num_processes=2, zero_stage=3)
    run(config, **start, model=str(tmp_path / "two"), tracker=two)
    assert len(two.losses) == len(one.losses) > 5
    np.testing.assert_allclose(two.losses, one.losses, rtol=0.05 if lora_rank else 1e-3)


class Losses(NullTracker):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def metrics(self, values: Any, step: int | None = None) -> None:
        self.losses += [values["loss"]] if "loss" in values else []


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_deepspeeds_settings_come_from_the_recipe(stage: int, precision: str) -> None:
    from components.train_teacher.trainer import zero_settings

    config = TrainTeacherConfig.model_validate({"num_processes": 2, "zero_stage": stage, "precision": precision, "max_grad_norm": 0.5})
    settings = zero_settings(config)
    assert settings["zero_optimization"]["stage"] == max(1, stage)
    assert (settings["bf16"]["enabled"], settings["gradient_clipping"]) == (precision == "bf16", 0.5)
    assert settings["zero_allow_untested_optimizer"]  # torch's AdamW: one of DeepSpeed's would need a compiler
    assert not {"optimizer", "train_batch_size"} & settings.keys()


@pytest.mark.parametrize("local_rank", ["0", "1"])
def test_one_process_of_each_node_reads_the_model_for_all(monkeypatch: pytest.MonkeyPatch, local_rank: str) -> None:
    from components.train_teacher import trainer

    asked: list[str] = []
    monkeypatch.setattr(trainer, "fetch", lambda uri: asked.append(uri) or Path("/tmp/read-here"))
    monkeypatch.setenv("GROUP_RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", local_rank)

    def gather(one: tuple[str, str]) -> list[tuple[str, str]]:
        of_node = [("1", "/tmp/read-here"), ("1", "")]
        assert one == of_node[int(local_rank)]
        return [("0", "/tmp/of-the-other-node"), ("0", ""), *of_node]

    assert trainer.fetch_on_node("gs://bucket/encoder", gather) == Path("/tmp/read-here")
    assert asked == (["gs://bucket/encoder"] if local_rank == "0" else [])


def test_a_process_whose_neighbor_dies_ends_within_the_stated_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes on this machine: the death of the only process of one ends that of the other, which waits for ever."""
    (tmp_path / "waiting.py").write_text(
        "import os, sys, time\nopen(os.path.join(sys.argv[1], os.environ['RANK']), 'w').write(str(os.getpid()))\n"
        "while not os.path.exists(os.path.join(sys.argv[1], '0')): time.sleep(0.05)\n"
        "os.kill(os.getpid(), 9) if os.environ['RANK'] == '1' else time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(TemporaryError, match=r"a process of waiting died .*exitcode.*SIGKILL"):
        launch("waiting", [str(tmp_path)], num_nodes=2, num_processes=1, folder=tmp_path, timeout_s=300)
    assert time.monotonic() - began < NOTICED_S + 30  # and the time to start
    assert not Path(f"/proc/{(tmp_path / '0').read_text()}").exists()
