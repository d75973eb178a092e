"""Plots that several steps make. SVG; equal numbers give equal bytes."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from components.shared.calibration import Bins

STYLE: dict[Any, Any] = {"svg.hashsalt": "relevance-distillery", "svg.fonttype": "none"}


@contextmanager
def axes_of(target: io.BytesIO, width: float, height: float) -> Iterator:
    """Axes of a figure that is written to `target` when the block ends."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        yield figure.subplots()
        figure.savefig(target, format="svg", metadata={"Date": None}, bbox_inches="tight")


def calibration_plot(lines: dict[str, Bins]) -> bytes:
    """Mean judged gain over mean predicted gain, a point for each bin of equally many pairs; on the diagonal gains can be believed.

    Args:
        lines: what to call each line; one name alone is not shown.
    """
    target = io.BytesIO()
    with axes_of(target, 4.5, 4.5) as axes:
        axes.plot([0, 1], [0, 1], color="0.8")
        for name, bins in lines.items():
            axes.plot(bins.predicted, bins.judged, "o-", label=name)
        num_pairs = next(iter(lines.values())).counts.sum()
        axes.set(xlabel="predicted gain", ylabel="judged gain", title=f"Calibration on {num_pairs} held-out pairs")
        if len(lines) > 1:
            axes.legend(frameon=False)
    return target.getvalue()
