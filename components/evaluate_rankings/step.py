"""Evaluate rankings on graded judgments: ndcg, pairwise accuracy and auc per system, with bootstrap intervals and paired
differences over the same queries, slices, and an HTML report.

Rankings are tables (committed folders or .parquet) or TREC run files, joined by commas; judgments are a table or TREC qrels.
"""

import logging
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.evaluate_rankings import comparison, report_page, robustness, sources
from components.evaluate_rankings.config import EvaluateRankingsConfig
from components.shared import metrics, storage, tables
from components.shared.card import DatasetCard, read_card
from components.shared.errors import InputError
from components.shared.report import Report
from components.shared.tracking import Tracker

METRICS, VALUES, PAGE = "metrics.json", "per_query.parquet", "report.html"
logger = logging.getLogger(__name__)


def run(
    config: EvaluateRankingsConfig,
    *,
    judgments: str,
    rankings: str,
    evaluation: str,
    card: str = "",
    queries: str = "",
    items: str = "",
    tracker: Tracker,
) -> Report:
    """Write `metrics.json`, `per_query.parquet` and `report.html` into the folder `evaluation`."""
    described = read_card(card) if card else None
    graded, scale = sources.read_judgments(judgments, config.splits, described)
    texts = (tables.read_table(queries, "queries") if queries else None, tables.read_table(items, "items") if items else None)
    given, notes = sources.read_rankings([uri.strip() for uri in rankings.split(",") if uri.strip()])
    given, edited = robustness.split_rankings(given)
    if config.positive_grade is not None and config.positive_grade >= len(scale.gains):
        raise InputError(
            f"section 'evaluation': key 'positive_grade' = {config.positive_grade}; the highest grade is {len(scale.gains) - 1}"
        )
    if config.lexical_baseline and texts[0] is not None and texts[1] is not None:
        given = _with_lexical(given, graded, texts[0], texts[1])
    read, evaluated = len(given) + len(edited), pc.unique(graded["query_id"])
    kept, edited = (one.filter(pc.is_in(one["query_id"], value_set=evaluated)) for one in (given, edited))
    finite = comparison.finite_systems(kept)
    comparison.require_systems(kept, finite)
    logger.info("evaluating %d rows of %d systems", kept.num_rows, len(pc.unique(kept["system"])))
    values = metrics.per_query(graded, finite, gains=scale.gains, cutoff=config.cutoff, positive_grade=config.positive_grade)
    result = _result(config, graded, scale, kept, values, texts[0], described, notes)
    result["robustness"] = robustness.measure_robustness(edited, finite, graded, scale.gains, _positive_grade(config, scale), config)
    plots = report_page.draw(result)
    page = _page(config, result, plots, values, finite, graded, scale, texts)
    _write(evaluation, result, values, {PAGE: page} | {f"plots/{name}.svg": svg for name, svg in plots.items()})
    for name in plots:
        tracker.artifact(storage.join(evaluation, "plots", f"{name}.svg"), "evaluation")
    return _report(config, tracker, evaluation, result, read, len(kept) + len(edited))


def _positive_grade(config: EvaluateRankingsConfig, scale: sources.Scale) -> int:
    return len(scale.gains) - 1 if config.positive_grade is None else config.positive_grade


def _with_lexical(given: pa.Table, graded: pa.Table, queries: pa.Table, items: pa.Table) -> pa.Table:
    if sources.LEXICAL_SYSTEM in given["system"].to_pylist():
        raise InputError(f"rankings hold a system '{sources.LEXICAL_SYSTEM}' already; set key 'lexical_baseline' to false or rename it")
    return pa.concat_tables([given, sources.rank_lexically(graded, queries, items)])


def _result(
    config: EvaluateRankingsConfig,
    graded: pa.Table,
    scale: sources.Scale,
    kept: pa.Table,
    values: pa.Table,
    queries: pa.Table | None,
    card: DatasetCard | None,
    notes: dict[str, str],
) -> dict[str, Any]:
    names = metrics.metric_names(config.cutoff)
    return {
        "data": {
            "name": card.name if card else "",
            "licence": card.licence if card else "",
            "snapshot": card.snapshot if card else "",
            "splits": config.splits,
            "num_queries": pc.count_distinct(graded["query_id"]).as_py(),
            "num_judgments": graded.num_rows,
            "positive": scale.labels[_positive_grade(config, scale)],
        },
        "gains": scale.describe(),
        "metrics": names,
        "systems": comparison.summarise(values, config),
        "health": comparison.check_all(kept, graded),
        "differences": comparison.differences(values, config),
        "slices": comparison.by_slice(values, comparison.slices_of(graded, queries), config),
        "left_out": metrics.left_out(graded, values, names),
        "notes": notes,
    }


def _page(
    config: EvaluateRankingsConfig,
    result: dict[str, Any],
    plots: dict[str, str],
    values: pa.Table,
    rankings: pa.Table,
    graded: pa.Table,
    scale: sources.Scale,
    texts: tuple[pa.Table | None, pa.Table | None],
) -> str:
    against, listed = comparison.losses_and_wins(values, config)
    shown = {"ours": config.challenger, "theirs": against}
    listed = report_page.with_items(listed, shown, rankings, graded, scale.labels, texts, config.num_listed_items)
    return report_page.render(result, plots, listed, against, config)


def _write(evaluation: str, result: dict[str, Any], values: pa.Table, pages: dict[str, str]) -> None:
    buffer = pa.BufferOutputStream()
    pq.write_table(values, buffer, compression="zstd")
    storage.write_bytes(storage.join(evaluation, VALUES), buffer.getvalue().to_pybytes())
    for name, page in pages.items():
        storage.write_bytes(storage.join(evaluation, name), page.encode())
    storage.write_json(storage.join(evaluation, METRICS), result)


def _report(config: EvaluateRankingsConfig, tracker: Tracker, evaluation: str, result: dict[str, Any], read: int, kept: int) -> Report:
    headline = {}
    for system, found in result["systems"].items():
        for metric, one in found.items():
            name = f"{system}.{metric}"
            headline |= {name: one["mean"], f"{name}.low": one["low"], f"{name}.high": one["high"]}
    tracker.headline(headline)
    tracker.metrics({f"{row['system']}-{row['against']}.{row['metric']}": row["mean"] for row in result["differences"]})
    tracker.metrics(robustness.logged(result["robustness"]))
    tracker.artifact(storage.join(evaluation, PAGE), "evaluation")
    tracker.artifact(storage.join(evaluation, METRICS), "evaluation")
    sick = {f"scores of {system}": "; ".join(reasons) for system, reasons in result["health"].items() if reasons}
    notes = {**result["notes"], **sick, "gains": result["gains"], "report": storage.join(evaluation, PAGE)}
    means = {name: value for name, value in headline.items() if not name.endswith((".low", ".high"))}
    return Report(read=read, kept=kept, dropped={"query not evaluated": read - kept}, metrics=means, notes=notes)
