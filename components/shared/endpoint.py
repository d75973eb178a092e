"""A language model behind an OpenAI-compatible HTTP endpoint (`POST <url>/chat/completions`), asked politely and never twice.

Answers are kept by the digest of what was asked, so a run that goes on, or is repeated, pays for nothing again. The key comes from the
environment alone.
"""

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from components.shared.errors import InputError, TemporaryError

KEY_VARIABLE = "RELEVANCE_ENDPOINT_KEY"
CACHE_VARIABLE = "RELEVANCE_ENDPOINT_CACHE"
TEMPORARY = (408, 409, 425, 429, 500, 502, 503, 504)
TIMEOUT_S = (10, 120)  # to connect, to answer


@dataclass(frozen=True)
class Endpoint:
    """Where the model is and what it may be asked.

    Attributes:
        url: base address, such as `http://127.0.0.1:8000/v1`; without user or password.
        requests_per_minute: 0 for no limit. parallel_requests: that wait for answers at once.
        price_per_million_input, price_per_million_output: of tokens, in the recipe's currency.
    """

    url: str
    model: str
    requests_per_minute: float = 0.0
    parallel_requests: int = 4
    retries: int = 8
    price_per_million_input: float = 0.0
    price_per_million_output: float = 0.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")) or "@" in self.url:
            raise InputError(f"endpoint url '{self.url}': give http(s)://host/v1; a key belongs into the environment as {KEY_VARIABLE}")
        if self.parallel_requests < 1 or self.retries < 0 or self.requests_per_minute < 0:
            raise InputError(f"endpoint '{self.url}': parallel_requests must be 1 or more, retries and requests_per_minute 0 or more")


class ChatClient:
    """Asks one endpoint. Safe to use from several threads. `charged` is what new answers cost so far."""

    def __init__(self, endpoint: Endpoint, cache: Path | None = None) -> None:
        self.endpoint, self.charged, self.asked = endpoint, 0.0, 0
        self._session = requests.Session()
        again = Retry(
            total=endpoint.retries, backoff_factor=0.5, backoff_max=60, backoff_jitter=0.5, status_forcelist=TEMPORARY,
            allowed_methods=None, respect_retry_after_header=True, raise_on_status=False,
        )  # fmt: skip
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=again, pool_maxsize=endpoint.parallel_requests))
        if key := os.environ.get(KEY_VARIABLE):
            self._session.headers["Authorization"] = f"Bearer {key}"
        self._answers = Answers(cache or default_cache())
        self._lock, self._next = threading.Lock(), 0.0

    def ask(self, messages: list[dict[str, str]], **settings: Any) -> dict[str, Any]:
        """The first choice of the endpoint's answer, from the cache where the same was asked before.

        Raises:
            InputError: when the endpoint refuses the question or answers what is no chat completion.
            TemporaryError: when it does not answer after all retries.
        """
        asked = {"model": self.endpoint.model, "messages": messages, **settings}
        digest = hashlib.sha256(json.dumps([self.endpoint.url, asked], sort_keys=True).encode()).hexdigest()
        if (known := self._answers.get(digest)) is not None:
            return known
        self._wait_for_turn()
        answer = self._post(asked)
        try:
            choice = answer["choices"][0]
            used = answer.get("usage") or {}
            price = (self.endpoint.price_per_million_input, self.endpoint.price_per_million_output)
            cost = (
                sum(float(used.get(name, 0)) * one for name, one in zip(("prompt_tokens", "completion_tokens"), price, strict=True)) / 1e6
            )
        except (KeyError, IndexError, TypeError, ValueError):
            raise InputError(f"endpoint '{self.endpoint.url}' answers {str(answer)[:200]!r}, which is no chat completion") from None
        with self._lock:
            self.charged += cost
            self.asked += 1
        self._answers.put(digest, choice)
        return choice

    def _post(self, asked: dict[str, Any]) -> Any:
        where = f"{self.endpoint.url.rstrip('/')}/chat/completions"
        try:
            response = self._session.post(where, json=asked, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise TemporaryError(f"endpoint '{self.endpoint.url}' does not answer ({type(error).__name__}); run again later") from None
        if response.status_code in TEMPORARY:
            raise TemporaryError(f"endpoint '{self.endpoint.url}' answers {response.status_code} after {self.endpoint.retries} retries")
        if response.status_code != 200:
            raise InputError(
                f"endpoint '{self.endpoint.url}' refuses with {response.status_code}: {response.text[:200]!r}; check url, model, key"
            )
        try:
            return response.json()
        except ValueError:
            raise InputError(f"endpoint '{self.endpoint.url}' answers {response.text[:200]!r}, which is not JSON") from None

    def _wait_for_turn(self) -> None:
        if not self.endpoint.requests_per_minute:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + 60 / self.endpoint.requests_per_minute
        time.sleep(turn - now)


def quoted(text: str) -> str:
    """Text of shoppers and sellers between marks, which it cannot close itself."""
    plain = re.sub(r"<\s*/?\s*data\s*>", " ", text, flags=re.IGNORECASE)
    return f"<data>{plain}</data>"


class Answers:
    """Answers on disk by digest of the question; several processes may share the file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE IF NOT EXISTS answers (digest TEXT PRIMARY KEY, answer TEXT NOT NULL)")

    def get(self, digest: str) -> dict[str, Any] | None:
        with self._open() as connection:
            row = connection.execute("SELECT answer FROM answers WHERE digest = ?", (digest,)).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, digest: str, answer: dict[str, Any]) -> None:
        with self._open() as connection:
            connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (digest, json.dumps(answer)))

    @contextlib.contextmanager
    def _open(self) -> Any:
        connection = sqlite3.connect(self.file, timeout=60)
        try:
            with connection:
                yield connection
        finally:
            connection.close()


def default_cache() -> Path:
    """Where answers are kept: the file that CACHE_VARIABLE names, else one in the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path.home() / ".cache/relevance-distillery/answers.sqlite"
