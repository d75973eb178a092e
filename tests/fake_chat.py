"""A language model behind HTTP that speaks `POST /v1/chat/completions` as OpenAI documents it, on loopback."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.shared import endpoint


class ChatModel:
    """Attributes:
    answer: from the last message to a choice of the answer.
    faults: statuses that the next requests get instead of one.
    questions, headers: of every request that was answered.
    """

    def __init__(self, answer: Callable[[str], dict[str, Any]]) -> None:
        self.answer = answer
        self.faults: list[int] = []
        self.questions: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"model": self}))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


def message(words: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": words}}


@contextmanager
def chat_model(answer: Callable[[str], dict[str, Any]], place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatModel]:
    """A model with an empty cache of its own answers below `place`, until the block ends."""
    monkeypatch.setenv(endpoint.CACHE_VARIABLE, str(place / "answers.sqlite"))
    model = ChatModel(answer)
    yield model
    model.server.shutdown()
    model.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    model: ChatModel

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.model.faults:
            self._send(self.model.faults.pop(0), {"error": {"message": "no"}})
            return
        self.model.questions.append(question)
        self.model.headers.append(dict(self.headers))
        choice = self.model.answer(question["messages"][-1]["content"])
        self._send(200, {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 1}})

    def _send(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args
