"""Training end to end on a tiny shop: it learns, resumes, refuses, and is the same on two processes."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from kfp import dsl
from safetensors.torch import load_file
from transformers import Qwen3Config, Qwen3Model

from components.shared import storage
from components.shared.calibration import Bins
from components.shared.errors import InputError
from components.shared.figures import calibration_plot
from components.shared.models import folder
from components.shared.models.scoring import Scorer
from components.shared.tables import read_table, write_table
from components.shared.tracking import NullTracker, SpoolTracker
from components.shared.training import Checkpoints, Curve
from components.train_teacher import fine_tuning, network
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.figures import curve_plot
from components.train_teacher.grading import grade_metrics, order_metrics, spread_within
from components.train_teacher.step import doubt_of, run
from components.train_teacher.world import World

SHORT: dict[str, Any] = {"num_neighbors": 1, "max_tokens": 64, "batch_size": 27, "num_epochs": 3, "learning_rate": 3e-3}
SHORT |= {"precision": "fp32", "validation_share": 0.2, "log_steps": 1}
SHORT |= {"min_pairwise_accuracy": 0.0}  # too short to learn much


def train(shop: dict[str, str], model: Path, **more: Any):
    tracker = SpoolTracker(model.parent / f"{model.name}.jsonl", "teacher")
    return run(TrainTeacherConfig(**{**SHORT, **more}), **shop, model=str(model), tracker=tracker)


def losses_of(model: Path) -> list[float]:
    lines = [json.loads(line) for line in (model.parent / f"{model.name}.jsonl").read_text().splitlines()]
    return [line["values"]["teacher.loss"] for line in lines if "teacher.loss" in line.get("values", {})]


def epochs_of(model: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (model.parent / f"{model.name}.jsonl").read_text().splitlines()]
    return [line for line in lines if "teacher.epoch.pairwise_accuracy" in line.get("values", {})]


@pytest.mark.parametrize("reading", ["joint", "separate"])
def test_every_epoch_is_looked_at(shop: dict[str, str], random_encoder: str, tmp_path: Path, reading: str) -> None:
    report = train({**shop, "encoder": random_encoder}, tmp_path / "m", reading=reading)
    epochs = epochs_of(tmp_path / "m")
    assert [line["step"] for line in epochs] == [len(losses_of(tmp_path / "m")) * epoch // 3 for epoch in (1, 2, 3)]
    shared = ["pairwise_accuracy", *(["cross_entropy", "macro_f1"] if reading == "joint" else [])]
    for name in shared:  # the network in memory and the folder that scoring loads say the same
        assert epochs[-1]["values"][f"teacher.epoch.{name}"] == pytest.approx(report.metrics[f"validation.{name}"], abs=1e-6)
    assert 0 <= report.metrics["validation.calibration_error"] <= 1
    assert 0 < report.metrics["padding_share"] < 0.2
    drawn = (tmp_path / "m-calibration.svg").read_text()
    assert f"Calibration on {report.metrics['validation.pairs']:.0f} held-out pairs" in drawn


def test_slices_are_told_where_they_differ(shop: dict[str, str], tmp_path: Path) -> None:
    # of the shop's queries one has evidence; with half of the queries held out and this seed it is among them
    metrics = train(shop, tmp_path / "m", validation_share=0.5, num_epochs=1).metrics
    shown, bare = (metrics[f"validation.{name}_evidence.pairs"] for name in ("with", "without"))
    assert shown + bare == metrics["validation.pairs"]
    assert 0 < shown <= 12
    assert "validation.segment_head.pairs" not in metrics  # all of them are


def test_it_learns_the_shops_rule_and_says_what_it_did(shop: dict[str, str], tmp_path: Path) -> None:
    report = train(shop, tmp_path / "m", num_epochs=70, validation_share=0.0, smoothing=0.0)
    assert (report.read, report.kept, report.dropped) == (144, 132, {"held_out_for_validation": 0, "other_split": 12})
    losses = losses_of(tmp_path / "m")
    assert np.mean(losses[-5:]) < 0.6  # always answering the shares of the grades would stay at 0.72
    scores = Scorer(str(tmp_path / "m")).scores(
        ["query: red shoes"] * 2, ["title: red shoes | color: red", "title: green cup | color: green"]
    )
    assert scores[0] > scores[1] + 0.3
    assert (tmp_path / "m-loss_curve.svg").read_text().count("<svg") == 1
    assert not (tmp_path / "m-checkpoints").exists()
    spec = folder.read_spec(tmp_path / "m")
    assert (spec.kind, spec.gains, spec.num_neighbors, spec.max_tokens) == ("teacher", [0.0, 0.4, 1.0], 1, 64)


@pytest.mark.parametrize("folding", ["grades", "walmart"])
def test_other_foldings_learn_too(shop: dict[str, str], tmp_path: Path, folding: str) -> None:
    train(shop, tmp_path / "m", folding=folding, num_epochs=15, balance=0.5)
    epochs = np.reshape(losses_of(tmp_path / "m"), (15, -1)).mean(axis=1)  # batches are of like length and so of unlike grades
    assert epochs[-3:].mean() < 0.97 * epochs[0]
    assert folder.read_spec(tmp_path / "m").gains == ([0.0, 0.5, 1.0] if folding == "walmart" else [0.0, 0.4, 1.0])


SEPARATE: dict[str, Any] = {"reading": "separate", "num_epochs": 30}


def test_a_teacher_that_reads_separately_learns_order_and_grades(shop: dict[str, str], random_encoder: str, tmp_path: Path) -> None:
    report = train({**shop, "encoder": random_encoder}, tmp_path / "m", **SEPARATE)
    assert report.metrics["validation.mse_over_variance"] < 0.9
    assert "warning" not in report.notes
    losses = np.reshape(losses_of(tmp_path / "m"), (30, -1)).mean(axis=1)
    assert losses[-3:].mean() < 0.5 * losses[0]
    spec = folder.read_spec(tmp_path / "m")
    assert not spec.reads_jointly()
    assert (len(spec.offsets), spec.slope > 0) == (3, True)
    right = ["title: red shoes | color: red", "title: blue shoes | color: blue", "title: green cup | color: green"]
    scorer = Scorer(str(tmp_path / "m"))
    probabilities, scores = scorer.probabilities(["query: red shoes"] * 3, right), scorer.scores(["query: red shoes"] * 3, right)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(scores, probabilities.astype(np.float64) @ [0.0, 0.4, 1.0], atol=1e-9)
    assert scores[0] > scores[1] > scores[2]


def test_a_teacher_that_reads_separately_can_be_trained_on(shop: dict[str, str], random_encoder: str, tmp_path: Path) -> None:
    train({**shop, "encoder": random_encoder}, tmp_path / "m", reading="separate")
    assert train({**shop, "encoder": str(tmp_path / "m")}, tmp_path / "n", reading="separate").kept == 108
    train(shop, tmp_path / "joint")
    with pytest.raises(InputError, match=r"'reading': .* is a teacher that reads jointly; set 'joint', or start from an encoder"):
        train({**shop, "encoder": str(tmp_path / "joint")}, tmp_path / "o", reading="separate")


def test_separate_reading_is_refused_where_it_was_not_built(shop: dict[str, str]) -> None:
    for more in ({"lora_rank": 4}, {"num_processes": 2}, {"zero_stage": 1}, {"launcher": "trainjob"}):
        with pytest.raises(ValueError, match="set lora_rank 0, num_nodes and num_processes 1, zero_stage 0 and launcher 'local'"):
            TrainTeacherConfig(reading="separate", **more)


def test_same_seed_same_bytes(shop: dict[str, str], tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(shop, tmp_path / name)
    assert storage.content_digest(str(tmp_path / "a")) == storage.content_digest(str(tmp_path / "b"))
    assert (tmp_path / "a-loss_curve.svg").read_bytes() == (tmp_path / "b-loss_curve.svg").read_bytes()


def test_a_killed_training_goes_on(shop: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(shop, tmp_path / "whole", checkpoint_steps=2)

    class Killed(Checkpoints):
        def save(self, curve: Curve, tensors: dict[str, torch.Tensor]) -> None:
            super().save(curve, tensors)
            if len(curve.losses) == 6:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fine_tuning, "Checkpoints", Killed)
        with pytest.raises(KeyboardInterrupt):
            train(shop, tmp_path / "resumed", checkpoint_steps=2)
    assert not (tmp_path / "resumed" / "relevance.json").exists()
    first_life = len(losses_of(tmp_path / "resumed"))
    train(shop, tmp_path / "resumed", checkpoint_steps=2)
    whole, resumed = losses_of(tmp_path / "whole"), losses_of(tmp_path / "resumed")
    assert len(resumed) == len(whole)  # 6 steps, then the other 6: none twice
    assert first_life == 6
    np.testing.assert_allclose(resumed, whole, atol=1e-6)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert max(float((one[key] - other[key]).abs().max()) for key in one) < 1e-6


@pytest.mark.parametrize(("lora_rank", "precision"), [(0, "fp32"), (4, "fp32"), (4, "bf16")])
def test_a_decoder_trains_whole_or_through_lora(shop: dict[str, str], tmp_path: Path, lora_rank: int, precision: str) -> None:
    tokenizer = folder.load_tokenizer(Path(shop["encoder"]))
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    backbone = Qwen3Model(Qwen3Config(**sizes, intermediate_size=64, vocab_size=len(tokenizer), pad_token_id=0, max_position_embeddings=64))
    decoder = str(tmp_path / "decoder")
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    folder.save(decoder, backbone, tokenizer, folder.ModelSpec("encoder", 64))
    train({**shop, "encoder": decoder}, tmp_path / "m", lora_rank=lora_rank, precision=precision, num_epochs=8)
    losses = losses_of(tmp_path / "m")
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:2])
    saved = load_file(tmp_path / "m" / "model.safetensors")
    assert not [name for name in saved if "lora" in name]
    kept = torch.float32 if precision == "fp32" else torch.bfloat16
    changed = saved["model.layers.0.self_attn.q_proj.weight"] - backbone.layers[0].self_attn.q_proj.weight.to(kept)
    assert changed.abs().max() > 1e-4  # adapters were merged into the weights
    embeddings = torch.equal(saved["model.embed_tokens.weight"], backbone.embed_tokens.weight.to(kept))
    assert embeddings == (lora_rank > 0)


@pytest.mark.parametrize(
    ("stage", "ranking_weight"),
    [(2, 0.0), pytest.param(2, 1.0, marks=pytest.mark.nightly), pytest.param(3, 1.0, marks=pytest.mark.nightly)],
)
def test_two_processes_follow_the_curve_of_one(
    still_shop: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int, ranking_weight: float
) -> None:
    # where nothing can be compiled, and nothing was before
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    settings: dict[str, Any] = {"batch_size": 32, "num_epochs": 3, "checkpoint_steps": 5, "ranking_weight": ranking_weight}
    train(still_shop, tmp_path / "one", **settings)
    train(still_shop, tmp_path / "two", **settings, num_processes=2, zero_stage=stage)
    np.testing.assert_allclose(losses_of(tmp_path / "two"), losses_of(tmp_path / "one"), rtol=1e-3)
    assert np.ptp(losses_of(tmp_path / "one")) > 0.1  # the curve moves, so equality says something
    texts = (["query: red shoes"], ["title: red shoes"])
    scores = [Scorer(str(tmp_path / name)).logits(*texts) for name in ("one", "two")]
    np.testing.assert_allclose(*scores, atol=5e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("stage", [2, 3])
def test_zero_on_a_gpu_follows_the_curve_without(still_shop: dict[str, str], tmp_path: Path, stage: int) -> None:
    settings: dict[str, Any] = {"batch_size": 32, "num_epochs": 3, "checkpoint_steps": 5}
    train(still_shop, tmp_path / "first", num_epochs=1)  # ZeRO-3 draws a fresh head on the GPU, so start where there is one
    start = {**still_shop, "encoder": str(tmp_path / "first")}
    train(start, tmp_path / "plain", **settings)
    train(start, tmp_path / "zero", **settings, num_processes=1, zero_stage=stage)
    np.testing.assert_allclose(losses_of(tmp_path / "zero"), losses_of(tmp_path / "plain"), rtol=1e-2)
    assert np.ptp(losses_of(tmp_path / "plain")) > 0.1


@pytest.mark.nightly
@pytest.mark.parametrize(("stage", "lora_rank"), [(1, 0), (2, 0), (3, 0), (3, 4)])
def test_two_processes_go_on_from_the_checkpoint_of_one(
    still_shop: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int, lora_rank: int
) -> None:
    settings: dict[str, Any] = {"batch_size": 32, "checkpoint_steps": 3, "lora_rank": lora_rank}
    monkeypatch.setattr(network, "LORA_DROPOUT", 0.0)
    train(still_shop, tmp_path / "whole", **settings)

    def stop(self: Checkpoints, curve: Curve, tensors: dict[str, torch.Tensor], save: Any = Checkpoints.save) -> None:
        save(self, curve, tensors)
        if len(curve.losses) == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            train(still_shop, tmp_path / "resumed", **settings)
    train(still_shop, tmp_path / "resumed", **settings, num_processes=2, zero_stage=stage)
    # the processes that are launched do use LoRA's dropout, hence the wider tolerance
    np.testing.assert_allclose(losses_of(tmp_path / "resumed"), losses_of(tmp_path / "whole"), rtol=0.05 if lora_rank else 1e-3)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert max(float((one[key] - other[key]).abs().max()) for key in one) < (0.05 if lora_rank else 1e-3)


@pytest.mark.parametrize(
    ("settings", "places", "message"),
    [
        ({"max_tokens": 65}, {}, "'max_tokens' = 65: the encoder .* reads at most 64 tokens"),
        ({}, {"neighbors": "nowhere"}, "nowhere' is not a committed table"),
        ({}, {"encoder": "nowhere"}, "model 'nowhere' does not exist"),
        ({"learning_rate": 1e30, "max_grad_norm": 1e30}, {}, "training stopped at step .* lower learning_rate"),
    ],
)
def test_refusals(shop: dict[str, str], tmp_path: Path, settings: dict[str, Any], places: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train({**shop, **places}, tmp_path / "m", **settings)
    assert not (tmp_path / "m" / "relevance.json").exists()


@pytest.mark.parametrize("reading", ["joint", "separate"])
def test_a_teacher_that_tells_no_items_apart_is_refused(shop: dict[str, str], tmp_path: Path, reading: str) -> None:
    items = read_table(shop["items"], "items")
    one = items.take([0] * len(items)).set_column(items.column_names.index("item_id"), "item_id", items["item_id"])
    write_table(str(tmp_path / "items"), "items", one)
    with pytest.raises(InputError, match=r"same score \(std .* within held-out queries\): it has collapsed; lower learning_rate"):
        train({**shop, "items": str(tmp_path / "items")}, tmp_path / "m", num_neighbors=0, num_epochs=1, reading=reading)
    assert not (tmp_path / "m-card.md").exists()


def test_a_teacher_that_knows_no_more_than_the_mean_grade_is_reported_and_refused_where_it_orders_no_better_than_chance(
    shop: dict[str, str], random_encoder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    places, settings = {**shop, "encoder": random_encoder}, {"num_epochs": 1, "learning_rate": 1e-9}
    told = r"no more than the mean grade \(mse_over_variance .*\) and orders .* of the item pairs right, where chance is 0.5: no pool"
    with pytest.raises(InputError, match=told):
        train(places, tmp_path / "m", **settings, min_pairwise_accuracy=1.0)
    assert not (tmp_path / "m-card.md").exists()
    assert (tmp_path / "m-confusion.svg").exists()  # to see what is wrong with it
    assert '"teacher.validation.mse_over_variance"' in (tmp_path / "m.jsonl").read_text()
    report = train(places, tmp_path / "m", **settings)
    share = report.metrics["validation.mse_over_variance"]
    assert share >= 1
    assert report.notes["warning"].startswith(f"the teacher knows no more than the mean grade (mse_over_variance {share:.3g} on")
    assert report.notes["warning"] in caplog.messages
    assert "take its order" in report.markdown("teacher")


@pytest.mark.parametrize(
    ("share", "order", "expected"),
    [
        (0.9, 0.4, ""),
        (1.2, 0.6, "take its order (0.6 of"),
        (1.0, 0.5, InputError),
        (1.2, 0.4, InputError),
        (1.2, None, "take its order (1 of"),
    ],
)
def test_what_speaks_against_a_teacher(share: float, order: float | None, expected: Any) -> None:
    metrics = {"validation.mse_over_variance": share} | ({} if order is None else {"validation.pairwise_accuracy": order})
    if expected is InputError:
        with pytest.raises(InputError, match=r"lower min_pairwise_accuracy$"):
            doubt_of(metrics, 0.5)
    else:
        assert expected in doubt_of(metrics, 0.5)
        assert bool(doubt_of(metrics, 0.5)) == bool(expected)


def test_spread_within_by_hand() -> None:
    # q0: 0 and 1 around .5; q1: .2 three times; q2 has one item, which has nothing to differ from: sqrt((.25 + .25) / 5)
    scores, names = np.array([0.0, 1.0, 0.2, 0.2, 0.2, 0.9]), np.array(["q0", "q0", "q1", "q1", "q1", "q2"])
    assert spread_within(scores, names) == {"std_within_queries": pytest.approx(np.sqrt(0.1))}
    assert spread_within(scores[5:], names[5:]) == {}


def test_grade_metrics_by_hand() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.25, 0.5, 0.25]])
    metrics = grade_metrics(probabilities, np.array([0, 2, 0]), np.array([0.0, 0.5, 1.0]))
    # right, right, wrong; -(ln .5 + ln .7 + ln .25) / 3 = (.693147 + .356675 + 1.386294) / 3
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["cross_entropy"] == pytest.approx(0.812039, abs=1e-6)
    # expected gains .35, .8, .5 against 0, 1, 0: (.1225 + .04 + .25) / 3; variance of (0, 1, 0) = 2/9
    assert metrics["mse"] == pytest.approx(0.1375)
    assert metrics["mse_over_variance"] == pytest.approx(0.1375 / (2 / 9))
    # grade 0: precision 1, recall 1/2 -> 2/3; grade 2: 1; grade 1 does not occur
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_order_metrics_by_hand() -> None:
    # q0: gains 1 > .1 > 0 scored .9, .1, .3: two of three pairs; q1: a tie counts half; q2 has no pair of different gain
    scores, truth = np.array([0.9, 0.1, 0.3, 0.5, 0.5, 0.2, 0.4]), np.array([1.0, 0.1, 0.0, 1.0, 0.0, 0.1, 0.1])
    names = np.array(["q0", "q0", "q0", "q1", "q1", "q2", "q2"])
    assert order_metrics(scores, truth, names) == {"pairwise_accuracy": pytest.approx((2 / 3 + 1 / 2) / 2)}
    assert order_metrics(scores[5:], truth[5:], names[5:]) == {}


def test_mse_over_variance_of_the_mean_is_one() -> None:
    grades = np.array([0, 0, 0, 1])
    metrics = grade_metrics(np.tile([0.75, 0.25], (4, 1)), grades, np.array([0.0, 1.0]))
    assert metrics["mse_over_variance"] == pytest.approx(1.0)
    assert "mse_over_variance" not in grade_metrics(np.tile([0.75, 0.25], (2, 1)), np.array([0, 0]), np.array([0.0, 1.0]))


def test_calibration_error_by_hand() -> None:
    # two bins of two: (.1, .3) judged (0, 1), (.6, .8) judged (1, .4) -> |.2 - .5| and |.7 - .7|, weighed alike
    bins = Bins.of(np.array([0.8, 0.1, 0.6, 0.3]), np.array([0.4, 0.0, 1.0, 1.0]), num_bins=2)
    np.testing.assert_allclose([bins.predicted, bins.judged], [[0.2, 0.7], [0.5, 0.7]])
    assert bins.error() == pytest.approx(0.15)
    # one pair more in the first bin: 2/3 x .3 + 1/3 x 0
    assert Bins.of(np.array([0.1, 0.3, 0.7]), np.array([0.0, 1.0, 0.7]), num_bins=2).error() == pytest.approx(0.2)
    assert b"held-out pairs" in calibration_plot({"teacher": bins})


def test_processes_take_equally_many_batches_and_miss_none() -> None:
    batches = [np.array([number]) for number in range(5)]
    turns = [World(rank, 3).turns(batches) for rank in range(3)]
    assert [len(turn) for turn in turns] == [2, 2, 2]
    assert {int(rows[0]) for turn in turns for rows in turn} == set(range(5))
    assert World().turns(batches) == batches


def test_the_plot_holds_the_points() -> None:
    plain, other = (curve_plot(Curve([1.0, 0.5, last])) for last in (0.25, 0.9))
    assert b"loss" in plain
    assert plain == curve_plot(Curve([1.0, 0.5, 0.25]))
    assert plain != other


def test_kfp_door(shop: dict[str, str], random_encoder: str, tmp_path: Path) -> None:
    from components.train_teacher.component import train_teacher

    def artifact(name: str, uri: str = "") -> Any:
        path = tmp_path / name
        if uri:
            path.write_text(json.dumps({"uri": uri, "digest": "d", "rows": 1}))
        return SimpleNamespace(path=str(path), metadata={})

    made = {name: artifact(name) for name in ("model", "summary")}
    given = {name: artifact(f"{name}.json", uri) for name, uri in {**shop, "encoder": random_encoder}.items()}
    given["task"] = dsl.TaskConfig()
    settings = {**SHORT, "num_epochs": 1.0}
    train_teacher.python_func(config=settings, section="teacher", workspace=str(tmp_path / "w"), run_id="r", **given, **made)
    assert folder.read_spec(folder.fetch(made["model"].metadata["uri"])).kind == "teacher"
    assert "validation.mse_over_variance" in Path(made["summary"].path).read_text()


def test_command_line_trains_and_refuses(shop: dict[str, str], random_encoder: str, tmp_path: Path) -> None:
    start = {**shop, "encoder": random_encoder}

    def call(**more: str) -> subprocess.CompletedProcess[str]:
        places = {**start, "model": str(tmp_path / "m"), "max-tokens": "64", "num-epochs": "1", "precision": "fp32", **more}
        places |= {"min-pairwise-accuracy": "0"}
        flags = [part for name, value in places.items() for part in (f"--{name}", value)]
        return subprocess.run([sys.executable, "-m", "components.train_teacher", *flags], capture_output=True, text=True, check=False)

    refused = call(folding="hard")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("error: recipe section 'teacher': key 'folding' = 'hard'")
    assert call().returncode == 0
    config = TrainTeacherConfig(max_tokens=64, num_epochs=1, precision="fp32", min_pairwise_accuracy=0)
    run(config, **start, model=str(tmp_path / "here"), tracker=NullTracker())
    assert (tmp_path / "m" / "relevance.json").read_text() == (tmp_path / "here" / "relevance.json").read_text()
