"""Google Cloud Storage in a thread: the JSON API that gcsfs and google-cloud-storage speak, with the service's own strictness.

Objects have generations, writes take preconditions (`ifGenerationMatch`, 0 means absent), uploads are simple, multipart or resumable (a
session keeps whole multiples of 256 KiB, ignores bytes that it has, and answers a repeated last chunk with the finished object), listings
come in pages, downloads carry `X-Goog-Hash` and honor `Range`. `test_fake_gcs.py` says which behaviors those are. `Trouble` makes it
misbehave as the service may: refusals, answers that are lost after the work was done, cut, damaged and slow answers.
"""

import base64
import hashlib
import json
import random
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

QUANTUM = 256 * 1024  # a resumable session keeps multiples of it until the last chunk
KINDS = ("429", "503", "lost", "reset", "cut", "damaged", "slow", "partial")


class RefusedError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Trouble:
    """How often a request goes wrong, and in which ways; `counts` says how often it did."""

    share: float
    kinds: tuple[str, ...] = KINDS
    seed: int = 0
    slow_s: float = 0.02
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance, self._lock = random.Random(self.seed), threading.Lock()

    def draw(self) -> str:
        with self._lock:
            kind = self._chance.choice(self.kinds) if self._chance.random() < self.share else ""
            self.counts[kind or "none"] += 1
            return kind


@dataclass
class Object:
    name: str
    content: bytes
    generation: int
    content_type: str
    metadata: dict[str, str]
    updated: float

    def crc32c(self) -> str:
        return base64.b64encode(google_crc32c.value(self.content).to_bytes(4, "big")).decode()

    def md5(self) -> str:
        return base64.b64encode(hashlib.md5(self.content).digest()).decode()

    def resource(self, bucket: str) -> dict[str, Any]:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.updated)) + f".{int(self.updated % 1 * 1000):03d}Z"
        return {
            "kind": "storage#object", "id": f"{bucket}/{self.name}/{self.generation}", "name": self.name, "bucket": bucket,
            "generation": str(self.generation), "metageneration": "1", "contentType": self.content_type, "size": str(len(self.content)),
            "md5Hash": self.md5(), "crc32c": self.crc32c(), "timeCreated": stamp, "updated": stamp, "metadata": self.metadata,
            "storageClass": "STANDARD", "etag": f"{self.generation}=",
        }  # fmt: skip


@dataclass
class Session:
    """A resumable upload under way."""

    bucket: str
    name: str
    query: dict[str, str]
    content_type: str
    metadata: dict[str, str]
    content: bytearray = field(default_factory=bytearray)
    finished: dict[str, Any] | None = None


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(value: Any, status: int = 200, **headers: str) -> "Answer":
        return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json; charset=UTF-8", **headers})


