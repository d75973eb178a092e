"""The page of the step: three pictures of the newest snapshot. It holds numbers and our own words, no query and no title."""

import io
from datetime import date
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.coverage import Coverage, threshold

PAGE = "neighbors.html"
ACCEPTED, REFUSED, ITEMS = "#1f4e79", "#98a2b3", "#c55a11"
_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Behavior neighbors of {day}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 1.5rem auto; padding: 0 1rem; }}
svg {{ max-width: 100%; height: auto; }}
</style></head><body><h1>Behavior neighbors of the morning of {day}</h1>
{svg}
<p>Left: known queries and items by how many neighbors are listed; one more than num_neighbors = {k} is kept. Middle: pairs with a click;
one above the line may still lack impressions or clients. Right: known queries with at least one neighbor, by how often they are typed.</p>
</body></html>
"""


def render(coverage: Coverage, day: date, config: RetrieveNeighborsConfig) -> bytes:
    """One HTML file without script or network; equal counts give equal bytes."""
    style: dict[Any, Any] = {"svg.hashsalt": "neighbors", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
    with rc_context(style):
        figure = Figure(figsize=(11, 3.2), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        _draw_lists(left, coverage)
        _draw_strength(middle, coverage, config)
        _draw_segments(right, coverage)
        for axes in (left, middle, right):
            axes.spines[["top", "right"]].set_visible(False)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    svg = target.getvalue()
    return _HTML.format(day=day, k=config.num_neighbors, svg=svg[svg.index("<svg") :]).encode()


def _draw_lists(axes: Axes, coverage: Coverage) -> None:
    for shift, (side, counts), color in zip((-0.2, 0.2), coverage.listed.items(), (ACCEPTED, ITEMS), strict=True):
        total = max(counts.sum(), 1)
        places = [number + shift for number in range(len(counts))]
        axes.bar(places, counts / total, 0.38, color=color, label=f"{side}: {total - counts[0]:,} of {total:,} have one")
    axes.set(xlabel="neighbors", ylabel="share of keys", title="Neighbors per query and item", xticks=range(len(coverage.listed["query"])))
    axes.legend(frameon=False)


def _draw_strength(axes: Axes, coverage: Coverage, config: RetrieveNeighborsConfig) -> None:
    groups = {"neighbor": (coverage.accepted, ACCEPTED), "no neighbor": (coverage.refused, REFUSED)}
    for name, (counts, color) in groups.items():
        axes.stairs(counts, coverage.edges, fill=name == "neighbor", color=color, linewidth=1.5, label=f"{name}: {counts.sum():,} pairs")
    is_bound = config.rule == "lower_bound"
    axes.axvline(
        threshold(config), color="black", linewidth=1, label=f"{'min_lower_bound' if is_bound else 'min_rate'} {threshold(config):g}"
    )
    axes.set_yscale("symlog", linthresh=1)
    axes.set(xlabel="lower bound of the click rate" if is_bound else "click rate", ylabel="pairs", title="Evidence and its threshold")
    axes.legend(frameon=False, loc="upper right")


def _draw_segments(axes: Axes, coverage: Coverage) -> None:
    shares = [have / max(known, 1) for have, known in coverage.segments.values()]
    axes.bar(range(len(shares)), shares, 0.6, color=ACCEPTED)
    labels = [f"{name}\n{have:,} of {known:,}" for name, (have, known) in coverage.segments.items()]
    axes.set_xticks(range(len(shares)), labels)
    axes.set(ylim=(0, 1), ylabel="share of queries", title="Queries with a neighbor")
