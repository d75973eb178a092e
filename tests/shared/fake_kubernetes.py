"""A Kubernetes API server in a thread: pods that are there, and Jobs, checked against the published OpenAPI schema before they are made."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
import yaml

VERSION = "1.34"
NAMESPACE = "relevance"


class FakeKubernetes:
    """What the server holds and was asked; `refuses` says what it answers to a request instead, as method and resource."""

    def __init__(self) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.refuses: dict[str, int] = {}

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        group, _, rest = path.partition(f"/namespaces/{NAMESPACE}/")
        kind, _, name = rest.partition("/")
        propagation = (query.get("propagationPolicy") or [body.get("propagationPolicy", "")])[0] if method == "DELETE" else ""
        self.requests.append(f"{method} {kind} {propagation}".strip())
        if status := self.refuses.get(f"{method} {kind}"):
            return status, {"kind": "Status", "code": status, "reason": "Forbidden"}
        match group, method, kind:
            case "/api/v1", "GET", "pods" if name in self.pods:
                return 200, self.pods[name]
            case "/apis/batch/v1", "POST", "jobs":
                return self._create(body)
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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    cluster: FakeKubernetes

    def _handle(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        status, answer = self.cluster.answer(self.command, url.path, parse_qs(url.query), json.loads(content or b"{}"))
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
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
