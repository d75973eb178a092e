"""Runs the pipeline on this machine: checks everything first, compiles, then executes the compiled file in a process of its own."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from components.import_dataset.cards import CARD, follow, resolve_card
from components.shared import spools, storage, tracking_mlflow
from components.shared.errors import EXIT_INPUT, InputError
from components.shared.tracking import SpoolTracker
from pipelines import outcome, recipe
from pipelines.ir import compile_pipeline, read_ir, section_of, tasks_of
from pipelines.lint import lint
from pipelines.progress import Progress

ROOT = Path(__file__).parent.parent
FIRST_DAY = date(2000, 1, 1)
SENDER_WAIT_S = 60.0
EXIT_INTERRUPTED = 130  # what a shell reports after Ctrl-C
ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "DS_ACCELERATOR": "cpu",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads starve each other as soon as anything else wants a core
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for."""

    recipe: str = "tiny"
    data: str = ""
    date: str = ""
    workspace: str = ""
    overrides: Sequence[str] = ()
    verbose: bool = False

    @property
    def name(self) -> str:
        return Path(self.recipe).stem

    @property
    def place(self) -> Path:
        return storage.local_path(self.workspace or f"runs/{self.name}")


@dataclass(frozen=True)
class Places:
    """Files of one run below its workspace."""

    workspace: Path
    run_id: str

    @property
    def kfp(self) -> Path:
        return self.workspace / "kfp" / self.run_id

    @property
    def ir(self) -> Path:
        return self.kfp / "pipeline.yaml"

    @property
    def log(self) -> Path:
        return self.kfp / "run.log"

    @property
    def tracking(self) -> Path:
        return self.workspace / "tracking" / self.run_id

    @property
    def failures(self) -> Path:
        return self.workspace / "failures" / self.run_id


