"""From the runner's output to one line per task, and from a traceback to an exit code."""

import io

import pytest
from rich.console import Console

from pipelines.progress import Progress

START = "15:02:23.414 - INFO - Executing task \x1b[96m'train-teacher'\x1b[0m\n"
DONE = "15:02:24.000 - INFO - Task \x1b[96m'train-teacher'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m\n"


def follow(*lines: str, reused: bool = False, verbose: bool = False) -> tuple[Progress, str]:
    out = io.StringIO()
    shown = {"train-teacher": ("Teacher", "teacher"), "build-pool": ("Pool", "pool")}
    progress = Progress(Console(file=out, width=200), shown, lambda _: reused, verbose)
    for line in lines:
        progress.feed(line)
    progress.close()
    return progress, out.getvalue()


@pytest.mark.parametrize(("reused", "note"), [(True, "reused"), (False, "")])
def test_a_task_is_a_line_at_its_start_and_one_at_its_end(reused, note):
    progress, shown = follow(START, "    secret details\n", DONE, reused=reused)
    first, second = shown.splitlines()
    assert first.split() == ["[", "1/2]", "Teacher", "..."]
    assert "Teacher" in second
    assert "done in 0.0 s" in second
    assert second.endswith(note or "s")
    assert "secret" not in shown
    assert (progress.failed, set(progress.seconds)) == ("", {"teacher"})


def test_verbose_shows_everything_without_colors():
    assert "    secret details\n" in follow(START, "    secret details\n", DONE, verbose=True)[1]


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("    components.shared.errors.InputError: grade 7 is not on the card; add it", 2, "grade 7 is not on the card; add it"),
        ("    components.shared.errors.TemporaryError: gs://x: no answer", 75, "gs://x: no answer"),
        ("    ZeroDivisionError: division by zero", 1, "ZeroDivisionError: division by zero"),
        ("    torch.OutOfMemoryError: CUDA out of memory", 1, "OutOfMemoryError: CUDA out of memory"),
        ("    KeyboardInterrupt", 1, "KeyboardInterrupt"),
        ("    Killed", 1, "the task ended without saying why; it may have run out of memory"),
    ],
)
def test_the_last_error_of_the_failing_task_decides(line, code, message):
    earlier = "    ValueError: caught and handled"
    lines = [START, *([earlier] if "Killed" not in line else []), line]
    progress, shown = follow(*(one + "\n" for one in lines))
    assert (progress.failure().exit_code, progress.failure().message) == (code, message)
    assert progress.failed == "teacher"
    assert "FAILED" in shown


def test_an_error_of_an_earlier_task_is_not_blamed_on_this_one():
    progress, _ = follow(START, "    ValueError: handled\n", DONE, START.replace("train-teacher", "build-pool"))
    assert progress.failed == "pool"
    assert "without saying why" in progress.failure().message


def test_a_task_cannot_imitate_the_runner():
    progress, shown = follow(START, f"    {DONE}", DONE)
    assert shown.count("done") == 1
    assert progress.num_started == 1


FAILED = DONE.replace("SUCCESS", "FAILURE")


def test_what_the_runner_raises_after_a_task_does_not_hide_the_tasks_own_error():
    own = "    components.shared.errors.InputError: grade 7 is not on the card\n"
    progress, shown = follow(START, own, FAILED, "RuntimeError: Pipeline 'x' finished with status: FAILURE\n", reused=True)
    assert (progress.failure().exit_code, progress.failure().message) == (2, "grade 7 is not on the card")
    assert (progress.failed, shown.count("FAILED")) == ("teacher", 1)
    assert "reused" not in shown  # what failed was not taken over


def test_an_interruption_is_the_users_not_the_tasks():
    progress = Progress(Console(file=io.StringIO()), {"train-teacher": ("Teacher", "teacher")}, lambda _: False)
    progress.feed(START)
    progress.feed("    ValueError: caught and handled\n")
    progress.interrupt()
    assert progress.failure().message == "KeyboardInterrupt: interrupted by the user"
    assert progress.failed == "teacher"


def test_a_task_that_nobody_announced_goes_by_its_own_name():
    progress, shown = follow(START.replace("train-teacher", "extra"), DONE.replace("train-teacher", "extra"))
    assert "extra" in shown
    assert set(progress.seconds) == {"extra"}
