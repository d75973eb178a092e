"""The server over loopback: what it answers, what it refuses, what it counts."""

import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving_doors import serving
from serving_texts import QUERIES, TITLES

from components.shared.calibration import Calibration

INFER = "/v2/models/relevance-student/infer"


def tensor(name, data, **changes):
    return {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": data, **changes}


def test_health_metadata_and_readiness(server, runtimes):
    assert [server.get(path).status_code for path in ("/v2", "/v2/health/live", "/v2/health/ready")] == [200] * 3
    found = server.get("/v2/models/relevance-student").json()
    assert found["versions"] == [runtimes["cross_encoder"].digest[:12]]
    assert [one["name"] for one in found["inputs"]] == ["query", "title", "brand", "color", "category", "segment"]
    assert [one["name"] for one in found["outputs"]] == ["score"]
    assert server.get("/v2/models/relevance-student/ready").json() == {"ready": True}
    assert server.get("/v2/models/another").status_code == 404


def test_infer_scores_pairs_in_their_order(server, runtimes):
    wanted = runtimes["cross_encoder"].scores(QUERIES, TITLES)
    found = server.post(INFER, {"id": "7", "inputs": [tensor("query", QUERIES), tensor("title", TITLES)]}).json()
    (output,) = found["outputs"]
    assert (found["id"], output["name"], output["datatype"], output["shape"]) == ("7", "score", "FP32", [4])
    np.testing.assert_allclose(output["data"], wanted, atol=1e-5)
    # one query for all titles
    found = server.post(INFER, {"inputs": [tensor("query", ["red shoes"]), tensor("title", TITLES)]}).json()
    np.testing.assert_allclose(found["outputs"][0]["data"], runtimes["cross_encoder"].scores(["red shoes"] * 4, TITLES), atol=1e-5)
    assert "id" not in found


def test_rerank_orders_from_the_best_down(server, runtimes):
    scores = runtimes["cross_encoder"].scores(["red shoes"] * 4, TITLES)
    order = np.argsort(-scores)
    asked = {"query": "Red  SHOES", "documents": TITLES, "top_n": 3, "return_documents": True}
    found = server.post("/rerank", asked).json()["results"]
    assert [one["index"] for one in found] == order[:3].tolist()
    np.testing.assert_allclose([one["relevance_score"] for one in found], scores[order[:3]], atol=1e-5)
    assert found[0]["document"] == {"text": TITLES[order[0]]}
    assert len(server.post("/rerank", {"query": "x", "documents": TITLES}).json()["results"]) == 4


def test_documents_may_have_fields(server, runtimes):
    given = [{"title": "shoes", "color": "red"}, {"text": "shoes"}]
    found = server.post("/rerank", {"query": "shoes", "documents": given, "return_documents": True}).json()["results"]
    by_place = {one["index"]: one["relevance_score"] for one in found}
    wanted = runtimes["cross_encoder"].scores(["shoes"] * 2, ["shoes | color: red", "shoes"])
    np.testing.assert_allclose([by_place[0], by_place[1]], wanted, atol=1e-5)
    assert {one["index"]: one["document"] for one in found} == dict(enumerate(given))


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/rerank", b"{", 400, "the body is not JSON"),
        ("/rerank", b"[]", 400, "the body is a JSON list; send an object"),
        ("/rerank", b"[" * 1900, 400, "the body is not JSON: maximum recursion depth"),
        ("/rerank", b'{"query": "\\ud800", "documents": ["x"]}', 400, r"the body is not JSON: .* surrogates not allowed"),
        ("/rerank", b'{"query": "\xed\xa0\x80", "documents": ["x"]}', 400, r"the body is not JSON: .* surrogates not allowed"),
        ("/rerank", b'{"query": "x", "documents": [{"title": "x", "price": NaN}]}', 400, "the body is not JSON: Out of range float"),
        ("/rerank", {"documents": ["x"]}, 400, "'query' and 'segment' are texts"),
        ("/rerank", {"query": "x", "documents": []}, 400, "'documents' is not a list"),
        ("/rerank", {"query": "x", "documents": ["x", 3]}, 400, r"'documents'\[1\] is neither a title"),
        ("/rerank", {"query": "x", "documents": [{"title": "x", "brand": 3}]}, 400, r"'documents'\[0\]"),
        ("/rerank", {"query": "x", "documents": ["x"], "top_n": 0}, 400, "'top_n' = 0"),
        ("/rerank", {"query": "x", "documents": ["x"] * 9}, 413, "9 items are too many; at most 8"),
        ("/rerank", {"query": "x" * 101, "documents": ["x"]}, 413, "a text of 101 characters is too long; at most 100"),
        ("/rerank", b" " * 2001, 413, "a body of 2001 bytes is too large; at most 2000"),
        (INFER, {}, 400, "'inputs' is not a list of tensors"),
        (INFER, {"inputs": [tensor("query", ["x"])]}, 400, "input 'title' is missing"),
        (INFER, {"inputs": [tensor("text", ["x"])]}, 400, "input 'text' is unknown"),
        (INFER, {"inputs": [tensor("query", ["x"], datatype="FP32")]}, 400, "has datatype 'FP32'"),
        (INFER, {"inputs": [tensor("query", [3])]}, 400, "'data' is not a list of texts"),
        (INFER, {"inputs": [tensor("query", ["x"], shape=[2])]}, 400, r"has shape \[2\] and 1 texts"),
        (INFER, {"inputs": [tensor("query", ["x"] * 2), tensor("title", ["x"] * 3)]}, 400, "input 'query' has 2 texts and others 3"),
    ],
)  # fmt: skip
def test_a_bad_request_is_told_what_is_wrong(server, path, body, status, message):
    before = server.metric("relevance_requests_total", route=path.rpartition("/")[2], status=str(status))
    answer = server.post(path, body)
    assert answer.status_code == status
    assert answer.json().keys() == {"error"}
    assert re.search(message, answer.json()["error"])
    assert server.metric("relevance_requests_total", route=path.rpartition("/")[2], status=str(status)) == before + 1


