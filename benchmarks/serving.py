"""What the server costs beside the model, and what batching and the cache are worth. python benchmarks/serving.py

A server of its own process on loopback. First one client: a request over HTTP, its body written before, against the call of the runtime
in this process, in turn; the difference is what the server adds. Then several clients at once, whose requests repeat as a shop's do
(Zipf): requests per second with neither, with batches, and with batches and the cache. Writes `results/serving.json`.
"""

import argparse
import http.client
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
from latency import NUM_ITEMS, exported, requests
from machine import describe_machine, save
from served_student import served_student
from urllib3 import PoolManager

from components.serving.runtime import model_items, model_query, open_runtime

ARMS = {
    "neither": {"num-cached-scores": 0, "max-batch-pairs": 1},
    "batches": {"num-cached-scores": 0},
    "batches_and_cache": {},
}
SEED = 0


@contextmanager
def serving(model: str, **settings: Any) -> Iterator[str]:
    """Address of a server of its own process."""
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "components.serving", "--model", model, "--port", "0", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        try:
            yield next(found[1] for line in running.stderr if (found := re.search(r"running on (http://\S+)", line)))
        finally:
            running.kill()


def body(query: str, items: list[str]) -> bytes:
    return json.dumps({"query": query, "documents": items}).encode()


def added_ms(model: str, rounds: int, num_items: int) -> dict[str, float]:
    """Milliseconds of a request over HTTP and of the runtime's call, one of each a round, with a cache that never knows the query.

    What comes second in a round finds the machine in another state, so the two take turns in coming first.
    """
    runtime = open_runtime(model)
    asked = [(left[0], right[:num_items]) for left, right in requests("train")]
    with serving(model, **{"num-cached-scores": 0}) as url, closing(http.client.HTTPConnection(url.removeprefix("http://"))) as client:

        def over_http(query: str, items: list[str]) -> float:
            sent = body(query, items)
            started = time.perf_counter()
            client.request("POST", "/rerank", sent)
            answer = client.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
            return 1000 * (time.perf_counter() - started)

        def called(query: str, items: list[str]) -> float:
            started = time.perf_counter()
            runtime.scores(model_query([query]) * len(items), model_items({"title": items}))
            return 1000 * (time.perf_counter() - started)

        spent: dict[Any, list[float]] = {over_http: [], called: []}
        for number in range(rounds + 6):
            for way in (over_http, called)[:: 1 if number % 2 else -1]:
                spent[way].append(way(*asked[number % len(asked)]))
    whole, alone = (spent[way][6:] for way in (over_http, called))
    differences = np.sort(np.subtract(whole, alone))
    half = 1.96 * np.sqrt(rounds) / 2  # ranks between which the median lies in 95 of 100 measurements
    low, high = (differences[int(np.clip(rounds / 2 + side * half, 0, rounds - 1))] for side in (-1, 1))
    return {"server_p50_ms": statistics.median(whole), "runtime_p50_ms": statistics.median(alone),
            "added_p50_ms": statistics.median(differences), "added_low_ms": float(low), "added_high_ms": float(high)}  # fmt: skip


def load(model: str, settings: dict[str, Any], clients: int, num_requests: int, num_items: int) -> dict[str, float]:
    """Requests per second and latency of `clients` that ask as soon as they are answered."""
    distinct = [(left[0], right[:num_items]) for left, right in requests("dev")]
    rank = np.random.default_rng(SEED).zipf(1.3, num_requests) % len(distinct)
    with serving(model, **settings) as url, ThreadPoolExecutor(clients) as pool, PoolManager(maxsize=clients, block=True) as client:

        def ask(place: int) -> float:
            started = time.perf_counter()
            answer = client.request("POST", f"{url}/rerank", body=body(*distinct[place]), timeout=120.0)
            assert answer.status == 200, answer.data
            return 1000 * (time.perf_counter() - started)

        started = time.perf_counter()
        spent = list(pool.map(ask, rank.tolist()))
        seconds = time.perf_counter() - started
        text = client.request("GET", f"{url}/metrics").data.decode()
    counted = {name: float(value) for name, value in re.findall(r"^(relevance_[a-z_]+) ([0-9.e+]+)$", text, re.MULTILINE)}
    return {
        "requests_per_s": num_requests / seconds,
        "p50_ms": float(np.percentile(spent, 50)),
        "p99_ms": float(np.percentile(spent, 99)),
        "pairs_a_batch": counted["relevance_batch_pairs_sum"] / counted["relevance_batch_pairs_count"],
        "cached_share": counted["relevance_cached_pairs_total"] / counted["relevance_pairs_total"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400, help="requests of one client")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=160, help="of all clients, per arm")
    parser.add_argument("--load-items", type=int, default=10, help="items of a request under load")
    given = parser.parse_args()
    model = served_student()
    exported(model)
    machine = describe_machine()
    added = {str(size): added_ms(model, given.rounds, size) for size in (1, NUM_ITEMS)}
    arms = {name: load(model, settings, given.clients, given.requests, given.load_items) for name, settings in ARMS.items()}
    save("serving", machine, vars(given), {"one_client": added, "load": arms})
    print(json.dumps({"one_client": added, "load": arms}, indent=1))


if __name__ == "__main__":
    main()
