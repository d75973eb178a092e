"""Several training processes on this machine, started by torchrun and ended together.

torchrun (not the `deepspeed` launcher, which wants ssh and MPI) is also what Kubeflow's TrainJob starts, so the module that runs here
is the one that runs on many nodes.
"""

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from components.shared.errors import EXIT_INPUT, EXIT_TEMPORARY, InputError, TemporaryError

logger = logging.getLogger(__name__)

POLL_S = 0.5
GRACE_S = 10.0
PR_SET_PDEATHSIG = 1
ERROR_FILE = "error.txt"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(num_processes: int, *, accelerator: bool) -> dict[str, str]:
    """This process's environment with the cores shared out; without an accelerator DeepSpeed is told so, and gloo stays on loopback."""
    threads = max(1, _num_cores() // num_processes)
    extra = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)), "TOKENIZERS_PARALLELISM": "false"}
    if not accelerator:
        extra |= {"DS_ACCELERATOR": "cpu", "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0"}
    return {**os.environ, **extra}


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def launch(
    module: str,
    arguments: list[str],
    *,
    num_processes: int,
    folder: Path,
    timeout_s: float,
    accelerator: bool = False,
    on_wait: Callable[[], None] | None = None,
) -> None:
    """Run `python -m module arguments` in `num_processes` processes and wait; if one dies all are ended.

    Args:
        folder: gets `processes.log` (all output) and, from a process that refuses its input, `error.txt`.
        on_wait: called about twice a second while waiting.

    Raises:
        InputError: when a process refused its input; with its message.
        TemporaryError: when a process died otherwise or time ran out; with the last lines of the log.
    """
    log = folder / "processes.log"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", str(num_processes),
        "--master-addr", "127.0.0.1", "--master-port", str(free_port()), "-m", module, *arguments,
    ]  # fmt: skip
    logger.info("starting %d processes of %s; output in %s", num_processes, module, log)
    with log.open("ab") as output:
        started = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None, env=environment(num_processes, accelerator=accelerator),
        )  # fmt: skip
        try:
            _wait(started, time.monotonic() + timeout_s, on_wait)
        except subprocess.TimeoutExpired:
            raise TemporaryError(f"{module} did not end within {timeout_s:g} s and was stopped; see {log}: {_tail(log)}") from None
        finally:
            end_group(started)
    if started.returncode:
        _explain(module, started.returncode, folder, log)


def refuse(folder: Path, error: InputError | TemporaryError) -> int:
    """For a launched process: leave the reason where `launch` looks for it; returns the exit code to end with."""
    code = EXIT_INPUT if isinstance(error, InputError) else EXIT_TEMPORARY
    (folder / ERROR_FILE).write_text(f"{code} {error}", encoding="utf-8")
    return code


def _wait(started: subprocess.Popen[bytes], deadline: float, on_wait: Callable[[], None] | None) -> None:
    while started.poll() is None:
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired(started.args, 0)
        time.sleep(POLL_S)
        if on_wait:
            on_wait()
    if on_wait:
        on_wait()


def end_group(started: subprocess.Popen[bytes]) -> None:
    """Ask torchrun, which asks its processes, to end; then end what is left of them."""
    if started.poll() is None:
        started.terminate()
        try:
            started.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            logger.warning("torchrun did not end within %g s of being asked; killed", GRACE_S)
    try:
        os.killpg(started.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    started.wait()


def _die_with_parent() -> None:
    # a killed step must not leave its processes training on, so the kernel tells torchrun when we are gone (Linux only)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _explain(module: str, code: int, folder: Path, log: Path) -> None:
    reason = folder / ERROR_FILE
    if reason.is_file():
        number, _, message = reason.read_text(encoding="utf-8").partition(" ")
        raise InputError(message) if int(number) == EXIT_INPUT else TemporaryError(message)
    raise TemporaryError(f"a process of {module} died (torchrun exit code {code}); see {log}: {_tail(log)}")


def _tail(log: Path, num_chars: int = 600) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    telling = [line.strip() for line in text.splitlines() if "Error" in line and "ChildFailedError" not in line]
    return " | ".join(telling[-3:])[-num_chars:] or text[-num_chars:].replace("\n", " | ")