def test_a_body_of_unknown_length_is_stopped_where_it_is_too_long(server):
    answer = server.post("/rerank", (b" " * 500 for _ in range(5)))
    assert (answer.status_code, answer.json()["error"]) == (413, "the body is too large; at most 2000 bytes")


def test_a_client_that_goes_before_the_end_of_its_body_is_no_failure(server):
    before = server.metric("relevance_requests_total", route="rerank", status="400")
    with socket.create_connection(server.server.servers[0].sockets[0].getsockname()) as client:
        client.sendall(b"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    until = time.monotonic() + 30
    while server.metric("relevance_requests_total", route="rerank", status="400") == before:
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_repeated_question_is_answered_from_the_cache_and_all_is_counted(runtimes):
    with serving(runtimes["cross_encoder"]) as server:
        asked = {"query": "kettle", "documents": TITLES}
        first = server.post("/rerank", asked).json()
        assert server.post("/rerank", {**asked, "query": " KETTLE"}).json() == first
        families = {one.name: one for one in text_string_to_metric_families(server.get("/metrics").text)}
    values = {name: {sample.name: sample.value for sample in one.samples} for name, one in families.items()}
    assert values["relevance_pairs"]["relevance_pairs_total"] == 8
    assert values["relevance_cached_pairs"]["relevance_cached_pairs_total"] == 4
    assert values["relevance_batch_pairs"]["relevance_batch_pairs_sum"] == 4
    assert values["relevance_request_seconds"]["relevance_request_seconds_count"] == 2
    assert values["relevance_ready"] == {"relevance_ready": 1.0}
    assert families["relevance_model_info"].samples[0].labels["digest"] == runtimes["cross_encoder"].digest


class Slow:
    """A runtime that waits until it is let go."""

    def __init__(self, runtime):
        self.runtime, self.go, self.begun = runtime, threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self.runtime, name)

    def scores(self, left, right):
        self.begun.set()
        assert self.go.wait(30)
        return self.runtime.scores(left, right)


@contextmanager
def busy(runtime, **settings):
    """A server that computes a request while another waits, each of four pairs; the second value ends that and gives the answers."""
    slow = Slow(runtime)
    with serving(slow, **settings) as server, ThreadPoolExecutor(2) as pool:
        first = pool.submit(server.post, "/rerank", {"query": "red", "documents": TITLES})
        assert slow.begun.wait(30)
        second = pool.submit(server.post, "/rerank", {"query": "blue", "documents": TITLES})
        while server.metric("relevance_queued_pairs") < 4:
            pass
        yield server, lambda: slow.go.set() or [first.result(), second.result()]


def test_what_does_not_fit_in_the_queue_is_told_when_to_come_again(runtimes):
    with busy(runtimes["cross_encoder"], max_queued_pairs=4) as (server, answers):
        refused = server.post("/rerank", {"query": "green", "documents": ["kettle"]})
        assert [one.status_code for one in answers()] == [200, 200]
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert refused.json() == {"error": "4 pairs are waiting; try again in 1 s"}