class FakeGcs:
    """What the buckets hold, what was asked, and how the service should misbehave."""

    def __init__(self, buckets: tuple[str, ...] = ("bucket",), page: int = 1000) -> None:
        self.buckets: dict[str, dict[str, Object]] = {name: {} for name in buckets}
        self.page, self.trouble, self.host = page, Trouble(0.0), ""
        self.sessions: dict[str, Session] = {}
        self.requests: list[str] = []
        self.in_flight = self.peak_in_flight = 0
        self.delay_s, self.denied, self.missing = 0.0, 0, ""  # `missing`: paths with this answer 503
        self._generation, self._lock = 1_700_000_000_000_000, threading.RLock()

    def answer(self, method: str, path: str, query: dict[str, str], headers: Any, body: bytes) -> Answer:
        with self._lock:
            self.requests.append(f"{method} {path}")
            if self.missing and self.missing in unquote(path):
                raise RefusedError(503, "trouble that may pass")
            if self.denied:
                raise RefusedError(self.denied, "not yours")
            path = path.removeprefix("/download")
            if path.startswith("/upload/storage/v1/b/"):
                bucket = unquote(path.split("/")[5])
                return self._upload(method, bucket, query, headers, body)
            found = re.fullmatch(r"/storage/v1/b/([^/]+)(?:/(o)(?:/(.+))?)?", path)
            if not found:
                raise RefusedError(404, f"no endpoint {method} {path}")
            bucket, listed, name = unquote(found[1]), found[2], unquote(found[3] or "")
            objects = self._bucket(bucket)
            if name:
                return self._object(method, bucket, objects, name, query, headers)
            if method != "GET":
                raise RefusedError(405, f"{method} {path}")
            return Answer.of(self._list(bucket, objects, query) if listed else {"kind": "storage#bucket", "name": bucket})

    def _bucket(self, bucket: str) -> dict[str, Object]:
        if bucket not in self.buckets:
            raise RefusedError(404, "The specified bucket does not exist.")
        return self.buckets[bucket]

    def _object(self, method: str, bucket: str, objects: dict[str, Object], name: str, query: dict[str, str], headers: Any) -> Answer:
        one = objects.get(name)
        if one is None or query.get("generation", str(one.generation)) != str(one.generation):
            raise RefusedError(404, f"No such object: {bucket}/{name}")
        self._check_preconditions(one, query)
        if method == "DELETE":
            del objects[name]
            return Answer(204)
        if method != "GET":
            raise RefusedError(405, method)
        return _media(one, headers) if query.get("alt") == "media" else Answer.of(one.resource(bucket))

    def _list(self, bucket: str, objects: dict[str, Object], query: dict[str, str]) -> dict[str, Any]:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        entries: dict[str, Object | None] = {}  # a pseudo-folder stands in the order of names as one entry
        for name in sorted(objects):
            if not name.startswith(prefix) or name < query.get("startOffset", "") or ("endOffset" in query and name >= query["endOffset"]):
                continue
            rest = name[len(prefix) :]
            folder = delimiter and delimiter in rest
            entries[prefix + rest.split(delimiter)[0] + delimiter if folder else name] = None if folder else objects[name]
        names = [name for name in entries if name > base64.b64decode(query.get("pageToken", "")).decode()]
        size = min(int(query.get("maxResults", 1000)), self.page)
        shown = names[:size]
        out: dict[str, Any] = {"kind": "storage#objects"}
        if items := [one.resource(bucket) for name in shown if (one := entries[name])]:
            out["items"] = items
        if folders := [name for name in shown if entries[name] is None]:
            out["prefixes"] = folders
        if len(names) > size:
            out["nextPageToken"] = base64.b64encode(shown[-1].encode()).decode()
        return out

    def _upload(self, method: str, bucket: str, query: dict[str, str], headers: Any, body: bytes) -> Answer:
        if "upload_id" in query:
            return self._chunk(method, query["upload_id"], headers, body)
        self._bucket(bucket)
        kind = query.get("uploadType")
        if kind == "media":
            return Answer.of(self._store(bucket, query["name"], query, body, headers.get("Content-Type", ""), {}))
        if kind == "multipart":
            about, content_type, content = _parts(body, headers["Content-Type"])
            return Answer.of(
                self._store(bucket, about.get("name") or query["name"], query, content, content_type, about.get("metadata") or {})
            )
        if kind != "resumable":
            raise RefusedError(400, f"uploadType {kind!r} is invalid")
        about = json.loads(body or b"{}")
        name = about.get("name") or query["name"]
        self._check_preconditions(self.buckets[bucket].get(name), query)
        identity = uuid.uuid4().hex
        content_type = headers.get("X-Upload-Content-Type", "application/octet-stream")
        self.sessions[identity] = Session(bucket, name, query, content_type, about.get("metadata") or {})
        kept = f"&ifGenerationMatch={query['ifGenerationMatch']}" if "ifGenerationMatch" in query else ""
        place = f"http://{self.host}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={identity}{kept}"
        return Answer(200, b"", {"Location": place})

    def _chunk(self, method: str, identity: str, headers: Any, body: bytes) -> Answer:
        session = self.sessions.get(identity)
        if session is None:
            raise RefusedError(404, "no such upload session")
        if method == "DELETE":
            del self.sessions[identity]
            return Answer(499)
        if session.finished is not None:  # the answer to the last chunk was lost and the client asks again
            return Answer.of(session.finished)
        found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", headers.get("Content-Range", f"bytes 0-{len(body) - 1}/{len(body)}"))
        if not found:
            raise RefusedError(400, "Content-Range is invalid")
        if found[1]:
            self._append(session, int(found[1]), int(found[2]), body, last=found[3] != "*" and int(found[2]) + 1 == int(found[3]))
        if found[3] != "*" and len(session.content) == int(found[3]):
            about = (session.content_type, session.metadata)
            session.finished = self._store(session.bucket, session.name, session.query, bytes(session.content), *about)
            return Answer.of(session.finished)
        held = {"Range": f"bytes=0-{len(session.content) - 1}"} if session.content else {}
        return Answer(308, b"", held)

    def _append(self, session: Session, start: int, end: int, body: bytes, last: bool) -> None:
        if end - start + 1 != len(body):
            raise RefusedError(400, f"Content-Range names {end - start + 1} bytes, the body has {len(body)}")
        have = len(session.content)
        if start > have:
            raise RefusedError(400, f"chunk starts at {start}, the session holds {have} bytes")
        if not last and len(body) % QUANTUM:
            raise RefusedError(400, f"chunk of {len(body)} bytes: all but the last must be multiples of {QUANTUM}")
        fresh = body[have - start :]
        if self.trouble.share and "partial" in self.trouble.kinds and len(fresh) > QUANTUM and self.trouble.draw() == "partial":
            fresh = fresh[:QUANTUM]
        session.content += fresh

    def _store(
        self, bucket: str, name: str, query: dict[str, str], content: bytes, content_type: str, metadata: dict[str, str]
    ) -> dict[str, Any]:
        objects = self._bucket(bucket)
        self._check_preconditions(objects.get(name), query)
        self._generation += 1
        objects[name] = Object(name, content, self._generation, content_type, metadata, time.time())
        return objects[name].resource(bucket)

    def _check_preconditions(self, standing: Object | None, query: dict[str, str]) -> None:
        generation = standing.generation if standing else 0
        if "ifGenerationMatch" in query and int(query["ifGenerationMatch"]) != generation:
            raise RefusedError(412, "At least one of the pre-conditions you specified did not hold.")
        if "ifGenerationNotMatch" in query and int(query["ifGenerationNotMatch"]) == generation:
            raise RefusedError(304)


