"""Training on several prompts of each pair, and the combiner that is fitted to held-out queries."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from test_teacher_step import train

from components.shared.cross_fitting import cross_fitted
from components.shared.models import folder
from components.shared.models.scoring import Scorer
from components.train_teacher.ablation import ablation_rows, stage_answers
from components.train_teacher.combiner import PRIOR_SPREAD, Combiner, fit_combiner
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Examples, Sources, read_tables
from components.train_teacher.fine_tuning import teacher_spec

STAGES = ["semantic", "query", "item", "both"]
CONFIG = TrainTeacherConfig(num_neighbors=1, max_tokens=64, validation_share=0.2, batch_size=16, stages=STAGES)


@pytest.fixture(scope="module")
def examples(shop: dict[str, str]) -> Examples:
    path = folder.fetch(shop["encoder"])
    tables = read_tables(Sources(**shop), CONFIG)
    return Examples.of(tables, teacher_spec(path, CONFIG, tables.card.gains()), folder.load_tokenizer(path), CONFIG)


def test_every_epoch_draws_a_stage_for_each_pair(examples: Examples) -> None:
    epochs = [np.concatenate(examples.batches(epoch, CONFIG)) for epoch in range(40)]
    for rows in epochs:
        assert sorted(examples.pairs_of(rows)) == list(range(108))
    shares = np.bincount(np.concatenate(epochs) // 108, minlength=4) / (40 * 108)
    np.testing.assert_allclose(shares, 0.25, atol=0.03)  # 4 standard deviations
    shown = np.array([np.sort(rows)[np.argsort(np.sort(rows) % 108, kind="stable")] for rows in epochs])
    assert (np.ptp(shown, axis=0) > 0).all()  # no pair keeps one stage


@given(shares=st.lists(st.floats(0.01, 1), min_size=1, max_size=5))
@settings(deadline=None, max_examples=20)
def test_stages_are_drawn_by_their_shares(shares: list[float]) -> None:
    whole = np.array(shares) / np.sum(shares)

    class Lengths:
        lengths = np.ones(4000 * len(whole), np.int64)

    many: Any = Lengths()
    nothing = np.zeros(4000, np.int64)
    drawn = np.concatenate(Examples(many, nothing, nothing, nothing, nothing, whole).batches(0, CONFIG)) // 4000
    np.testing.assert_allclose(np.bincount(drawn, minlength=len(whole)) / 4000, whole, atol=0.05)


def noisy_stages(num_pairs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits [3, pairs, 3] of a stage that knows, one that knows something else, and one that guesses; grades."""
    rng = np.random.default_rng(seed)
    grades = rng.integers(0, 3, num_pairs)
    logits = rng.normal(size=(3, num_pairs, 3))
    logits[0] += 2.0 * np.eye(3)[grades]
    logits[1] += 1.0 * np.eye(3)[grades]
    return logits, grades


def cost_of(combiner: Combiner, logits: np.ndarray, grades: np.ndarray) -> float:
    likely = log_softmax(np.tensordot(combiner.weights, log_softmax(logits, axis=-1), axes=1) + combiner.offsets, axis=1)
    apart = np.concatenate([combiner.weights - 1 / len(logits), combiner.offsets])
    return float(-likely[np.arange(len(grades)), grades].sum() + (apart**2).sum() / (2 * PRIOR_SPREAD**2))


def test_the_combiner_is_at_the_least_of_its_cost() -> None:
    logits, grades = noisy_stages(300)
    best = fit_combiner(logits, grades)
    assert best.weights[0] > best.weights[1] > best.weights[2] >= 0
    least = cost_of(best, logits, grades)
    rng = np.random.default_rng(1)
    for _ in range(20):
        step = rng.normal(scale=1e-2, size=6)
        near = Combiner(np.maximum(best.weights + step[:3], 0), best.offsets + step[3:])
        assert cost_of(near, logits, grades) > least - 1e-9


def test_a_stage_that_misleads_counts_nothing() -> None:
    logits, grades = noisy_stages(300)
    logits[2] = -logits[0]
    assert fit_combiner(logits, grades).weights[2] == 0


def test_few_pairs_leave_the_plain_average() -> None:
    logits, grades = noisy_stages(300)
    some, none = fit_combiner(logits[:, :2], grades[:2]), fit_combiner(logits[:, :0], grades[:0])
    np.testing.assert_allclose(none.weights, 1 / 3)
    np.testing.assert_allclose(none.offsets, 0)
    assert np.abs(some.weights - 1 / 3).max() < np.abs(fit_combiner(logits, grades).weights - 1 / 3).max()


