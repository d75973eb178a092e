"""Sends tracking spools to MLflow: one run per pipeline run, one child per section, each line exactly once.

Sending again adds nothing, also where the note of how far a spool was sent is lost: every MLflow call made here can be repeated.
Runs are named by explicit ids; the fluent `start_run` re-opens an injected run instead of making a child (mlflow/mlflow#15713).
"""

import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from components.shared import spools, storage
from components.shared.errors import TemporaryError

EXPERIMENT = "relevance-distillery"
RUN_TAG = "kfp.pipeline_run_id"  # the tag of kfp's own MLflow plugin, so that its parent run is found
PLUGIN_TAG = "kfp.pipeline_id"  # on a parent run that the plugin opened, and will close
SECTION_TAG = "relevance.section"
PARENT_TAG = "mlflow.parentRunId"
MAX_PARAM_CHARS = 6000
MAX_TAG_CHARS = 5000
MAX_DIGEST_CHARS = 36
MAX_METRICS_PER_CALL = 500
MAX_PARAMS_PER_CALL = 100
MAX_LINES_PER_ROUND = 1000
MAX_ARTIFACT_BYTES = 100 << 20
REFUSALS = ("UNAUTHENTICATED", "PERMISSION_DENIED")
PERMANENT_CODES = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")

logger = logging.getLogger(__name__)
T = TypeVar("T")


class OutOfTimeError(RuntimeError):
    """The budget of this round is spent; what is left goes with the next."""


@dataclass(frozen=True)
class Outcome:
    """What one round did: lines sent, lines that wait for a later round, and why they wait."""

    sent: int
    unsent: int
    trouble: str = ""
    parent: str = ""


