"""From a kfp component (or any other caller) to a step: where its outputs go, whether they are there already, who is told.

Outputs lie at `<workspace>/<section>/<fingerprint>/<output>`. The fingerprint covers settings, the content of all inputs and the
code of the room, so the same work is done once, a killed step goes on in its own folder, and nothing is ever overwritten.
"""

import hashlib
import importlib
import importlib.util
import inspect
import json
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.config import StepConfig
from components.shared.errors import InputError, TemporaryError
from components.shared.failures import Attempt, last_lines, tell_platform
from components.shared.report import Report
from components.shared.tables import MANIFEST
from components.shared.tracking import SpoolTracker
from components.shared.tracking_mlflow import send_at_task_end

FINISHED = "finished.json"
SPOOL = "tracking.jsonl"
CODE = (".py", ".html", ".yaml")  # what shapes a step: its modules, its report's frame, its data cards


def perform(
    run: Callable[..., Report] | str,
    config_type: type[StepConfig],
    *,
    section: str,
    config: Mapping[str, Any],
    workspace: str,
    run_id: str,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    pages: Mapping[str, Any] | None = None,
    values: Mapping[str, str | Callable[[], str]] | None = None,
) -> Report:
    """Run a step unless its outputs stand already, and fill in the kfp artifacts. A task that fails leaves a page that says why.

    Args:
        run: the step's function, or the name of the module that holds it as `run`: that one is imported only when there is work to
            do, because torch alone takes seconds and a night that is run again re-uses most of its steps.
        inputs: argument of `run` -> kfp artifact of an earlier step (its file holds the address of the data), or a list of them,
            which `run` gets as addresses joined by commas, or what gives them.
        outputs: argument of `run` -> kfp artifact to fill; `run` gets the address to write to.
        pages: file name that `run` writes beside its outputs (`report.html`) -> kfp HTML or Markdown artifact.
            `summary` is made here from the report, or says why the step failed.
        values: plain arguments of `run`, or what gives them. What may fail belongs into what gives, where a failure is told.

    Raises:
        InputError: for settings or inputs that are wrong.
    """
    spool = _spool_file(workspace, run_id, section)
    member = config.get("member")
    attempt = Attempt(workspace, run_id, f"{section}-{member}" if member else section)
    try:
        with _told(attempt, SpoolTracker(spool, section), (pages or {}).get("summary")):
            settings = config_type.from_mapping(config, section=section)
            addresses = {name: address_of(artifact() if callable(artifact) else artifact) for name, artifact in inputs.items()}
            plain = {name: value if isinstance(value, str) else value() for name, value in (values or {}).items()}
            folder = storage.join(workspace, section, _fingerprint(run, settings, addresses, plain))
            places = {name: storage.join(folder, name) for name in outputs}
            if all(storage.exists(place) for place in (storage.join(folder, FINISHED), *places.values())):
                report = Report(**storage.read_json(storage.join(folder, FINISHED))["report"])
                _replay(folder, spool)
            else:
                attempt.begin()
                attempt.refuse_hopeless()
                arguments = {name: address["uri"] for name, address in addresses.items()} | dict(places) | plain
                report = _perform(_function(run), settings, arguments, section, folder, spool, places)
                attempt.succeed()
    finally:
        send_at_task_end(spool, workspace)
    _fill(outputs, places)
    _show(pages or {}, folder, section, report)
    return report


@contextmanager
def tracked(section: str, workspace: str, run_id: str) -> Iterator[SpoolTracker]:
    """A task without outputs, which does its work anew in every run: told to MLflow and when it fails like a step."""
    spool = _spool_file(workspace, run_id, section)
    tracker = SpoolTracker(spool, section)
    try:
        with _told(Attempt(workspace, run_id, section), tracker, None):
            tracker.write("start")
            yield tracker
            tracker.write("end", status="FINISHED")
    finally:
        send_at_task_end(spool, workspace)


@contextmanager
def _told(attempt: Attempt, tracker: SpoolTracker, summary: Any) -> Iterator[None]:
    """An error that leaves this block is told in every place where somebody may look; trouble with telling does not hide it."""
    with last_lines() as lines:
        try:
            yield
        except BaseException as error:
            tracker.write("end", status="FAILED", error=_line_of(error))
            with suppress(OSError, InputError, TemporaryError):
                _tell(attempt, tracker, error, lines, [] if summary is None else [Path(summary.path)])
            raise