def test_the_learned_answer_never_saw_the_query() -> None:
    logits, grades = noisy_stages(60)
    queries = np.repeat([f"q{n}" for n in range(6)], 10)
    found = stage_answers(["a", "b", "c"], logits, grades, queries)
    assert list(found) == ["a", "b", "c", "mean", "learned"]
    turned = grades.copy()
    turned[:10] = 2 - turned[:10]  # q0 shares its part with q5
    again = stage_answers(["a", "b", "c"], logits, turned, queries)["learned"]
    np.testing.assert_array_equal(again[:10], found["learned"][:10])
    assert np.abs(again[10:20] - found["learned"][10:20]).max() > 1e-4
    assert "learned" not in stage_answers(["a", "b", "c"], logits[:, :10], grades[:10], queries[:10])
    assert cross_fitted(queries[:10], lambda known, asked: np.zeros((0, 3))).size == 0


def test_ablation_rows_by_hand() -> None:
    answers = {"a": np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), "b": np.array([[0.4, 0.6], [0.2, 0.8], [0.6, 0.4]])}
    slices = {"tail": np.array([True, False, True])}
    table = ablation_rows(answers, np.array([0, 1, 1]), np.array(["q"] * 3), np.array([0.0, 1.0]), slices)
    found = {(row["stage"], row["slice"]): (row["pairs"], row["accuracy"], row["pairwise_accuracy"]) for row in table}
    # a orders .1 < .8 and .1 < .4; b .6 < .8 but .6 > .4
    expected = {("a", "all"): (3, 2 / 3, 1.0), ("a", "tail"): (2, 0.5, 1.0), ("b", "all"): (3, 1 / 3, 0.5), ("b", "tail"): (2, 0.0, 0.0)}
    assert found == {name: pytest.approx(value) for name, value in expected.items()}
    assert table[0]["cross_entropy"] == pytest.approx(-np.log(0.9 * 0.8 * 0.4) / 3)


@pytest.mark.parametrize("combiner", ["learned", "mean"])
def test_a_staged_teacher_says_what_each_stage_is_worth(shop: dict[str, str], random_encoder: str, tmp_path: Path, combiner: str) -> None:
    settings = {"stages": STAGES, "combiner": combiner, "validation_share": 0.5, "num_epochs": 12}
    metrics = train({**shop, "encoder": random_encoder}, tmp_path / "m", **settings).metrics
    spec = folder.read_spec(tmp_path / "m")
    assert (spec.stages, len(spec.stage_weights), len(spec.stage_offsets)) == (STAGES, 4, 3)
    assert (spec.stage_weights == [0.25] * 4) == (combiner == "mean")
    rows = list(csv.DictReader((tmp_path / "m-stages.csv").open()))
    assert list(dict.fromkeys(row["stage"] for row in rows)) == [*STAGES, "mean", "learned"]
    assert {row["slice"] for row in rows} == {"all", "with_evidence", "without_evidence"}
    whole = {row["stage"]: row for row in rows if row["slice"] == "all"}
    for name, row in whole.items():
        assert metrics[f"validation.stage_{name}.cross_entropy"] == pytest.approx(float(row["cross_entropy"]))
    assert metrics["validation.cross_entropy"] == pytest.approx(float(whole[combiner]["cross_entropy"]))
    bare = [row for row in rows if row["slice"] == "without_evidence" and row["stage"] in STAGES]
    assert len({row["cross_entropy"] for row in bare}) == 1  # no evidence, no difference
    assert metrics["validation.pairwise_accuracy"] == pytest.approx(float(whole[combiner]["pairwise_accuracy"]))
    assert "1 per side; asked in the stages `semantic`, `query`, `item`, `both`" in (tmp_path / "m-card.md").read_text()
    assert not Scorer(str(tmp_path / "m")).logits([], []).size


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"stages": ["query", "query"]}, "stages query, query: name each once"),
        ({"stages": ["query"], "reading": "separate"}, "stages are for reading 'joint'"),
        ({"stages": ["query"], "form": "generative"}, "and form 'head'; leave them empty"),
        ({"stages": ["query"], "num_neighbors": 0}, "stages query show neighbors; set num_neighbors above 0"),
        ({"stages": ["query"], "validation_share": 0}, "needs held-out queries; set validation_share above 0, or combiner 'mean' and"),
        ({"stages": ["oracle"]}, "semantic"),
    ],
)
def test_stages_that_cannot_be_asked_are_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainTeacherConfig.model_validate(more)
