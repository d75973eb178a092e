"""The command line of the pipeline: `python -m pipelines COMMAND`.

Here: run, compile, lint, show, sync, status, plan, estimate. On a Kubeflow: submit, schedule, unschedule, backfill, resume, status --host.
"""

import argparse
import os
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from components.shared.errors import EXIT_INPUT, EXIT_TEMPORARY, InputError, TemporaryError
from pipelines import cron, estimate, ir, nights, package, plan, recipe, run_local, schedule, status, submit, sync
from pipelines.kubeflow import HOST_VARIABLE, Kubeflow, check_host
from pipelines.lint import lint
from pipelines.placement import CLUSTER, LAPTOP, PROFILES, Images, images_of_environment, in_pods, in_queue, profiles_of


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, 2 for a user's mistake, 75 for trouble that may pass, 130 when interrupted, 1 otherwise."""
    given = _parser().parse_args(argv)
    try:
        return COMMANDS[given.command](given)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_INPUT
    except TemporaryError as error:
        sys.stderr.write(f"temporary trouble: {error}\n")
        return EXIT_TEMPORARY
    except KeyboardInterrupt:
        return run_local.EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = argparse.ArgumentParser(add_help=False)
    chosen.add_argument("--recipe", default="tiny", help=f"one of {', '.join(recipe.names())}, or a YAML file (default: tiny)")
    chosen.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one setting; may be repeated")
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data", default="", metavar="DIR", help="your data folder (dataset.yaml and its files); default: a made-up shop")
    day = argparse.ArgumentParser(add_help=False)
    day.add_argument("--date", default="", metavar="YYYY-MM-DD", help="last day of the log that counts; default: the log's last day")

    run = commands.add_parser("run", parents=[chosen, data, day], help="run the whole pipeline on this machine")
    run.add_argument("--workspace", default="", metavar="DIR", help="where all outputs go (default: runs/<recipe>)")
    run.add_argument("-v", "--verbose", action="store_true", help="show everything that the tasks write")
    placed = _placing(LAPTOP, "runs/compiled")
    build = commands.add_parser("compile", parents=[chosen, data, day, placed], help="write the pipeline as YAML for a cluster")
    build.add_argument("--output", default="runs/pipeline.yaml", metavar="FILE", help="file to write (default: runs/pipeline.yaml)")
    check = commands.add_parser("lint", help="look for faults in compiled pipelines; without files, in every recipe's")
    check.add_argument("files", nargs="*", metavar="FILE")
    commands.add_parser("show", parents=[chosen], help="print a recipe with all defaults filled in")
    send = commands.add_parser("sync", help="send to MLflow what waits in a workspace")
    send.add_argument("workspace", nargs="?", default="runs", help="a workspace, or a folder of workspaces (default: runs)")
    send.add_argument("--run", default="", metavar="RUN_ID", help="only this run")
    send.add_argument("--follow", action="store_true", help="go on until standard input ends")
    plan.add_options(commands.add_parser("plan", help="estimate time, GPU hours, storage and cost of a night; starts nothing"))
    of_teacher = commands.add_parser("estimate", parents=[chosen], help="memory, tokens and hours of training a recipe's teacher")
    estimate.add_options(of_teacher)
    _add_cluster_commands(commands, [chosen, data, _placing(CLUSTER, "")], day)
    return parser


def _placing(profile: str, workspace: str) -> argparse.ArgumentParser:
    placed = argparse.ArgumentParser(add_help=False)
    placed.add_argument("--profile", choices=PROFILES, default=profile, help=f"where the tasks will run (default: {profile})")
    placed.add_argument("--workspace", default=workspace, metavar="URI", help="where all outputs go, gs://... on a cluster")
    placed.add_argument("--cpu-image", default="", metavar="REF", help="image of CPU tasks, with digest (default: $RELEVANCE_CPU_IMAGE)")
    placed.add_argument("--gpu-image", default="", metavar="REF", help="image of GPU tasks, with digest (default: $RELEVANCE_GPU_IMAGE)")
    placed.add_argument("--gpu-queue", default="", metavar="NAME", help="Kueue's local queue of GPU tasks (default: $RELEVANCE_GPU_QUEUE)")
    placed.add_argument(
        "--gpu-nodes", default="", metavar="LABELS", help="labels of their nodes, KEY=VALUE,... (default: $RELEVANCE_GPU_NODES)"
    )
    return placed


