"""Training in processes of their own: what goes into the job's folder, what is heard from it, and the same job in pods."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.shared import launch_trainjob, storage
from components.shared.calibration import Bins
from components.shared.errors import InputError, TemporaryError
from components.shared.launch import environment, free_port
from components.shared.models import folder
from components.shared.tracking import NullTracker, SpoolTracker
from components.shared.training import Curve
from components.train_teacher import processes
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Sources
from components.train_teacher.processes import LOG_FORMAT, LineTracker, Listener, LogReader, Outcome, check_gpus, train_on_many
from components.train_teacher.step import run
from components.train_teacher.validation import Validation

IN_PODS: dict[str, Any] = {"launcher": "trainjob", "num_nodes": 2, "resources_per_node": {"cpu": "1"}, "queue": "relevance"}
IN_PODS |= {"scheduling": {"node_selector": {"pool": "gpu"}}}
OUTCOME = Outcome(Curve([0.5, 0.25], 8, 100, 2.0), Validation({"validation.mse": 0.5}))


class Heard(NullTracker):
    def __init__(self) -> None:
        self.points: list[tuple[dict[str, float], int | None]] = []

    def metrics(self, values: Any, step: int | None = None) -> None:
        self.points.append((dict(values), step))


def test_each_metric_is_passed_on_once_also_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "WRITE_S", 0.0)
    heard = Heard()
    listen = Listener(str(tmp_path), heard)
    listen()  # nothing was written yet
    first = LineTracker(str(tmp_path))
    first.metrics({"loss": 1.0}, step=1)
    listen()
    first.metrics({"loss": 0.5}, step=2)
    second = LineTracker(str(tmp_path))  # the pod was started again
    second.metrics({"loss": 0.25}, step=3)
    listen()
    listen()
    assert heard.points == [({"loss": 1.0}, 1), ({"loss": 0.5}, 2), ({"loss": 0.25}, 3)]
    with pytest.raises(InputError, match="metric 'loss' is nan"):
        second.metrics({"loss": float("nan")}, step=4)


def test_more_processes_than_gpus_are_refused_before_they_start() -> None:
    config = TrainTeacherConfig(num_processes=8)
    for enough in (0, 8, 16):  # without GPUs processes share the cores
        check_gpus(config, enough)
    with pytest.raises(InputError, match="key 'num_processes': 8 processes want a GPU each, and this machine has 7; lower it"):
        check_gpus(config, 7)
    nodes = TrainTeacherConfig(num_nodes=2, num_processes=4)
    check_gpus(nodes, 0)
    with pytest.raises(InputError, match="key 'num_nodes' = 2: here several nodes are rehearsed on CPUs alone; set 1"):
        check_gpus(nodes, 8)
    with pytest.raises(ValueError, match="num_processes 4 on pods of 8 GPUs; make num_processes and resources_per_node agree"):
        TrainTeacherConfig(launcher="trainjob", num_processes=4)


def test_our_own_lines_of_the_processes_log_are_passed_on_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="components")
    log = tmp_path / "processes.log"
    read = LogReader(log)
    read()  # nothing was written yet
    record = logging.makeLogRecord({"name": "components.shared.training", "msg": "step 10/90, 12 s left"})
    ours = logging.Formatter(LOG_FORMAT).format(record)
    log.write_text(f"[INFO] DeepSpeed says much\n{ours}\n2026-11-27 10:00:00,000 components.shared.training step 2")
    read()
    read()
    assert caplog.messages == ["step 10/90, 12 s left"]
    with log.open("a") as more:
        more.write("0/90\n")
    read()
    assert caplog.messages[1:] == ["step 20/90"]


def test_a_bucket_gets_a_write_every_few_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.0, 11.0, 13.0, 13.0, 14.0])
    monkeypatch.setattr(processes.time, "monotonic", lambda: next(clock))
    writes: list[int] = []
    monkeypatch.setattr(processes.storage, "write_bytes", lambda uri, data: writes.append(len(data.splitlines())))
    tracker = LineTracker(str(tmp_path))
    for step in range(4):
        tracker.metrics({"loss": 1.0}, step=step)
    assert writes == [1, 3]


def test_storage_in_trouble_stops_neither_who_trains_nor_who_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise TemporaryError("storage did not answer")

    tracker, heard = LineTracker(str(tmp_path)), Heard()
    listen = Listener(str(tmp_path), heard)
    with monkeypatch.context() as patch:
        patch.setattr(processes.storage, "write_bytes", away)
        tracker.metrics({"loss": 1.0}, step=1)
        patch.setattr(processes.storage, "exists", away)
        listen()
    tracker.write()
    listen()
    assert heard.points == [({"loss": 1.0}, 1)]


@pytest.mark.parametrize("bins", [None, Bins(np.array([0.1, 0.6]), np.array([0.2, 0.5]), np.array([3, 4]))])
def test_an_outcome_is_read_as_it_was_written(tmp_path: Path, bins: Bins | None) -> None:
    Outcome(OUTCOME.curve, Validation({"validation.mse": 0.5}, bins)).write(str(tmp_path))
    found = Outcome.read(str(tmp_path))
    assert (found.curve, found.validation.metrics) == (OUTCOME.curve, {"validation.mse": 0.5})
    if bins:
        assert found.validation.bins is not None
        assert found.validation.bins.error() == bins.error() == pytest.approx((3 * 0.1 + 4 * 0.1) / 7)
    else:
        assert found.validation.bins is None


def controller(cluster: Any, act: Any) -> list[dict[str, Any]]:
    """As Trainer's controller would: lets `act` do the work of a TrainJob once, then says that it is complete."""
    done: list[dict[str, Any]] = []

    def before(request: str) -> None:
        for trainjob in [] if request != "GET trainjobs" or done else list(cluster.trainjobs.values()):
            done.append(trainjob)
            act(trainjob["spec"])
            trainjob["status"]["conditions"] = [{"type": "Complete", "status": "True"}]

    cluster.before = before
    return done


