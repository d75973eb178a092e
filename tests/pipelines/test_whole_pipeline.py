"""The whole pipeline through its real doors on a very small shop: compiled, run by kfp, looked at in files and in MLflow."""

from pathlib import Path

import ir_measures
import numpy as np
import pytest
from ir_measures import nDCG
from night import Night, overrides_of
from notebook_cells import run_notebook

from components.shared import spools, storage
from components.shared.card import read_card
from components.shared.tables import read_table
from components.shared.tracking_mlflow import EXPERIMENT, RUN_TAG
from pipelines import outcome, recipe

NUM_QUERIES, JUDGMENTS_PER_QUERY = 60, 10
SMALL_ENCODER = {"num_layers": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "vocab_size": 800, "max_tokens": 64}
SMALL = {
    "shop": {"num_items": 150, "num_queries": NUM_QUERIES, "num_log_queries": 40, "judgments_per_query": JUDGMENTS_PER_QUERY}
    | {"num_sessions": 300, "days": 2},
    "teacher_encoder": SMALL_ENCODER,
    "student_encoder": SMALL_ENCODER,
    "teacher": {"num_epochs": 1, "max_tokens": 64, "min_pairwise_accuracy": 0},
    "cross_encoder": {"max_tokens": 64},
    "bi_encoder": {"max_tokens": 64},
    "pool": {"size_factor": 2, "num_shards": 2},
    "scoring": {"num_shards": 2},
    "ranking": {"num_shards": 2},
    "evaluation": {"num_resamples": 200},
    "promotion": {"num_resamples": 200, "min_queries": 10},
}
OVERRIDES = overrides_of(SMALL)
NUM_TASKS = 18


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("night") / "work"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """MLflow's SQLite store for all nights here."""
    with pytest.MonkeyPatch.context() as patch:
        uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.setenv("OMP_NUM_THREADS", "2")
        yield uri


@pytest.fixture(scope="module")
def first(workspace, store) -> Night:
    night = Night(workspace, OVERRIDES)
    assert night.code == 0, night.shown
    return night


@pytest.fixture(scope="module")
def second(workspace, store, first) -> Night:
    return Night(workspace, OVERRIDES)


@pytest.fixture(scope="module")
def client(store):
    from mlflow import MlflowClient

    return MlflowClient(store)


def runs_of(client, night: Night):
    """(parent, children by section)."""
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    (parent,) = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{night.run_id}'")
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return parent, {run.info.run_name: run for run in children}


def test_the_terminal_shows_every_task_the_table_the_decision_and_where_to_look(first):
    assert first.shown.count(" done in ") == NUM_TASKS
    for text in ("cross_encoder", "ndcg@10", "promotion: ", "report: ", "log: ", "make ui"):
        assert text in first.shown
    report = Path(first.shown.split("report: ")[1].splitlines()[0])
    assert "cross_encoder" in report.read_text(encoding="utf-8")


def test_the_judgments_are_the_shops_and_the_pool_is_scored_exactly_once(first):
    judgments = read_table(first.address("import-dataset", "judgments"), "judgments")
    assert judgments.num_rows == NUM_QUERIES * JUDGMENTS_PER_QUERY
    pairs = read_table(first.address("build-pool", "pairs"), "pairs")
    targets = read_table(first.address("score-pairs", "scores"), "soft_targets")
    assert pairs.num_rows > 100
    assert sorted(targets["pair_id"].to_pylist()) == sorted(pairs["pair_id"].to_pylist())
    probabilities = np.array(targets["probabilities"].to_pylist())
    assert probabilities.shape[1] == len(read_card(first.address("import-dataset", "card")).grades)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_every_system_ranks_the_same_pairs_and_the_first_night_has_no_champion(first):
    rankings = first.rankings()
    assert set(rankings) == {"teacher", "cross_encoder", "bi_encoder", "untrained", "champion"}
    assert rankings.pop("champion").num_rows == 0
    ranked = {
        system: sorted(zip(*(table[key].to_pylist() for key in ("query_id", "item_id")), strict=True)) for system, table in rankings.items()
    }
    assert all(pairs == ranked["teacher"] for pairs in ranked.values())
    assert {name for table in rankings.values() for name in table["system"].to_pylist()} == set(rankings)


def test_the_headline_number_is_the_one_that_ir_measures_computes(first):
    """An independent way from rankings and judgments to ndcg@10 of the report."""
    judgments = read_table(first.address("import-dataset", "judgments"), "judgments").to_pylist()
    table = first.rankings()["bi_encoder"].to_pylist()
    evaluated = {row["query_id"] for row in table}
    qrels = [ir_measures.Qrel(row["query_id"], row["item_id"], row["grade"]) for row in judgments if row["query_id"] in evaluated]
    scored = [ir_measures.ScoredDoc(row["query_id"], row["item_id"], row["score"]) for row in table]
    gains = {row["grade"]: row["gain"] for row in judgments}
    # ir_measures takes whole gains only
    wanted = ir_measures.calc_aggregate([nDCG(gains={g: round(1000 * v) for g, v in gains.items()}) @ 10], qrels, scored)
    assert outcome.headline(first.tracking)["bi_encoder.ndcg@10"] == pytest.approx(next(iter(wanted.values())), abs=1e-6)


