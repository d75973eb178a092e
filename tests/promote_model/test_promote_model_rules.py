"""Each rule of the gate at its boundary, over values so plain that every interval is a point; and what the step refuses to read."""

from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from seeded_scores import scored

from components.promote_model import gate, model_card
from components.promote_model.config import PromoteModelConfig
from components.promote_model.step import run
from components.shared import registry, storage
from components.shared.errors import InputError
from components.shared.tracking import NullTracker

CONFIG = PromoteModelConfig(num_resamples=100, min_queries=50, floor_systems=["bm25"])


def decide(num_queries=50, serving="", health=None, changes=None, **levels):
    """The gate over systems that have the same value on every query, in binary fractions, so that no digit is rounded."""
    rows = [(system, f"q{number:02}", "ndcg@10", level) for system, level in levels.items() for number in range(num_queries)]
    values = pa.table(list(map(pa.array, zip(*rows, strict=True))), names=["system", "query_id", "metric", "value"])
    systems = {system: {"ndcg@10": {"num_queries": num_queries}} for system in levels}
    result = {"systems": systems, "health": {system: [] for system in levels} | (health or {})}
    return gate.decide(CONFIG.model_copy(update=changes or {}), result, values, serving_digest=serving, model_digest="new")


# the challenger is better by 1/4 on each of 50 queries: no flip of 100 is as extreme, p = 1 / 101 = 0.0099
QUARTER = "+0.2500 [+0.2500, +0.2500] over 50 queries (p = 0.0099)"


@pytest.mark.parametrize(
    ("min_gain", "outcome", "reason"),
    [
        (0.2499, "promote", f"beats the champion on ndcg@10 by {QUARTER}"),
        (0.25, "refuse", f"does not beat 'champion' on ndcg@10: {QUARTER}; the interval's lower end must exceed 0.25"),
    ],
)
def test_the_whole_interval_must_exceed_min_gain(min_gain, outcome, reason):
    decision = decide(changes={"min_gain": min_gain}, cross_encoder=0.75, bm25=0.25, champion=0.5)
    assert (decision.outcome, decision.reason, decision.eligible) == (outcome, reason, True)


def test_a_model_that_only_equals_a_floor_is_not_kept():
    decision = decide(cross_encoder=0.5, bm25=0.5)
    assert (decision.outcome, decision.eligible) == ("refuse", False)
    assert decision.reason == (
        "does not beat 'bm25' on ndcg@10: +0.0000 [+0.0000, +0.0000] over 50 queries (p = 1.0000); the interval's lower end must exceed 0"
    )


def test_min_queries_is_the_fewest_that_count():
    assert decide(50, cross_encoder=0.75, bm25=0.25).outcome == "promote"
    few = decide(49, cross_encoder=0.75, bm25=0.25)
    assert (few.outcome, few.reason, few.eligible) == ("refuse", "only 49 queries in common with 'bm25'; min_queries is 50", False)
    alone = decide(49, changes={"floor_systems": []}, cross_encoder=0.75)
    assert (alone.outcome, alone.reason, alone.eligible) == ("refuse", "only 49 queries; min_queries is 50", False)


@pytest.mark.parametrize(("serving", "others"), [("", {"champion": 0.125}), ("old", {}), ("old", {"champion": 0.125})])
def test_floors_are_waived_for_the_very_first_model_only(serving, others):
    waived = {"first_needs_floor": False}
    assert decide(changes=waived, cross_encoder=0.25, bm25=0.5).outcome == "promote"
    decision = decide(serving=serving, changes=waived, cross_encoder=0.25, bm25=0.5, **others)
    assert (decision.outcome, decision.eligible, decision.reason[:20]) == ("refuse", False, "does not beat 'bm25'")


def test_a_floor_that_was_not_evaluated_is_not_passed():
    decision = decide(cross_encoder=0.75)
    assert (decision.outcome, decision.eligible) == ("refuse", False)
    assert decision.reason == "no comparison with 'bm25' on ndcg@10: the evaluation has no common query with it"


def test_a_champion_with_unusable_scores_is_not_taken_for_none():
    decision = decide(health={"champion": ["3 of 80 scores are NaN"]}, cross_encoder=0.75, bm25=0.25)
    assert (decision.outcome, decision.eligible) == ("refuse", True)
    assert decision.reason == "the evaluation's 'champion' has unusable scores, so nothing is known about it; score it again"


