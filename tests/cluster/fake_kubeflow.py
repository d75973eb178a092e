"""A Kubeflow Pipelines API server in a thread: the v2beta1 endpoints that kfp's client uses, with the server's own strictness.

Bodies are checked against the models of `kfp_server_api` (an unknown field or a wrong type is 400), pipeline files are parsed as the
server parses them, a run's arguments are checked against its pipeline, lists come in pages of two, and filters are applied.
"""

import email
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

PipelineSpec = vars(pipeline_spec_pb2)["PipelineSpec"]  # the generated module defines its messages at run time
PREFIX = "/apis/v2beta1"
PAGE = 2  # smaller than any page that is asked for, as a server may
TYPES: dict[str, type | tuple[type, ...]] = {
    "STRING": str,
    "STRUCT": dict,
    "LIST": list,
    "BOOLEAN": bool,
    "NUMBER_DOUBLE": (int, float),
    "NUMBER_INTEGER": int,
}
LISTS = {"pipelines": "pipelines", "experiments": "experiments", "runs": "runs", "recurringruns": "recurringRuns"}
IDS = {"pipelines": "pipeline_id", "experiments": "experiment_id", "runs": "run_id", "recurringruns": "recurring_run_id"}
MODELS = {"pipelines": "V2beta1Pipeline", "experiments": "V2beta1Experiment", "runs": "V2beta1Run", "recurringruns": "V2beta1RecurringRun"}