@dataclass
class Batch:
    """The content of some spool lines, by kind of MLflow call."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[tuple[str, float, int, int]] = field(default_factory=list)
    headline: list[tuple[str, float, int, int]] = field(default_factory=list)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    started: int | None = None
    status: str = ""
    ended: int | None = None


def metric_name(name: str) -> str:
    """Our metric name in the characters that MLflow allows: `ndcg@10` is `ndcg_at_10` there."""
    return re.sub(r"[^/\w.\- :]", "_", name.replace("@", "_at_"))


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as `a.b` -> text; a text over 6000 characters is cut and carries its SHA-256."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
            continue
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        if len(text) > MAX_PARAM_CHARS:
            digest = f"... sha256:{hashlib.sha256(text.encode()).hexdigest()}"
            text = text[: MAX_PARAM_CHARS - len(digest)] + digest
        flat[metric_name(prefix + str(key))] = text
    return flat


def collect(lines: Sequence[Mapping[str, Any]]) -> Batch:
    """Sort spool lines by the MLflow call that carries them; of several starts and ends the last one counts."""
    batch = Batch()
    for line in lines:
        when = int(line["time"] * 1000)
        kind = line["kind"]
        if kind == "params":
            batch.params |= flatten(line["values"])
        elif kind == "tags":
            batch.tags |= {name: str(value)[:MAX_TAG_CHARS] for name, value in line["values"].items()}
        elif kind in ("metrics", "headline"):
            rows = [(metric_name(name), value, when, line.get("step") or 0) for name, value in line["values"].items()]
            batch.metrics += rows
            batch.headline += rows if kind == "headline" else []
        elif kind == "dataset":
            batch.datasets.append(dict(line))
        elif kind == "artifact":
            batch.artifacts.append(dict(line))
        elif kind == "start":
            batch.started, batch.status, batch.ended = when, "RUNNING", None
        elif kind == "end":
            batch.status, batch.ended = line["status"], when
            batch.tags |= {"error": line["error"][:MAX_TAG_CHARS]} if line.get("error") else {}
    return batch


@dataclass
class _Run:
    """An MLflow run as this process knows it. A run that somebody else opened is never closed by us."""

    run_id: str
    ours: bool
    params: set[str] = field(default_factory=set)
    status: str = "RUNNING"


class Sender:
    """Sends the spools of one pipeline run (one folder).

    Args:
        folder: `<workspace>/tracking/<run_id>`.
        tracking_uri: where MLflow is; empty = `MLFLOW_TRACKING_URI`, else SQLite at `runs/mlflow.db`.
        budget_s: seconds that one `send` may take; a server that hangs costs no more than that.
    """

    def __init__(self, folder: Path, tracking_uri: str = "", budget_s: float = 5.0) -> None:
        self.folder, self.budget_s = folder, budget_s
        self.uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "") or default_uri()
        self._deadline = 0.0
        self._client: Any = None
        self._experiment = ""
        self._parent: _Run | None = None
        self._children: dict[str, _Run] = {}
        self._adopted: dict[str, tuple[_Run, _Run | None]] = {}

    def send(self) -> Outcome:
        """One round over all spools. Trouble with MLflow is returned, never raised."""
        client = self._connect()
        self._deadline = time.monotonic() + self.budget_s
        sent, trouble = 0, ""
        try:
            for spool in spools.spools(self.folder):
                while lines_sent := self._send_some(client, spool):
                    sent += lines_sent
        except (*_mlflow_errors(), OSError, OutOfTimeError, TemporaryError) as error:
            trouble = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        parent = self._parent.run_id if self._parent else ""
        return Outcome(sent, spools.num_unread(self.folder), trouble, parent)

    def ask_anything(self) -> None:
        """Raises MlflowException where the server is away or does not let us in."""
        self._connect().search_experiments(max_results=1)

    def _connect(self) -> Any:
        if self._client is None:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, int(self.budget_s))))
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
            from mlflow import MlflowClient  # noqa: PLC0415 - takes seconds, and most processes never send

            self._client = MlflowClient(tracking_uri=self.uri)
        return self._client

    def _call(self, action: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        if time.monotonic() > self._deadline:
            raise OutOfTimeError(f"tracking budget of {self.budget_s:g} s is spent; the rest is sent later")
        return action(*args, **kwargs)

    def _send_some(self, client: Any, spool: Path) -> int:
        """Send up to 1000 lines of one spool and note how far; returns their number."""
        lines, state = spools.unread(spool, MAX_LINES_PER_ROUND)
        if not lines:
            return 0
        batch = collect(lines)
        injected = os.environ.get("MLFLOW_RUN_ID") or spools.injected(spool)
        parent, child = self._adopt(client, injected) if injected else (self._find_parent(client, batch.started), None)
        self._parent = parent
        if spool.stem == spools.PIPELINE:
            self._put(client, parent, batch)
        else:
            child = child or self._find_child(client, parent, spool.stem, batch.started)
            self._put(client, child, batch)
            self._put_on_parent(client, parent, batch)
        spools.mark(spool, state)
        return len(lines)

    def _put(self, client: Any, run: _Run, batch: Batch) -> None:
        from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415 - see _connect

        fresh = {name: value for name, value in batch.params.items() if name not in run.params}
        for part in _parts(list(fresh.items()), MAX_PARAMS_PER_CALL):
            self._tolerate(client.log_batch, run.run_id, params=[Param(name, value) for name, value in part])
            run.params |= {name for name, _ in part}
        for part in _parts(list(batch.tags.items()), MAX_PARAMS_PER_CALL):
            self._tolerate(client.log_batch, run.run_id, tags=[RunTag(name, value) for name, value in part])
        for part in _parts(batch.metrics, MAX_METRICS_PER_CALL):
            self._tolerate(client.log_batch, run.run_id, metrics=[Metric(*row) for row in part])
        if batch.datasets:
            self._tolerate(client.log_inputs, run.run_id, [_dataset_input(one) for one in batch.datasets])
        for one in batch.artifacts:
            self._put_artifact(client, run.run_id, one)
        self._set_status(client, run, batch)

    def _put_on_parent(self, client: Any, parent: _Run, batch: Batch) -> None:
        """Headline metrics stand on the parent too, because only parents are compared in the run list; so does a failure."""
        from mlflow.entities import Metric, RunTag  # noqa: PLC0415 - see _connect

        for part in _parts(batch.headline, MAX_METRICS_PER_CALL):
            self._tolerate(client.log_batch, parent.run_id, metrics=[Metric(*row) for row in part])
        shared = {name: value for name, value in batch.tags.items() if name in ("error", "failure") or name.startswith("data.")}
        if shared:
            self._tolerate(client.log_batch, parent.run_id, tags=[RunTag(name, value) for name, value in shared.items()])
        last = batch.status == "FINISHED" and os.environ.get("RELEVANCE_LAST_STEP") == "1"
        if batch.status == "FAILED" or last:
            self._set_status(client, parent, batch)

    def _set_status(self, client: Any, run: _Run, batch: Batch) -> None:
        if not run.ours or not batch.status:
            return
        if batch.status == "RUNNING" and run.status != "RUNNING":
            self._call(client.update_run, run.run_id, status="RUNNING")
        elif batch.status != "RUNNING":
            self._call(client.set_terminated, run.run_id, batch.status, batch.ended)
        run.status = batch.status

    def _put_artifact(self, client: Any, run_id: str, line: Mapping[str, Any]) -> None:
        folder = line["folder"] or None
        if not storage.exists(line["uri"]):
            logger.warning("artifact %s is gone; not sent", line["uri"])
        elif storage.is_local(line["uri"]):
            path = storage.local_path(line["uri"])
            send = client.log_artifacts if path.is_dir() else client.log_artifact
            self._tolerate(send, run_id, str(path), folder)
        else:
            self._put_remote_artifact(client, run_id, line["uri"], folder)

    def _put_remote_artifact(self, client: Any, run_id: str, uri: str, folder: str | None) -> None:
        fs, path = storage.resolve(uri)
        if fs.size(path) > MAX_ARTIFACT_BYTES:
            logger.warning("artifact %s is over %d bytes; not sent", uri, MAX_ARTIFACT_BYTES)
            return
        with tempfile.TemporaryDirectory() as place:
            copy = Path(place) / path.rsplit("/", 1)[-1]
            copy.write_bytes(storage.read_bytes(uri))
            self._tolerate(client.log_artifact, run_id, str(copy), folder)

    def _tolerate(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """A call whose content MLflow will never accept is dropped with a warning, so that it does not block what follows."""
        try:
            self._call(action, *args, **kwargs)
        except _mlflow_errors() as error:
            if getattr(error, "error_code", "") not in PERMANENT_CODES:
                raise
            logger.warning("MLflow refuses: %s", error)

    def _find_experiment(self, client: Any) -> str:
        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        known = self._call(client.get_experiment_by_name, name)
        if known is not None:
            return known.experiment_id
        place = _artifact_root(self.uri)
        try:
            return self._call(client.create_experiment, name, artifact_location=f"{place}/{name}" if place else None)
        except _mlflow_errors() as error:
            if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._call(client.get_experiment_by_name, name).experiment_id

    def _find_parent(self, client: Any, started: int | None) -> _Run:
        """The pipeline's run: the one with our run id, or a new one."""
        if self._parent is None:
            self._experiment = self._experiment or self._find_experiment(client)
            run_id = self.folder.name
            wanted = f"tags.`{RUN_TAG}` = '{run_id}'"
            found = self._roots(client, wanted)
            if not found:
                tags = {RUN_TAG: run_id, **_tags_of_environment()}
                self._call(client.create_run, self._experiment, start_time=started, tags=tags, run_name=run_id)
                # two tasks that start at once both create one: the older stays, whoever made it
                found = self._roots(client, wanted)
                for extra in found[1:]:
                    self._call(client.delete_run, extra.info.run_id)
            ours = PLUGIN_TAG not in found[0].data.tags
            self._parent = _Run(found[0].info.run_id, ours=ours, params=set(found[0].data.params), status=found[0].info.status)
        return self._parent

    def _roots(self, client: Any, wanted: str) -> list[Any]:
        found = self._call(client.search_runs, [self._experiment], wanted)
        roots = [run for run in found if PARENT_TAG not in run.data.tags]
        return sorted(roots, key=lambda run: (run.info.start_time, run.info.run_id))

    def _adopt(self, client: Any, injected: str) -> tuple[_Run, _Run | None]:
        """kfp's MLflow plugin injects a run, the task's, which has a parent, or the pipeline's: (pipeline's run, task's run)."""
        if injected not in self._adopted:
            run = self._call(client.get_run, injected)
            self._experiment = run.info.experiment_id
            above, given = run.data.tags.get(PARENT_TAG), _Run(injected, ours=False, params=set(run.data.params))
            self._adopted[injected] = (_Run(above, ours=False), given) if above else (given, None)
        return self._adopted[injected]

    def _find_child(self, client: Any, parent: _Run, section: str, started: int | None) -> _Run:
        if section not in self._children:
            wanted = f"tags.`{PARENT_TAG}` = '{parent.run_id}' and tags.`{SECTION_TAG}` = '{section}'"
            found = self._call(client.search_runs, [self._experiment], wanted)
            if found:
                run = found[0]
            else:
                tags = {PARENT_TAG: parent.run_id, SECTION_TAG: section}
                run = self._call(client.create_run, self._experiment, start_time=started, tags=tags, run_name=section)
            self._children[section] = _Run(run.info.run_id, ours=True, params=set(run.data.params), status=run.info.status)
        return self._children[section]


