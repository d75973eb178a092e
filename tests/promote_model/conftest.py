"""An empty MLflow on SQLite for every test, and evaluations made from seeded scores."""

import shutil
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from seeded_scores import GAINS, NUM_QUERIES, grades, table

from components.shared import metrics, storage


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """Made once: MLflow takes seconds to create its tables."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{file}").search_registered_models()
    return file


@pytest.fixture(autouse=True)
def _mlflow(tmp_path, monkeypatch, empty_database):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)


@pytest.fixture
def evaluated(tmp_path) -> Callable[..., str]:
    """Writes the folder of an evaluation from scores per system, the way evaluate_rankings does; gives its address."""

    def write(name: str = "evaluation", **systems: np.ndarray) -> str:
        rows = table("x", grades().astype(float))
        judged = rows.select(["query_id", "item_id"]).append_column("grade", pa.array(grades().ravel()))
        tables = {system: table(system, scores) for system, scores in systems.items()}
        finite = [one for system, one in tables.items() if np.isfinite(systems[system]).all()]
        values = metrics.per_query(judged, pa.concat_tables(finite), gains=GAINS)
        found = {
            system: {
                metric: vars(metrics.mean_interval(metrics.values_of(values, system, metric)["value"].to_numpy(), 1, 200))
                for metric in metrics.metric_names()
            }
            for system in sorted(set(values["system"].to_pylist()))
        }
        result = {
            "data": {"name": "tiny", "snapshot": "abc", "splits": ["test"], "num_queries": NUM_QUERIES, "num_judgments": rows.num_rows},
            "gains": "E=1, S=0.1, C=0.01, I=0",
            "metrics": metrics.metric_names(),
            "systems": found,
            "health": {system: metrics.check_scores(one, judged) for system, one in tables.items()},
        }
        storage.write_json(str(tmp_path / name / "metrics.json"), result)
        pq.write_table(values, tmp_path / name / "per_query.parquet")
        return str(tmp_path / name)

    return write


@pytest.fixture
def model(tmp_path) -> Callable[[str], str]:
    """Makes a model folder with the given weights."""

    def make(weights: str) -> str:
        folder = tmp_path / f"model-{weights}"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text(weights)
        return str(folder)

    return make


@pytest.fixture
def whole_day(tmp_path) -> str:
    """The lineage of a log whose last day is complete."""
    place = tmp_path / "whole-day"
    day = {"date": "2024-05-10", "day": "2024-05-10", "status": "complete", "share": 1.0}
    storage.write_json(str(place / "lineage.json"), {"last_day": day})
    return str(place)
