"""What people look at after a training: the loss of every step. SVG; equal numbers give equal bytes."""

import io

import numpy as np

from components.shared.figures import axes_of
from components.shared.training import Curve


def curve_plot(curve: Curve, window: int = 20) -> bytes:
    """The loss of every step and its moving mean."""
    losses = np.asarray(curve.losses)
    width = max(1, min(window, len(losses)))
    mean = np.convolve(losses, np.ones(width) / width, mode="valid")
    target = io.BytesIO()
    with axes_of(target, 7, 3.5) as axes:
        axes.plot(np.arange(1, len(losses) + 1), losses, color="0.8", label="step")
        axes.plot(np.arange(width, len(losses) + 1), mean, color="C0", label=f"mean of {width} steps")
        axes.set(xlabel="step", ylabel="loss", title="Teacher training loss")
        axes.legend(frameon=False)
    return target.getvalue()


def confusion_plot(counts: list[list[int]], labels: list[str]) -> bytes:
    """Held-out pairs by judged (down) and predicted grade (across) [grades, grades], shaded by their share of the judged grade.

    Pairs above the diagonal are graded too high, below it too low.
    """
    table = np.asarray(counts)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    over, under = np.triu(table, 1).sum(), np.tril(table, -1).sum()
    target = io.BytesIO()
    with axes_of(target, 1.5 + 0.8 * len(table), 1.2 + 0.7 * len(table)) as axes:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), number in np.ndenumerate(table):
            axes.text(column, row, f"{number:,}", ha="center", va="center", color="white" if shares[row, column] > 0.5 else "black")
        axes.set(xlabel="predicted grade", ylabel="judged grade", title=f"{over:,} graded too high, {under:,} too low")
        for set_ticks in (axes.set_xticks, axes.set_yticks):
            set_ticks(range(len(labels)), labels, parse_math=False)  # a card's labels are text, not formulas
    return target.getvalue()
