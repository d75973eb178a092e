"""The gate: seeded failures are refused, good models pass, luck does not."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from seeded_scores import GAINS, grades, scored, table

from components.promote_model import gate
from components.promote_model.config import PromoteModelConfig
from components.promote_model.step import run
from components.shared import metrics, registry, storage
from components.shared.errors import InputError
from components.shared.tracking import NullTracker, SpoolTracker

CONFIG = PromoteModelConfig(num_resamples=400)
BM25, UNTRAINED = scored(2.0, 101), scored(60.0, 102)


def promote(evaluation, folder, place, config=CONFIG, tracker=None):
    report = run(
        config, evaluation=evaluation, model=folder, promotion=str(place / "promotion"), run_id="r1", tracker=tracker or NullTracker()
    )
    return report, storage.read_json(str(place / "promotion"))


def decide(evaluated, model, place, config=CONFIG, **systems):
    return promote(evaluated(bm25=BM25, untrained=UNTRAINED, **systems), model("a"), place, config)[1]


def shuffled(seed):
    random = np.random.default_rng(seed)
    return random.permuted(scored(0.3, seed), axis=1)


def failures():
    random = np.random.default_rng(7)
    some_nan = scored(0.3, 1)
    some_nan[random.random(some_nan.shape) < 0.02] = np.nan
    return {
        "some NaN": some_nan,
        "all NaN": np.full(some_nan.shape, np.nan),
        "infinite": np.where(random.random(some_nan.shape) < 0.01, np.inf, scored(0.3, 1)),
        "constant": np.full(some_nan.shape, 0.5),
        "constant per query": np.repeat(random.normal(0, 1, (len(some_nan), 1)), some_nan.shape[1], axis=1),
        "two values": (grades() > 1).astype(float),
        "inverted": -scored(0.3, 1),
        "few queries scored": scored(0.3, 1)[:60],
        **{f"shuffled {seed}": shuffled(seed) for seed in range(20)},
    }


@pytest.mark.parametrize("name", failures())
def test_every_seeded_failure_is_refused(evaluated, model, tmp_path, name):
    decision = decide(evaluated, model, tmp_path, cross_encoder=failures()[name])
    assert (decision["outcome"], decision["version"]) == ("refuse", ""), decision["reason"]
    assert registry.resolve("models:/relevance-student@champion") == ""
    assert decision["reason"]


def test_fifty_good_models_pass():
    judged = table("x", BM25).select(["query_id", "item_id"]).append_column("grade", pa.array(grades().ravel()))
    fixed = [table("bm25", BM25), table("untrained", UNTRAINED)]
    outcomes = []
    for seed in range(50):
        ours = table("cross_encoder", scored(0.4, seed))
        values = metrics.per_query(judged, pa.concat_tables([*fixed, ours]), gains=GAINS)
        systems = {name: {"ndcg@10": {"num_queries": 80}} for name in ("bm25", "untrained", "cross_encoder")}
        result = {"systems": systems, "health": {"cross_encoder": metrics.check_scores(ours, judged)}}
        outcomes.append(gate.decide(CONFIG, result, values, serving_digest="", model_digest="x").outcome)
    assert outcomes == ["promote"] * 50


def test_the_first_good_model_becomes_champion(evaluated, model, tmp_path):
    decision = decide(evaluated, model, tmp_path, cross_encoder=scored(0.3, 1))
    assert (decision["outcome"], decision["version"]) == ("promote", "1")
    assert decision["reason"] == "no champion yet; above bm25, untrained"
    assert registry.resolve("models:/relevance-student@champion") == f"file://{tmp_path}/model-a"
    assert decision["comparisons"]["bm25"]["low"] > 0


def test_the_first_model_may_be_let_in_without_floors(evaluated, model, tmp_path):
    config = CONFIG.model_copy(update={"first_needs_floor": False})
    decision = decide(evaluated, model, tmp_path, config, cross_encoder=shuffled(3))
    assert (decision["outcome"], decision["reason"]) == ("promote", "no champion yet")


@pytest.mark.parametrize(
    ("challenger", "outcome"),
    [(scored(0.15, 1), "promote"), (scored(0.8, 2), "refuse"), (scored(0.5, 5), "refuse")],
    ids=["clearly better", "worse", "tie"],
)
def test_only_a_clear_win_over_the_champion_promotes(evaluated, model, tmp_path, challenger, outcome):
    champion = scored(0.5, 5)
    registry.register("relevance-student", model("old"), storage.content_digest(model("old")), {})
    registry.set_alias("relevance-student", "champion", "1")
    decision = decide(evaluated, model, tmp_path, cross_encoder=challenger, champion=champion)
    assert decision["outcome"] == outcome, decision["reason"]
    serving = registry.alias_version("relevance-student", "champion")[0]
    assert serving == ("2" if outcome == "promote" else "1")
    assert registry.alias_version("relevance-student", "challenger")[0] == "2"
    assert registry.alias_version("relevance-student", "previous")[0] == ("1" if outcome == "promote" else "")
    assert "champion" in decision["reason"]


def test_a_better_mean_by_luck_does_not_promote():
    # equally good models: a gate on means would promote about half of them, one on 95 % intervals 2.5 %
    judged = table("x", BM25).select(["query_id", "item_id"]).append_column("grade", pa.array(grades().ravel()))
    config = CONFIG.model_copy(update={"floor_systems": []})
    promoted, better_mean = 0, 0
    for seed in range(30):
        both = pa.concat_tables([table("cross_encoder", scored(0.8, seed)), table("champion", scored(0.8, 1000 + seed))])
        values = metrics.per_query(judged, both, gains=GAINS)
        result = {"systems": {"cross_encoder": {}, "champion": {}}, "health": {"cross_encoder": []}}
        decision = gate.decide(config, result, values, serving_digest="a", model_digest="b")
        promoted += decision.outcome == "promote"
        better_mean += decision.comparisons["champion"]["mean"] > 0
    assert better_mean >= 9
    assert promoted <= 3


def test_min_gain_and_min_queries_bind(evaluated, model, tmp_path):
    systems = {"cross_encoder": scored(0.15, 1), "champion": scored(0.5, 5)}
    gain = decide(evaluated, model, tmp_path, CONFIG.model_copy(update={"min_gain": 0.5}), **systems)
    assert (gain["outcome"], "must exceed 0.5" in gain["reason"]) == ("refuse", True)
    few = decide(evaluated, model, tmp_path, CONFIG.model_copy(update={"min_queries": 1000}), **systems)
    assert (few["outcome"], "min_queries is 1000" in few["reason"]) == ("refuse", True)


def test_a_serving_champion_that_was_not_evaluated_is_not_replaced(evaluated, model, tmp_path):
    registry.register("relevance-student", model("old"), "ab" * 32, {})
    registry.set_alias("relevance-student", "champion", "1")
    decision = decide(evaluated, model, tmp_path, cross_encoder=scored(0.1, 1))
    assert (decision["outcome"], registry.alias_version("relevance-student", "champion")[0]) == ("refuse", "1")
    assert "evaluate it on the same queries" in decision["reason"]
    sick = decide(evaluated, model, tmp_path, cross_encoder=scored(0.1, 1), champion=np.full(BM25.shape, np.nan))
    assert sick["outcome"] == "refuse"


def test_running_twice_registers_one_version(evaluated, model, tmp_path):
    from mlflow import MlflowClient

    evaluation = evaluated(bm25=BM25, untrained=UNTRAINED, cross_encoder=scored(0.3, 1))
    first = promote(evaluation, model("a"), tmp_path / "one")[1]
    second = promote(evaluation, model("a"), tmp_path / "two")[1]
    assert (first["outcome"], second["outcome"], second["version"]) == ("promote", "keep", "1")
    assert second["reason"] == "this model is already champion"
    versions = MlflowClient().search_model_versions("name='relevance-student'")
    assert len(versions) == 1
    assert versions[0].tags["digest"] == first["digest"]
    assert {"system": "cross_encoder", "run_id": "r1", "dataset": "tiny"}.items() <= versions[0].tags.items()
    assert float(versions[0].tags["ndcg_at_10"]) > 0.9


def test_the_model_card_is_a_hugging_face_one(evaluated, model, tmp_path):
    config = CONFIG.model_copy(update={"licence": "apache-2.0", "base_model": "tiny/mini: [x]"})
    evaluation = evaluated(bm25=BM25, untrained=UNTRAINED, cross_encoder=scored(0.3, 1))
    _, decision = promote(evaluation, model("a"), tmp_path / "out", config)
    text = (tmp_path / "out" / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["license"] == "apache-2.0"
    assert front["base_model"] == "tiny/mini: [x]"
    assert front["datasets"] == ["tiny"]
    assert front["metrics"] == ["ndcg@10", "pairwise_accuracy", "auc"]
    assert front["library_name"] == "transformers"
    mean = storage.read_json(f"{evaluation}/metrics.json")["systems"]["cross_encoder"]["ndcg@10"]["mean"]
    assert f"| `cross_encoder` | {mean:.4f} [" in body
    assert decision["digest"] in body


def test_what_the_run_says_about_itself(evaluated, model, tmp_path):
    evaluation = evaluated(bm25=BM25, untrained=UNTRAINED, cross_encoder=scored(0.3, 1))
    report, decision = promote(evaluation, model("a"), tmp_path, tracker=SpoolTracker(tmp_path / "s.jsonl", "promotion"))
    assert report.metrics["promoted"] == 1.0
    assert report.metrics["gain_over_bm25.low"] == decision["comparisons"]["bm25"]["low"]
    tags = next(json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines() if '"tags"' in line)["values"]
    assert tags == {"promotion": "promote", "promotion_reason": decision["reason"], "model_version": "1"}


@pytest.mark.parametrize(
    ("breakage", "message"),
    [("metric", "key 'metric'"), ("model", "not a model folder"), ("evaluation", "does not exist"), ("parquet", "not readable Parquet")],
)
def test_wrong_input_is_the_users_mistake(evaluated, model, tmp_path, breakage, message):
    evaluation, folder, config = evaluated(bm25=BM25, cross_encoder=scored(0.3, 1)), model("a"), CONFIG
    if breakage == "metric":
        config = CONFIG.model_copy(update={"metric": "ndcg@5"})
    if breakage == "model":
        (Path(folder) / "config.json").unlink()
    if breakage == "evaluation":
        evaluation += "-gone"
    if breakage == "parquet":
        (Path(evaluation) / "per_query.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=message):
        promote(evaluation, folder, tmp_path / "out", config)
    assert not (tmp_path / "out").exists()


class Artifact:
    """What kfp gives a component: a path to write to, and metadata."""

    def __init__(self, path, uri=""):
        self.path, self.metadata = str(path), {}
        if uri:
            Path(path).write_text(json.dumps({"uri": uri, "digest": storage.content_digest(uri)}))


def test_the_component_decides_anew_in_every_run(evaluated, model, whole_day, tmp_path):
    from components.promote_model.component import promote_model

    evaluation = evaluated(bm25=BM25, untrained=UNTRAINED, cross_encoder=scored(0.3, 1))
    outcomes = []
    for run_id in ("r1", "r1", "r2"):
        outputs = {name: Artifact(tmp_path / f"{run_id}-{name}") for name in ("promotion", "card", "summary")}
        promote_model.python_func(
            config={"num_resamples": 200.0}, section="promotion", workspace=str(tmp_path / "work"), run_id=run_id,
            evaluation=Artifact(tmp_path / "in-e", evaluation), cross_encoder=Artifact(tmp_path / "in-c", model("a")),
            bi_encoder=Artifact(tmp_path / "in-b", model("b")), lineage=Artifact(tmp_path / "in-l", whole_day), **outputs,
        )  # fmt: skip
        outcomes.append(storage.read_json(outputs["promotion"].metadata["uri"])["outcome"])
    assert outcomes == ["promote", "promote", "keep"]  # a retry of r1 finds r1's decision; r2 sees who serves now
    assert Path(outputs["card"].path).read_text().startswith("---\n")
    assert "already champion" in Path(outputs["summary"].path).read_text()


def test_the_component_judges_the_student_that_the_recipe_names(evaluated, model, whole_day, tmp_path):
    from components.promote_model.component import promote_model

    evaluation = evaluated(bm25=BM25, untrained=UNTRAINED, bi_encoder=scored(0.3, 1))

    def decide(system):
        outputs = {name: Artifact(tmp_path / f"{system}-{name}") for name in ("promotion", "card", "summary")}
        promote_model.python_func(
            config={"num_resamples": 200.0, "system": system}, section="promotion", workspace=str(tmp_path / "work"), run_id="r",
            evaluation=Artifact(tmp_path / "in-e", evaluation), cross_encoder=Artifact(tmp_path / "in-c", model("a")),
            bi_encoder=Artifact(tmp_path / "in-b", model("b")), lineage=Artifact(tmp_path / "in-l", whole_day), **outputs,
        )  # fmt: skip
        return storage.read_json(outputs["promotion"].metadata["uri"])

    decision = decide("bi_encoder")
    assert (decision["outcome"], decision["model"]) == ("promote", storage.normalise(model("b")))
    with pytest.raises(InputError, match="'system' = 'teacher'; the pipeline trains cross_encoder, bi_encoder"):
        decide("teacher")
    assert "the pipeline trains cross_encoder, bi_encoder" in (tmp_path / "teacher-summary").read_text()  # the failure's page


def command(*arguments):
    line = [sys.executable, "-m", "components.promote_model", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_line_decides_alike(evaluated, model, tmp_path):
    evaluation = evaluated(bm25=BM25, untrained=UNTRAINED, cross_encoder=scored(0.3, 1))
    done = command("--evaluation", evaluation, "--model", model("a"), "--promotion", str(tmp_path / "p.json"), "--model-name", "")
    assert done.returncode == 0, done.stderr
    decision = storage.read_json(str(tmp_path / "p.json"))
    assert (decision["outcome"], decision["version"]) == ("promote", "")
    assert "no champion yet; above bm25, untrained" in done.stdout


def test_the_command_line_names_a_mistake_in_one_line(model, tmp_path):
    done = command("--evaluation", str(tmp_path / "gone"), "--model", model("a"), "--promotion", str(tmp_path / "p.json"))
    assert done.returncode == 2
    assert "gone/metrics.json' does not exist" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
