"""The command line of the pipeline: `python -m pipelines {run,compile,lint,show,sync,status}`."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

import yaml
from rich.console import Console

from components.shared.errors import EXIT_INPUT, EXIT_TEMPORARY, InputError, TemporaryError
from pipelines import ir, recipe, run_local, status, sync
from pipelines.lint import lint
from pipelines.placement import PROFILES, Images, images_of_environment


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
    parser = argparse.ArgumentParser(prog="python -m pipelines", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = argparse.ArgumentParser(add_help=False)
    chosen.add_argument("--recipe", default="tiny", help=f"one of {', '.join(recipe.names())}, or a YAML file (default: tiny)")
    chosen.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one setting; may be repeated")
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--data", default="", metavar="DIR", help="your data folder (dataset.yaml and its files); default: a made-up shop")
    where.add_argument("--date", default="", metavar="YYYY-MM-DD", help="last day of the log that counts; default: the log's last day")

    run = commands.add_parser("run", parents=[chosen, where], help="run the whole pipeline on this machine")
    run.add_argument("--workspace", default="", metavar="DIR", help="where all outputs go (default: runs/<recipe>)")
    run.add_argument("-v", "--verbose", action="store_true", help="show everything that the tasks write")
    build = commands.add_parser("compile", parents=[chosen, where], help="write the pipeline as YAML for a cluster")
    build.add_argument("--profile", choices=PROFILES, default="laptop", help="where the tasks will run (default: laptop)")
    build.add_argument("--workspace", default="runs/compiled", metavar="URI", help="where all outputs go, gs://... on a cluster")
    build.add_argument("--cpu-image", default="", metavar="REF", help="image of CPU tasks, with digest (default: $RELEVANCE_CPU_IMAGE)")
    build.add_argument("--gpu-image", default="", metavar="REF", help="image of GPU tasks, with digest (default: $RELEVANCE_GPU_IMAGE)")
    build.add_argument("--output", default="runs/pipeline.yaml", metavar="FILE", help="file to write (default: runs/pipeline.yaml)")
    check = commands.add_parser("lint", help="look for faults in compiled pipelines; without files, in every recipe's")
    check.add_argument("files", nargs="*", metavar="FILE")
    commands.add_parser("show", parents=[chosen], help="print a recipe with all defaults filled in")
    send = commands.add_parser("sync", help="send to MLflow what waits in a workspace")
    send.add_argument("workspace", nargs="?", default="runs", help="a workspace, or a folder of workspaces (default: runs)")
    send.add_argument("--run", default="", metavar="RUN_ID", help="only this run")
    send.add_argument("--follow", action="store_true", help="go on until standard input ends")
    look = commands.add_parser("status", help="list the runs of a workspace")
    look.add_argument("workspace", nargs="?", default="runs", help="a workspace, or a folder of workspaces (default: runs)")
    return parser


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
    environment = images_of_environment()
    images = Images(given.cpu_image or environment.cpu, given.gpu_image or environment.gpu) if given.profile == "cluster" else None
    arguments = {**recipe.load(given.recipe, given.set), "workspace": given.workspace, "data": given.data, "date": given.date}
    tags = {
        "RELEVANCE_RECIPE": given.recipe,
        "RELEVANCE_GIT_REVISION": run_local.git_revision(),
        "RELEVANCE_CODE_DIGEST": run_local.code_digest(),
    }
    target = ir.compile_pipeline(Path(given.output), arguments, given.profile, images, tags)
    print(target)
    return _report(target)


def _lint(given: argparse.Namespace) -> int:
    if given.files:
        return max(_report(Path(file)) for file in given.files)
    with tempfile.TemporaryDirectory() as place:
        images = Images("cpu@sha256:0", "gpu@sha256:0")
        targets = [
            ir.compile_pipeline(Path(place) / f"{name}-{profile}.yaml", {**recipe.load(name), "workspace": "w"}, profile, images)
            for name in recipe.names()
            for profile in PROFILES
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
    Console().print(status.table(given.workspace))
    return 0


COMMANDS = {"run": _run, "compile": _compile, "lint": _lint, "show": _show, "sync": _sync, "status": _status}


if __name__ == "__main__":
    sys.exit(main())