def _add_cluster_commands(commands: Any, what: list[argparse.ArgumentParser], day: argparse.ArgumentParser) -> None:
    there = argparse.ArgumentParser(add_help=False)
    there.add_argument("--namespace", default="", metavar="NAME", help="profile of a multi-user Kubeflow (default: kfp's own choice)")
    there.add_argument("--experiment", default=submit.EXPERIMENT, metavar="NAME", help=f"groups the runs (default: {submit.EXPERIMENT})")
    account = argparse.ArgumentParser(add_help=False)
    account.add_argument("--service-account", default="", metavar="NAME", help="what tasks run as (default: $RELEVANCE_SERVICE_ACCOUNT)")
    host = argparse.ArgumentParser(add_help=False)
    host.add_argument("--host", default="", metavar="URL", help=f"address of Kubeflow Pipelines (default: ${HOST_VARIABLE})")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default=schedule.NAME, help=f"name of the schedule (default: {schedule.NAME})")

    commands.add_parser("submit", parents=[*what, day, account, there, host], help="run the pipeline once on a Kubeflow")
    nightly = commands.add_parser(
        "schedule", parents=[*what, account, there, host, named], help="run it regularly; again: change the schedule"
    )
    nightly.add_argument("--cron", default="30 2 * * *", help="minute hour day month weekday; once a day or less (default: '30 2 * * *')")
    nightly.add_argument("--time-zone", default="UTC", metavar="ZONE", help="where --cron is meant, such as Europe/Berlin (default: UTC)")
    nightly.add_argument(
        "--server-time-zone",
        default=cron.SERVER_ZONE,
        metavar="ZONE",
        help="CRON_SCHEDULE_TIMEZONE of Kubeflow's controller (default: UTC)",
    )
    commands.add_parser("unschedule", parents=[there, host, named], help="remove the schedule; its runs stay")
    past = commands.add_parser(
        "backfill", parents=[*what, account, there, host], help="one run per day that the workspace has no finished run for"
    )
    past.add_argument("--from", dest="first", required=True, metavar="YYYY-MM-DD", help="first date")
    past.add_argument("--to", dest="last", required=True, metavar="YYYY-MM-DD", help="last date")
    past.add_argument("--list", action="store_true", help="only say which days the workspace has a finished run for; asks no Kubeflow")
    past.add_argument("--again", action="store_true", help="also days that the workspace has a finished run for")
    again = commands.add_parser("resume", parents=[there, host], help="a failed run once more; finished steps are reused")
    again.add_argument("run_id", metavar="RUN_ID", help="as shown by `status --host`")
    look = commands.add_parser("status", parents=[there], help="list the runs of a workspace, or with --host those on a Kubeflow")
    look.add_argument("workspace", nargs="?", default="runs", help="a workspace, or a folder of workspaces (default: runs)")
    look.add_argument("--host", nargs="?", const="", metavar="URL", help=f"list runs there; without URL, at ${HOST_VARIABLE}")


