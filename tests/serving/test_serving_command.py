"""The command line: it serves, drains at SIGTERM, and a mistake ends with one line."""

import re
import signal
import subprocess
import sys
import time

import pytest
import requests
from serving_texts import TITLES

from components.serving.config import ServingConfig
from components.shared.errors import InputError

COMMAND = [sys.executable, "-m", "components.serving"]


@pytest.fixture
def process(exported):
    given = ["--model", exported["cross_encoder"], "--port", "0", "--drain-s", "1", "--num-threads", "1"]
    with subprocess.Popen([*COMMAND, *given], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        yield running
        running.kill()


def address(process) -> str:
    for line in process.stderr:
        if found := re.search(r"running on (http://\S+)", line):
            return found[1]
    raise AssertionError("the server ended")


def test_sigterm_turns_ready_false_while_requests_are_still_answered(process):
    url = address(process)
    ask = lambda: requests.post(f"{url}/rerank", json={"query": "kettle", "documents": TITLES}, timeout=30)  # noqa: E731
    before = ask().json()
    assert requests.get(f"{url}/v2/health/ready", timeout=30).status_code == 200
    process.send_signal(signal.SIGTERM)
    until = time.monotonic() + 10
    while (ready := requests.get(f"{url}/v2/health/ready", timeout=30)).status_code == 200:
        assert time.monotonic() < until
    assert (ready.status_code, ready.json()) == (503, {"ready": False})
    assert requests.get(f"{url}/v2/health/live", timeout=30).status_code == 200
    assert ask().json() == before
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "8" in out  # pairs, of two requests


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path):
    done = subprocess.run([*COMMAND, "--model", str(tmp_path / "nothing")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1][:14]) == (2, "error: model '")
    done = subprocess.run([*COMMAND, "--model", "x", "--precision", "fp8"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'precision' = 'fp8'" in done.stderr


@pytest.mark.parametrize("given", [0, 0.5])
def test_requests_in_flight_have_an_end_in_whole_seconds(given):  # for uvicorn 0 is no end
    with pytest.raises(InputError, match=f"key 'grace_s' = {given}: Input should be"):
        ServingConfig.from_mapping({"grace_s": given}, section="serving")