def _tell(attempt: Attempt, tracker: SpoolTracker, error: BaseException, lines: deque[str], artifacts: list[Path]) -> None:
    page = attempt.text_of(error, list(lines))
    tell_platform(page, artifacts)
    tracker.tags({"failure": page})
    attempt.keep(page, error)
    tracker.artifact(attempt.page)


def _line_of(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


def address_of(artifact: Any) -> dict[str, str]:
    """uri and digest of what an earlier step wrote, from its kfp artifact; of a list of them joined by commas."""
    if isinstance(artifact, list | tuple):
        several = [address_of(one) for one in artifact]
        return {key: ",".join(one[key] for one in several) for key in ("uri", "digest")}
    address = json.loads(Path(artifact.path).read_text())
    return {"uri": address["uri"], "digest": address["digest"]}


def _perform(
    run: Callable[..., Report],
    settings: StepConfig,
    arguments: dict[str, str],
    section: str,
    folder: str,
    spool: Path,
    places: Mapping[str, str],
) -> Report:
    tracker = SpoolTracker(spool, section)
    started = time.time()
    tracker.write("start", folder=folder)
    tracker.params(settings.model_dump(mode="json"))
    report = run(settings, tracker=tracker, **arguments)
    for name, place in places.items():
        if not storage.exists(place):
            raise InputError(f"the step ended without writing its output '{name}' at {place}")
    tracker.metrics({**report.counts(), **report.metrics, "seconds": time.time() - started})
    tracker.write("end", status="FINISHED")
    storage.write_bytes(storage.join(folder, SPOOL), spool.read_bytes())
    storage.write_json(storage.join(folder, FINISHED), {"report": asdict(report), "seconds": time.time() - started})
    return report


def _function(run: Callable[..., Report] | str) -> Callable[..., Report]:
    return importlib.import_module(run).run if isinstance(run, str) else run


def _room(run: Callable[..., Report] | str) -> Path:
    if not isinstance(run, str):
        return Path(inspect.getfile(run)).parent
    spec = importlib.util.find_spec(run)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"step module '{run}' does not exist")
    return Path(spec.origin).parent


def _fingerprint(run: Callable[..., Report] | str, settings: StepConfig, addresses: Mapping[str, Any], values: Mapping[str, str]) -> str:
    room = _room(run)
    code = {f"{source.parent.name}/{source.name}": hashlib.sha256(source.read_bytes()).hexdigest() for source in _sources(room)}
    content = {name: address["digest"] for name, address in addresses.items()}
    listed = {name: storage.listing_digest(value) if "://" in value and storage.exists(value) else value for name, value in values.items()}
    whole = [settings.shaping(), settings.references(), content, listed, code]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def _sources(room: Path) -> list[Path]:
    return sorted(one for place in (room, Path(__file__).parent) for one in place.rglob("*") if one.suffix in CODE)


def _spool_file(workspace: str, run_id: str, section: str) -> Path:
    if not storage.is_local(workspace):
        return Path("/tmp/relevance-distillery") / run_id / f"{section}.jsonl"
    return storage.local_path(workspace) / "tracking" / run_id / f"{section}.jsonl"


def _replay(folder: str, spool: Path) -> None:
    spool.parent.mkdir(parents=True, exist_ok=True)
    saved = storage.read_bytes(storage.join(folder, SPOOL))
    reused = json.dumps({"kind": "tags", "section": spool.stem, "time": time.time(), "values": {"reused": "true"}})
    spool.write_bytes(saved + reused.encode() + b"\n")


def _digest(uri: str) -> tuple[str, int]:
    """(content digest, rows) of an output: from the manifest where it is a table."""
    if storage.exists(storage.join(uri, MANIFEST)):
        manifest = storage.read_json(storage.join(uri, MANIFEST))
        return manifest["digest"], manifest.get("rows", 0)
    return storage.content_digest(uri), 0


def _fill(outputs: Mapping[str, Any], places: Mapping[str, str]) -> None:
    for name, artifact in outputs.items():
        digest, rows = _digest(places[name])
        address = {"uri": places[name], "digest": digest, "rows": rows}
        Path(artifact.path).parent.mkdir(parents=True, exist_ok=True)
        Path(artifact.path).write_text(json.dumps(address))
        artifact.metadata.update(address)


def _show(pages: Mapping[str, Any], folder: str, section: str, report: Report) -> None:
    for name, artifact in pages.items():
        Path(artifact.path).parent.mkdir(parents=True, exist_ok=True)
        page = report.markdown(section).encode() if name == "summary" else storage.read_bytes(storage.join(folder, name))
        Path(artifact.path).write_bytes(page)
