"""MLflow on a real PostgreSQL with the arguments, users and rights of `infra/base/mlflow`: nights are told, registered, and found again.

Needs PostgreSQL's programs (Debian: `postgresql`), psycopg2 and Flask-WTF; `make postgres` adds the latter two and runs these tests.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.shared import registry
from components.shared.tracking import SpoolTracker
from components.shared.tracking_mlflow import EXPERIMENT, Sender

PROGRAMS = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *map(Path, os.environ["PATH"].split(os.pathsep))]
BIN = next((place for place in PROGRAMS if (place / "initdb").is_file() and (place / "postgres").is_file()), None)
START_S = 120
MLFLOW = Path(__file__).parents[2] / "infra/base/mlflow"
PASSWORD = "correct horse battery"

pytestmark = [pytest.mark.postgres, pytest.mark.skipif(BIN is None, reason="no PostgreSQL here (initdb, postgres)")]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def other_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid():
        return {}
    account = next((one for one in pwd.getpwall() if one.pw_name in ("postgres", "nobody")), None)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}


def wait_until(is_up: Any, running: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and running.poll() is None:
        if is_up():
            return
        time.sleep(0.3)
    pytest.fail(f"it did not start:\n{log.read_text()}")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """Address of an empty database `mlflow`, on loopback alone."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed: make postgres")
    assert BIN is not None
    place, port, user = Path(tempfile.mkdtemp(prefix="postgres-")), free_port(), other_user()
    if user:
        os.chown(place, user["user"], user["group"])
    called: dict[str, Any] = {"cwd": place, "check": True, "capture_output": True, **user}
    subprocess.run([BIN / "initdb", "-D", place / "data", "-U", "mlflow", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"], **called)
    log = place / "log"
    command = [BIN / "postgres", "-D", place / "data", "-h", "127.0.0.1", "-p", str(port), "-k", str(place), "-F"]
    with log.open("w") as handle:
        running = subprocess.Popen(command, stdout=handle, stderr=handle, cwd=place, **user)
    try:
        wait_until(lambda: "ready to accept connections" in log.read_text(), running, log)
        subprocess.run([BIN / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow"], **called)
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/mlflow"
    finally:
        running.send_signal(signal.SIGINT)  # a fast shutdown
        running.wait(30)
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an MLflow server over it, which keeps artifacts itself; its processes end with the tests."""
    pytest.importorskip("flask_wtf", reason="Flask-WTF is not installed: make postgres")
    place, port = tmp_path_factory.mktemp("server"), free_port()
    (place / "auth.ini").write_text(re.sub(r"database_uri = .*", f"database_uri = {database}", (MLFLOW / "auth.ini").read_text()))
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment |= {"MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_ARTIFACTS_DESTINATION": str(place / "artifacts")}
    environment |= {
        "MLFLOW_AUTH_CONFIG_PATH": str(place / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "k",
    }
    manifests = yaml.safe_load_all((MLFLOW / "mlflow.yaml").read_text())
    (deployment,) = (one for one in manifests if one["kind"] == "Deployment")
    given = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    given = [one for one in given if not one.startswith(("--host", "--port", "--allowed-hosts"))]
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", f"--allowed-hosts=127.0.0.1:{port}", *given]
    log = place / "log"
    with log.open("w") as handle:
        running = subprocess.Popen(command, stdout=handle, stderr=handle, env=environment, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(f"{address}/health"), running, log)
        for name in ("pipeline", "exporter"):
            (place / "users" / name).mkdir(parents=True)
            for key, value in (("username", name), ("password", PASSWORD)):
                (place / "users" / name / key).write_text(value)
        as_admin = {
            **environment,
            "MLFLOW_TRACKING_URI": address,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        }
        for _ in range(2):  # the job may run again
            subprocess.run([sys.executable, str(MLFLOW / "users.py"), str(place / "users")], env=as_admin, check=True)
        yield address
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(30)


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Log in as a user from now on."""

    def log_in(name: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)

    return log_in


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2):
            return True
    except OSError:
        return False


def tell_night(folder: Path, ndcg: float) -> Path:
    """One step's spool of one night: settings, a curve, a metric and a page with what SQL would trip over."""
    spool = SpoolTracker(folder / "evaluation.jsonl", "evaluation")
    spool.params({"metric": "ndcg@10", "note": "O'Neil; DROP TABLE runs; -- İß😀"})
    for step in range(1, 301):
        spool.metrics({"loss": 1.0 / step}, step=step)
    spool.metrics({"ndcg": ndcg})
    page = folder / "page.md"
    page.write_text("# 'quoted'\n")
    spool.artifact(str(page), "evaluation")
    return folder


def test_nights_are_told_once_through_the_server_and_compare(server: str, tmp_path: Path, become: Callable[[str], None]):
    from mlflow import MlflowClient

    become("pipeline")
    values = {"night-1": 0.61, "night-2": 0.64}
    for run_id, ndcg in values.items():
        folder = tell_night(tmp_path / run_id, ndcg)
        for _ in range(2):  # the second finds all of it there
            assert Sender(folder, server, budget_s=120).send().unsent == 0
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], filter_string="metrics.`evaluation.ndcg` > 0.62")
    assert [run.data.metrics["evaluation.ndcg"] for run in runs if run.info.run_name.endswith("evaluation")] == [0.64]
    every = [run for run in client.search_runs([experiment.experiment_id]) if "evaluation.loss" in run.data.metrics]
    assert len(every) == 2
    history = client.get_metric_history(every[0].info.run_id, "evaluation.loss")
    assert [point.step for point in history] == list(range(1, 301))
    assert every[0].data.params["evaluation.note"] == "O'Neil; DROP TABLE runs; -- İß😀"
    assert [one.path for one in client.list_artifacts(every[0].info.run_id, "evaluation")] == ["evaluation/page.md"]


def test_the_registry_keeps_versions_and_aliases(server: str, monkeypatch: pytest.MonkeyPatch, become: Callable[[str], None]):
    become("pipeline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    folders = ["gs://bucket/model-1", "gs://bucket/model-2"]
    versions = [
        registry.register("shop", uri, digest, {"ndcg@10": "0.61"}) for uri, digest in zip(folders, ("aa" * 8, "bb" * 8), strict=True)
    ]
    assert registry.register("shop", folders[1], "bb" * 8, {}) == versions[1]  # the same digest, the same version
    registry.set_alias("shop", "champion", versions[0])
    registry.set_alias("shop", "champion", versions[1])
    assert registry.alias_version("shop", "champion") == (versions[1], "bb" * 8)
    assert registry.resolve("models:/shop@champion") == folders[1]
    assert registry.resolve("models:/shop@previous") == ""


def test_the_exporter_reads_what_the_pipeline_wrote_and_may_change_nothing(
    server: str, tmp_path: Path, become: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    monkeypatch.syspath_prepend(str(MLFLOW))
    import exporter

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    become("pipeline")
    assert Sender(tell_night(tmp_path / "night-3", 0.65), server, budget_s=120).send().unsent == 0
    version = registry.register(exporter.MODEL, "gs://bucket/model-3", "cc" * 8, {})
    registry.set_alias(exporter.MODEL, exporter.ALIAS, version)
    become("exporter")
    client = MlflowClient(server)
    found = exporter.collect(client)
    assert found["relevance_mlflow_up"] == 1
    assert found["relevance_champion_timestamp_seconds"] == pytest.approx(time.time(), abs=600)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    with pytest.raises(MlflowException, match=r"Permission denied|PERMISSION_DENIED"):
        client.create_run(experiment.experiment_id)
    with pytest.raises(MlflowException, match=r"Permission denied|PERMISSION_DENIED"):
        client.set_registered_model_alias(exporter.MODEL, exporter.ALIAS, version)


def test_nobody_gets_in_without_a_password(server: str, monkeypatch: pytest.MonkeyPatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MlflowException, match="401"):
        MlflowClient(server).search_experiments()
