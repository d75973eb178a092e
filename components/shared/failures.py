"""What a failed task leaves behind: one page that says what failed, how, and how to go on.

The same text goes wherever somebody may look: into the task's `summary` artifact (which kfp's launcher does not upload for a task that
failed), to `<workspace>/failures/<run_id>/<section>/attempt-<n>.md`, as tag `failure` and artifact to MLflow, and to the pod's termination
message. Beside the page, `attempt-<n>.json` is made when work begins and taken away when it ends well, so a try that was killed is seen
by the next one.
"""

import contextlib
import io
import logging
import os
import time
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.errors import EXIT_INPUT, EXIT_TEMPORARY, InputError, TemporaryError
from components.shared.secret_shapes import hidden

MAX_BYTES = 4000  # Kubernetes keeps 4096 bytes of a termination message, MLflow 5000 characters of a tag
MAX_LINE_CHARS = 300
MAX_ERROR_CHARS = 900
NUM_LINES = 40
TERMINATION_LOG = Path("/dev/termination-log")  # Kubernetes mounts it into every container
RETRY_WINDOW_S = 900  # kfp's retries come at most ten minutes after a failure; a person's come later, or with another run id
OUT_OF_MEMORY = ("MemoryError", "OutOfMemoryError")
CLASSES = {
    "input": f"input (exit code {EXIT_INPUT}): a mistake in settings or data; another try without a change fails the same way",
    "temporary": f"temporary (exit code {EXIT_TEMPORARY}): trouble outside that may pass",
    "memory": "memory: the task needed more than its place has",
    "interrupted": "interrupted: somebody or the platform ended the task",
    "fault": "fault (exit code 1): not foreseen; if it comes again, the lines below belong into an issue",
}
FIRST = {
    "input": "Mend what the root error names, then",
    "temporary": "Nothing is to be mended here; when the trouble is over,",
    "memory": "Give the step more (`pipelines/placement.py`) or ask less of it (smaller batches, a shorter window), then",
    "interrupted": "When there is room again,",
    "fault": "When the cause is found,",
}


@dataclass
class Attempt:
    """One try of a task.

    Args:
        name: the task's recipe section, with the member's number where several tasks share one.
        number: 1 for the first try of this run; 0 until the work begins.
    """

    workspace: str
    run_id: str
    name: str
    number: int = 0
    started: float = field(default_factory=time.time)
    before: dict[str, Any] = field(default_factory=dict)

    @property
    def page(self) -> str:
        return self._file(self.number).removesuffix("json") + "md"

    def begin(self) -> None:
        """Take the next number, so that the try after this one knows of it even when this one is killed."""
        number = 1
        while not storage.create_once(self._file(number), storage.to_json({"started": self.started})):
            self.before = storage.read_json(self._file(number))
            number += 1
        self.number = number

    def refuse_hopeless(self) -> None:
        """kfp retries whatever failed; a mistake that the last try found is not looked for again.

        Raises:
            InputError: as that try did.
        """
        if self.before.get("class") == "input" and self.started - self.before["ended"] < RETRY_WINDOW_S:
            raise InputError(self.before["message"])

    def succeed(self) -> None:
        """Nothing is left of a first try that went well."""
        marker = self._file(self.number)
        storage.remove(marker if self.number > 1 else marker.rpartition("/")[0])

    def text_of(self, error: BaseException, lines: list[str]) -> str:
        """The page, even where the workspace cannot be reached; then it has attempt 0."""
        with contextlib.suppress(InputError, TemporaryError, OSError):
            if not self.number:
                self.begin()
        return render(self, error, lines)

    def keep(self, page: str, error: BaseException) -> None:
        """Put the page, and what the next try should know, into the workspace."""
        ended = {"class": class_of(error), "message": hidden(str(error)), "ended": time.time()}
        storage.write_json(self._file(self.number), {"started": self.started, **ended})
        storage.write_bytes(self.page, page.encode())

    def _file(self, number: int) -> str:
        return storage.join(self.workspace, "failures", self.run_id, self.name, f"attempt-{number}.json")


