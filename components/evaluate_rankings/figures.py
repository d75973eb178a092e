"""The report's pictures as inline SVG: no script, no network, the same bytes for the same numbers."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "text.parse_math": False}
BETTER, WORSE, OPEN = "#1a7f4b", "#b42318", "#667085"
PALETTE = ("#1f4e79", "#c55a11", "#548235", "#7f6000", "#7030a0", "#2e75b6", "#a5a5a5")


def forest_plot(rows: Sequence[dict[str, Any]], metric: str) -> str:
    """Paired differences with intervals: green lies above zero, red below, grey touches it."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": "forest"}):
        figure = Figure(figsize=(8, 1.1 + 0.34 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(reversed(rows)):
            color = BETTER if row["low"] > 0 else WORSE if row["high"] < 0 else OPEN
            axes.plot([row["low"], row["high"]], [place, place], color=color, linewidth=2)
            axes.plot(row["mean"], place, "o", color=color)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(rows)), [f"{row['system']} - {row['against']}" for row in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(f"difference in {metric}, same queries")
        axes.spines[["top", "right", "left"]].set_visible(False)
        return _svg(figure)


def slice_bars(rows: Sequence[dict[str, Any]], metric: str, name: str) -> str:
    """One group of bars per slice value, one bar per system, with interval."""
    systems = sorted({row["system"] for row in rows})
    values = list(dict.fromkeys(row["value"] for row in rows))
    width = 0.8 / len(systems)
    with mpl.rc_context({**STYLE, "svg.hashsalt": f"slice {name}"}):
        figure = Figure(figsize=(max(5.0, 1.2 + 0.28 * len(values) * (len(systems) + 1)), 3.2), layout="constrained")
        axes = figure.add_subplot()
        for number, system in enumerate(systems):
            mine = [row for row in rows if row["system"] == system]
            places = [values.index(row["value"]) + (number - (len(systems) - 1) / 2) * width for row in mine]
            reach = [[row["mean"] - row["low"] for row in mine], [row["high"] - row["mean"] for row in mine]]
            color = PALETTE[number % len(PALETTE)]
            axes.bar(
                places, [row["mean"] for row in mine], width * 0.92, yerr=reach, color=color, label=system, error_kw={"linewidth": 0.8}
            )
        counts = {row["value"]: max(row["num_queries"], 0) for row in rows}
        axes.set_xticks(range(len(values)), [f"{value}\nn={counts[value]}" for value in values])
        axes.set_ylabel(metric)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        return _svg(figure)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    whole = buffer.getvalue()
    return whole[whole.index("<svg") :]
