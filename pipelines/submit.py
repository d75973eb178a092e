"""Runs on a Kubeflow: one now, one per day of the past, one more try of a run that failed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from components.shared.errors import InputError
from pipelines import ir, run_local
from pipelines.kubeflow import ENDED_BADLY, Kubeflow, arguments_of, named, version_of
from pipelines.package import Package

EXPERIMENT = ir.NAME
MAX_DAYS = 100  # each day is a run of its own, and all of them start at once
DESCRIPTION = "Turns a shop's search log into a small relevance model, and promotes it if it is better than the champion."


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A run that is on the server; `state` is empty where this command made it."""

    day: str
    run_id: str
    url: str
    state: str = ""


def upload(server: Kubeflow, package: Package) -> tuple[str, str]:
    """(pipeline id, version id) of the package; both are made only where they are missing."""
    pipeline = server.pipeline_id(ir.NAME)
    if not pipeline:
        made = server.ask("create the pipeline", lambda: server.client.create_pipeline(ir.NAME, DESCRIPTION, server.namespace))
        pipeline = made.pipeline_id
    given = {"pipeline_id": pipeline, "filter": named(package.version)}
    for one in server.pages("list pipeline versions", server.client.list_pipeline_versions, "pipeline_versions", **given):
        if one.display_name == package.version:
            return pipeline, one.pipeline_version_id
    given = {"pipeline_version_name": package.version, "pipeline_id": pipeline, "description": package.description}
    made = server.ask("upload the pipeline", lambda: server.client.upload_pipeline_version(str(package.file), **given))
    return pipeline, made.pipeline_version_id


def submit(server: Kubeflow, package: Package, experiment: str = EXPERIMENT) -> Submitted:
    """One run, now."""
    pipeline, version = upload(server, package)
    day = package.arguments["date"]
    return _run(
        server,
        server.experiment_id(experiment),
        f"{package.name} {day or 'last day'}",
        pipeline,
        version,
        package.arguments,
        package.service_account,
    )


def days_between(first: str, last: str) -> list[str]:
    """All days from `first` to `last`.

    Raises:
        InputError: for a date that is none or in the future, an empty range, or one of more than MAX_DAYS.
    """
    if not first or not last:
        raise InputError("backfill needs both ends; give --from YYYY-MM-DD --to YYYY-MM-DD")
    start, end = (date.fromisoformat(run_local.check_date(day)) for day in (first, last))
    if start > end:
        raise InputError(f"--from {first} is after --to {last}; swap them")
    if (end - start).days >= MAX_DAYS:
        raise InputError(f"--from {first} --to {last} is {(end - start).days + 1} runs at once; ask for at most {MAX_DAYS} days")
    return [(start + timedelta(days=more)).isoformat() for more in range((end - start).days + 1)]


def backfill(server: Kubeflow, package: Package, days: Sequence[str], experiment: str = EXPERIMENT) -> Iterator[Submitted]:
    """One run per day; a day whose run of the same version and arguments goes on or succeeded is left alone."""
    pipeline, version = upload(server, package)
    place = server.experiment_id(experiment)
    runs = [run for run in server.runs(place) if version_of(run)[1] == version and run.state not in ENDED_BADLY]
    for day in days:
        arguments = package.arguments | {"date": day}
        there: Any = next((run for run in runs if arguments_of(run) == arguments), None)
        if there is not None:
            yield Submitted(day=day, run_id=there.run_id, url=server.url(there.run_id), state=there.state or "PENDING")
        else:
            yield _run(server, place, f"{package.name} {day}", pipeline, version, arguments, package.service_account)


def resume(server: Kubeflow, run_id: str) -> Submitted:
    """The run once more, same version and arguments: finished steps are found by their fingerprints, others go on in their folders.

    Raises:
        InputError: when there is no such run, it goes on or succeeded, or it was not made from a pipeline version.
    """
    run = server.ask(f"find run '{run_id}'", lambda: server.client.get_run(run_id))
    if run.state not in ENDED_BADLY:
        raise InputError(f"run '{run_id}' is {run.state or 'PENDING'}; only one that failed or was canceled can be resumed")
    pipeline, version = version_of(run)
    if not version:
        raise InputError(f"run '{run_id}' was made from a file, not from a pipeline version; submit it again with `submit`")
    name = f"{str(run.display_name).removesuffix(' (resumed)')} (resumed)"
    return _run(server, run.experiment_id, name, pipeline, version, arguments_of(run), run.service_account)


def _run(
    server: Kubeflow, experiment: str, name: str, pipeline: str, version: str, arguments: dict[str, Any], account: str | None = None
) -> Submitted:
    given = {"pipeline_id": pipeline, "version_id": version, "params": arguments, "service_account": account or None}
    run = server.ask(f"create run '{name}'", lambda: server.client.run_pipeline(experiment, name, **given))
    return Submitted(day=str(arguments.get("date", "")), run_id=run.run_id, url=server.url(run.run_id))