def test_a_job_in_pods_travels_through_the_bucket(cluster: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_trainjob, "POLL_S", 0.01)
    model, heard, jobs = f"{bucket}/teacher/0123/model", Heard(), []

    def act(spec: dict[str, Any]) -> None:
        place = spec["trainer"]["args"][-1].removesuffix("/job.json")
        jobs.append(storage.read_json(storage.join(place, "job.json")))
        LineTracker(place).metrics({"loss": 0.5}, step=1)
        OUTCOME.write(place)

    (made,) = [controller(cluster, act)]
    sources = Sources("card", "encoder", "items", "queries", "judgments", "")
    outcome = train_on_many(TrainTeacherConfig(**IN_PODS), sources, model, heard)
    assert outcome.curve == OUTCOME.curve
    assert (jobs[0]["model"], jobs[0]["sources"], jobs[0]["config"]["num_nodes"]) == (model, vars(sources), 2)
    assert heard.points == [({"loss": 0.5}, 1)]
    trainer = made[0]["spec"]["trainer"]
    assert trainer["args"] == ["-m", "components.train_teacher.trainer", "--job", f"{model}-job/job.json"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], trainer["resourcesPerNode"]["limits"]) == (2, 1, {"cpu": "1"})
    (patch,) = made[0]["spec"]["runtimePatches"]
    assert "'nodeSelector': {'pool': 'gpu'}" in str(patch)
    assert storage.list_files(f"{model}-job") == []
    assert cluster.trainjobs == {}


SHORT: dict[str, Any] = {"num_neighbors": 1, "max_tokens": 64, "batch_size": 32, "num_epochs": 2, "learning_rate": 3e-3, "log_steps": 1}
SHORT |= {"precision": "fp32", "validation_share": 0.2}
SHORT |= {"min_pairwise_accuracy": 0.0}  # too short to learn much


def told_by(spool: Path) -> dict[str, list[float]]:
    lines = [json.loads(line).get("values", {}) for line in spool.read_text().splitlines()]
    return {name: [line[f"teacher.{name}"] for line in lines if f"teacher.{name}" in line] for name in ("loss", "epoch.mse")}


@pytest.mark.nightly
def test_the_command_of_a_trainjob_trains_on_two_nodes_what_one_machine_trains(
    still_shop: dict[str, str], tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake cluster runs what the TrainJob says, as the runtime's containers would: torchrun with its world in PET_* variables."""
    monkeypatch.setattr(launch_trainjob, "POLL_S", 0.2)

    def act(spec: dict[str, Any]) -> None:
        trainer, port, nodes = spec["trainer"], free_port(), []
        for rank in range(trainer["numNodes"]):
            world = {"NNODES": trainer["numNodes"], "NPROC_PER_NODE": trainer["numProcPerNode"], "NODE_RANK": rank}
            world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            environ = environment(2, accelerator=False) | {f"PET_{name}": str(value) for name, value in world.items()}
            command = [str(Path(sys.executable).parent / trainer["command"][0]), *trainer["args"]]
            nodes.append(subprocess.Popen(command, env={**environ, "PYTHONPATH": os.getcwd()}))
        assert [one.wait() for one in nodes] == [0, 0]

    controller(cluster, act)
    models = {"pods": IN_PODS | {"zero_stage": 2}, "nodes": {"num_nodes": 2, "zero_stage": 2}, "one": {}}
    reports = {}
    for name, more in models.items():
        tracker = SpoolTracker(tmp_path / f"{name}.jsonl", "teacher")
        reports[name] = run(TrainTeacherConfig(**{**SHORT, **more}), **still_shop, model=str(tmp_path / name), tracker=tracker)
    told = {name: told_by(tmp_path / f"{name}.jsonl") for name in models}
    assert len(told["one"]["loss"]) > 4
    for name in ("pods", "nodes"):
        assert folder.read_spec(tmp_path / name).kind == "teacher"
        np.testing.assert_allclose(told[name]["loss"], told["one"]["loss"], rtol=1e-3)
        assert reports[name].metrics["validation.mse"] == pytest.approx(reports["one"].metrics["validation.mse"], rel=1e-2)
        assert reports[name].notes["processes"] == "2"
    assert not (tmp_path / "pods-job").exists()