class LastLines(io.TextIOBase):
    """A stream that keeps the last lines written to it."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=NUM_LINES)

    def write(self, text: str) -> int:
        self.lines.extend(text.splitlines())
        return len(text)


@contextlib.contextmanager
def last_lines() -> Iterator[deque[str]]:
    """While open, what any logger says, as far as the task's log shows it."""
    stream = LastLines()
    handler = logging.StreamHandler(stream)  # a line that cannot be formatted is complained about, and breaks nothing
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield stream.lines
    finally:
        logging.getLogger().removeHandler(handler)


def class_of(error: BaseException) -> str:
    """Which of CLASSES an error belongs to."""
    if any(type(one).__name__ in OUT_OF_MEMORY for one in chain(error)):
        return "memory"
    kinds = {InputError: "input", TemporaryError: "temporary", KeyboardInterrupt: "interrupted", SystemExit: "interrupted"}
    return next((name for kind, name in kinds.items() if isinstance(error, kind)), "fault")


def chain(error: BaseException) -> list[BaseException]:
    """The error and those that led to it, the root last."""
    found = [error]
    while (cause := found[-1].__cause__ or (None if found[-1].__suppress_context__ else found[-1].__context__)) and cause not in found:
        found.append(cause)
    return found


def render(attempt: Attempt, error: BaseException, lines: list[str]) -> str:
    """The page, at most MAX_BYTES; what does not fit is cut from the older log lines."""
    kind, root = class_of(error), chain(error)[-1]
    told = "".join(traceback.format_exception_only(error)).strip()
    rooted = "" if root is error else f"\nbecause of {''.join(traceback.format_exception_only(root)).strip()}"
    rows = {
        "run": attempt.run_id,
        "attempt": f"{attempt.number}{_earlier(attempt)}",
        "exit class": CLASSES[kind],
        "ended": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, {time.time() - attempt.started:.0f} s after it began",
        "pod": os.environ.get("KFP_POD_NAME") or os.uname().nodename,
        "this page": attempt.page,
    }
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows.items())
    cause = _fenced(_short(hidden(told + rooted))) + _where(root)
    head = f"# {attempt.name} failed\n\n| | |\n|---|---|\n{table}\n\n## Root error\n\n{cause}\n"
    resume = f"\n## How to resume\n\n{FIRST[kind]} {_command(attempt)}\nMore: `infra/README.md`, Runbook.\n"
    return head + resume + _tail(lines, traceback.format_exception(error), MAX_BYTES - len((head + resume).encode()))


def _earlier(attempt: Attempt) -> str:
    if attempt.number < 2:
        return ""
    before = attempt.before.get("class")
    return f"; the one before ended as: {before}" if before else "; the one before left no word: killed, out of memory or preempted"


def _where(root: BaseException) -> str:
    frames = traceback.extract_tb(root.__traceback__)
    return (
        f"\nRaised in `{'/'.join(Path(frames[-1].filename).parts[-3:])}`, line {frames[-1].lineno}, `{frames[-1].name}`." if frames else ""
    )


def _command(attempt: Attempt) -> str:
    if storage.is_local(attempt.workspace):
        return "give the same command again: what is finished is reused, this step goes on from its last commit."
    return f"`python -m pipelines resume {attempt.run_id}`: what is finished is reused, this step goes on from its last commit."


def _tail(lines: list[str], trace: list[str], room: int) -> str:
    title = "\n## Last lines\n\n"
    shown: deque[str] = deque()
    room -= len(_fenced("").encode()) + len(title) + 8
    for line in reversed([*lines, *"".join(trace).splitlines()]):
        text = hidden(line)[:MAX_LINE_CHARS]
        room -= len(text.encode()) + 1
        if room < 0:
            break
        shown.appendleft(text)
    return title + _fenced("\n".join(shown))


def _short(text: str) -> str:
    return text if len(text) <= MAX_ERROR_CHARS else f"{text[: MAX_ERROR_CHARS - 200]} ... {text[-190:]}"


def _fenced(text: str) -> str:
    """As a code block: a log line may hold anything, a shop's titles included, and none of it is Markdown or HTML here."""
    return f"~~~text\n{text.replace('~~~', '~ ~ ~')}\n~~~\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def tell_platform(text: str, artifacts: list[Path]) -> None:
    """Leave the page in kfp's artifact files and, in a pod, as the termination message."""
    for file in artifacts:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    if TERMINATION_LOG.exists():
        with contextlib.suppress(OSError):
            TERMINATION_LOG.write_text(text, encoding="utf-8")
