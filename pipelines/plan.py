"""Capacity on paper: `python -m pipelines plan --queries N --items N --pairs N --judgments N --events N --gpus N`.

Time, GPU hours, storage and cost of every task of the DAG, from measured figures (`benchmarks/results`), the recipe and assumptions that
are all named, explained and changeable. Nothing is started.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from components.shared.errors import InputError
from pipelines import recipe
from pipelines.plan_figures import ASSUMPTIONS, RESULTS, Sources
from pipelines.plan_page import show
from pipelines.plan_steps import Planner, Step

COUNTS = {
    "queries": "distinct queries",
    "items": "items of the catalogue",
    "pairs": "pairs of the pool that the teacher scores",
    "judgments": "graded pairs",
    "events": "log events in the window",
    "gpus": "GPUs",
}
PRICES = {"gpu_hour_price": "of one GPU for an hour", "storage_price": "of a GB (10^9 bytes) for a month"}
MOST = 1e15
BYTES_PER_GB = 1e9


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def add_options(parser: argparse.ArgumentParser) -> None:
    for name, meaning in COUNTS.items():
        parser.add_argument(flag(name), required=True, metavar="N", help=f"{meaning}; 1e9 is understood")
    for name, meaning in PRICES.items():
        parser.add_argument(flag(name), metavar="X", help=f"price {meaning}, in any currency; without prices no cost is shown")
    for name, one in ASSUMPTIONS.items():
        parser.add_argument(flag(name), metavar="X", help=f"assumption: {one.meaning} (default: {one.value:g})")
    parser.add_argument("--recipe", default="cluster", help="epochs, splits, shards and neighbors come from it (default: cluster)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="measured figures (default: benchmarks/results)")
    parser.add_argument("--json", action="store_true", help="for machines")


def command(given: argparse.Namespace) -> int:
    """Print the plan. Raises InputError for numbers or result files that make no sense."""
    plan = plan_of(vars(given))
    if given.json:
        sys.stdout.write(json.dumps(plan, indent=1) + "\n")
    else:
        show(plan, Console())
    return 0


def plan_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The whole plan as plain values; `given` holds the options by name, numbers as text or absent."""
    counts = {name: number(name, given[name], least=1, whole=True) for name in COUNTS}
    prices = {name: number(name, given[name], least=0) for name in PRICES if given.get(name) is not None}
    own = {name: number(name, given[name], one.least) for name, one in ASSUMPTIONS.items() if given.get(name) is not None}
    for name in ("pairs", "judgments"):
        if counts[name] > counts["queries"] * counts["items"]:
            raise InputError(f"--{name} {counts[name]:.0f} is more than queries x items = {counts['queries'] * counts['items']:.0f}")
    values = {**{name: one.value for name, one in ASSUMPTIONS.items()}, **own}
    sources = Sources(counts, values, given["recipe"], recipe.load(given["recipe"]), Path(given["results"]))
    planner = Planner(sources)
    steps = [row(step, prices, values["months_kept"]) for step in planner.steps()]
    totals = {key: _sum(step[key] for step in steps) for key in ("seconds", "gpu_hours", "stored_bytes", "cost")}
    used = {source for step in steps for source in step["from"]}
    assumptions = [
        {"name": name, "value": values[name], "given": name in own, "meaning": one.meaning}
        for name, one in ASSUMPTIONS.items()
        if f"assumption {name}" in used or (name == "months_kept" and "storage_price" in prices)
    ]
    shared = list(planner.start.sources)
    return {
        "given": {**counts, **prices}, "recipe": given["recipe"], "steps": steps, "total": totals,
        "from_of_every_start": shared, "measured": sources.measured, "assumptions": assumptions, "notes": notes_of(sources),
    }  # fmt: skip


def number(name: str, text: Any, least: float, whole: bool = False) -> float:
    """The number of an option. Raises InputError for what is none, too small, too large, or not whole where it must be."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= MOST or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{flag(name)} '{text}': give {kind} from {least:g} to {MOST:g}")
    return value


def row(step: Step, prices: Mapping[str, float], months: float) -> dict[str, Any]:
    """One task's line; `cost` is None without prices."""
    cost = (
        step.gpu_hours * prices.get("gpu_hour_price", 0) + step.stored_bytes.value / BYTES_PER_GB * prices.get("storage_price", 0) * months
    )
    return {
        "step": step.name, "seconds": step.wall_s, "start_seconds": step.start.value, "gpus": int(step.gpus.value),
        "gpu_hours": step.gpu_hours, "stored_bytes": step.stored_bytes.value, "cost": cost if prices else None, "from": list(step.sources),
    }  # fmt: skip


def _sum(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def notes_of(sources: Sources) -> list[str]:
    """What the plan supposes beyond the figures, and where the recipe says otherwise than what is given."""
    workers = sources.settings["scoring"].get("group_workers", 1)
    notes = [
        "tasks are added up one after another; the DAG may run some at once",
        f"the pool's scoring is spread over all GPUs: set scoring.group_workers to their number (now {workers})",
        "CPU steps are one task each and hold their tables in memory: linear in rows is a guess far beyond the measured sizes",
    ]
    name, pairs = sources.recipe_name, sources.given["pairs"]
    for section in ("pool", "cross_encoder", "bi_encoder"):
        most = sources.settings[section]["max_pairs"]
        if 0 < most < pairs:
            notes.append(f"recipe {name} stops at {section}.max_pairs = {most:,}, below the {pairs:,.0f} pairs given")
    return notes
