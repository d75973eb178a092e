"""The capacity plan against arithmetic by hand over a small made-up results folder, and the refusal of senseless numbers."""

import itertools
import json
from pathlib import Path

import pytest

from components.shared.errors import InputError
from pipelines import ir, plan, recipe
from pipelines.__main__ import main
from pipelines.plan_figures import ASSUMPTIONS
from pipelines.plan_page import scaled

COUNTS = {"queries": "1000", "items": "50000", "pairs": "1e6", "judgments": "10000", "events": "1e6", "gpus": "4"}
NO_START = {"task_start_seconds": "0", "request_seconds": "0", "scoring_overhead": "1", "training_efficiency": "1"}
STEPS = {"Import": 1.0, "Pool": 2.0, "Behavior neighbors": 3.0, "Evaluate": 4.0, "Promote": 5.0}
RESULTS = {
    "kfp_overhead": {"result": {"with the hand-over": 0.0}},
    "extract_logs": {"result": [{"events": 10, "events_per_second": 1}, {"events": 20, "events_per_second": 200_000}]},
    "score_pairs": {"result": {"pairs_per_s": {"bucketed_bf16": 200.0}, "mean_tokens": 20.0}},
    "simulate_shop": {"settings": {"num_sessions": 100}, "result": {"events": 2000}},
    "run_times_tiny": {"settings": {"recipe": "tiny"}, "result": {"runs": [{"steps": STEPS}]}},
}


@pytest.fixture
def results(tmp_path) -> Path:
    for name, record in RESULTS.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    return tmp_path


@pytest.fixture
def planned(results):
    def make(**changed):
        return plan.plan_of({**COUNTS, **NO_START, "recipe": "tiny", "results": results, **changed})

    return make


def line(made, name: str) -> dict:
    return next(step for step in made["steps"] if step["step"] == name)


def seconds(made, name: str) -> float:
    return line(made, name)["seconds"]


def test_every_task_of_the_dag_but_the_made_up_shop_has_a_line(planned, laptop):
    tasks = {task["taskInfo"]["name"] for task in ir.tasks_of(laptop).values()}
    lines = [step["step"] for step in planned()["steps"]]
    assert len(lines) == len(set(lines))
    assert set(lines) == tasks - {"Shop"}


def test_steps_without_gpu_follow_their_rows(planned):
    made = planned()
    assert seconds(made, "Log") == pytest.approx(5)  # 1e6 events / 200,000 a second, of the larger log
    # the made-up shop: 1,500 items + 450 queries + 450 x 30 judgments = 15,450 rows in 1 s; here 50,000 + 1,000 + 10,000
    assert seconds(made, "Import") == pytest.approx(61_000 / 15_450)
    assert seconds(made, "Behavior neighbors") == pytest.approx(3 * 1e6 / (9500 * 20))  # 9,500 sessions of 2000 / 100 events
    assert seconds(made, "Pool") == pytest.approx(2 * 1e6 / (13_500 * 0.6 * 3))
    assert seconds(made, "Evaluate") == pytest.approx(4 * 10_000 * 0.4 / (13_500 * 0.4))
    assert seconds(made, "Promote") == 5
    assert seconds(planned(cpu_speedup="2"), "Log") == pytest.approx(2.5)


def test_steps_on_gpus_follow_work_over_speed(planned):
    made = planned(gpu_speedup="100", bench_parameters="1e7", teacher_parameters="1e9", teacher_tokens="100", student_tokens="40")
    # the benchmark: 200 pairs/s x 100; a teacher's pair costs 1e9 x 100 / (1e7 x 20) = 500 of its pairs: 40 pairs/s a GPU
    moving = 2 * 1e6 * 60 / 200e6  # publishing reads and writes 60 bytes a pair
    assert seconds(made, "Teacher scores the pool") == pytest.approx(1e6 / 40 / 4 + moving)
    # training costs 4 scored pairs: 10,000 judgments x 0.6 in train x 4 epochs x 4 / 40 / 4 GPUs
    assert seconds(made, "Teacher") == pytest.approx(10_000 * 0.6 * 4 * 4 / 40 / 4)
    # a student's pair costs 1.06e7 x 40 / (1e7 x 20) = 2.12 of the benchmark's: 20,000 / 2.12 pairs/s, three epochs of the pool, one GPU
    assert seconds(made, "Cross-encoder") == pytest.approx(1e6 * 3 * 4 * 2.12 / 20_000)
    assert seconds(made, "Rank: untrained") == pytest.approx(10_000 * 0.4 * 2.12 / 20_000)
    assert seconds(made, "Rank: teacher") == pytest.approx(10_000 * 0.4 / 40)


