"""Several training processes on this machine, started by torchrun and ended together.

torchrun (not the `deepspeed` launcher, which wants ssh and MPI) is also what Kubeflow's TrainJob starts (`launch_trainjob.py`), so the
module that runs here is the one that runs on many nodes. torchrun looks at its processes ten times a second; when one has died it ends
the others, and kills what does not end within 30 s. Each of its processes leads a session of its own, so they are found by a mark in
their environment, also those whose torchrun is dead.
"""

import contextlib
import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from components.shared import storage
from components.shared.cores import num_cores
from components.shared.errors import EXIT_INPUT, EXIT_TEMPORARY, InputError, TemporaryError

logger = logging.getLogger(__name__)

POLL_S = 0.5
GRACE_S = 40.0  # torchrun itself waits 30 s before it kills
MARK = "RELEVANCE_LAUNCH"
PR_SET_PDEATHSIG = 1
ERROR_FILE = "error.txt"
SCRATCH_VOLUME = "scratch"  # for temporary files of a task's pod; copies of the pod have one too


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(num_processes: int, *, accelerator: bool) -> dict[str, str]:
    """This process's environment with the cores shared out; without an accelerator DeepSpeed is told so, and gloo stays on loopback."""
    threads = max(1, num_cores() // num_processes)
    extra = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)), "TOKENIZERS_PARALLELISM": "false"}
    if not accelerator:
        extra |= {"DS_ACCELERATOR": "cpu", "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0"}
    return {**os.environ, **extra}


def launch(
    module: str,
    arguments: list[str],
    *,
    num_processes: int,
    folder: Path,
    timeout_s: float,
    log_kept_at: str = "",
    num_nodes: int = 1,
    accelerator: bool = False,
    on_wait: Callable[[], None] | None = None,
) -> None:
    """Run `python -m module arguments` in `num_nodes` times `num_processes` processes and wait; if one dies all are ended.

    Args:
        num_nodes: several rehearse on this machine what runs on so many others: each is a torchrun of its own.
        folder: gets `processes.log` (all output) and, from a process that refuses its input, `error.txt`.
        log_kept_at: where the caller keeps the log, if `folder` does not last; errors name it.
        on_wait: called about twice a second while waiting.

    Raises:
        InputError: when a process refused its input; with its message.
        TemporaryError: when a process died otherwise or time ran out; with the last lines of the log.
    """
    log = folder / "processes.log"
    agent = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", str(num_nodes), "--nproc-per-node", str(num_processes),
        "--master-addr", "127.0.0.1", "--master-port", str(free_port()),
    ]  # fmt: skip
    logger.info("starting %d processes of %s; output in %s", num_nodes * num_processes, module, log)
    mark = uuid.uuid4().hex
    environ = {**environment(num_nodes * num_processes, accelerator=accelerator), MARK: mark}
    started: list[subprocess.Popen[bytes]] = []
    with log.open("ab") as output:
        try:
            for node in range(num_nodes):
                started.append(_start([*agent, "--node-rank", str(node), "-m", module, *arguments], output, environ))
            _wait(started, time.monotonic() + timeout_s, on_wait)
        except subprocess.TimeoutExpired:
            raise TemporaryError(f"{module} {too_slow(timeout_s)}; see {log_kept_at or log}: {_tail(log)}") from None
        finally:
            code = next((one.returncode for one in started if one.poll()), 0)
            end_all(started, mark)
    if code:
        _explain(module, code, folder, log, log_kept_at)


def too_slow(timeout_s: float) -> str:
    return f"did not end within {timeout_s:g} s and was stopped; the next try goes on from its last checkpoint, or raise timeout_s"


def _start(command: list[str], output: BinaryIO, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, env=environ,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )  # fmt: skip


def refuse(place: str | Path, error: InputError | TemporaryError) -> int:
    """For a launched process: leave the reason in the folder where its launcher looks for it; returns the exit code to end with."""
    code = EXIT_INPUT if isinstance(error, InputError) else EXIT_TEMPORARY
    storage.write_bytes(storage.join(str(place), ERROR_FILE), f"{code} {error}".encode())
    return code


def reason_of(place: str | Path) -> InputError | TemporaryError | None:
    """The reason that a process left; None where none did."""
    file = storage.join(str(place), ERROR_FILE)
    if not storage.exists(file):
        return None
    number, _, message = storage.read_bytes(file).decode().partition(" ")
    return InputError(message) if int(number) == EXIT_INPUT else TemporaryError(message)


def _wait(started: list[subprocess.Popen[bytes]], deadline: float, on_wait: Callable[[], None] | None) -> None:
    """Until all have ended, or one has ended badly."""
    while None in (codes := [one.poll() for one in started]) and not any(codes):
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired(started[0].args, 0)
        time.sleep(POLL_S)
        if on_wait:
            on_wait()
    if on_wait:
        on_wait()


def end_all(started: list[subprocess.Popen[bytes]], mark: str) -> None:
    """Ask each torchrun, which asks its processes, to end; then kill what is left of them, on Linux also what torchrun left behind."""
    for one in started:
        one.terminate()
    until = time.monotonic() + GRACE_S
    for one in started:
        try:
            one.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger.warning("torchrun did not end within %g s of being asked; killed", GRACE_S)
            one.kill()
            one.wait()
    for process_id in _marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)


def _marked(mark: str) -> list[int]:
    """Processes with this mark in their environment, which children inherit."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # another user's, or gone meanwhile
            if f"{MARK}={mark}".encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return found


def _die_with_parent() -> None:
    # a killed step must not leave its processes training on, so the kernel tells torchrun when we are gone (Linux only)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _explain(module: str, code: int, folder: Path, log: Path, log_kept_at: str = "") -> None:
    if reason := reason_of(folder):
        raise reason
    raise TemporaryError(f"a process of {module} died (torchrun exit code {code}); see {log_kept_at or log}: {_tail(log)}")


def _tail(log: Path) -> str:
    return last_words(log.read_text(encoding="utf-8", errors="replace"))


def last_words(text: str, num_chars: int = 600) -> str:
    """What a log says last of an error; its end where it names none."""
    lines = [line.strip() for line in text.splitlines()]
    telling = [line for line in lines if "Error" in line and "ChildFailedError" not in line]
    died = [line for line in lines if line.startswith("exitcode")]  # what torchrun says of a process that was killed
    return " | ".join((telling or died)[-3:])[-num_chars:] or text[-num_chars:].replace("\n", " | ")
