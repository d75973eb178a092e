"""Training in processes of their own, on this machine or in the pods of a TrainJob: how they are told what to do, and heard.

All passes through the job's folder: `job.json` in, `metrics.jsonl` while they work, `outcome.json` or `error.txt` out. On a cluster the
folder lies beside the model, where every pod can reach it.
"""

import json
import logging
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.shared import storage
from components.shared.calibration import Bins
from components.shared.errors import InputError, TemporaryError
from components.shared.launch import launch
from components.shared.tracking import NullTracker, Tracker
from components.shared.training import Curve
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Sources
from components.train_teacher.validation import Validation

logger = logging.getLogger(__name__)

MODULE = "components.train_teacher.trainer"
JOB, METRICS, OUTCOME = "job.json", "metrics.jsonl", "outcome.json"
LOG_FORMAT = "%(asctime)s %(name)s %(message)s"
OUR_LINE = re.compile(r"[\d-]+ [\d:,]+ components\.\S+ (.*)")
WRITE_S = 2.0  # a bucket takes one write of an object per second


@dataclass(frozen=True)
class Outcome:
    """What a training did, and how good its model is."""

    curve: Curve
    validation: Validation

    def write(self, place: str) -> None:
        bins = self.validation.bins
        kept = {name: value.tolist() for name, value in vars(bins).items()} if bins else None
        told = {"curve": vars(self.curve), "metrics": self.validation.metrics, "bins": kept, "ablation": self.validation.ablation}
        told["confusion"] = self.validation.confusion
        storage.write_json(storage.join(place, OUTCOME), told)

    @staticmethod
    def read(place: str) -> "Outcome":
        found = storage.read_json(storage.join(place, OUTCOME))
        bins = Bins(**{name: np.array(value) for name, value in found["bins"].items()}) if found["bins"] else None
        return Outcome(Curve(**found["curve"]), Validation(found["metrics"], bins, found["ablation"], found["confusion"]))


class LineTracker(NullTracker):
    """Writes metrics as JSON lines into the job's folder, which the process that launched us passes on while we train.

    A process that starts again after a restart of its pod goes on in the same file.
    """

    def __init__(self, place: str) -> None:
        self.file, self.written = storage.join(place, METRICS), 0.0
        self.lines = storage.read_bytes(self.file) if storage.exists(self.file) else b""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        super().metrics(values, step)
        self.lines += (json.dumps({"values": dict(values), "step": step}) + "\n").encode()
        if time.monotonic() - self.written > WRITE_S:
            with suppress(TemporaryError):  # they go with the next ones
                self.write()

    def write(self) -> None:
        storage.write_bytes(self.file, self.lines)
        self.written = time.monotonic()


class LogReader:
    """Passes on what our own modules write into the processes' log, each line once; the libraries' lines stay there."""

    def __init__(self, log: Path) -> None:
        self.log, self.position = log, 0

    def __call__(self) -> None:
        if not self.log.is_file():
            return
        with self.log.open("rb") as lines:
            lines.seek(self.position)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self.position += len(line)
                if found := OUR_LINE.match(line.decode("utf-8", errors="replace")):
                    logger.info("%s", found[1])


class Listener:
    """Passes on what a LineTracker writes, each line once."""

    def __init__(self, place: str, tracker: Tracker) -> None:
        self.file, self.tracker, self.told = storage.join(place, METRICS), tracker, 0

    def __call__(self) -> None:
        try:
            lines = storage.read_bytes(self.file).splitlines() if storage.exists(self.file) else []
        except TemporaryError:
            return  # training does not depend on being heard
        for line in lines[self.told :]:
            point = json.loads(line)
            self.tracker.metrics(point["values"], step=point["step"])
        self.told = max(self.told, len(lines))


def train_on_many(config: TrainTeacherConfig, sources: Sources, model: str, tracker: Tracker) -> Outcome:
    """Train in processes of their own and pass their metrics on while they work.

    Raises:
        InputError, TemporaryError: what a process, or its launcher, ended with.
    """
    run = _in_pods if config.launcher == "trainjob" else _here
    return run(config, {"config": config.model_dump(mode="json"), "sources": vars(sources), "model": model}, model, tracker)


def _here(config: TrainTeacherConfig, job: dict[str, Any], model: str, tracker: Tracker) -> Outcome:
    check_gpus(config, torch.cuda.device_count())
    kept = storage.normalise(model) + "-processes.log"
    with tempfile.TemporaryDirectory(prefix="teacher-") as place:
        tell, log = _prepared(place, job, tracker), Path(place) / "processes.log"
        read = LogReader(log)

        def on_wait() -> None:
            tell()
            read()

        try:
            launch(
                MODULE, ["--job", storage.join(place, JOB)], num_nodes=config.num_nodes, num_processes=config.num_processes,
                folder=Path(place), log_kept_at=kept, timeout_s=config.timeout_s, accelerator=torch.cuda.is_available(), on_wait=on_wait,
            )  # fmt: skip
        finally:
            if log.is_file():
                storage.write_bytes(kept, log.read_bytes())
        return Outcome.read(place)


def check_gpus(config: TrainTeacherConfig, num_gpus: int) -> None:
    """Raises InputError where this machine has GPUs, and not one for each process."""
    if num_gpus and config.num_nodes > 1:
        raise InputError(
            f"key 'num_nodes' = {config.num_nodes}: here several nodes are rehearsed on CPUs alone; set 1, or launcher 'trainjob'"
        )
    if 0 < num_gpus < config.world_size():
        raise InputError(f"key 'num_processes': {config.world_size()} processes want a GPU each, and this machine has {num_gpus}; lower it")


def _in_pods(config: TrainTeacherConfig, job: dict[str, Any], model: str, tracker: Tracker) -> Outcome:
    from components.shared.launch_trainjob import Training, train_on_cluster  # noqa: PLC0415 - only a cluster's image needs this client

    place = storage.normalise(model) + "-job"
    tell = _prepared(place, job, tracker)
    training = Training(
        place=place, module=MODULE, arguments=["--job", storage.join(place, JOB)], num_nodes=config.num_nodes,
        num_processes=config.num_processes, resources=config.resources_per_node, runtime=config.runtime, queue=config.queue,
        scheduling=config.scheduling.pod_spec(), deadline_s=config.timeout_s, version=config.trainer_version,
    )  # fmt: skip
    train_on_cluster(training, tell)
    outcome = Outcome.read(place)
    storage.remove(place)
    return outcome


def _prepared(place: str, job: dict[str, Any], tracker: Tracker) -> Callable[[], None]:
    storage.write_json(storage.join(place, JOB), job)
    return Listener(place, tracker)