def _run(given: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # a stopped run ends its tasks like Ctrl-C does
    request = run_local.Request(
        recipe=given.recipe,
        data=given.data,
        date=given.date,
        workspace=given.workspace,
        overrides=given.set,
        verbose=given.verbose,
    )
    return run_local.run_local(request, Console())


def _compile(given: argparse.Namespace) -> int:
    arguments = {**recipe.load(given.recipe, given.set), "workspace": given.workspace, "data": given.data, "date": given.date}
    tags, images = package.environment_tags(given.recipe), _images(given)
    target = ir.compile_pipeline(Path(given.output), in_queue(arguments, images), given.profile, images, tags)
    print(target)
    return _report(target)


def _images(given: argparse.Namespace) -> Images | None:
    environment = images_of_environment()
    if not in_pods(given.profile):
        return None
    return Images(
        given.cpu_image or environment.cpu,
        given.gpu_image or environment.gpu,
        given.gpu_queue or environment.queue,
        given.gpu_nodes or environment.nodes,
    )


def _lint(given: argparse.Namespace) -> int:
    if given.files:
        return max(_report(Path(file)) for file in given.files)
    with tempfile.TemporaryDirectory() as place:
        images = Images("cpu@sha256:0", "gpu@sha256:0")
        targets = [
            ir.compile_pipeline(Path(place) / f"{name}-{profile}.yaml", {**recipe.load(name), "workspace": "w"}, profile, images)
            for name in recipe.names()
            for profile in profiles_of(recipe.load(name))
        ]
        return max(_report(target) for target in targets)


def _report(path: Path) -> int:
    problems = lint(ir.read_ir(path))
    for problem in problems:
        print(f"{path}: {problem}")
    return 1 if problems else 0


def _show(given: argparse.Namespace) -> int:
    print(yaml.safe_dump(recipe.load(given.recipe, given.set), sort_keys=False), end="")
    return 0


def _sync(given: argparse.Namespace) -> int:
    outcome = sync.follow(given.workspace, given.run, sys.stdin) if given.follow else sync.send_all(given.workspace, given.run)
    print(f"{outcome.sent} lines sent, {outcome.unsent} wait {outcome.trouble}".rstrip())
    return EXIT_TEMPORARY if outcome.unsent else 0


def _status(given: argparse.Namespace) -> int:
    shown = status.table(given.workspace) if given.host is None else status.server_table(_server(given), given.experiment)
    Console().print(shown)
    return 0


def _server(given: argparse.Namespace) -> Kubeflow:
    return Kubeflow(given.host, given.namespace)


def _prepare(given: argparse.Namespace, folder: str) -> package.Package:
    check_host(given.host)
    request = package.Request(
        recipe=given.recipe,
        overrides=given.set,
        data=given.data,
        date=getattr(given, "date", ""),
        workspace=given.workspace,
        profile=given.profile,
        images=_images(given),
        service_account=given.service_account or os.environ.get("RELEVANCE_SERVICE_ACCOUNT", ""),
    )
    return package.prepare(request, Path(folder))


def _submit(given: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        ready = _prepare(given, folder)
        made = submit.submit(_server(given), ready, given.experiment)
    print(f"{made.run_id}: version {ready.version}\n{made.url}")
    return 0


def _schedule(given: argparse.Namespace) -> int:
    when = cron.plan(given.cron, given.time_zone, given.server_time_zone, datetime.now(UTC).date())
    with tempfile.TemporaryDirectory() as folder:
        ready = _prepare(given, folder)
        schedule.check(ready)
        outcome = schedule.schedule(_server(given), ready, when, given.name, given.experiment)
    print(f"schedule {given.name} {outcome.done}: {when.asked}, sent as '{when.cron}' {given.server_time_zone}, version {ready.version}")
    if when.note:
        print(when.note)
    return 0


def _unschedule(given: argparse.Namespace) -> int:
    num_removed = schedule.unschedule(_server(given), given.name)
    print(f"schedule {given.name} {'removed' if num_removed else 'was not there'}")
    return 0


def _backfill(given: argparse.Namespace) -> int:
    days = submit.days_between(given.first, given.last)
    if given.list:
        known = nights.finished(package.check_workspace(given.workspace, given.profile))
        print("\n".join(nights.line_of(day, known) for day in days))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        ready = _prepare(given, folder)
        known = {} if given.again else nights.finished(ready.arguments["workspace"])
        missing = [day for day in days if day not in known]
        filled = submit.backfill(_server(given), ready, missing, given.experiment) if missing else iter(())
        for day in days:
            one = next(filled) if day in missing else None
            print(f"{one.day} {one.state or 'submitted'} {one.url}" if one else nights.line_of(day, known), flush=True)
    return 0


def _resume(given: argparse.Namespace) -> int:
    made = submit.resume(_server(given), given.run_id)
    print(f"{made.run_id}\n{made.url}")
    return 0


COMMANDS = {
    "run": _run,
    "compile": _compile,
    "lint": _lint,
    "show": _show,
    "sync": _sync,
    "status": _status,
    "plan": plan.command,
    "estimate": estimate.command,
    "submit": _submit,
    "schedule": _schedule,
    "unschedule": _unschedule,
    "backfill": _backfill,
    "resume": _resume,
}


if __name__ == "__main__":
    sys.exit(main())
