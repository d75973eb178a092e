"""A Kubernetes API server in a thread: pods and their logs, Jobs and TrainJobs, checked against their schemas before they are made."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
import yaml
from trainjob_schemas import fault_of, openapi

VERSION = "1.34"
NAMESPACE = "relevance"
TASK = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "task-1", "namespace": "relevance", "uid": "u-1"},
    "spec": {
        "serviceAccountName": "relevance-pipeline",
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "initContainers": [{"name": "init", "image": "argo"}],
        "containers": [
            {"name": "wait", "image": "argo"},
            {
                "name": "main",
                "image": "gpu@sha256:ab",
                "command": ["argoexec"],
                "env": [
                    {"name": "ARGO_TEMPLATE", "value": "{}"},
                    {"name": "KFP_POD_NAME", "value": "task-1"},
                    {"name": "HF_HUB_OFFLINE", "value": "1"},
                    {"name": "MLFLOW_TRACKING_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "mlflow-credentials", "key": "password"}}},
                ],
                "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "64Gi"}, "requests": {"cpu": "8"}},
                "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}, {"name": "var-run-argo", "mountPath": "/var/run/argo"}],
            },
        ],
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}}, {"name": "var-run-argo", "emptyDir": {}}],
    },
}


class FakeKubernetes:
    """What the server holds and was asked; `refuses` says what it answers to a request instead, as method and resource."""

    def __init__(self) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.trainjobs: dict[str, dict[str, Any]] = {}
        self.trainer = "2.3"  # release of Kubeflow Trainer
        self.quotas: list[dict[str, Any]] = []
        self.nodes: list[dict[str, Any]] = []
        self.queues: dict[str, dict[str, Any]] = {}
        self.forbidden: set[str] = set()  # what this account may not do, as verb and resource
        self.logs: dict[str, list[tuple[str, str]]] = {}  # pod -> (time, line)
        self.requests: list[str] = []
        self.refuses: dict[str, int] = {}
        self.before: Callable[[str], None] = lambda request: None  # called with each request, to let something happen meanwhile

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> tuple[int, Any]:
        group, _, rest = path.partition(f"/namespaces/{NAMESPACE}/")
        kind, _, name = rest.partition("/")
        propagation = (query.get("propagationPolicy") or [body.get("propagationPolicy", "")])[0] if method == "DELETE" else ""
        request = f"{method} {kind or ('openapi' if 'openapi' in path else path.rpartition('/')[2])}"
        self.requests.append(f"{request} {propagation}".strip())
        self.before(request)
        if status := self.refuses.get(request):
            return status, {"kind": "Status", "code": status, "reason": "Forbidden"}
        match group, method, kind:
            case "/api/v1", "GET", "pods" if name in self.pods:
                return 200, self.pods[name]
            case "/api/v1", "GET", "pods" if name.endswith("/log"):
                return self._log(name.removesuffix("/log"), query)
            case "/api/v1", "GET", "pods" if not name:
                return 200, {"kind": "PodList", "items": self._selected(query)}
            case "/api/v1", "GET", "resourcequotas":
                return 200, {"kind": "ResourceQuotaList", "items": self.quotas}
            case "/api/v1/nodes", "GET", _:
                return 200, {"kind": "NodeList", "items": self.nodes}
            case "/apis/kueue.x-k8s.io/v1beta2", "GET", "localqueues" if name in self.queues:
                return 200, self.queues[name]
            case "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "POST", _:
                asked = body["spec"]["resourceAttributes"]
                return 201, {**body, "status": {"allowed": f"{asked['verb']} {asked['resource']}" not in self.forbidden}}
            case "/openapi/v3/apis/trainer.kubeflow.org/v1alpha1", "GET", "" if self.trainer:
                return 200, openapi(self.trainer)
            case "/apis/batch/v1", "POST", "jobs":
                return self._create(body)
            case "/apis/trainer.kubeflow.org/v1alpha1", "POST", "trainjobs":
                return self._create_trainjob(body, query)
            case "/apis/trainer.kubeflow.org/v1alpha1", "GET", "trainjobs" if name in self.trainjobs:
                return 200, self.trainjobs[name]
            case "/apis/trainer.kubeflow.org/v1alpha1", "DELETE", "trainjobs" if name in self.trainjobs:
                return 200, self.trainjobs.pop(name)
            case "/apis/batch/v1", "GET", "jobs" if name in self.jobs:
                return 200, self.jobs[name]
            case "/apis/batch/v1", "DELETE", "jobs" if name in self.jobs:
                return 200, self.jobs.pop(name)
        return 404, {"kind": "Status", "code": 404, "reason": "NotFound"}

    def _create(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = body["metadata"]["name"]
        if name in self.jobs:
            return 409, {"kind": "Status", "code": 409, "reason": "AlreadyExists"}
        try:
            kubernetes_validate.validate(body, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            return 422, {"kind": "Status", "code": 422, "reason": "Invalid", "message": str(error)}
        self.jobs[name] = {**body, "status": {}}
        return 201, self.jobs[name]

    def _create_trainjob(self, body: dict[str, Any], query: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """An unknown key is refused where the client asks for that, as a real server does; else it would get lost."""
        name = body["metadata"]["name"]
        if name in self.trainjobs:
            return 409, {"kind": "Status", "code": 409, "reason": "AlreadyExists"}
        if query.get("fieldValidation") == ["Strict"] and (fault := fault_of(body, self.trainer)):
            return 400, {"kind": "Status", "code": 400, "reason": "BadRequest", "message": fault}
        self.trainjobs[name] = {**body, "status": {"conditions": []}}
        return 201, self.trainjobs[name]

    def _selected(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        key, _, value = query["labelSelector"][0].partition("=")
        return [one for one in self.pods.values() if one["metadata"].get("labels", {}).get(key) == value]

    def _log(self, name: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        if name not in self.logs:  # its container is still being made
            return 400, {"kind": "Status", "code": 400, "reason": "BadRequest"}
        lines = self.logs[name][-int((query.get("tailLines") or ["1000"])[0]) :]
        stamped = query.get("timestamps") == ["True"]
        return 200, "".join(f"{time} {line}\n" if stamped else f"{line}\n" for time, line in lines)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    cluster: FakeKubernetes

    def _handle(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        status, answer = self.cluster.answer(self.command, url.path, parse_qs(url.query), json.loads(content or b"{}"))
        is_text = isinstance(answer, str)
        body = answer.encode() if is_text else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _handle  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@contextmanager
def serve(cluster: FakeKubernetes, folder: Path) -> Iterator[Path]:
    """Serve on 127.0.0.1 until the block ends; gives the kubeconfig that leads there."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": cluster}))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    host = f"http://127.0.0.1:{server.server_address[1]}"
    context = {"cluster": "fake", "user": "fake", "namespace": NAMESPACE}
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "fake", "contexts": [{"name": "fake", "context": context}],
        "clusters": [{"name": "fake", "cluster": {"server": host}}], "users": [{"name": "fake", "user": {"token": "t"}}],
    }  # fmt: skip
    (folder / "kubeconfig").write_text(yaml.safe_dump(content))
    try:
        yield folder / "kubeconfig"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