def test_a_request_that_waited_too_long_is_told_so_and_not_computed(runtimes):
    with busy(runtimes["cross_encoder"], max_queued_s=1e-6) as (server, answers):
        first, second = answers()
        assert (server.metric("relevance_pairs_total"), server.metric("relevance_batch_pairs_sum")) == (8, 4)
        assert server.metric("relevance_requests_total", route="rerank", status="503") == 1
    assert (first.status_code, second.status_code, second.headers["Retry-After"]) == (200, 503, "1")
    assert second.json() == {"error": "the request waited longer than 1e-06 s; try again"}


def test_a_model_that_gives_no_number_is_an_error_and_the_next_request_is_answered(runtimes, caplog):
    class Broken:
        def __getattr__(self, name):
            return getattr(runtimes["cross_encoder"], name)

        def scores(self, left, right):
            if left[0] == "boom":
                raise RuntimeError("boom")
            return np.full(len(left), np.nan) if left[0] == "nan" else np.ones(len(left))

    with serving(Broken()) as server:
        found = server.post("/rerank", {"query": "nan", "documents": ["x"]})
        assert (found.status_code, found.json()) == (500, {"error": "the model gave infinity or NaN"})
        found = server.post("/rerank", {"query": "boom", "documents": ["x"]})
        assert (found.status_code, found.json()) == (500, {"error": "the server failed; its log says why"})
        assert server.post("/rerank", {"query": "kettle", "documents": ["x"]}).status_code == 200
        assert [server.metric("relevance_requests_total", route="rerank", status=status) for status in ("500", "200")] == [2, 1]
    assert "RuntimeError: boom" in caplog.text


def test_a_calibrated_model_says_gain_and_verdict(runtimes):
    # by hand: gain = sigmoid(score) for tail, sigmoid(score - 2) elsewhere
    maps = {"": {"slope": [1.0], "offset": [-2.0]}, "tail": {"slope": [1.0], "offset": [0.0]}}

    class Calibrated:
        calibration = Calibration(maps, hide_below=0.3, sure_above=0.7, error=0.05)

        def __getattr__(self, name):
            return getattr(runtimes["cross_encoder"], name)

        def scores(self, left, right):
            return np.array([float(one) for one in right])

    titles = ["-2", "0", "4"]
    with serving(Calibrated()) as server:
        asked = {"inputs": [tensor("query", ["x"]), tensor("title", titles)]}
        score, gain, verdict = server.post(INFER, asked).json()["outputs"]
        asked["inputs"].append(tensor("segment", ["tail"]))
        of_tail = server.post(INFER, asked).json()["outputs"]
        best = server.post("/rerank", {"query": "x", "documents": titles, "segment": "tail", "top_n": 1}).json()["results"][0]
        assert [one["name"] for one in server.get("/v2/models/relevance-student").json()["outputs"]] == ["score", "gain", "verdict"]
    assert score["data"] == [-2.0, 0.0, 4.0]
    # 1 / (1 + e^4) = 0.018, 1 / (1 + e^2) = 0.119, 1 / (1 + e^-2) = 0.881
    np.testing.assert_allclose(gain["data"], [0.018, 0.119, 0.881], atol=1e-3)
    # for tail 0.119, 0.5, 0.982: the second is below 0.3 by one map only, so it may not be hidden
    assert verdict["data"] == ["hidden", "uncertain", "sure"]
    np.testing.assert_allclose(of_tail[1]["data"], [0.119, 0.5, 0.982], atol=1e-3)
    assert (best["index"], best["verdict"]) == (2, "sure")
    assert best["gain"] == pytest.approx(0.982, abs=1e-3)


def test_a_cache_is_of_one_model(runtimes):
    from components.serving.cache import ScoreCache

    cache = ScoreCache(3)
    old, new = (ScoreCache.keys(digest, ["kettle"] * 2, TITLES[:2]) for digest in ("a", "b"))
    cache.put(old, np.array([1.0, 2.0]))
    np.testing.assert_array_equal(cache.get(old), [1.0, 2.0])
    assert np.isnan(cache.get(new)).all()
    assert len({*old, *new, *ScoreCache.keys("a", ["red"] * 2, TITLES[:2])}) == 6
    cache.put(new, np.array([3.0, 4.0]))
    assert np.isnan(cache.get(old)[0])  # the longest unused went
    assert ScoreCache.keys("a", ["x"], ["yz"]) != ScoreCache.keys("a", ["xy"], ["z"])


def test_keys_change_with_the_version_of_the_texts(monkeypatch):
    from components.serving import cache

    before = cache.ScoreCache.keys("a", ["x"], ["y"])
    monkeypatch.setattr(cache, "TEXT_VERSION", "next")
    assert cache.ScoreCache.keys("a", ["x"], ["y"]) != before
