"""Runs a notebook's code cells in this process, one after the other, as a user would who edited its first cell."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def cells_of(file: Path, kind: str = "code") -> list[dict[str, Any]]:
    return [cell for cell in json.loads(file.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def run_notebook(number: str, **given: str) -> dict[str, Any]:
    """The names that the notebook made, and `num_figures` drawn; `given` stands in for what the first cell says."""
    (file,) = (one for one in NOTEBOOKS if one.name.startswith(number))
    mpl.use("agg")
    names: dict[str, Any] = {"num_figures": 0}
    for place, cell in enumerate(cells_of(file)):
        exec(compile("".join(cell["source"]), f"{file.name}, code cell {place + 1}", "exec"), names)
        names["num_figures"] += _draw()
        if not place:
            assert given.keys() <= names.keys()
            names |= given
    return names


def _draw() -> int:
    """A cell's pictures are drawn and done with when it ends, as in Jupyter."""
    figures = [plt.figure(number) for number in plt.get_fignums()]
    for figure in figures:
        figure.canvas.draw()
    plt.close("all")
    return len(figures)
