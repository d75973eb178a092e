"""What a finished run has to tell: the headline metrics with their intervals, the gate's decision, where the report lies."""

import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from components.shared import spools, storage


def headline(tracking: Path) -> dict[str, float]:
    """All headline metrics that the steps of a run reported."""
    values: dict[str, float] = {}
    for spool in spools.spools(tracking):
        for content in spools.read(spool):
            if content["kind"] == "headline":
                values |= content["values"]
    return values


def address_of(kfp_root: Path, output: str) -> str:
    """The URI behind a kfp artifact file `<pipeline>/<task>/<output>`; empty when no task wrote it."""
    found = sorted(kfp_root.glob(f"*/*/{output}"))
    return json.loads(found[-1].read_text())["uri"] if found else ""


def table_of(values: dict[str, float]) -> Table:
    """One row per system, one column per metric: value and interval."""
    points = [name for name in values if not name.endswith((".low", ".high"))]
    metrics = list(dict.fromkeys(name.split(".", 1)[1] for name in points if "." in name))
    table = Table("system", *metrics, box=box.SIMPLE)
    for system in dict.fromkeys(name.split(".", 1)[0] for name in points if "." in name):
        table.add_row(system, *(_cell(values, f"{system}.{metric}") for metric in metrics))
    return table


def _cell(values: dict[str, float], name: str) -> str:
    if name not in values:
        return ""
    low, high = values.get(f"{name}.low"), values.get(f"{name}.high")
    return f"{values[name]:.3f}" + (f" ({low:.3f}-{high:.3f})" if low is not None and high is not None else "")


def show(tracking: Path, kfp_root: Path, console: Console) -> None:
    """Print all of it."""
    console.print(table_of(headline(tracking)), markup=False)
    promotion = address_of(kfp_root, "promotion")
    if promotion:
        decision: dict[str, Any] = storage.read_json(promotion)
        console.print(f"promotion: {decision['outcome']}: {decision['reason']}", highlight=False, markup=False, soft_wrap=True)
    evaluation = address_of(kfp_root, "evaluation")
    if evaluation:
        console.print(f"report: {storage.join(evaluation, 'report.html').removeprefix('file://')}", highlight=False, soft_wrap=True)
