"""The command-line door of every room: flags made from its settings and from the arguments of its `run`."""

import argparse
import contextlib
import inspect
import logging
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from components.shared.config import StepConfig
from components.shared.errors import EXIT_INPUT, EXIT_TEMPORARY, InputError, TemporaryError
from components.shared.report import Report
from components.shared.tracking import NullTracker

HOW_FAR = re.compile(r"\b(\d+)(?:/| of )(\d+)\b")  # as in "step 20/500" and "3 of 512 shards"


def main(run: Callable[..., Report], config_type: type[StepConfig], section: str, argv: Sequence[str] | None = None) -> int:
    """Parse flags, run the step, print its report; returns the exit code (0, 2 for bad input, 75 for trouble that may pass)."""
    parser = build_parser(run, config_type, section)
    given = vars(parser.parse_args(argv))
    recipe = given.pop("recipe")
    try:
        names = _settings(run, config_type)
        settings = {key: _value(config_type, key, given.pop(key)) for key in names if given.get(key) is not None}
        config = config_type.from_mapping({**_section_of(recipe, section), **settings}, section=section)
        places = {name: value for name, value in given.items() if name in _arguments(run) and value is not None}
        with _last_words():
            report = run(config, tracker=NullTracker(), **places)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_INPUT
    except TemporaryError as error:
        sys.stderr.write(f"temporary trouble: {error}\n")
        return EXIT_TEMPORARY
    show(report, places)
    return 0


@contextlib.contextmanager
def _last_words() -> Iterator[None]:
    """On a terminal, what the step said last stands beside a bar: how far it is, at which rate, how long it will take."""
    console, logger = Console(stderr=True), logging.getLogger("components")
    if not console.is_terminal:
        yield
        return
    columns = SpinnerColumn("line"), BarColumn(20), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=console, transient=True) as progress:
        task, handler, level = progress.add_task("", total=None), logging.Handler(), logger.level

        def show(record: logging.LogRecord) -> None:
            text = record.getMessage()
            far = HOW_FAR.search(text)
            progress.update(task, description=text[: console.width - 30], refresh=True)
            if far and int(far[2]):
                progress.update(task, completed=int(far[1]), total=int(far[2]), refresh=True)

        handler.emit = show
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)


def build_parser(run: Callable[..., Report], config_type: type[StepConfig], section: str) -> argparse.ArgumentParser:
    """One flag per argument of `run` and one per setting, with the setting's own sentence as help."""
    doc = (inspect.getdoc(inspect.getmodule(run)) or "").strip()
    as_written = argparse.RawDescriptionHelpFormatter  # examples keep their lines
    parser = argparse.ArgumentParser(prog=f"python -m {run.__module__.rsplit('.', 1)[0]}", description=doc, formatter_class=as_written)
    places = parser.add_argument_group("inputs and outputs (paths, file:// or gs:// URIs)")
    for name, parameter in _arguments(run).items():
        needed = parameter.default is inspect.Parameter.empty
        places.add_argument(_flag(name), required=needed, metavar="URI", help="required" if needed else "optional")
    parser.add_argument("--recipe", metavar="FILE", help=f"a recipe whose section '{section}' sets the defaults")
    settings = parser.add_argument_group(f"settings (recipe section '{section}')")
    for name in _settings(run, config_type):
        field = config_type.model_fields[name]
        default = "required" if field.is_required() else f"default: {field.get_default(call_default_factory=True)!r}"
        text = f"{field.description or ''} ({default})".replace("%", "%%")
        settings.add_argument(_flag(name), dest=name, metavar="VALUE", help=text)
    return parser


def show(report: Report, places: dict[str, str]) -> None:
    """Print a short table and where things are."""
    table = Table(show_header=False)
    for name, count in report.counts().items():
        table.add_row(name, f"{count:,}")
    for name, value in report.metrics.items():
        table.add_row(name, f"{value:.6g}")
    console = Console()
    console.print(table)
    for name, note in {**places, **report.notes}.items():
        console.print(f"{name}: {note}", soft_wrap=True, highlight=False, markup=False)


def _arguments(run: Callable[..., Report]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(run).parameters
    return {name: one for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY and name != "tracker"}


def _settings(run: Callable[..., Report], config_type: type[StepConfig]) -> list[str]:
    """Settings that have a flag; one that is also an argument of `run` is given as that argument."""
    return [name for name in config_type.model_fields if name not in _arguments(run)]


def _value(config_type: type[StepConfig], key: str, text: str) -> Any:
    """A text setting is taken as typed (`--system 007`); all others are YAML, as in a recipe."""
    if config_type.model_fields[key].annotation is str:
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"{_flag(key)} '{text}' is not a YAML value; quote it as in a recipe") from None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _section_of(recipe: str | None, section: str) -> dict[str, Any]:
    if recipe is None:
        return {}
    if not Path(recipe).is_file():
        raise InputError(f"recipe '{recipe}' does not exist; give the path of a YAML file")
    try:
        sections = yaml.safe_load(Path(recipe).read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"recipe '{recipe}' is not valid YAML ({' '.join(str(error).split())}); mend that line") from None
    if not isinstance(sections, dict) or not isinstance(sections.get(section) or {}, dict):
        raise InputError(f"recipe '{recipe}': section '{section}' must hold keys and values; see pipelines/recipes")
    if "extends" in sections:
        raise InputError(f"recipe '{recipe}' extends another; give one written out by: python -m pipelines show --recipe {recipe}")
    return sections.get(section) or {}
