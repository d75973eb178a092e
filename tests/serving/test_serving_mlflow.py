"""The student as an MLflow model: an address and code, and what it scores."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
from serving_texts import QUERIES, TITLES

from components.serving import mlflow_model
from components.serving.service import ScoreError
from components.shared.errors import InputError


@pytest.fixture(scope="module")
def place(exported, tmp_path_factory):
    path = tmp_path_factory.mktemp("mlflow") / "student"
    mlflow_model.save(exported["cross_encoder"], str(path))
    return path


def test_the_mlflow_model_scores_as_the_server_and_holds_no_weights(exported, place):
    import mlflow.pyfunc

    from components.serving.runtime import open_runtime

    model = mlflow.pyfunc.load_model(str(place))
    asked = pd.DataFrame({"query": QUERIES, "title": TITLES, "brand": [None, "hose", None, None]})
    found = model.predict(asked)
    titles = [TITLES[0], "red kettle | brand: hose", *TITLES[2:]]
    np.testing.assert_allclose(found["score"], open_runtime(exported["cross_encoder"]).scores(QUERIES, titles), atol=1e-5)
    assert list(found.columns) == ["score"]
    assert [one.name for one in model.metadata.signature.inputs.inputs][:2] == ["query", "title"]
    assert sum(file.stat().st_size for file in place.rglob("*")) < 50_000
    assert not list(place.rglob("*.pkl"))


def test_a_student_that_gives_no_number_is_an_error(place, monkeypatch):
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(str(place))
    monkeypatch.setattr(model.unwrap_python_model().runtime, "scores", lambda left, right: np.array([1.0, np.nan]))
    with pytest.raises(ScoreError, match="the model gave infinity or NaN"):
        model.predict(pd.DataFrame({"query": QUERIES[:2], "title": TITLES[:2]}))


def test_a_changed_student_is_refused(exported, tmp_path):
    import mlflow.pyfunc

    folder = Path(shutil.copytree(exported["bi_encoder"], tmp_path / "student"))
    mlflow_model.save(str(folder), str(tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "changed": True}))
    with pytest.raises(InputError, match="is not the one that was saved"):
        mlflow.pyfunc.load_model(str(tmp_path / "model"))
    with pytest.raises(InputError, match="is there already; give a new folder"):
        mlflow_model.save(str(folder), str(tmp_path / "model"))
    with pytest.raises(InputError, match="does not exist"):
        mlflow_model.save(str(tmp_path / "nothing"), str(tmp_path / "other"))


@pytest.mark.nightly
def test_mlflow_models_serve_answers(place):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(place), "--env-manager", "local", "--port", str(port)]
    # mlflow looks for uvicorn on the PATH, and starts it as a process of its own
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], env=env, start_new_session=True) as server:
        try:
            found = _ask_until_it_listens(f"http://127.0.0.1:{port}/invocations", server)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
    assert found.status_code == 200
    assert found.json()["predictions"][0].keys() == {"score"}


def _ask_until_it_listens(url, server):
    body = {"dataframe_split": {"columns": ["query", "title"], "data": [["red shoes", "red running shoes"]]}}
    while server.poll() is None:
        try:
            return requests.post(url, json=body, timeout=60)
        except requests.ConnectionError:
            time.sleep(0.5)
    raise AssertionError("mlflow ended")
