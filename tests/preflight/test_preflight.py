"""Preflight: each check against what it must find, the page, and that nothing dear starts where something is missing."""

import copy
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from fake_kubernetes import TASK

from components.preflight import findings, step
from components.preflight.component import preflight
from components.preflight.config import Need, PreflightConfig, Right
from components.preflight.findings import MISSING, OK, WARNING, Finding
from components.preflight.step import check_mlflow, check_workspace, run
from components.shared import storage
from components.shared.errors import InputError
from components.shared.spools import read
from components.shared.tracking import NullTracker

GPU = "nvidia.com/gpu"
NEEDS = [Need(task="score-pairs", gpus=1, pods=4), Need(task="train-teacher", gpus=8)]
JOBS = Right(verb="create", group="batch", resource="jobs")


@pytest.fixture
def ready(gcs, bucket, cluster, monkeypatch):
    """A cluster where nothing is missing, and the settings of a pipeline on it."""
    task = copy.deepcopy(TASK)
    task["spec"]["containers"][1]["image"] = "registry/gpu@sha256:ab"
    cluster.pods["task-1"] = task
    cluster.nodes = [node(8)]
    cluster.queues["relevance"] = queue()
    cluster.quotas = [quota(16, 2)]
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(step, "cuda_of_torch", lambda: "13.0")
    return PreflightConfig(needs=NEEDS, rights=[JOBS], image="registry/gpu@sha256:ab", queues=["relevance"])


def node(gpus, **spec):
    return {"metadata": {"name": "n"}, "spec": spec, "status": {"allocatable": {GPU: str(gpus)} if gpus else {"cpu": "4"}}}


def queue(active="True", resources=(GPU, "cpu")):
    flavors = [{"name": "spot", "resources": [{"name": name, "total": "0"} for name in resources]}]
    conditions = [{"type": "Active", "status": active, "message": "stopped by hand"}]
    return {"status": {"pendingWorkloads": 3, "conditions": conditions, "flavorsReservation": flavors}}


def quota(hard, used):
    return {"status": {"hard": {f"requests.{GPU}": str(hard)}, "used": {f"requests.{GPU}": str(used)}}}


def states(config, workspace):
    return {one.check: one.state for one in step.examine(config, workspace)}


def test_where_all_is_there_only_mlflows_address_is_asked_for(ready, bucket, tmp_path):
    page = tmp_path / "page.md"
    report = run(ready, workspace=f"{bucket}/w", page=str(page), tracker=NullTracker(), run_id="r1")
    assert report.metrics == {"checks": 7, "warnings": 1}
    text = page.read_text()
    assert text.startswith("# preflight: ready for GPU tasks\n")
    assert "| image | ok | pulled; torch is built for CUDA 13.0 |" in text
    assert "| quota | ok | 16 nvidia.com/gpu allowed, 14 free, the largest task asks for 8 |" in text
    assert text.endswith("- **mlflow**: config map `mlflow` with key `tracking_uri` in this namespace\n")
    assert storage.read_bytes(f"{bucket}/w/preflight/r1.md").decode() == text
    assert [name for name in storage.list_files(f"{bucket}/w/preflight") if "probe" in name] == []


def test_all_that_is_missing_is_said_at_once_with_what_to_ask_for(ready, bucket, cluster, tmp_path):
    cluster.quotas, cluster.forbidden, cluster.queues = [quota(4, 0)], {"create jobs"}, {}
    page = tmp_path / "page.md"
    with pytest.raises(InputError) as raised:
        run(ready, workspace=f"{bucket}/w", page=str(page), tracker=NullTracker(), run_id="r1")
    assert "quota: 4 nvidia.com/gpu allowed, 4 free, the largest task asks for 8; ask: raise `requests.nvidia.com/gpu`" in str(raised.value)
    assert "rights: may not create jobs.batch; ask: let the pipeline's service account create jobs.batch" in str(raised.value)
    assert "queue: no LocalQueue 'relevance' in this namespace" in str(raised.value)
    assert page.read_text().startswith("# preflight: 3 of 7 checks found something missing\n")


@pytest.mark.parametrize("resource", ["GET resourcequotas", "GET nodes", "GET pods", "GET localqueues", "POST selfsubjectaccessreviews"])
def test_what_may_not_be_looked_at_stops_nothing(ready, bucket, cluster, resource):
    cluster.refuses[resource] = 403
    found = states(ready, f"{bucket}/w")
    assert list(found.values()).count(WARNING) == 2  # MLflow's address, and this
    assert MISSING not in found.values()


