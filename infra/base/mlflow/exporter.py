"""MLflow's runs and registry as Prometheus metrics, for the alerts of infra/base/alerts.yaml; runs in the MLflow image."""

import logging
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

PORT = 9108
REFRESH_S = 60.0
EXPERIMENT = os.environ.get("MLFLOW_EXPERIMENT_NAME", "relevance-distillery")
MODEL = os.environ.get("RELEVANCE_MODEL", "relevance-student")
ALIAS = os.environ.get("RELEVANCE_ALIAS", "champion")
RUN_TAG, PARENT_TAG, SECTION_TAG = "kfp.pipeline_run_id", "mlflow.parentRunId", "relevance.section"
HELP = {
    "relevance_mlflow_up": "Whether MLflow answered when it was last asked, 1 or 0.",
    "relevance_last_success_timestamp_seconds": "When the last pipeline run that succeeded ended; 0 where none has.",
    "relevance_last_run_failed": "Whether the last pipeline run that ended failed, 1 or 0.",
    "relevance_champion_timestamp_seconds": "When the version that holds the champion alias was registered; 0 where there is none.",
    "relevance_quarantined_ratio": "Malformed rows among the rows read by the last log extraction, 0 to 1.",
}


def collect(client: Any) -> dict[str, float]:
    """The metrics. What was never measured (no log read yet) is absent.

    Raises:
        MlflowException: when MLflow does not answer.
    """
    values = {"relevance_mlflow_up": 1.0, "relevance_champion_timestamp_seconds": champion_since(client)}
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return values | {"relevance_last_success_timestamp_seconds": 0.0, "relevance_last_run_failed": 0.0}
    newest = {"order_by": ["attributes.start_time DESC"], "max_results": 200}
    runs = client.search_runs([experiment.experiment_id], f"tags.`{RUN_TAG}` LIKE '%'", **newest)
    ended = [run for run in runs if PARENT_TAG not in run.data.tags and run.info.status != "RUNNING"]
    succeeded = [run.info.end_time / 1000 for run in ended if run.info.status == "FINISHED"]
    values["relevance_last_success_timestamp_seconds"] = max(succeeded, default=0.0)
    values["relevance_last_run_failed"] = float(bool(ended) and ended[0].info.status != "FINISHED")
    for run in client.search_runs([experiment.experiment_id], f"tags.`{SECTION_TAG}` = 'logs'", **newest):
        if read := run.data.metrics.get("logs.read"):
            values["relevance_quarantined_ratio"] = run.data.metrics["logs.quarantined"] / read
            break
    return values


def champion_since(client: Any) -> float:
    try:
        model = client.get_registered_model(MODEL)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return 0.0
        raise
    if ALIAS not in model.aliases:
        return 0.0
    return client.get_model_version(MODEL, str(model.aliases[ALIAS])).creation_timestamp / 1000


def page(values: dict[str, float]) -> str:
    return "".join(f"# HELP {name} {HELP[name]}\n# TYPE {name} gauge\n{name} {value!r}\n" for name, value in values.items())


class Handler(BaseHTTPRequestHandler):
    content = page({"relevance_mlflow_up": 0.0})

    def do_GET(self) -> None:
        body = b"ok\n" if self.path == "/health" else Handler.content.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes and scrapes are not worth a line."""


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    threading.Thread(target=ThreadingHTTPServer(("", PORT), Handler).serve_forever, daemon=True).start()
    client = MlflowClient()
    while True:
        try:
            Handler.content = page(collect(client))
        except MlflowException as error:
            logging.warning("MLflow does not answer: %s", error)
            Handler.content = page({"relevance_mlflow_up": 0.0})
        time.sleep(REFRESH_S)


if __name__ == "__main__":
    main()
