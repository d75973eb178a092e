"""The report: one HTML file that needs nothing else, made for the sandboxed frame of the Kubeflow UI.

Queries and titles are texts of strangers: everything is escaped, and the page's own policy allows no script and no network.
"""

from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from components.evaluate_rankings import figures, robustness
from components.evaluate_rankings.config import EvaluateRankingsConfig
from components.shared import text

MAX_TITLE_CHARS = 90


def render(
    result: dict[str, Any], plots: dict[str, str], listed: list[dict[str, Any]], against: str, config: EvaluateRankingsConfig
) -> str:
    """HTML of the numbers in `metrics.json`, the plots, and the listed queries."""
    folder = jinja2.FileSystemLoader(str(Path(__file__).parent))
    environment = jinja2.Environment(loader=folder, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    headline = result["metrics"][0]
    ordered = sorted(result["systems"].items(), key=lambda one: (-one[1].get(headline, {}).get("mean", 0), one[0]))
    page = environment.get_template("report.html")
    drawn = {name: Markup(svg) for name, svg in plots.items()}  # our own SVG; matplotlib has escaped the texts in it
    return page.render(result=result, ordered=ordered, listed=listed, against=against, config=config, plots=drawn)


def draw(result: dict[str, Any]) -> dict[str, str]:
    """Name -> SVG: of the headline metric `differences` and one for each kind of slice; of edited pairs one for each measure."""
    headline = result["metrics"][0]
    differences = [row for row in result["differences"] if row["metric"] == headline]
    drawn = {"differences": figures.forest_plot(differences, headline)} if differences else {}
    for name in dict.fromkeys(row["slice"] for row in result["slices"]):
        drawn[name] = figures.slice_bars([row for row in result["slices"] if row["slice"] == name], headline, name)
    for measure in robustness.DRAWN:
        if rows := robustness.plot_rows(result["robustness"], measure):
            drawn[f"{robustness.PLOTS}{measure}"] = figures.slice_bars(rows, measure.replace("_", " "), measure)
    return drawn


def with_items(
    listed: list[dict[str, Any]],
    shown: dict[str, str],
    rankings: pa.Table,
    judgments: pa.Table,
    labels: list[str],
    texts: tuple[pa.Table | None, pa.Table | None],
    num_items: int,
) -> list[dict[str, Any]]:
    """The listed queries with their text and the top items of two systems.

    Args:
        shown: key of the row -> system whose items it gets.
        texts: tables `queries` and `items`; without them ids are shown.
    """
    ids = pa.array([row["query_id"] for row in listed], pa.string())
    graded = _lookup(judgments, ids, labels)
    rankings = rankings.filter(pc.is_in(rankings["query_id"], value_set=ids))
    tops = {key: _top(rankings.filter(pc.equal(rankings["system"], system)), num_items) for key, system in shown.items()}
    items = pa.array(sorted({item for top in tops.values() for best in top.values() for item in best}), pa.string())
    titles = _texts(texts[1], "item_id", "title", items)
    queries = _texts(texts[0], "query_id", "query_text", ids)
    return [
        {
            **row,
            "query": queries.get(row["query_id"], row["query_id"]),
            **{
                f"{key}_items": [
                    {"title": titles.get(item, item), "label": graded.get((row["query_id"], item), "not judged")}
                    for item in top.get(row["query_id"], [])
                ]
                for key, top in tops.items()
            },
        }
        for row in listed
    ]


def _lookup(judgments: pa.Table, queries: pa.Array, labels: list[str]) -> dict[tuple[str, str], str]:
    rows = judgments.filter(pc.is_in(judgments["query_id"], value_set=queries)).select(["query_id", "item_id", "grade"]).to_pylist()
    return {(row["query_id"], row["item_id"]): labels[row["grade"]] for row in rows}


def _top(rankings: pa.Table, num_items: int) -> dict[str, list[str]]:
    best = rankings.sort_by([("query_id", "ascending"), ("score", "descending"), ("item_id", "ascending")])
    found: dict[str, list[str]] = {}
    for query, item in zip(best["query_id"].to_pylist(), best["item_id"].to_pylist(), strict=True):
        items = found.setdefault(query, [])
        if len(items) < num_items:
            items.append(item)
    return found


def _texts(table: pa.Table | None, key: str, column: str, wanted: pa.Array) -> dict[str, str]:
    if table is None:
        return {}
    chosen = table.filter(pc.is_in(table[key], value_set=wanted))
    shortened = pc.utf8_slice_codeunits(text.clean(chosen[column]), 0, MAX_TITLE_CHARS)
    return dict(zip(chosen[key].to_pylist(), pc.fill_null(shortened, "").to_pylist(), strict=True))
