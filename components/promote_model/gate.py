"""The decision: which comparisons a model must win before it may serve.

Every comparison is paired over the same queries and asks for the whole interval: a better mean alone promotes nothing, because
the best of many nightly means is mostly luck.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa

from components.promote_model.config import PromoteModelConfig
from components.shared import metrics

WHOLE = ("complete", "alone")  # of the log's last day; nothing tells whether one that stands alone is whole


@dataclass(frozen=True)
class Decision:
    """What was decided and why.

    `outcome` is promote, refuse or keep; `eligible` says that the model is healthy and above the floors, and may be registered.
    """

    outcome: str
    reason: str
    eligible: bool
    comparisons: dict[str, dict[str, Any]] = field(default_factory=dict)


def decide(config: PromoteModelConfig, result: dict[str, Any], values: pa.Table, *, serving_digest: str, model_digest: str) -> Decision:
    """Judge the model.

    Args:
        result: `metrics.json` of the evaluation.
        values: its `per_query.parquet`.
        serving_digest: digest of the registered champion; empty when there is none or nobody keeps a registry.
        model_digest: digest of the model.
    """
    if serving_digest and serving_digest == model_digest:
        return Decision("keep", "this model is already champion", eligible=True)
    sick = health_of(config.system, result)
    if sick:
        return Decision("refuse", f"scores of '{config.system}' are not healthy: {'; '.join(sick)}", eligible=False)
    has_champion = config.champion in result["systems"]
    against = _compare(config, values, [*config.floor_systems, *([config.champion] if has_champion else [])])
    floors = config.floor_systems if has_champion or serving_digest or config.first_needs_floor else []
    for system in floors:
        fault = _fault(config, against, system, 0.0)
        if fault:
            return Decision("refuse", fault, eligible=False, comparisons=against)
    if not has_champion:
        return _without_champion(config, result, against, serving_digest)
    fault = _fault(config, against, config.champion, config.min_gain)
    if fault:
        return Decision("refuse", fault, eligible=True, comparisons=against)
    won = against[config.champion]
    return Decision("promote", f"beats the champion on {config.metric} by {_show(won)}", eligible=True, comparisons=against)


def _without_champion(
    config: PromoteModelConfig, result: dict[str, Any], against: dict[str, dict[str, Any]], serving_digest: str
) -> Decision:
    if serving_digest:
        reason = (
            f"a champion serves, but the evaluation has no system '{config.champion}' with metrics; evaluate it on the same queries, "
            "or, if it can be scored no more, delete its alias in MLflow"
        )
        return Decision("refuse", reason, eligible=True, comparisons=against)
    if health_of(config.champion, result, absent=[]):
        reason = f"the evaluation's '{config.champion}' has unusable scores, so nothing is known about it; score it again"
        return Decision("refuse", reason, eligible=True, comparisons=against)
    num_queries = result["systems"][config.system].get(config.metric, {}).get("num_queries", 0)
    if num_queries < config.min_queries:
        return Decision("refuse", f"only {num_queries} queries; min_queries is {config.min_queries}", eligible=False, comparisons=against)
    floors = f"; above {', '.join(config.floor_systems)}" if config.first_needs_floor and config.floor_systems else ""
    return Decision("promote", f"no champion yet{floors}", eligible=True, comparisons=against)


def hold_back(decision: Decision, last_day: dict[str, Any]) -> Decision:
    """Nothing is promoted by a night whose newest day is empty or partial: the model may be sound, but what it learnt from is not a day.

    Args:
        last_day: of the log's lineage: day, status, share; empty where the night had no log.
    """
    if decision.outcome != "promote" or last_day.get("status") in (None, *WHOLE):
        return decision
    day = f"the log's last day {last_day['day']} is {last_day['status']} ({last_day['share']:.0%} of a usual day's events)"
    return replace(decision, outcome="refuse", reason=f"{day}; run that day again when it is whole. Else: {decision.reason}")


def health_of(system: str, result: dict[str, Any], absent: list[str] | None = None) -> list[str]:
    """Reasons of the evaluation not to trust a system's scores; a system that was not evaluated is not healthy either."""
    missing = [f"the evaluation has no system '{system}'"] if absent is None else absent
    reasons = list(result["health"].get(system, missing))
    if not reasons and system not in result["systems"]:
        return missing
    return reasons


def _compare(config: PromoteModelConfig, values: pa.Table, others: list[str]) -> dict[str, dict[str, Any]]:
    found = {}
    for other in dict.fromkeys(others):
        _, ours, theirs = metrics.common_values(values, config.system, other, config.metric)
        if len(ours):
            found[other] = asdict(metrics.paired_interval(ours, theirs, config.seed, config.num_resamples, config.level))
    return found


def _fault(config: PromoteModelConfig, against: dict[str, dict[str, Any]], system: str, least: float) -> str:
    """Why the comparison is not won; empty when it is."""
    one = against.get(system)
    if one is None:
        return f"no comparison with '{system}' on {config.metric}: the evaluation has no common query with it"
    if one["num_queries"] < config.min_queries:
        return f"only {one['num_queries']} queries in common with '{system}'; min_queries is {config.min_queries}"
    if one["low"] <= least:
        return f"does not beat '{system}' on {config.metric}: {_show(one)}; the interval's lower end must exceed {least:g}"
    return ""


def _show(one: dict[str, Any]) -> str:
    return f"{one['mean']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}] over {one['num_queries']} queries (p = {one['p']:.4f})"
