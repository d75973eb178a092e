"""What kfp.local's output says about the tasks: one line on the terminal per start and end, everything into the log."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.status import Status

from components.shared.errors import EXIT_INPUT, EXIT_TEMPORARY

COLORS = re.compile(r"\x1b\[[0-9;]*m")
# lines of the runner start with a clock; lines of a task are indented, so a task cannot imitate them
STARTED = re.compile(r"^\d\d:\d\d:\d\d\.\d+ - INFO - Executing task '([^']+)'")
ENDED = re.compile(r"^\d\d:\d\d:\d\d\.\d+ - \w+ - Task '([^']+)' finished with status (\w+)")
RAISED = re.compile(r"^\s*(?:[a-zA-Z_][\w]*\.)*([A-Z]\w*(?:Error|Exception|Interrupt|Exit))(?:: ?(.*))?$")


@dataclass(frozen=True)
class Failure:
    """Why a task ended: exit code for the command line, and one line for the user."""

    exit_code: int
    message: str


@dataclass
class Progress:
    """Follows a pipeline's output line by line.

    Args:
        shown: task name in kfp -> (display name, recipe section).
        is_reused: whether a section's outputs stood already.
    """

    console: Console
    shown: dict[str, tuple[str, str]]
    is_reused: Callable[[str], bool]
    verbose: bool = False
    task: str = ""
    num_started: int = 0
    failed: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    raised: list[tuple[str, str]] = field(default_factory=list)
    _since: float = 0.0
    _status: Status | None = None

    def feed(self, line: str) -> None:
        """Take one line of output."""
        plain = COLORS.sub("", line.rstrip("\n"))
        if self.verbose:
            self.console.out(plain, highlight=False)
        if found := STARTED.match(plain):
            self._start(found[1])
        elif found := ENDED.match(plain):
            self._end(found[2])
        elif self.task:
            self._note(plain)

    def close(self) -> None:
        """The output ended; a task that still runs has failed."""
        if self.task:
            self._end("FAILURE")
        self._stop_status()

    def interrupt(self) -> None:
        """The user ended the run."""
        self.raised = [("KeyboardInterrupt", "interrupted by the user")]
        self.close()

    def failure(self) -> Failure:
        """The last error that the failing task raised."""
        name, message = self.raised[-1] if self.raised else ("", "the task ended without saying why; it may have run out of memory")
        code = {"InputError": EXIT_INPUT, "TemporaryError": EXIT_TEMPORARY}.get(name, 1)
        return Failure(code, message if code != 1 or not name else f"{name}: {message}".removesuffix(": "))

    def _start(self, task: str) -> None:
        self.task, self._since, self.raised = task, time.monotonic(), []
        self.num_started += 1
        if self.console.is_terminal and not self.verbose:
            self._status = self.console.status(self._label(), spinner="line")
            self._status.start()
        else:
            self.console.print(f"{self._label()} ...", highlight=False)

    def _end(self, status: str) -> None:
        self._stop_status()
        took = time.monotonic() - self._since
        section = self.shown.get(self.task, (self.task, self.task))[1]
        self.seconds[section] = took
        note = ", reused" if status == "SUCCESS" and self.is_reused(section) else ""
        word = "done" if status == "SUCCESS" else "FAILED"
        self.console.print(f"{self._label()} {word} in {took:.1f} s{note}", highlight=False)
        if status != "SUCCESS":
            self.failed = section
        self.task = ""

    def _note(self, plain: str) -> None:
        if found := RAISED.match(plain):
            self.raised.append((found[1], found[2] or ""))
        if self._status is not None and plain.strip():
            self._status.update(f"{self._label()}  {plain.strip()[:80]}")

    def _label(self) -> str:
        name = self.shown.get(self.task, (self.task, self.task))[0]
        return f"[{self.num_started:2}/{len(self.shown)}] {name:24}".replace("[", r"\[", 1)

    def _stop_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