def test_the_largest_task_counts_by_all_its_pods_for_the_quota_and_by_one_for_a_node():
    needs = [Need(task="score-pairs", gpus=1, pods=4), Need(task="train-teacher", gpus=2)]
    assert findings.of_quota(needs, [quota(3, 0)], GPU).state == MISSING  # 1 x 4 pods
    assert findings.of_quota(needs, [quota(4, 0), quota(9, 0)], GPU).state == OK
    assert findings.of_quota(needs, [quota(4, 1)], GPU).state == WARNING
    assert findings.of_quota(needs, [], GPU).state == OK
    assert findings.of_nodes(needs, [node(0), node(2)], GPU).state == OK
    assert findings.of_nodes(needs, [node(1), node(8, unschedulable=True)], GPU).state == WARNING
    assert findings.of_nodes(needs, [], GPU).found.startswith("of 0 nodes the best has 0")


def test_a_quota_below_all_helpers_is_no_reason_to_stop():
    needs = [Need(task="score-pairs", gpus=1, pods=8, needed=1)]
    assert findings.of_quota(needs, [quota(8, 0)], GPU).state == OK
    assert findings.of_quota(needs, [quota(4, 0)], GPU).state == WARNING
    assert findings.of_quota(needs, [quota(0, 0)], GPU).state == MISSING


@pytest.mark.parametrize(
    ("found", "state", "said"),
    [(None, MISSING, "no LocalQueue"), (queue("False"), MISSING, "not active: stopped by hand"),
     (queue(resources=("cpu",)), MISSING, "covers cpu"), (queue(), OK, "3 workloads wait"), ({"status": {}}, OK, "is active")],
)  # fmt: skip
def test_a_queue_is_there_active_and_leads_to_gpus(found, state, said):
    finding = findings.of_queue("relevance", found, GPU)
    assert (finding.state, said in finding.found) == (state, True)


def test_the_image_is_the_one_of_the_gpu_tasks_and_made_for_gpus():
    wanted = "registry/gpu@sha256:ab"
    assert findings.of_image(wanted, "mirror/gpu@sha256:ab", "13.0").state == OK  # the digest decides, not the way there
    assert findings.of_image(wanted, "registry/gpu@sha256:cd", "13.0").state == MISSING
    assert "built for the CPU" in findings.of_image(wanted, wanted, None).found


@pytest.mark.parametrize("status", [401, 403])
def test_a_bucket_that_is_not_ours_is_missing_and_the_role_is_named(gcs, bucket, status):
    gcs.denied = status
    finding = check_workspace(f"{bucket}/w")
    assert finding.state == MISSING
    assert "roles/storage.objectUser" in finding.ask


def test_a_bucket_where_a_second_writer_wins_is_no_bucket_for_us(gcs, bucket, monkeypatch):
    assert check_workspace(f"{bucket}/w").state == OK
    monkeypatch.setattr(gcs, "_check_preconditions", lambda *_: None)  # as in an emulator that takes every write
    assert check_workspace(f"{bucket}/w").state == MISSING


@contextmanager
def mlflow_that_answers(status, content=b"no"):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format, *args):
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "content", "state"),
    [(200, b"{}", OK), (401, b"You are not authenticated", MISSING), (403, b"Invalid Host header", MISSING), (503, b"no", WARNING),
     (403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}', MISSING)],
)  # fmt: skip
def test_mlflow_that_refuses_is_missing_and_mlflow_that_is_away_is_not(monkeypatch, status, content, state):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with mlflow_that_answers(status, content) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert check_mlflow(5).state == state
    assert check_mlflow(1).state == WARNING  # nobody listens there any more


def test_nothing_on_the_page_is_markup_and_a_bar_ends_no_cell():
    text = findings.page([Finding("quota", MISSING, "a|b\n<script>", "ask | this")], "r")
    assert "| quota | MISSING | a/b &lt;script> |" in text


def test_the_task_tells_mlflow_its_page_and_fails_like_any_other(ready, bucket, cluster, tmp_path):
    cluster.quotas = [quota(1, 0)]
    summary = SimpleNamespace(path=str(tmp_path / "summary"))
    with pytest.raises(InputError, match="quota"):
        preflight.python_func(
            config=ready.model_dump(), section="preflight", workspace=f"file://{tmp_path}/w", run_id="r1", summary=summary
        )
    lines = read(tmp_path / "w/tracking/r1/preflight.jsonl")
    tags = {name: value for line in lines if line["kind"] == "tags" for name, value in line["values"].items()}
    assert tags["preflight"] == (tmp_path / "summary").read_text()
    assert tags["failure"] == (tmp_path / "w/failures/r1/preflight/attempt-1.md").read_text()
    assert "| exit class | input" in tags["failure"]


def test_outside_a_cluster_the_page_says_that_it_was_not_looked_at(gcs, bucket, monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    found = {one.check: one for one in step.examine(PreflightConfig(needs=NEEDS), f"{bucket}/w")}
    assert set(found) == {"workspace", "mlflow", "cluster"}
    assert found["cluster"].state == WARNING
    assert "no task on Kubernetes" in found["cluster"].found


def test_without_anything_dear_the_cluster_is_not_asked(gcs, bucket, monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert set(states(PreflightConfig(), f"{bucket}/w")) == {"workspace", "mlflow"}
