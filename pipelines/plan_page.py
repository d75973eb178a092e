"""A plan for people: one line per task, then where its figures come from, the assumptions and what to know."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

COLUMNS = ("time", "GPUs", "GPU hours", "stored", "cost")
TIMES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
SIZES = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"))


def show(plan: Mapping[str, Any], console: Console) -> None:
    """Print the plan."""
    everywhere = set(plan["from_of_every_start"])
    table = Table("step", *(Column(name, justify="right", no_wrap=True) for name in COLUMNS))
    for step in plan["steps"]:
        table.add_row(step["step"], *_cells(step, str(step["gpus"] or "-")))
    table.add_section()
    table.add_row("all, one after another", *_cells(plan["total"], ""))
    console.print(table)
    console.print(
        f"every time holds {plan['steps'][0]['start_seconds']:.1f} s to start its task: {escape(origins(plan['from_of_every_start']))}"
    )
    console.print("\neach line's figures are from:")
    for step in plan["steps"]:
        console.print(escape(f"  {step['step']}: {origins(set_aside(step['from'], everywhere))}"))
    console.print("\nmeasured figures (benchmarks/results):")
    for source, value in plan["measured"].items():
        console.print(escape(f"  {source} = {value:,g}"))
    console.print("\nassumptions (change one with its option):")
    for one in plan["assumptions"]:
        option = "--" + one["name"].replace("_", "-")
        console.print(escape(f"  {option} {one['value']:g}{' (given)' if one['given'] else ''}: {one['meaning']}"))
    console.print("\nto know:")
    for note in plan["notes"]:
        console.print(escape(f"  {note}"))


def _cells(line: Mapping[str, Any], gpus: str) -> list[str]:
    cost = "-" if line["cost"] is None else f"{line['cost']:,.2f}"
    hours = f"{line['gpu_hours']:,.1f}" if line["gpu_hours"] else "-"
    return [scaled(line["seconds"], TIMES), gpus, hours, scaled(line["stored_bytes"], SIZES) if line["stored_bytes"] else "-", cost]


def scaled(value: float, units: Iterable[tuple[float, str]]) -> str:
    """The value in the largest unit of which it is at least one."""
    known = list(units)
    size, name = next((unit for unit in known if value >= unit[0]), known[-1])
    return f"{value / size:,.1f} {name}"


def set_aside(sources: Iterable[str], everywhere: set[str]) -> list[str]:
    """Sources of this line alone; what was given on the command line is not repeated."""
    return [source for source in sources if source not in everywhere and not source.startswith("given ")]


def origins(sources: Iterable[str]) -> str:
    """Sources by kind: result files with their figures, then recipe, placement, assumptions."""
    kinds: dict[str, list[str]] = {}
    for source in sources:
        words = source.split(" ")
        kinds.setdefault(" ".join(words[:-1]) if words[0] == "recipe" else words[0], []).append(
            " ".join(words[-1:] if words[0] == "recipe" else words[1:])
        )
    order = sorted(kinds, key=lambda kind: (not kind.endswith(".json"), kind))
    return "; ".join(f"{kind}: {', '.join(kinds[kind])}" for kind in order)
