"""From values per query to the numbers of the report: means, paired differences, slices."""

from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.evaluate_rankings.config import EvaluateRankingsConfig
from components.shared import metrics
from components.shared.errors import InputError

UNKNOWN = "unknown"
SLICES = ("segment", "kind", "split")


def check_all(rankings: pa.Table, judgments: pa.Table) -> dict[str, list[str]]:
    """System -> why its scores are not to be trusted (see `metrics.check_scores`)."""
    systems = sorted(pc.unique(rankings["system"]).to_pylist())
    return {name: metrics.check_scores(rankings.filter(pc.equal(rankings["system"], name)), judgments) for name in systems}


def finite_systems(rankings: pa.Table) -> pa.Table:
    """The rankings of systems whose scores are all finite; the others have no metrics."""
    wrong = pc.unique(rankings.filter(pc.invert(pc.is_finite(rankings["score"])))["system"])
    return rankings.filter(pc.invert(pc.is_in(rankings["system"], value_set=wrong)))


def summarise(values: pa.Table, config: EvaluateRankingsConfig) -> dict[str, dict[str, dict[str, Any]]]:
    """System -> metric -> mean, low, high, num_queries."""
    return {
        system: {
            metric: asdict(_interval(metrics.values_of(values, system, metric)["value"], config))
            for metric in metrics.metric_names(config.cutoff)
            if metrics.values_of(values, system, metric).num_rows
        }
        for system in systems_of(values)
    }


def systems_of(values: pa.Table) -> list[str]:
    return sorted(pc.unique(values["system"]).to_pylist())


def _interval(column: pa.ChunkedArray, config: EvaluateRankingsConfig) -> metrics.Interval:
    return metrics.mean_interval(column.to_numpy(), config.seed, config.num_resamples, config.level)


def compared_pairs(systems: list[str], config: EvaluateRankingsConfig) -> list[tuple[str, str]]:
    """(system, against): every system against the baselines, and the challenger against its teacher and the champion."""
    wanted = [(system, baseline) for baseline in config.baselines for system in systems]
    wanted += [(config.challenger, other) for other in (config.teacher, config.champion)]
    pairs: list[tuple[str, str]] = []
    for one, other in wanted:
        if one != other and {one, other} <= set(systems) and not {(one, other), (other, one)} & set(pairs):
            pairs.append((one, other))
    return pairs


def differences(values: pa.Table, config: EvaluateRankingsConfig) -> list[dict[str, Any]]:
    """Paired differences over common queries: system, against, metric, mean, low, high, p, num_queries."""
    rows = []
    for system, against in compared_pairs(systems_of(values), config):
        for metric in metrics.metric_names(config.cutoff):
            _, ours, theirs = metrics.common_values(values, system, against, metric)
            if len(ours):
                found = metrics.paired_interval(ours, theirs, config.seed, config.num_resamples, config.level)
                rows.append({"system": system, "against": against, "metric": metric, **asdict(found)})
    return rows


def slices_of(judgments: pa.Table, queries: pa.Table | None) -> pa.Table:
    """query_id, segment, kind, split of every judged query; `unknown` where nobody said."""
    known = judgments.group_by("query_id").aggregate([("split", "min")]).rename_columns(["query_id", "split"]).sort_by("query_id")
    at = pc.index_in(known["query_id"], value_set=queries["query_id"].combine_chunks()) if queries is not None else None
    for name in ("segment", "kind"):
        column = queries[name].take(at) if queries is not None else pa.nulls(known.num_rows, pa.string())
        known = known.append_column(name, pc.fill_null(column, UNKNOWN))
    return known


def by_slice(values: pa.Table, slices: pa.Table, config: EvaluateRankingsConfig) -> list[dict[str, Any]]:
    """The headline metric per slice and system: slice, value, system, metric, mean, low, high, num_queries."""
    headline, rows = metrics.metric_names(config.cutoff)[0], []
    for name in SLICES:
        found_values = set(slices[name].to_pylist())
        for value in sorted(found_values - {UNKNOWN}) if len(found_values) > 1 else []:
            members = slices.filter(pc.equal(slices[name], value))["query_id"].combine_chunks()
            for system in systems_of(values):
                of_system = metrics.values_of(values, system, headline)
                chosen = of_system.filter(pc.is_in(of_system["query_id"], value_set=members))
                if chosen.num_rows >= config.min_slice_queries:
                    found = asdict(_interval(chosen["value"], config))
                    rows.append({"slice": name, "value": value, "system": system, "metric": headline, **found})
    return rows


def losses_and_wins(values: pa.Table, config: EvaluateRankingsConfig) -> tuple[str, list[dict[str, Any]]]:
    """The first of champion, teacher and baselines that is there, and the challenger's most lost and most won queries against it."""
    systems, headline = systems_of(values), metrics.metric_names(config.cutoff)[0]
    against = next((one for one in (config.champion, config.teacher, *config.baselines) if one in systems), "")
    if config.challenger not in systems or against in ("", config.challenger):
        return "", []
    ids, ours, theirs = metrics.common_values(values, config.challenger, against, headline)
    rows = [
        {"query_id": q, "ours": float(a), "theirs": float(b), "difference": float(a - b)} for q, a, b in zip(ids, ours, theirs, strict=True)
    ]
    rows = sorted((row for row in rows if row["difference"]), key=lambda row: (row["difference"], row["query_id"]))
    lost = [row for row in rows if row["difference"] < 0][: config.num_listed_queries]
    won = [row for row in reversed(rows) if row["difference"] > 0][: config.num_listed_queries]
    return against, lost + won


def require_systems(rankings: pa.Table, finite: pa.Table) -> None:
    """Raises InputError when there is nothing to measure."""
    if rankings.num_rows == 0:
        raise InputError("rankings: no system has a ranking for the evaluated queries; check that query ids are the judgments' ids")
    if finite.num_rows == 0:
        raise InputError("rankings: column 'score' of every system has values that are NaN or infinite; score again")
