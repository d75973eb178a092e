"""Several processes: they see each other, end together, and say why."""

import inspect
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from components.shared import launch as launching
from components.shared.errors import InputError, TemporaryError
from components.shared.launch import GRACE_S, end_all, environment, free_port, launch, refuse

PROGRAM = """
import os, sys, time
from pathlib import Path
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
place = Path(sys.argv[1])
(place / f"rank{rank}").write_text(f"{size} {os.getpid()} {os.environ['MASTER_ADDR']}")
"""


def write_program(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> str:
    name = "program_" + folder.name.replace("-", "_")
    (folder / f"{name}.py").write_text(PROGRAM + textwrap.dedent(body))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return name


def is_alive(process_id: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process_id}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def process_of(folder: Path, rank: int) -> int:
    return int((folder / f"rank{rank}").read_text().split()[1])


def test_all_processes_run_and_waiting_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    module = write_program(tmp_path, monkeypatch, "print(f'hello from {rank}')")
    launch(module, [str(tmp_path)], num_processes=2, folder=tmp_path, timeout_s=60, on_wait=lambda: told.append(1))
    worlds = [(tmp_path / f"rank{rank}").read_text().split() for rank in (0, 1)]
    assert [(one[0], one[2]) for one in worlds] == [("2", "127.0.0.1")] * 2
    assert told
    log = (tmp_path / "processes.log").read_text()
    assert "hello from 0" in log
    assert "hello from 1" in log


def test_one_dead_process_ends_all_and_its_error_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = """
    while len(list(place.glob("rank*"))) < 2: time.sleep(0.05)
    if rank == 1: raise MemoryError("no room left")
    time.sleep(300)
    """
    module, started = write_program(tmp_path, monkeypatch, body), time.monotonic()
    with pytest.raises(TemporaryError, match=r"died.*MemoryError: no room left"):
        launch(module, [str(tmp_path)], num_processes=2, folder=tmp_path, timeout_s=120)
    assert time.monotonic() - started < 100
    assert not is_alive(process_of(tmp_path, 0))


def test_a_refusal_of_input_comes_back_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = """
    from components.shared.errors import InputError
    from components.shared.launch import refuse
    sys.exit(refuse(place, InputError("column 'grade' has 9; correct it")))
    """
    module = write_program(tmp_path, monkeypatch, body)
    with pytest.raises(InputError, match=r"^column 'grade' has 9; correct it$"):
        launch(module, [str(tmp_path)], num_processes=1, folder=tmp_path, timeout_s=60)


def test_time_running_out_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = write_program(tmp_path, monkeypatch, "time.sleep(300)")
    told = r"did not end within 12 s .* goes on from its last checkpoint, or raise timeout_s; see gs://b/kept.log: "
    with pytest.raises(TemporaryError, match=told):
        launch(module, [str(tmp_path)], num_processes=1, folder=tmp_path, timeout_s=12, log_kept_at="gs://b/kept.log")
    assert not is_alive(process_of(tmp_path, 0))


def test_the_parents_death_ends_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = write_program(tmp_path, monkeypatch, "time.sleep(300)")
    code = f"""
from pathlib import Path
from components.shared.launch import launch
launch({module!r}, [{str(tmp_path)!r}], num_processes=1, folder=Path({str(tmp_path)!r}), timeout_s=300)
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    expect_soon(lambda: (tmp_path / "rank0").is_file() and len((tmp_path / "rank0").read_text().split()) == 3)
    parent.kill()
    parent.wait()
    expect_soon(lambda: not is_alive(process_of(tmp_path, 0)))


def expect_soon(holds, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_end_all_is_quiet_when_all_have_ended() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    ended.wait()
    end_all([ended], "of nobody")
    assert ended.returncode == 0


def test_a_process_that_will_not_end_is_killed_with_its_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "GRACE_S", 1.0)
    body = """
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (place / "deaf").touch()
    time.sleep(300)
    """
    module = write_program(tmp_path, monkeypatch, body)

    def stop_when_deaf() -> None:
        if (tmp_path / "deaf").is_file():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(module, [str(tmp_path)], num_processes=1, folder=tmp_path, timeout_s=120, on_wait=stop_when_deaf)
    expect_soon(lambda: not is_alive(process_of(tmp_path, 0)))


def test_torchrun_has_time_to_kill_its_processes_itself() -> None:
    api = pytest.importorskip("torch.distributed.elastic.agent.server.local_elastic_agent")
    assert inspect.signature(api.LocalElasticAgent).parameters["shutdown_timeout"].default < GRACE_S


def test_processes_do_not_outlive_a_torchrun_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = write_program(tmp_path, monkeypatch, "os.kill(os.getppid(), 9); time.sleep(300)")
    with pytest.raises(TemporaryError, match="torchrun exit code -9"):
        launch(module, [str(tmp_path)], num_processes=1, folder=tmp_path, timeout_s=120)
    expect_soon(lambda: not is_alive(process_of(tmp_path, 0)))


def test_trouble_that_may_pass_comes_back_as_such(tmp_path: Path) -> None:
    refuse(tmp_path, TemporaryError("'gs://b/x': storage did not answer; try again"))
    with pytest.raises(TemporaryError, match=r"^'gs://b/x': storage did not answer; try again$"):
        launching._explain("trainer", 1, tmp_path, tmp_path / "processes.log")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("AError: 1\nBError: 2\nstep 3\nCError: 3\nDError: 4\ntorch ChildFailedError: all\n", "BError: 2 | CError: 3 | DError: 4"),
        ("Root Cause:\n  exitcode  : -9 (pid: 7)  (SIGKILL)\n  traceback : Signal 9\n", "exitcode  : -9 (pid: 7)  (SIGKILL)"),
        ("step 1\nKilled\n", "step 1 | Killed | "),
        ("x" * 900, "x" * 600),
    ],
)
def test_a_death_without_a_reason_is_told_by_the_last_errors_of_the_log(tmp_path: Path, text: str, told: str) -> None:
    log = tmp_path / "processes.log"
    log.write_text(text)
    with pytest.raises(TemporaryError) as caught:
        launching._explain("trainer", 9, tmp_path, log)
    assert str(caught.value) == f"a process of trainer died (torchrun exit code 9); see {log}: {told}"


def test_threads_that_the_user_chose_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert environment(1, accelerator=False)["OMP_NUM_THREADS"] == "7"


def test_environment_shares_out_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert environment(1, accelerator=False)["OMP_NUM_THREADS"] == str(cores)
    assert environment(10 * cores, accelerator=False)["OMP_NUM_THREADS"] == "1"
    assert environment(1, accelerator=False)["DS_ACCELERATOR"] == "cpu"
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    assert "DS_ACCELERATOR" not in environment(1, accelerator=True)


def test_refuse_gives_the_exit_code_of_its_error(tmp_path: Path) -> None:
    assert refuse(tmp_path, InputError("x")) == 2
    assert refuse(tmp_path, TemporaryError("x")) == 75
    assert (tmp_path / "error.txt").read_text() == "75 x"


def test_free_port_is_above_the_reserved_ones() -> None:
    assert 1024 < free_port() < 65536