class RefusedError(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeKubeflow:
    """What the server holds, what it was asked, and how it should misbehave."""

    def __init__(self) -> None:
        self.stored: dict[str, list[dict[str, Any]]] = {name: [] for name in (*LISTS, "versions")}
        self.requests: list[tuple[str, str]] = []
        self.tokens: list[str] = []
        self.trouble: Callable[[str, str], int] = lambda method, path: 0
        self.loses: Callable[[str, str], bool] = lambda method, path: False
        self.host = ""
        self.kind = "application/json"

    def writes(self) -> list[str]:
        """Requests that change something, as `POST runs`."""
        return [f"{method} {path.removeprefix(PREFIX + '/')}" for method, path in self.requests if method != "GET"]

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes, kind: str) -> dict[str, Any]:
        parts = path.removeprefix(PREFIX + "/").split("/")
        match (method, *parts):
            case ("GET", "healthz"):
                return {"multi_user": False}
            case ("POST", "pipelines", "upload_version"):
                return self._upload(query, _file_of(body, kind))
            case ("GET", "pipelines", pipeline, "versions"):
                self._find("pipelines", pipeline)
                return _page("pipeline_versions", [one for one in self.stored["versions"] if one["pipeline_id"] == pipeline], query)
            case ("GET", table) if table in LISTS:
                return _page(LISTS[table], self._listed(table, query), query)
            case ("POST", table) if table in LISTS:
                return self._create(table, json.loads(body))
            case ("POST", "recurringruns", call) if ":" in call:
                identity, action = call.split(":")
                self._find("recurringruns", identity)["mode"] = {"enable": "ENABLE", "disable": "DISABLE"}[action]
                return {}
            case ("GET", table, identity) if table in LISTS:
                return self._find(table, identity)
            case ("DELETE", table, identity) if table in LISTS:
                self.stored[table].remove(self._find(table, identity))
                return {}
        raise RefusedError(404, f"no endpoint {method} {path}")

    def _find(self, table: str, identity: str) -> dict[str, Any]:
        for one in self.stored[table]:
            if one[IDS.get(table, "pipeline_version_id")] == identity:
                return one
        raise RefusedError(404, f"{table} {identity} not found")

    def _listed(self, table: str, query: dict[str, str]) -> list[dict[str, Any]]:
        found = self.stored[table]
        if "experiment_id" in query:
            self._find("experiments", query["experiment_id"])
            found = [one for one in found if one["experiment_id"] == query["experiment_id"]]
        return found[::-1] if query.get("sort_by") == "created_at desc" else found

    def _create(self, table: str, body: dict[str, Any]) -> dict[str, Any]:
        check_body(MODELS[table], body)
        if not body.get("display_name"):
            raise RefusedError(400, "display_name is empty")
        if table in ("pipelines", "experiments") and any(one["display_name"] == body["display_name"] for one in self.stored[table]):
            raise RefusedError(409, f"{body['display_name']} already exists")
        made = body | {IDS[table]: str(uuid.uuid4()), "created_at": "2026-11-22T02:30:00Z"}
        if table in ("runs", "recurringruns"):
            self._check_arguments(body)
        if table == "runs":
            made["state"] = "PENDING"
        if table == "recurringruns":
            _check_recurring(body)
            made["max_concurrency"] = str(body["max_concurrency"])  # an int64 is a string in protobuf's JSON
        self.stored[table].append(made)
        return made

    def _check_arguments(self, body: dict[str, Any]) -> None:
        self._find("experiments", body["experiment_id"])
        version = self._find("versions", body["pipeline_version_reference"]["pipeline_version_id"])
        wanted = version["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
        given = body["runtime_config"]["parameters"]
        if extra := set(given) - set(wanted):
            raise RefusedError(400, f"parameters {sorted(extra)} are not in the pipeline spec")
        for name, spec in wanted.items():
            if name not in given and not spec.get("isOptional") and "defaultValue" not in spec:
                raise RefusedError(400, f"parameter {name} is missing")
            if name in given and not isinstance(given[name], TYPES[spec["parameterType"]]):
                raise RefusedError(400, f"input parameter {name} requires type {spec['parameterType']}")

    def _upload(self, query: dict[str, str], content: bytes) -> dict[str, Any]:
        self._find("pipelines", query["pipelineid"])
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", query["name"]):
            raise RefusedError(400, f"version name {query['name']} is not a DNS label")
        if any(one["pipeline_id"] == query["pipelineid"] and one["display_name"] == query["name"] for one in self.stored["versions"]):
            raise RefusedError(409, f"version {query['name']} already exists")
        documents = list(yaml.load_all(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        json_format.ParseDict(documents[0], PipelineSpec())
        spec = {"pipeline_spec": documents[0]} | ({"platform_spec": documents[1]} if len(documents) > 1 else {})
        made = {
            "pipeline_id": query["pipelineid"],
            "pipeline_version_id": str(uuid.uuid4()),
            "display_name": query["name"],
            "name": query["name"],
            "description": query.get("description", ""),
            "pipeline_spec": spec,
        }
        self.stored["versions"].append(made)
        return made


def check_body(model: str, body: Any) -> None:
    """Raises RefusedError for a field that the model lacks, or a value of another type."""
    kind = getattr(kfp_server_api, model)
    if hasattr(kind, "allowable_values"):
        if body not in kind.allowable_values:
            raise RefusedError(400, f"{model}: {body!r} is not one of {kind.allowable_values}")
        return
    names = {json_name: kind.openapi_types[attribute] for attribute, json_name in kind.attribute_map.items()}
    for key, value in body.items():
        if key not in names:
            raise RefusedError(400, f'{model}: unknown field "{key}"')
        wanted = names[key]
        plain = {"str": (str, int), "bool": bool, "object": object, "datetime": str}.get(wanted)
        if plain is None and not wanted.startswith(("dict(", "list[")):
            check_body(wanted, value)
        elif not isinstance(value, plain or (dict if wanted.startswith("dict(") else list)):
            raise RefusedError(400, f"{model}.{key}: {value!r} is not {wanted}")


def _check_recurring(body: dict[str, Any]) -> None:
    cron = body["trigger"]["cron_schedule"]["cron"]
    if len(cron.split()) != 6:
        raise RefusedError(400, f"cron {cron!r} does not have six fields")
    if not 1 <= int(body["max_concurrency"]) <= 10:
        raise RefusedError(400, "the max concurrency must be in 1 to 10")
    if body.get("mode") not in ("ENABLE", "DISABLE"):
        raise RefusedError(400, "mode is not set")


def _page(key: str, found: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    for predicate in json.loads(query.get("filter") or "{}").get("predicates", []):
        if predicate["operation"] not in ("EQUALS", 1):  # an enum by name or number, as protobuf reads it
            raise RefusedError(400, f"operation {predicate['operation']} is not known here")
        found = [one for one in found if one[predicate["key"]] == predicate["stringValue"]]
    start = int(query.get("page_token") or 0)
    shown = found[start : start + min(PAGE, int(query.get("page_size") or PAGE))]
    more = {"next_page_token": str(start + len(shown))} if start + len(shown) < len(found) else {}
    return {"total_size": len(found), **({key: shown} if shown else {}), **more}  # protobuf's JSON leaves an empty list out


def _file_of(body: bytes, kind: str) -> bytes:
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    for part in message.walk():
        if part.get_param("name", header="content-disposition") == "uploadfile":
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            return content
    raise RefusedError(400, "no file in field uploadfile")


@contextmanager
def serving() -> Iterator[FakeKubeflow]:
    """A server at `host` on the loopback, as long as the block lasts."""
    state = FakeKubeflow()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            url = urlsplit(self.path)
            state.requests.append((self.command, url.path))
            state.tokens.append(self.headers.get("authorization", ""))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = {key: values[-1] for key, values in parse_qs(url.query).items()}
            try:
                if status := state.trouble(self.command, url.path):
                    raise RefusedError(status, f"told to answer {status}")
                answer, status = state.answer(self.command, url.path, query, body, self.headers.get("Content-Type", "")), 200
            except RefusedError as refusal:
                status = refusal.status
                answer = {"error": str(refusal), "code": 5, "message": str(refusal), "details": []}
            if state.loses(self.command, url.path):
                self.close_connection = True
                return
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", state.kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _handle  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        state.host = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