def test_mlflow_holds_one_tree_with_a_finished_child_per_task(first, client):
    parent, children = runs_of(client, first)
    assert len(children) == NUM_TASKS
    assert {run.info.status for run in (parent, *children.values())} == {"FINISHED"}
    assert (parent.info.run_name, parent.data.tags["recipe"]) == (first.run_id, "tiny")
    headline = {name.replace("@", "_at_"): value for name, value in outcome.headline(first.tracking).items()}
    assert parent.data.metrics == pytest.approx(headline)
    assert children["teacher"].data.params["teacher.num_epochs"] == "1"
    assert children["evaluation"].data.metrics.items() >= headline.items()
    assert {"logs.read", "logs.kept"} <= set(children["logs"].data.metrics)
    assert "report.html" in {file.path.split("/")[-1] for file in all_artifacts(client, children["evaluation"].info.run_id)}


def all_artifacts(client, run_id: str, folder: str | None = None):
    for file in client.list_artifacts(run_id, folder):
        yield from all_artifacts(client, run_id, file.path) if file.is_dir else [file]


def test_the_second_night_reuses_everything_that_knows_nothing_of_the_new_champion(first, second, client):
    promoted = storage.read_json(first.address("promote-model", "promotion"))["version"]
    assert second.code == 0, second.shown
    assert second.num_reused() >= NUM_TASKS - (3 if promoted else 1)
    seconds = [float(line.split(" done in ")[1].split(" s")[0]) for line in second.shown.splitlines() if line.endswith(", reused")]
    assert np.median(seconds) < 3
    parent, children = runs_of(client, second)
    assert len(children) == NUM_TASKS
    assert children["teacher"].data.tags["reused"] == "true"
    assert children["teacher"].data.params == runs_of(client, first)[1]["teacher"].data.params
    known = runs_of(client, first)[0].data.metrics
    assert {name: value for name, value in parent.data.metrics.items() if name in known} == pytest.approx(known)


def test_the_notebook_of_events_and_judgments_shows_the_runs_own_counts(workspace, second):
    shown = run_notebook("01", workspace=str(workspace))
    report = shown["run"].report("logs")
    assert (shown["run"].run_id, shown["fates"].sum(), shown["fates"]["kept"]) == (second.run_id, report.read, report.kept)
    assert shown["per_day"].to_numpy().sum() == report.kept
    assert list(shown["funnel"]) == sorted(shown["funnel"], reverse=True)
    assert shown["grades"].to_numpy().sum() == NUM_QUERIES * JUDGMENTS_PER_QUERY
    assert (shown["lost"]["events"].is_monotonic_increasing, shown["lost"]["events"].iloc[0]) == (True, 0)
    assert shown["num_figures"] == 7


def test_the_notebook_of_neighbors_shows_the_list_of_the_query_that_was_picked(workspace, second):
    lists = run_notebook("02", workspace=str(workspace))["lists"]
    picked = lists["key"].iloc[-1]
    shown = run_notebook("02", workspace=str(workspace), query=picked)
    wanted = lists[lists["key"] == picked].sort_values("rank")
    assert shown["found"]["text"].tolist() == wanted["text"].tolist()
    assert (shown["found"]["lower_bound"] <= shown["found"]["rate"]).all()
    assert shown["num_figures"] == 2


def test_the_notebook_of_teacher_and_students_agrees_with_the_evaluation(workspace, first, second):
    shown = run_notebook("03", workspace=str(workspace), student="cross_encoder")
    judged = set(zip(*(first.rankings()["teacher"][key].to_pylist() for key in ("query_id", "item_id")), strict=True))
    assert len(shown["scored"]) == len(judged & set(zip(shown["scored"]["query_id"], shown["scored"]["item_id"], strict=True)))
    assert shown["bins"].counts.sum() == len(shown["scored"])
    assert shown["labelled"].groupby("source").size().sum() == len(shown["targets"])
    assert shown["agreement"]["spearman"].between(-1, 1).sum() > 10
    assert set(shown["gaps"].columns) >= {"teacher", "cross_encoder", "gap"}


def test_the_notebook_of_runs_shows_every_finished_night_and_its_champion(store, first, second, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)  # MLflow's own setter below leaves none
    shown = run_notebook("04", tracking_uri=store)
    mlflow.set_tracking_uri(None)
    assert shown["nights"]["tags.mlflow.runName"].tolist()[:2] == [first.run_id, second.run_id]
    ours = outcome.headline(first.tracking)["bi_encoder.ndcg@10"]
    assert shown["nights"]["metrics.bi_encoder.ndcg_at_10"].iloc[0] == pytest.approx(ours)
    decision = storage.read_json(first.address("promote-model", "promotion"))
    assert shown["history"]["promotion"].iloc[0] == decision["outcome"]
    assert shown["seconds"].loc[shown["nights"]["run_id"].iloc[0], "teacher"] > 0
    assert set(shown["last"].loc["params.teacher.num_epochs"]) == {"1"}
    assert (len(shown["changed"]), shown["num_figures"]) == (0, 2)


def test_a_users_mistake_inside_a_task_is_told_in_the_last_line_with_exit_code_2(workspace, second, client):
    bad = Night(workspace, [*OVERRIDES, "teacher.max_tokens=65"])
    assert bad.code == 2
    last = bad.shown.splitlines()[-1]
    assert last.startswith("error in teacher: ")
    assert "65" in last
    parent, children = runs_of(client, bad)
    assert (parent.info.status, children["teacher"].info.status) == ("FAILED", "FAILED")
    assert "65" in parent.data.tags["error"]
    assert spools.num_unread(bad.tracking) == 0


def test_the_settings_of_this_test_are_a_valid_recipe():
    settings = recipe.load("tiny", OVERRIDES)
    assert settings["shop"]["num_queries"] == NUM_QUERIES