def default_uri(runs: str = "runs") -> str:
    """MLflow's store where no server is named: SQLite below `runs`."""
    place = Path(runs).resolve()
    place.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{place / 'mlflow.db'}"


def _artifact_root(uri: str) -> str | None:
    """Beside a SQLite store, `mlartifacts`; a server decides for itself."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts").as_uri()


def send_at_task_end(spool: Path, workspace: str) -> Outcome | None:
    """What a task on a cluster calls last: send its own spool within the budget, keep in the workspace what could not be sent.

    Nothing happens where a separate sender does it (`RELEVANCE_TRACKING=spool`) or no MLflow is named.
    """
    if os.environ.get("RELEVANCE_TRACKING") == "spool" or not os.environ.get("MLFLOW_TRACKING_URI") or not spool.exists():
        return None
    if find_spec("mlflow") is None:
        logger.warning("tracking: MLFLOW_TRACKING_URI is set but mlflow is not installed; lines stay in %s", spool)
        return None
    budget_s = float(os.environ.get("RELEVANCE_TRACKING_BUDGET_S", "30"))
    outcome = Sender(spool.parent, budget_s=budget_s).send()
    if outcome.unsent:
        logger.warning("tracking: %d lines wait for `python -m pipelines sync` (%s)", outcome.unsent, outcome.trouble)
        if not storage.is_local(workspace):
            whole = spool.read_bytes() + spools.injection(os.environ.get("MLFLOW_RUN_ID", ""))
            storage.write_bytes(storage.join(workspace, "tracking", spool.parent.name, spool.name), whole)
    return outcome


def refusal(budget_s: float) -> tuple[str, bool]:
    """Why MLflow cannot be used, and whether it refuses rather than being away; empty when it can be."""
    try:
        Sender(Path(), budget_s=budget_s).ask_anything()
    except _mlflow_errors() as error:
        text = " ".join(str(error).split())[:300]
        return text, any(f"error code {status}" in text for status in (401, 403)) or getattr(error, "error_code", "") in REFUSALS
    return "", False


def _tags_of_environment() -> dict[str, str]:
    """Tags that the pipeline's placement puts into each task's environment."""
    named = {"RELEVANCE_RECIPE": "recipe", "RELEVANCE_GIT_REVISION": "mlflow.source.git.commit", "RELEVANCE_CODE_DIGEST": "code.digest"}
    return {tag: os.environ[name] for name, tag in named.items() if os.environ.get(name)}


def _dataset_input(line: Mapping[str, Any]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415 - see Sender._connect

    kind = storage.normalise(line["uri"]).split("://", 1)[0]
    profile = json.dumps({"num_rows": line["rows"], "sha256": line["digest"]})
    source = json.dumps({"uri": line["uri"]})
    entity = Dataset(line["name"], line["digest"][:MAX_DIGEST_CHARS], "local" if kind == "file" else kind, source, profile=profile)
    return DatasetInput(entity, [InputTag("mlflow.data.context", line["section"])])


def _parts(rows: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _mlflow_errors() -> tuple[type[BaseException], ...]:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - see Sender._connect

    return (MlflowException,)
