"""Preference tuning: the loss, which pairs it is given, and when its model is kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from components.shared.tracking import SpoolTracker
from components.shared.training import Checkpoints, Curve
from components.train_teacher import preference_tuning, step
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Sources, read_tables
from components.train_teacher.preference import Preferences, dpo_loss
from components.train_teacher.preference_tuning import Grading, is_better
from components.train_teacher.step import run

SETTINGS: dict[str, Any] = {"num_neighbors": 1, "max_tokens": 64, "batch_size": 27, "num_epochs": 3, "learning_rate": 3e-3}
SETTINGS |= {"precision": "fp32", "validation_share": 0.3, "log_steps": 1, "preference_epochs": 2, "preference_learning_rate": 1e-3}
SETTINGS |= {"min_pairwise_accuracy": 0.0}  # too short to learn much


def test_the_loss_by_hand() -> None:
    # log-ratios: chosen ln .4 - ln .2 = ln 2, rejected ln .3 - ln .6 = -ln 2: beta x 2 ln 2, so 1 / (1 + 4^-beta)
    chosen, rejected = torch.tensor([0.4, 0.2]).log(), torch.tensor([0.3, 0.6]).log()
    reference = torch.tensor([0.2, 0.2]).log() - torch.tensor([0.6, 0.6]).log()
    loss = dpo_loss(chosen, rejected, reference, beta=0.5)
    assert loss.tolist() == pytest.approx([-np.log(2 / 3), np.log(2)], abs=1e-6)  # the second moved nowhere: sigmoid(0)
    assert dpo_loss(chosen, rejected, reference, beta=2.0)[0] == pytest.approx(-np.log(16 / 17), abs=1e-6)


def test_the_gradient_pushes_the_chosen_up_and_the_rejected_down_by_the_papers_weight() -> None:
    # Rafailov et al. 2023, section 4: -beta sigmoid(rejected minus chosen reward), here beta sigmoid(0) = .05
    chosen, rejected = (torch.tensor([value], requires_grad=True) for value in (-1.0, -0.5))
    loss = dpo_loss(chosen, rejected, torch.tensor([-0.5]), beta=0.1).sum()
    assert [float(one) for one in torch.autograd.grad(loss, [chosen, rejected])] == pytest.approx([-0.05, 0.05])


LOG_P = np.log([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])


def test_mined_pairs_prefer_the_judged_grade_over_the_wrong_first_answer() -> None:
    judged = np.array([0, 1, 2, 1])
    mined = Preferences.mine(LOG_P, judged, top_k=2)
    assert (mined.rows.tolist(), mined.chosen.tolist(), mined.rejected.tolist()) == ([1, 3], [1, 1], [0, 2])
    np.testing.assert_allclose(mined.margin, np.log([0.3 / 0.5, 0.3 / 0.6]))
    assert Preferences.mine(LOG_P, judged, top_k=3).rows.tolist() == [1, 2, 3]


def test_the_loss_of_mined_pairs_starts_at_ln_2_whatever_the_normaliser() -> None:
    mined = Preferences.mine(LOG_P, np.array([0, 1, 2, 1]), top_k=3)
    logits = torch.from_numpy(LOG_P[mined.rows]) + torch.tensor([[1.0], [2.0], [3.0]])
    assert float(mined.loss(logits, np.arange(3), beta=0.3)) == pytest.approx(np.log(2), abs=1e-6)
    nearer = logits + torch.nn.functional.one_hot(torch.from_numpy(mined.chosen), 3)
    assert float(mined.loss(nearer, np.arange(3), beta=0.3)) == pytest.approx(np.log(1 + np.exp(-0.3)), abs=1e-6)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((3.0, 0.5), (1.2, 0.5), True),  # graded too high, now less so
        ((0.4, 0.5), (0.8, 0.492), True),  # too low, now less so, for .008 of macro F1
        ((0.4, 0.5), (0.8, 0.48), False),  # that is too much
        ((3.0, 0.5), (0.3, 0.6), False),  # 1/3 is as far from 1 as 3: it fell over to the other side
        ((1.1, 0.5), (1.2, 0.6), False),
    ],
)
def test_a_tuned_model_is_kept_when_less_one_sided(before: tuple[float, float], after: tuple[float, float], expected: bool) -> None:
    nothing = np.zeros((2, 2))
    assert is_better(Grading(*before, nothing), Grading(*after, nothing), max_f1_loss=0.01) is expected


def test_a_tuned_model_is_dropped_when_it_is_right_less_often_at_the_biased_boundary() -> None:
    # judged x predicted: 4 of 10 pairs that are graded 1 are, then 3 of 8, with as many errors of the other side as before or more
    before, worse, as_good = (np.array(counts) for counts in ([[5, 6], [1, 4]], [[6, 5], [4, 3]], [[8, 3], [3, 2]]))
    kept = [is_better(Grading(3.0, 0.5, before), Grading(1.2, 0.5, after), max_f1_loss=0.01) for after in (worse, as_good)]
    assert kept == [False, True]


def train(shop: dict[str, str], model: Path, **more: Any):
    return run(
        TrainTeacherConfig(**{**SETTINGS, **more}), **shop, model=str(model), tracker=SpoolTracker(Path(f"{model}.jsonl"), "teacher")
    )


def logged(model: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in Path(f"{model}.jsonl").read_text().splitlines()]
    return [line["values"][f"teacher.{name}"] for line in lines if f"teacher.{name}" in line.get("values", {})]


@pytest.fixture
def accepting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preference_tuning, "is_better", lambda *_: True)


@pytest.mark.usefixtures("accepting")
def test_pairs_come_from_training_queries_and_the_tuned_model_prefers_them(
    shop: dict[str, str], random_encoder: str, tmp_path: Path
) -> None:
    shop = {**shop, "encoder": random_encoder}
    report = train(shop, tmp_path / "m", preference_weight=1.0)
    mined = pq.read_table(tmp_path / "m-preferences.parquet").to_pylist()
    tables = read_tables(Sources(**shop), TrainTeacherConfig(**SETTINGS))
    judged = {(row["query_id"], row["item_id"]): row["grade"] for row in tables.training.to_pylist()}
    assert len(mined) == report.metrics["preference.pairs"] > 0
    assert all(judged[row["query_id"], row["item_id"]] == row["chosen"] != row["rejected"] for row in mined)
    assert all(row["margin"] < 0 for row in mined)
    asked = {hash(row["query_id"]) for row in mined}
    assert not asked & {hash(one) for one in tables.validation["query_id"].to_pylist()}
    assert hash("q11") not in asked  # of split test
    losses = logged(tmp_path / "m", "preference.loss")
    assert losses[0] == pytest.approx(np.log(2), abs=0.01)  # dropout is what is left to tell it from the reference
    assert losses[-1] < losses[0]
    assert (tmp_path / "m-confusion.svg").is_file()
    assert not list(tmp_path.glob("m-*checkpoints")) + list(tmp_path.glob("m-reference*"))


def test_what_is_no_better_is_dropped_and_both_are_told(
    shop: dict[str, str], random_encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = {**shop, "encoder": random_encoder}
    train(shop, tmp_path / "plain", preference_epochs=0)
    monkeypatch.setattr(preference_tuning, "is_better", lambda *_: False)
    report = train(shop, tmp_path / "m")
    metrics = report.metrics
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "m"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert metrics["preference.accepted"] == 0
    assert report.notes["preference"] == "tuned model dropped, the one before it is kept"
    assert metrics["preference.before.over_under_ratio"] == metrics["validation.over_under_ratio"]
    loss = metrics["preference.before.macro_f1"] - metrics["preference.after.macro_f1"]
    assert metrics["preference.macro_f1_loss"] == pytest.approx(loss)
    assert {f"preference.{when}.boundary_precision" for when in ("before", "after")} <= set(metrics)


@pytest.mark.usefixtures("accepting")
def test_killed_tuning_goes_on(shop: dict[str, str], random_encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, steps = {**shop, "encoder": random_encoder}, {"checkpoint_steps": 2, "preference_epochs": 4}
    train(shop, tmp_path / "whole", **steps)

    class Killed(Checkpoints):
        def save(self, curve: Curve, tensors: dict[str, torch.Tensor]) -> None:
            super().save(curve, tensors)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preference_tuning, "Checkpoints", Killed)
        with pytest.raises(KeyboardInterrupt):
            train(shop, tmp_path / "resumed", **steps)
    assert not (tmp_path / "resumed" / "relevance.json").exists()
    first_life, of_reference = (len(logged(tmp_path / "resumed", name)) for name in ("preference.loss", "loss"))
    report = train(shop, tmp_path / "resumed", **steps)
    assert len(logged(tmp_path / "resumed", "loss")) == of_reference == report.metrics["num_steps"]  # the first phase stood
    whole, resumed = (logged(tmp_path / name, "preference.loss") for name in ("whole", "resumed"))
    assert first_life == 2
    np.testing.assert_allclose(resumed, whole, atol=1e-5)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert max(float((one[key] - other[key]).abs().max()) for key in one) < 1e-5


def test_the_mark_of_a_reference_goes_before_another_training_writes_over_it(
    shop: dict[str, str], random_encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "m-reference-done.json"
    mark.write_text('{"identity": "of other settings"}')

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(step, "fine_tune", killed)
    with pytest.raises(KeyboardInterrupt):
        train({**shop, "encoder": random_encoder}, tmp_path / "m")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"reading": "separate"}, "reading 'joint' and form 'head' in one process"),
        ({"num_processes": 2}, "set num_nodes and num_processes 1"),
        ({"validation_share": 0.0}, "set validation_share above 0"),
    ],
)
def test_preference_tuning_is_refused_where_it_was_not_built(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainTeacherConfig(preference_epochs=1, **more)