def run_local(request: Request, console: Console) -> int:
    """Run the pipeline and say how it went.

    Returns:
        Exit code: 0, 2 for a user's mistake inside a task, 75 for trouble that may pass, 1 otherwise, 130 when interrupted.

    Raises:
        InputError: for a recipe, data folder, date or workspace that is wrong; nothing was started then.
    """
    arguments = check(request)
    places = Places(request.place, f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{request.name}")
    compile_pipeline(places.ir, arguments)
    document = read_ir(places.ir)
    if problems := lint(document):
        raise InputError(f"the compiled pipeline {places.ir} is unsound: {'; '.join(problems)}")
    console.print(
        f"{places.run_id}: recipe {request.recipe}, data {request.data or 'made up'}, workspace {places.workspace}", highlight=False
    )
    whole = SpoolTracker(places.tracking / f"{spools.PIPELINE}.jsonl", spools.PIPELINE)
    whole.write("start")
    whole.tags(tags(request.recipe) | {"data": arguments["data"] or "made up", "mlflow.runName": places.run_id})
    environment = {**os.environ, "RELEVANCE_TRACKING": "spool", "MLFLOW_TRACKING_URI": _tracking_uri(), **_defaults()}
    with _sender(places, environment) as sender:
        progress = _progress(document, places, console, request.verbose)
        code = _execute(places, environment, progress)
        whole.write("end", status="FINISHED" if code == 0 else "FAILED", error=progress.failure().message if code else "")
        _finish_sender(sender)
    return _conclude(code, progress, places, console)


def check(request: Request) -> dict[str, Any]:
    """The pipeline's arguments, after all checks that need no work.

    Raises:
        InputError: naming what is wrong and the remedy.
    """
    settings = recipe.load(request.recipe, request.overrides)
    data = check_data(request.data, settings["dataset"]["shape"])
    arguments = {**settings, "workspace": request.place.as_uri(), "data": data, "date": check_date(request.date)}
    if "python3" in json.dumps(arguments):
        raise InputError("a setting or a path holds the text 'python3', which kfp.local replaces by the interpreter; rename it")
    return arguments


def check_data(data: str, shape: str = "") -> str:
    """The URI of a data folder, or "" for a made-up shop. `shape` names a packaged card.

    Raises:
        InputError: when there is no such folder, no card that fits it, or files are missing.
    """
    if not data:
        return ""
    uri = storage.normalise(data)
    if storage.is_local(uri) and not storage.exists(uri):
        raise InputError(f"data folder '{data}' does not exist; give the folder that holds {CARD}")
    resolve_card(follow(uri), shape)
    return uri


def check_date(day: str) -> str:
    """Raises InputError unless empty or a day between 2000 and today."""
    if not day:
        return ""
    try:
        parsed = date.fromisoformat(day)
    except ValueError:
        raise InputError(f"date '{day}' is not a day; write YYYY-MM-DD") from None
    today = datetime.now(UTC).date()
    if not FIRST_DAY <= parsed <= today:
        raise InputError(f"date '{day}' is not between {FIRST_DAY} and today ({today}); give the last day of the log that counts")
    return day


def tags(recipe_name: str) -> dict[str, str]:
    """What produced a run: recipe, git revision, digest of the code."""
    return {"recipe": recipe_name, "mlflow.source.git.commit": git_revision(), "code.digest": code_digest()}


def git_revision() -> str:
    """The checkout's commit, with `-dirty` when files differ; empty outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty"]
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return ""


def code_digest() -> str:
    """First 16 hex digits over all Python files of pipelines and components."""
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "pipelines").rglob("*.py"), *(ROOT / "components").rglob("*.py")]):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or tracking_mlflow.default_uri()


def _defaults() -> dict[str, str]:
    return {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}


def _sender(places: Places, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """The process that imports mlflow once for the whole run, so that no task has to."""
    command = [sys.executable, "-m", "pipelines", "sync", str(places.workspace), "--run", places.run_id, "--follow"]
    with places.log.with_name("tracking.log").open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, text=True, env=dict(environment), cwd=ROOT
        )


def _finish_sender(sender: subprocess.Popen[str]) -> None:
    """Its standard input ends, which is its sign to send what is left."""
    assert sender.stdin is not None
    with suppress(BrokenPipeError):
        sender.stdin.close()
    try:
        sender.wait(SENDER_WAIT_S)
    except subprocess.TimeoutExpired:
        sender.terminate()


def _progress(document: Mapping[str, Any], places: Places, console: Console, verbose: bool) -> Progress:
    shown = {
        task["componentRef"]["name"].removeprefix("comp-"): (task["taskInfo"]["name"], section_of(task))
        for task in tasks_of(document).values()
    }

    def is_reused(section: str) -> bool:
        spool = places.tracking / f"{section}.jsonl"
        return spool.exists() and '"reused": "true"' in spool.read_text(encoding="utf-8")

    return Progress(console, shown, is_reused, verbose)


def _execute(places: Places, environment: Mapping[str, str], progress: Progress) -> int:
    command = [sys.executable, "-W", "ignore", "-m", "pipelines.execute_ir", str(places.ir), str(places.kfp), places.run_id]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with (
        places.log.open("w", encoding="utf-8") as log,
        subprocess.Popen(command, **pipes, env=dict(environment), cwd=ROOT, start_new_session=True) as child,
        _stopped_with(child) as is_stopped,
    ):
        assert child.stdout is not None
        for line in child.stdout:
            log.write(line)
            log.flush()
            progress.feed(line)
    if is_stopped():
        progress.interrupt()
        return EXIT_INTERRUPTED
    if child.returncode == 0:
        return 0
    progress.close()
    return progress.failure().exit_code


@contextmanager
def _stopped_with(child: subprocess.Popen[str]) -> Iterator[Callable[[], bool]]:
    """Ctrl-C or SIGTERM ends the child and the task that it waits for; gives what tells whether that happened.

    By handlers, because a KeyboardInterrupt that is raised inside a callback or a destructor is lost, and the run with it goes on.
    """
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _conclude(code: int, progress: Progress, places: Places, console: Console) -> int:
    left = spools.num_unread(places.tracking)
    if left:
        console.print(f"tracking: {left} lines wait; send them with `make sync` or `python -m pipelines sync {places.workspace}`")
    if code == 0:
        outcome.show(places.tracking, places.kfp, console)
    console.print(f"log: {places.log}", soft_wrap=True, highlight=False)
    if code == 0:
        console.print("compare runs: make ui", highlight=False)
    elif code == EXIT_INTERRUPTED:
        console.print("interrupted; run it again to go on: what is finished is reused", highlight=False)
    else:
        for page in sorted(places.failures.glob(f"{progress.failed or '-'}/attempt-*.md")):
            console.print(f"page: {page}", soft_wrap=True, highlight=False)
        kind = "error" if code == EXIT_INPUT else "failed"
        console.print(
            f"{kind} in {progress.failed or 'the runner'}: {progress.failure().message}", soft_wrap=True, highlight=False, markup=False
        )
    return code
