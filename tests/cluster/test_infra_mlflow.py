"""What runs beside MLflow on the cluster: the exporter behind the alerts, the maker of users, the server's settings."""

import importlib.util
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "infra/base/mlflow"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"infra_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def exporter() -> ModuleType:
    return load("exporter")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """One SQLite store, because making one takes seconds; each test has names of its own."""
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}")


def test_an_empty_mlflow_has_no_success_no_failure_no_champion(exporter, client, monkeypatch) -> None:
    monkeypatch.setattr(exporter, "EXPERIMENT", "nobody's")
    monkeypatch.setattr(exporter, "MODEL", "nobodys")
    assert exporter.collect(client) == {
        "relevance_mlflow_up": 1.0,
        "relevance_champion_timestamp_seconds": 0.0,
        "relevance_last_success_timestamp_seconds": 0.0,
        "relevance_last_run_failed": 0.0,
    }


def test_the_exporter_tells_of_the_last_success_the_last_failure_the_log_and_the_champion(exporter, client, tmp_path: Path) -> None:
    experiment = client.create_experiment(exporter.EXPERIMENT, artifact_location=str(tmp_path / "artifacts"))

    def run(start: int, status: str, tags: dict[str, str], metrics: dict[str, float] | None = None) -> None:
        made = client.create_run(experiment, start_time=start, tags=tags).info.run_id
        for name, value in (metrics or {}).items():
            client.log_metric(made, name, value)
        if status != "RUNNING":
            client.set_terminated(made, status, start + 500)

    run(1_000, "FINISHED", {exporter.RUN_TAG: "monday"})
    run(1_100, "FINISHED", {exporter.SECTION_TAG: "logs", exporter.PARENT_TAG: "x"}, {"logs.read": 100, "logs.quarantined": 50})
    run(2_000, "FINISHED", {exporter.RUN_TAG: "tuesday"})
    run(2_100, "FINISHED", {exporter.SECTION_TAG: "logs", exporter.PARENT_TAG: "x"}, {"logs.read": 200, "logs.quarantined": 3})
    run(2_200, "FAILED", {exporter.RUN_TAG: "tuesday", exporter.PARENT_TAG: "x"})  # a step is no pipeline run
    run(3_000, "FAILED", {exporter.RUN_TAG: "wednesday"})
    run(3_100, "RUNNING", {exporter.SECTION_TAG: "logs", exporter.PARENT_TAG: "x"})  # has read nothing yet
    run(4_000, "RUNNING", {exporter.RUN_TAG: "thursday"})
    client.create_registered_model(exporter.MODEL)
    version = client.create_model_version(exporter.MODEL, "gs://bucket/model")

    values = exporter.collect(client)
    assert values["relevance_last_success_timestamp_seconds"] == 2.5  # tuesday: began at 2000 ms, took 500
    assert values["relevance_last_run_failed"] == 1.0  # wednesday; thursday has not ended
    assert values["relevance_quarantined_ratio"] == 0.015  # 3 of 200
    assert values["relevance_champion_timestamp_seconds"] == 0.0  # registered, but nobody's champion

    client.set_registered_model_alias(exporter.MODEL, exporter.ALIAS, version.version)
    run(5_000, "FINISHED", {exporter.RUN_TAG: "friday"})
    values = exporter.collect(client)
    assert values["relevance_last_run_failed"] == 0.0
    assert values["relevance_champion_timestamp_seconds"] == version.creation_timestamp / 1000
    assert set(values) == set(exporter.HELP)
    assert "# TYPE relevance_quarantined_ratio gauge\nrelevance_quarantined_ratio 0.015\n" in exporter.page(values)


@pytest.fixture
def users_server(monkeypatch):
    """An MLflow that knows the user `exporter` and takes one administrator's password."""
    known, created = {"exporter"}, []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200 if self.path.rpartition("=")[2] in known else 404)

        def do_POST(self) -> None:
            created.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.answer(200)

        def answer(self, status: int) -> None:
            self.send_response(status if self.headers["Authorization"] == "Basic YWRtaW46c2VzYW1l" else 401)  # admin:sesame
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "sesame")
    yield created
    server.shutdown()


def test_users_that_are_absent_are_made_and_others_left_alone(users_server, monkeypatch, capsys, tmp_path: Path) -> None:
    for name in ("exporter", "pipeline"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "username").write_text(name)
        (tmp_path / name / "password").write_text("0123456789abcdef\n")
    users = load("users")
    assert users.main(tmp_path) == 0
    assert users_server == ['{"username": "pipeline", "password": "0123456789abcdef"}']
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    assert users.main(tmp_path) == 1
    assert "MLflow answers 401" in capsys.readouterr().err


def test_mlflow_knows_every_flag_and_variable_that_the_deployment_gives() -> None:
    from mlflow.cli import server
    from mlflow.environment_variables import _EnvironmentVariable
    import mlflow.environment_variables as variables  # isort: skip

    deployment = list(yaml.safe_load_all((FOLDER / "mlflow.yaml").read_text(encoding="utf-8")))[1]
    given = deployment["spec"]["template"]["spec"]["containers"][0]
    flags = {flag for parameter in server.params for flag in parameter.opts}
    known = {one.name for one in vars(variables).values() if isinstance(one, _EnvironmentVariable)}
    known |= {parameter.envvar for parameter in server.params if isinstance(parameter.envvar, str)}
    assert [one for one in given["args"] if one.partition("=")[0] not in flags] == []
    ours = {"PGPASSWORD", "HOME"}  # read by libpq, and by whatever wants a writable home
    assert {one["name"] for one in given["env"]} - ours <= known