@pytest.mark.parametrize(
    ("health", "reason"),
    [({}, "the evaluation has no system 'cross_encoder'"), ({"cross_encoder": []}, "the evaluation has no system 'cross_encoder'"),
     ({"cross_encoder": ["no scores", "all equal"]}, "no scores; all equal")],
)  # fmt: skip
def test_a_model_that_was_not_evaluated_is_not_healthy(health, reason):
    decision = decide(health=health, bm25=0.25)
    assert (decision.outcome, decision.eligible) == ("refuse", False)
    assert decision.reason == f"scores of 'cross_encoder' are not healthy: {reason}"


def promote(evaluation, model, place, **changes):
    config = PromoteModelConfig(num_resamples=100, floor_systems=[], **changes)
    run(config, evaluation=evaluation, model=model, promotion=str(place / "promotion"), tracker=NullTracker())
    return storage.read_json(str(place / "promotion"))


def test_a_champion_that_somebody_registered_by_hand_still_serves(evaluated, model, tmp_path):
    from mlflow import MlflowClient

    client = MlflowClient()
    client.create_registered_model("relevance-student")
    client.create_model_version("relevance-student", f"file://{tmp_path}/by-hand")  # no digest: it cannot be told from ours by content
    registry.set_alias("relevance-student", "champion", "1")
    decision = promote(evaluated(cross_encoder=scored(0.1, 1)), model("a"), tmp_path)
    assert (decision["outcome"], decision["champion_before"]) == ("refuse", "1")
    assert registry.alias_version("relevance-student", "champion") == ("1", "")


def test_without_a_registry_nothing_is_registered(evaluated, model, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    decision = promote(evaluated(cross_encoder=scored(0.1, 1)), model("a"), tmp_path, model_name="")
    assert (decision["outcome"], decision["version"], decision["champion_before"]) == ("promote", "", "")


def test_metrics_of_another_program_are_refused(evaluated, model, tmp_path):
    evaluation = evaluated(cross_encoder=scored(0.1, 1))
    result = storage.read_json(f"{evaluation}/metrics.json")
    storage.write_json(f"{evaluation}/metrics.json", {key: one for key, one in result.items() if key not in ("health", "gains")})
    with pytest.raises(InputError, match=f"^'{evaluation}/metrics.json' lacks 'health'; give the folder that evaluate_rankings wrote$"):
        promote(evaluation, model("a"), tmp_path)
    assert not Path(tmp_path / "promotion").exists()


def test_names_of_strangers_become_no_markup_of_the_card():
    one = {"mean": 0.5, "low": 0.25, "high": 0.75}
    result = {
        "data": {"name": "shop` | **x**\n# y", "snapshot": "", "splits": ["dev", "test"], "num_queries": 3, "num_judgments": 9},
        "gains": "E=1", "metrics": ["ndcg@10", "auc"], "systems": {"a|b`c": {"ndcg@10": one}},
    }  # fmt: skip
    decision = gate.Decision("refuse", "does not `beat`\nit", eligible=False)
    text = model_card.write_card(PromoteModelConfig(level=0.9, model_name=""), result, decision, model="m", digest="d", version="")
    lines = text.splitlines()
    assert yaml.safe_load(text.split("---\n")[1])["datasets"] == ["shop` | **x**\n# y"]
    assert "base_model" not in yaml.safe_load(text.split("---\n")[1])
    assert "| `a/b'c` | 0.5000 [0.2500, 0.7500] | - |" in lines
    assert "Data `shop' / **x** # y`, snapshot `not named`: 3 queries, 9 judgments of dev, test. Gains `E=1`." in lines
    assert {"- gate: refuse: `does not 'beat' it`", "- registered version: none", "# cross_encoder"} <= set(lines)
    assert "Means over queries, 90 % bootstrap intervals over queries." in lines


def test_the_oldest_version_of_a_digest_is_its_version(tmp_path):
    from mlflow import MlflowClient

    client = MlflowClient()
    client.create_registered_model("student")
    for number in range(1, 11):
        client.create_model_version("student", f"file://{tmp_path}/m", tags={"digest": "ab" * 32} if number > 8 else {})
    assert registry.register("student", str(tmp_path / "m"), "ab" * 32, {}) == "9"


def test_models_may_be_registered_elsewhere_than_runs_are_tracked(tmp_path, monkeypatch):
    registry.register("student", str(tmp_path / "m"), "ab" * 32, {})
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert registry.resolve("models:/student/1") == f"file://{tmp_path}/m"
