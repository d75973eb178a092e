"""The server's image with an exported student, as KServe runs it: the model mounted, a read-only file system, another user than root."""

import json
import logging
import time
from types import SimpleNamespace

import numpy as np
import pytest
from encoder_folders import make_model

from components.train_student.config import TrainStudentConfig
from components.train_student.exporting import export

QUERIES = ["red shoe", "green shoe", "tv", "blue lamp"]
TITLES = ["red shoe", "shoe red leather", "television", "lamp"]
ASK = """
import json, urllib.request
body = json.dumps({"query": "red shoe", "documents": ["tv", "red shoe"], "return_documents": True}).encode()
asked = urllib.request.Request("http://127.0.0.1:8080/rerank", body, {"Content-Type": "application/json"})
print(urllib.request.urlopen(asked, timeout=20).read().decode())
"""

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    folder = make_model(str(tmp_path_factory.mktemp("student") / "model"), "cross_encoder")
    lessons = SimpleNamespace(validation=lambda: np.arange(4), training=lambda: np.arange(4), query=np.array([0, 1, 2, 3]))
    logging.disable(logging.DEBUG)  # pytest would keep every line that torch's exporter traces
    export(TrainStudentConfig(export=["onnx", "openvino_int8"], min_spearman=0.01), folder, (QUERIES, TITLES), lessons)
    logging.disable(logging.NOTSET)
    return folder


@pytest.fixture
def running(engine, serve, student):
    """A container's id."""
    options = ("--network", "none", "--read-only", "--tmpfs", "/tmp", "-v", f"{student}:/mnt/models:ro")
    made = engine.call("podman", "run", "--detach", *options, serve).stdout.split()[-1]
    yield made
    engine.call("podman", "rm", "--force", made)


def test_the_health_check_passes_once_the_server_is_ready_and_it_ranks(engine, running):
    until = time.monotonic() + 120
    while (checked := engine.call("podman", "healthcheck", "run", running, check=False)).returncode and time.monotonic() < until:
        time.sleep(1)
    log = engine.call("podman", "logs", running)
    assert checked.returncode == 0, checked.stderr + log.stdout + log.stderr
    answer = json.loads(engine.call("podman", "exec", running, "python", "-c", ASK).stdout)
    scores = [one["relevance_score"] for one in answer["results"]]
    assert {one["index"] for one in answer["results"]} == {0, 1}
    assert scores == sorted(scores, reverse=True)
    assert "openvino" in log.stdout + log.stderr


def test_the_image_holds_no_torch_and_no_pipeline(engine, serve):
    asked = "from importlib.util import find_spec; print([name for name in ('torch', 'kfp', 'mlflow', 'pipelines') if find_spec(name)])"
    assert engine.run(serve, "python", "-c", asked).stdout.strip() == "[]"
