"""Decide whether a model becomes champion, register it, and write the decision and a model card.

It is promoted only when its scores are healthy and the whole paired interval lies above the floors and the champion.
"""

import logging
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.promote_model import gate, model_card
from components.promote_model.config import PromoteModelConfig
from components.shared import registry, storage
from components.shared.errors import InputError
from components.shared.report import Report
from components.shared.tracking import Tracker

CARD = "README.md"
logger = logging.getLogger(__name__)


def run(
    config: PromoteModelConfig, *, evaluation: str, model: str, promotion: str, lineage: str = "", run_id: str = "", tracker: Tracker
) -> Report:
    """Write the decision as JSON at `promotion` and a model card `README.md` beside it; set the registry's aliases.

    Args:
        lineage: folder of extract_logs; an empty or partial last day stops the promotion. Empty where the night had no log.
        run_id: the pipeline's run, kept as a tag of the version; part of the step's identity, because a decision depends on who
            serves at that moment.
    """
    result, values = _read(evaluation)
    if config.metric not in result["metrics"]:
        raise InputError(f"section 'promotion': key 'metric' = {config.metric!r}; the evaluation has {', '.join(result['metrics'])}")
    if not storage.exists(storage.join(model, "config.json")):
        raise InputError(f"'{model}' is not a model folder (no config.json); give the folder that train_student wrote")
    digest = storage.content_digest(model)
    serving = registry.alias_version(config.model_name, config.champion_alias) if config.model_name else ("", "")
    decision = gate.decide(config, result, values, serving_digest=serving[1] or serving[0], model_digest=digest)
    last_day = _last_day(lineage) if lineage else {}
    decision = gate.hold_back(decision, last_day)
    logger.info("%s: %s", decision.outcome, decision.reason)
    version = _register(config, decision, result, model, digest, run_id, serving[0])
    numbers = {"digest": digest, "version": version, "champion_before": serving[0], "system": config.system, "metric": config.metric}
    text = model_card.write_card(config, result, decision, model=storage.normalise(model), digest=digest, version=version)
    card = storage.join(promotion.rpartition("/")[0] or ".", CARD)
    storage.write_bytes(card, text.encode())
    storage.write_json(
        promotion, {**asdict(decision), **numbers, "model": storage.normalise(model), "name": config.model_name, "log": last_day}
    )
    tracker.tags({"promotion": decision.outcome, "promotion_reason": decision.reason, "model_version": version})
    for uri in (card, promotion):
        tracker.artifact(uri, "promotion")
    return _report(config, decision, version, last_day)


def _last_day(lineage: str) -> dict[str, Any]:
    place = storage.join(lineage, "lineage.json")
    found = storage.read_json(place)
    if not {"date", "day", "status", "share"} <= set(found.get("last_day", {})):
        raise InputError(f"'{place}' has no last_day with date, day, status and share; give the folder `lineage` that extract_logs wrote")
    return found["last_day"]


def _read(evaluation: str) -> tuple[dict[str, Any], pa.Table]:
    result = storage.read_json(storage.join(evaluation, "metrics.json"))
    absent = [key for key in ("systems", "health", "metrics", "data", "gains") if key not in result]
    if absent:
        raise InputError(f"'{evaluation}/metrics.json' lacks '{absent[0]}'; give the folder that evaluate_rankings wrote")
    content = storage.read_bytes(storage.join(evaluation, "per_query.parquet"))
    try:
        return result, pq.read_table(pa.BufferReader(content))
    except pa.ArrowInvalid as error:
        raise InputError(f"'{evaluation}/per_query.parquet' is not readable Parquet ({error}); evaluate again") from None


def _register(
    config: PromoteModelConfig, decision: gate.Decision, result: dict[str, Any], model: str, digest: str, run_id: str, serving: str
) -> str:
    """The version, made where needed; empty when the model is not to be kept."""
    if not config.model_name or not decision.eligible:
        return ""
    if decision.outcome == "keep":
        return serving
    means = {metric: f"{one['mean']:.6f}" for metric, one in result["systems"][config.system].items()}
    tags = {"system": config.system, "run_id": run_id, "dataset": result["data"]["name"], "gains": result["gains"], **means}
    version = registry.register(config.model_name, model, digest, {key: value for key, value in tags.items() if value})
    registry.set_alias(config.model_name, config.challenger_alias, version)
    if decision.outcome == "promote":
        if serving and serving != version:
            registry.set_alias(config.model_name, config.previous_alias, serving)
        registry.set_alias(config.model_name, config.champion_alias, version)
    return version


def _report(config: PromoteModelConfig, decision: gate.Decision, version: str, last_day: dict[str, Any]) -> Report:
    numbers = {"promoted": float(decision.outcome == "promote")}
    for system, one in decision.comparisons.items():
        numbers |= {f"gain_over_{system}": one["mean"], f"gain_over_{system}.low": one["low"]}
    notes = {"decision": decision.outcome, "reason": decision.reason}
    if last_day:
        notes |= {"date": last_day["date"], "last_day": last_day["day"], "last_day.status": last_day["status"]}
    if version:
        notes["version"] = f"models:/{config.model_name}/{version}"
    return Report(metrics=numbers, notes=notes)
