"""The nightly schedule: one recurring run on a Kubeflow, made, changed and removed by name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components.shared.errors import InputError, TemporaryError
from pipelines import ir
from pipelines.cron import Plan
from pipelines.kubeflow import Kubeflow, arguments_of, named, version_of
from pipelines.package import Package
from pipelines.submit import EXPERIMENT, upload

NAME = f"{ir.NAME}-nightly"
SCHEDULED_DAY = "[[ScheduledTime.2006-01-02]]"  # Go's way to write YYYY-MM-DD; the server fills it in for every run


@dataclass(frozen=True)
class Outcome:
    """The schedule that stands now, and what was done: `created`, `updated` or `unchanged`."""

    recurring_run_id: str
    done: str


def check(package: Package) -> None:
    """What a schedule needs beyond a single run.

    Raises:
        InputError: for a made-up shop, a fixed date, or a window that would hold a day that is not over.
    """
    if not package.arguments["data"]:
        raise InputError("a schedule needs a log that grows; give --data")
    if package.arguments["date"]:
        raise InputError(f"--date {package.arguments['date']} would be the date of every night; leave it out, the schedule gives the date")
    if package.arguments["logs"]["lag_days"] < 1:
        raise InputError("logs.lag_days = 0 would read the day on which a run fires, and that is not over; give --set logs.lag_days=1")


def schedule(server: Kubeflow, package: Package, when: Plan, name: str = NAME, experiment: str = EXPERIMENT) -> Outcome:
    """Exactly one enabled recurring run of this name, with these settings.

    The API cannot change a recurring run. So the old one is disabled first (a night never runs twice), and enabled again should the
    new one be refused (a night is not lost).
    """
    check(package)
    pipeline, version = upload(server, package)
    wanted: dict[str, Any] = {
        "experiment_id": server.experiment_id(experiment),
        "description": f"{when.asked}; {package.description}",
        "cron_expression": when.cron,
        "max_concurrency": 1,
        "no_catchup": True,
        "params": package.arguments | {"date": SCHEDULED_DAY},
        "pipeline_id": pipeline,
        "version_id": version,
        "service_account": package.service_account or None,
    }
    old = list(_standing(server, name))
    kept = next((one for one in old if _is_as_wanted(one, wanted)), None)
    identity = _create(server, name, wanted, old) if kept is None else kept.recurring_run_id
    _remove(server, [one for one in old if one is not kept])
    return Outcome(identity, "unchanged" if kept is not None else "updated" if old else "created")


def unschedule(server: Kubeflow, name: str = NAME) -> int:
    """Remove the schedule; runs that it made stay. Returns how many recurring runs of that name there were."""
    return _remove(server, list(_standing(server, name)))


def _standing(server: Kubeflow, name: str) -> Iterator[Any]:
    given = {"namespace": server.namespace, "filter": named(name)}
    found = server.pages("list schedules", server.client.list_recurring_runs, "recurring_runs", **given)
    return (one for one in found if one.display_name == name)


def _create(server: Kubeflow, name: str, wanted: dict[str, Any], old: list[Any]) -> str:
    running = [one.recurring_run_id for one in old if _is_enabled(one)]
    try:
        for one in running:
            server.ask("disable the old schedule", lambda at=one: server.client.disable_recurring_run(at))
        return server.ask(f"create schedule '{name}'", lambda: server.client.create_recurring_run(job_name=name, **wanted)).recurring_run_id
    except (InputError, TemporaryError):
        # an answer that was lost on its way does not mean that nothing was made; two enabled schedules would be worse than none
        made = next((one for one in _standing(server, name) if _is_as_wanted(one, wanted)), None)
        if made is not None:
            return made.recurring_run_id
        for one in running:
            server.ask("enable the old schedule again", lambda at=one: server.client.enable_recurring_run(at))
        raise


def _remove(server: Kubeflow, old: list[Any]) -> int:
    for one in old:
        identity = one.recurring_run_id
        server.ask("remove the old schedule", lambda at=identity: server.client.delete_recurring_run(at))
    return len(old)


def _is_as_wanted(one: Any, wanted: dict[str, Any]) -> bool:
    cron = one.trigger.cron_schedule.cron if one.trigger and one.trigger.cron_schedule else ""
    found = (cron, int(one.max_concurrency or 0), one.no_catchup, one.experiment_id, one.description, version_of(one)[1])
    keys = ("cron_expression", "max_concurrency", "no_catchup", "experiment_id", "description", "version_id")
    if (one.service_account or None) != (
        wanted["service_account"] or one.service_account or None
    ):  # unnamed: the server's own choice stays
        return False
    return _is_enabled(one) and found == tuple(wanted[key] for key in keys) and arguments_of(one) == wanted["params"]


def _is_enabled(one: Any) -> bool:
    """`status` is what is and `mode` what was asked for; servers fill one or both."""
    return one.status == "ENABLED" if one.status else one.mode == "ENABLE"