def test_the_teacher_pays_for_epochs_and_for_several_gpus(planned, tmp_path):
    longer = tmp_path / "longer.yaml"
    longer.write_text("extends: tiny\nteacher: {num_epochs: 5}\n")
    once = seconds(planned(), "Teacher")
    assert seconds(planned(recipe=str(longer)), "Teacher") == pytest.approx(once * 5 / 4)
    assert seconds(planned(training_efficiency="0.5"), "Teacher") == pytest.approx(2 * once)
    alone = {"gpus": "1", "task_start_seconds": "0"}
    assert seconds(planned(**alone, training_efficiency="0.5"), "Teacher") == pytest.approx(4 * once)


def test_a_staged_teacher_scores_every_prompt_and_is_trained_on_one(planned, tmp_path):
    staged = tmp_path / "staged.yaml"
    staged.write_text("extends: tiny\nteacher: {stages: [semantic, both]}\n")
    one, two = planned(scoring_overhead="1"), planned(scoring_overhead="1", recipe=str(staged))
    moving = 2 * 1e6 * 60 / 200e6
    assert seconds(two, "Teacher scores the pool") - moving == pytest.approx(2 * (seconds(one, "Teacher scores the pool") - moving))
    assert seconds(two, "Rank: teacher") == pytest.approx(2 * seconds(one, "Rank: teacher"))
    assert seconds(two, "Teacher") == pytest.approx(seconds(one, "Teacher"))


def test_a_speed_of_your_own_takes_the_place_of_the_derived_one(planned):
    made = planned(pairs_per_second_per_gpu="50")
    scoring = line(made, "Teacher scores the pool")
    assert scoring["seconds"] == pytest.approx(1e6 / 50 / 4 + 0.6)
    assert "assumption pairs_per_second_per_gpu" in scoring["from"]
    assert not any("score_pairs.json" in source for source in scoring["from"])
    shown = {one["name"]: one for one in made["assumptions"]}
    assert shown["pairs_per_second_per_gpu"] == {
        "name": "pairs_per_second_per_gpu",
        "value": 50,
        "given": True,
        "meaning": ASSUMPTIONS["pairs_per_second_per_gpu"].meaning,
    }


def test_gpu_hours_storage_and_cost(planned):
    made = planned(pairs_per_second_per_gpu="50", gpu_hour_price="3", storage_price="0.5", months_kept="2", task_start_seconds="100")
    scoring = line(made, "Teacher scores the pool")
    took = 100 + 1e6 / 50 / 4 + 0.6
    assert scoring["seconds"] == pytest.approx(took)
    assert scoring["gpu_hours"] == pytest.approx(4 * took / 3600)
    assert scoring["stored_bytes"] == 60e6
    assert scoring["cost"] == pytest.approx(3 * 4 * took / 3600 + 0.5 * 0.06 * 2)
    for key in ("seconds", "gpu_hours", "stored_bytes", "cost"):
        assert made["total"][key] == pytest.approx(sum(step[key] for step in made["steps"]))
    assert planned()["total"]["cost"] is None
    assert line(planned(), "Log")["stored_bytes"] == 1e6 * (30 + 30) + 1000 * 30  # events, interactions, queries


def test_publishing_costs_five_requests_a_shard(planned):
    # the recipe's pool has 16 shards, a request takes 0.5 s, 32 are under way at a time
    slower = seconds(planned(request_seconds="0.5"), "Teacher scores the pool") - seconds(planned(), "Teacher scores the pool")
    assert slower == pytest.approx(16 * 5 * 0.5 / 32)


def test_doubled_gpus_halve_what_is_spread_over_them_and_nothing_else(planned):
    one, two = planned(gpus="2", read_bytes_per_second="1e15"), planned(gpus="4", read_bytes_per_second="1e15")
    halved = {step["step"] for step, other in zip(one["steps"], two["steps"], strict=True) if step["seconds"] > other["seconds"]}
    assert halved == {"Teacher", "Teacher scores the pool"}
    for name in halved:
        assert seconds(two, name) == pytest.approx(seconds(one, name) / 2, rel=1e-6)
        assert line(two, name)["gpu_hours"] == pytest.approx(line(one, name)["gpu_hours"], rel=1e-6)
    # the teacher's task is placed on 8 GPUs: more do not make it faster
    assert seconds(planned(gpus="8"), "Teacher") == seconds(planned(gpus="800"), "Teacher")
    assert line(planned(gpus="800"), "Teacher")["gpus"] == 8
    # in a TrainJob it has those of its pods
    assert line(planned(gpus="800", recipe="decoder_nodes"), "Teacher")["gpus"] == 16


@pytest.mark.parametrize("name", ["pairs", "events", "judgments", "items"])
def test_more_work_never_takes_less(planned, name):
    before = [planned(**{name: str(10**power)}) for power in (3, 4, 5)]
    for small, large in itertools.pairwise(before):
        pairs = list(zip(small["steps"], large["steps"], strict=True))
        assert all(a["seconds"] <= b["seconds"] and a["stored_bytes"] <= b["stored_bytes"] for a, b in pairs)
        assert small["total"]["stored_bytes"] < large["total"]["stored_bytes"]


