"""Two runs that our sender made, side by side on MLflow's compare page, in a real browser."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from components.shared import spools
from components.shared.tracking import SpoolTracker
from components.shared.tracking_mlflow import EXPERIMENT, Sender

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1600,1200"]
START_S, PAGE_S = 120.0, 120.0
NDCG = {"20260901-nightly": 0.7312, "20260902-nightly": 0.7548}

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]


def write_night(folder: Path, ndcg: float) -> None:
    whole = SpoolTracker(folder / f"{spools.PIPELINE}.jsonl", spools.PIPELINE)
    whole.write("start")
    step = SpoolTracker(folder / "evaluation.jsonl", "evaluation")
    step.write("start")
    step.params({"cutoff": 10})
    step.headline({"cross_encoder.ndcg@10": ndcg, "cross_encoder.auc": ndcg / 2})
    step.write("end", status="FINISHED")
    whole.write("end", status="FINISHED")


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """(store, MLflow ids of two pipeline runs)."""
    place = tmp_path_factory.mktemp("browser")
    store = f"sqlite:///{place / 'mlflow.db'}"
    for run_id, ndcg in NDCG.items():
        write_night(place / "tracking" / run_id, ndcg)
    outcomes = [Sender(place / "tracking" / run_id, store, budget_s=60).send() for run_id in NDCG]
    assert [outcome.unsent for outcome in outcomes] == [0, 0]
    return store, [outcome.parent for outcome in outcomes]


@pytest.fixture(scope="module")
def server(nights, tmp_path_factory):
    """Address of an MLflow server; it and its workers are one process group, which ends with the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with log.open("w") as handle:
        running = subprocess.Popen(
            [*command, "--backend-store-uri", nights[0]], stdout=handle, stderr=handle, env=environment, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", running, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(30)


def wait_for(address: str, running: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and running.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start:\n{log.read_text()}")


def page(address: str, profile: Path) -> str:
    """The document after its scripts ran."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=25000", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PAGE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_nights_stand_side_by_side_with_their_headline_metrics(server, nights, tmp_path):
    from mlflow import MlflowClient

    experiment = MlflowClient(nights[0]).get_experiment_by_name(EXPERIMENT).experiment_id
    runs, experiments = (urllib.parse.quote(json.dumps(ids)) for ids in (nights[1], [experiment]))
    shown = page(f"{server}/#/compare-runs?runs={runs}&experiments={experiments}", tmp_path / "profile")
    wanted = [*NDCG, "cross_encoder.ndcg_at_10", "cross_encoder.auc", *(str(value) for value in NDCG.values())]
    assert [text for text in wanted if text not in shown] == []