def _media(one: Object, headers: Any) -> Answer:
    about = {
        "Content-Type": one.content_type, "X-Goog-Generation": str(one.generation), "X-Goog-Stored-Content-Encoding": "identity",
        "X-Goog-Hash": f"crc32c={one.crc32c()},md5={one.md5()}", "X-Goog-Stored-Content-Length": str(len(one.content)),
    }  # fmt: skip
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("Range", ""))
    if not asked:
        return Answer(200, one.content, about)
    total = len(one.content)
    start = int(asked[1]) if asked[1] else max(total - int(asked[2]), 0)
    end = min(int(asked[2]), total - 1) if asked[1] and asked[2] else total - 1
    if start >= total:
        raise RefusedError(416, f"The requested range cannot be satisfied: {headers['Range']}")
    return Answer(206, one.content[start : end + 1], {**about, "Content-Range": f"bytes {start}-{end}/{total}"})


def _parts(body: bytes, kind: str) -> tuple[dict[str, Any], str, bytes]:
    """(metadata, content type, content) of a multipart/related body."""
    found = re.search(r"boundary=\"?([^\";]+)", kind)
    if not found or body.count(b"--" + found[1].encode()) != 3:
        raise RefusedError(400, "multipart body is malformed")
    _, about, media, _ = body.split(b"--" + found[1].encode())
    (_, described), (head, content) = (re.split(rb"\r?\n\r?\n", part, maxsplit=1) for part in (about, media))
    content_type = re.search(rb"[Cc]ontent-[Tt]ype: *([^\r\n]+)", head)
    return json.loads(described), content_type[1].decode() if content_type else "", re.sub(rb"\r?\n\Z", b"", content)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet, or the client's delayed acknowledgement costs 40 ms an answer
    gcs: FakeGcs

    def _handle(self) -> None:
        body = self._body()
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        gcs = self.gcs
        with gcs._lock:
            gcs.in_flight += 1
            gcs.peak_in_flight = max(gcs.peak_in_flight, gcs.in_flight)
        try:
            time.sleep(gcs.delay_s)
            kind = gcs.trouble.draw() if gcs.trouble.share else ""
            if kind in ("429", "503"):
                self._send(_error(int(kind), "trouble that may pass"))
                return
            try:
                answer = gcs.answer(self.command, url.path, query, self.headers, body)
            except RefusedError as refused:
                answer = _error(refused.status, str(refused))
            self._misbehave(kind, answer)
        finally:
            with gcs._lock:
                gcs.in_flight -= 1

    do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _misbehave(self, kind: str, answer: Answer) -> None:
        if kind == "lost":
            self._send(_error(503, "the work was done, the answer is lost"))
        elif kind == "reset":
            self.close_connection = True
        elif kind == "cut" and len(answer.body) > 1:
            self._send(answer, body=answer.body[: len(answer.body) // 2])
            self.close_connection = True
        else:
            damaged = kind == "damaged" and answer.body and "X-Goog-Hash" in answer.headers
            time.sleep(self.gcs.trouble.slow_s if kind == "slow" else 0)
            self._send(answer, body=bytes([answer.body[0] ^ 1]) + answer.body[1:] if damaged else None)

    def _send(self, answer: Answer, body: bytes | None = None) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body if body is None else body)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


def _error(status: int, message: str) -> Answer:
    return Answer.of({"error": {"code": status, "message": message}}, status)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address  # a killed client closes its connection: nothing to say


@contextmanager
def serve(gcs: FakeGcs) -> Iterator[FakeGcs]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"gcs": gcs}))
    gcs.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield gcs
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