def test_every_line_says_where_its_figures_are_from(planned):
    made = planned()
    names = {f"assumption {one['name']}" for one in made["assumptions"]}
    for step in made["steps"]:
        assert any(source in made["measured"] or source in names for source in step["from"]), step["step"]
        for source in step["from"]:
            assert source.split()[0] in ("given", "assumption", "recipe", "placement") or source in made["measured"], source
    assert "extract_logs.json result.1.events_per_second" in line(made, "Log")["from"]
    assert made["measured"]["extract_logs.json result.1.events_per_second"] == 200_000
    assert "run_times_tiny.json result.runs.0.steps.Pool" in line(made, "Pool")["from"]
    assert "recipe tiny cross_encoder.num_epochs" in line(made, "Cross-encoder")["from"]


def test_a_recipe_that_stops_below_the_given_pairs_is_named(planned):
    notes = planned(recipe="esci_cpu")["notes"]
    most = recipe.load("esci_cpu")["cross_encoder"]["max_pairs"]
    assert any(f"cross_encoder.max_pairs = {most:,}" in note for note in notes)
    assert seconds(planned(recipe="esci_cpu"), "Cross-encoder") == seconds(planned(recipe="esci_cpu", pairs=str(most)), "Cross-encoder")
    assert not any("max_pairs" in note for note in planned(pairs="1000")["notes"])


@pytest.mark.parametrize(
    ("option", "value"),
    [("pairs", "0"), ("events", "-5"), ("gpus", "1.5"), ("items", "many"), ("queries", "inf"), ("judgments", "nan"), ("pairs", "1e16"),
     ("gpu_hour_price", "-1"), ("teacher_tokens", "0"), ("training_cost", "-3"), ("months_kept", "-1"), ("scoring_overhead", "0.5")],
)  # fmt: skip
def test_senseless_numbers_are_refused_by_name_and_value(planned, option, value):
    with pytest.raises(InputError, match=rf"--{option.replace('_', '-')} '{value}': give a"):
        planned(**{option: value})


@pytest.mark.parametrize("name", ["pairs", "judgments"])
def test_more_pairs_than_queries_times_items_are_refused(planned, name):
    with pytest.raises(InputError, match=rf"--{name} 50000001 is more than queries x items = 50000000"):
        planned(**{"pairs": "1000", name: "50000001"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is absent; run python benchmarks/score_pairs.py"),
        ("{", "is not JSON"),
        ("[]", "is no result file"),
        ('{"result": {}}', "has no result.pairs_per_s.bucketed_bf16"),
        ('{"result": {"pairs_per_s": {"bucketed_bf16": "fast"}, "mean_tokens": 20}}', "= 'fast' is no number"),
        (
            '{"result": {"pairs_per_s": {"bucketed_bf16": 0}, "mean_tokens": 20}}',
            "score_pairs.json result.pairs_per_s.bucketed_bf16.* is 0",
        ),
    ],
)
def test_result_files_that_do_not_serve_are_named(planned, results, content, message):
    file = results / "score_pairs.json"
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    with pytest.raises(InputError, match=message):
        planned()


def call(*more: str) -> int:
    return main(["plan", *(word for name, value in COUNTS.items() for word in (f"--{name}", value)), *more])


def test_the_command_prints_a_table_with_sources_assumptions_and_figures(results, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert call("--results", str(results), "--recipe", "tiny", "--gpu-speedup", "40") == 0
    shown = capsys.readouterr().out
    assert "Teacher scores the pool" in shown
    assert "score_pairs.json: result.pairs_per_s.bucketed_bf16" in shown
    assert "score_pairs.json result.pairs_per_s.bucketed_bf16 = 200" in shown
    assert "--gpu-speedup 40 (given):" in shown


def test_the_command_speaks_json_and_ends_with_2_and_one_line_for_nonsense(results, capsys):
    assert call("--results", str(results), "--json") == 0
    assert json.loads(capsys.readouterr().out)["given"]["gpus"] == 4
    assert call("--results", str(results), "--gpu-hour-price", "free") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: --gpu-hour-price 'free': give a number from 0 to 1e+15\n"


def test_the_committed_results_serve():
    made = plan.plan_of({**COUNTS, "recipe": "cluster", "results": plan.RESULTS})
    assert made["total"]["seconds"] > 0
    used = {source.split()[0] for source in made["measured"]}
    assert used == {f"{name}.json" for name in RESULTS}


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5 s"), (90, "1.5 min"), (7200, "2.0 h"), (172800, "2.0 d")])
def test_times_are_shown_in_their_own_unit(value, shown):
    assert scaled(value, ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))) == shown
