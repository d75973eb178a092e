"""The step over files: students learn a toy teacher, their folders open elsewhere, a killed run goes on, mistakes are named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import Toy, label_table, write_encoder, write_toy
from safetensors.torch import load_file

from components.shared import tables
from components.shared.errors import InputError
from components.shared.models.folder import ModelSpec, load_model, load_tokenizer, read_spec, save
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.report import Report
from components.shared.tracking import NullTracker
from components.train_student import step
from components.train_student.config import TrainStudentConfig
from components.train_student.objective import score_loss
from components.train_student.step import run
from components.train_student.targets import Lessons

FAST = {"learning_rate": 3e-3, "max_tokens": 24, "queries_per_batch": 8, "items_per_query": 12, "checkpoint_steps": 0}


def train(toy: Toy, model: Path, **settings: Any) -> Report:
    return run(TrainStudentConfig(**FAST | settings), **toy.inputs(), model=str(model), tracker=NullTracker())


def texts_of(toy: Toy) -> tuple[list[str], list[str]]:
    pairs, queries, items = (
        tables.read_table(uri, name) for uri, name in ((toy.pairs, "pairs"), (toy.queries, "queries"), (toy.items, "items"))
    )
    return model_texts(ModelSpec("bi_encoder", 24), pairs, queries, items, None)


@pytest.fixture(scope="module")
def bi_encoder(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    model = tmp_path_factory.mktemp("bi") / "model"
    return model, train(toy, model, architecture="bi_encoder", num_epochs=2)


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Toy, Path, Report]:
    root = tmp_path_factory.mktemp("cross")
    toy = write_toy(root, num_queries=300, items_each=12)
    write_encoder(toy.encoder, layers=2)
    return toy, root / "model", train(toy, root / "model", num_epochs=6)


def test_a_bi_encoder_learns_token_overlap(bi_encoder: tuple[Path, Report]) -> None:
    _, report = bi_encoder
    assert report.metrics["validation.spearman"] > 0.8
    assert report.metrics["validation.pairwise_agreement"] > 0.95
    assert (report.read, report.kept) == (2400, 2400)
    assert report.metrics["num_pairs"] == 2 * (2400 - report.metrics["num_validation_pairs"])


def test_a_cross_encoder_learns_token_overlap(cross_encoder: tuple[Toy, Path, Report]) -> None:
    assert cross_encoder[2].metrics["validation.spearman"] > 0.5


def test_the_saved_students_order_items_as_their_teacher(toy: Toy, bi_encoder: tuple[Path, Report]) -> None:
    gains = tables.read_table(toy.soft_targets, "soft_targets").sort_by("pair_id")["score"].to_numpy()
    scores = Scorer(str(bi_encoder[0])).scores(*texts_of(toy))
    assert read_spec(bi_encoder[0]).kind == "bi_encoder"
    assert scores[gains == 1.0].mean() > scores[gains == 0.5].mean() > scores[gains == 0.0].mean()
    assert np.abs(scores).max() <= 1.0 + 1e-5


def test_sentence_transformers_opens_both_folders(
    toy: Toy, bi_encoder: tuple[Path, Report], cross_encoder: tuple[Toy, Path, Report]
) -> None:
    peer = pytest.importorskip("sentence_transformers")
    left, right = (column[:20] for column in texts_of(toy))
    right[0] = f"[SEP] {right[0]} [PAD]"  # a seller's letters, in either library
    joint = peer.CrossEncoder(str(cross_encoder[1]), device="cpu").predict(list(zip(left, right, strict=True)), show_progress_bar=False)
    np.testing.assert_allclose(joint, Scorer(str(cross_encoder[1])).scores(left, right), atol=1e-5)
    towers = peer.SentenceTransformer(str(bi_encoder[0]), device="cpu")
    cosine = (towers.encode(left, show_progress_bar=False) * towers.encode(right, show_progress_bar=False)).sum(1)
    np.testing.assert_allclose(cosine, Scorer(str(bi_encoder[0])).scores(left, right), atol=1e-5)


def test_half_the_weight_lies_between_start_and_trained(toy: Toy, tmp_path: Path) -> None:
    short = {"architecture": "bi_encoder", "max_pairs": 240, "validation_share": 0.05}
    for name, weight in (("whole", 1.0), ("half", 0.5)):
        train(toy, tmp_path / name, trained_weight=weight, **short)
    start, whole, half = (load_file(folder / "model.safetensors") for folder in (Path(toy.encoder), tmp_path / "whole", tmp_path / "half"))
    moved = [float((whole[name] - start[name]).abs().max()) for name in whole]
    assert max(moved) > 1e-3
    for name, value in half.items():
        torch.testing.assert_close(value, (start[name] + whole[name]) / 2)


def test_a_cross_encoder_has_no_start_to_average_with() -> None:
    with pytest.raises(InputError, match="a cross_encoder's head has none worth keeping: set 1"):
        TrainStudentConfig.from_mapping({"trained_weight": 0.5}, section="cross_encoder")


def test_margin_mse_does_not_see_a_constant_per_query_and_pointwise_mse_pays_for_it(tmp_path: Path) -> None:
    """The claim behind margin-MSE: the same student whether or not each query's gains are shifted by its own constant."""
    settings = {"architecture": "bi_encoder", "target": "probability", "num_epochs": 2}
    agreed: dict[tuple[str, str], list[float]] = {}
    for seed in range(3):
        shop = {"num_queries": 120, "items_each": 10, "seed": seed}
        level = write_toy(tmp_path / f"level{seed}", **shop, offsets=(0.45, 0.45))
        shifted = write_toy(tmp_path / f"shifted{seed}", **shop, offsets=(0.0, 0.9))
        for loss in ("margin_mse", "pointwise_mse"):
            for name, toy in (("level", level), ("shifted", shifted)):
                report = train(toy, tmp_path / f"{loss}-{name}-{seed}", loss=loss, **settings)
                agreed.setdefault((loss, name), []).append(report.metrics["validation.pairwise_agreement"])
        one, other = (Scorer(str(tmp_path / f"margin_mse-{name}-{seed}")).scores(*texts_of(level)) for name in ("level", "shifted"))
        np.testing.assert_allclose(one, other, atol=1e-3)
    np.testing.assert_allclose(agreed["margin_mse", "shifted"], agreed["margin_mse", "level"], atol=0.005)
    lost = np.subtract(agreed["pointwise_mse", "level"], agreed["pointwise_mse", "shifted"])
    assert lost.min() > 0.0
    assert lost.mean() > 0.05
    assert np.min(agreed["margin_mse", "shifted"]) > np.max(agreed["pointwise_mse", "shifted"])


def test_equal_seeds_give_equal_weights_and_others_do_not(toy: Toy, tmp_path: Path) -> None:
    short = {"max_pairs": 240, "validation_share": 0.05}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(toy, tmp_path / name, seed=seed, **short)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]


def test_a_killed_run_goes_on_and_ends_in_the_same_weights(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {"max_pairs": 960, "validation_share": 0.05, "checkpoint_steps": 4}  # 80 queries in batches of 8: 10 steps
    train(toy, tmp_path / "whole", **short)
    real, steps = step.batch_loss, []

    def dies_at_step_seven(*arguments: Any) -> torch.Tensor:
        steps.append(1)
        if len(steps) == 7:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(step, "batch_loss", dies_at_step_seven)
    with pytest.raises(KeyboardInterrupt):
        train(toy, tmp_path / "killed", **short)
    assert not (tmp_path / "killed").exists()
    assert (tmp_path / "killed.checkpoints" / "step-00000004").is_dir()
    report = train(toy, tmp_path / "killed", **short)
    assert len(steps) - 7 == 10 - 4  # the steps that were left
    assert report.metrics["num_steps"] == 10
    assert (tmp_path / "killed" / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert not (tmp_path / "killed.checkpoints").exists()


def test_passes_of_one_step_do_not_change_the_scores(toy: Toy, tmp_path: Path) -> None:
    for name, batch_tokens in (("one", 100_000), ("many", 40)):
        train(toy, tmp_path / name, max_pairs=240, validation_share=0.05, batch_tokens=batch_tokens)
    one, many = (Scorer(str(tmp_path / name)).scores(*texts_of(toy)) for name in ("one", "many"))
    # the loss leaves the head's bias undetermined, so rounding decides it: compare what is left without the common constant
    np.testing.assert_allclose(one - one.mean(), many - many.mean(), atol=1e-4)


def test_cosine_scale_is_learnt_and_dropout_stays_out_of_the_saved_settings(
    toy: Toy, bi_encoder: tuple[Path, Report], tmp_path: Path
) -> None:
    # gains 0, 0.5, 1 clipped at 0.01: logits -+4.595; the spread within queries, where training starts, is below 2 * 9.19
    assert bi_encoder[1].metrics["scale"] > 19.0
    train(toy, tmp_path / "m", max_pairs=240, validation_share=0.05, dropout=0.3)
    assert json.loads((tmp_path / "m" / "config.json").read_text())["hidden_dropout_prob"] == 0.0


@pytest.mark.parametrize(("asked", "kept"), [(16, 16), (99, 24)])
def test_a_student_reads_no_more_tokens_than_its_encoder(toy: Toy, tmp_path: Path, asked: int, kept: int) -> None:
    train(toy, tmp_path / "m", max_pairs=120, validation_share=0.01, max_tokens=asked)
    assert read_spec(tmp_path / "m").max_tokens == kept


def test_the_anchor_is_added_to_the_loss() -> None:
    values = np.array([0.5, 0.0, 1.0], np.float32)
    lessons = Lessons(pa.table({}), np.array([4, 4, 7]), values, values, values, np.zeros(3, bool), {})
    scores = torch.tensor([1.0, 0.0, 2.0])
    # residuals 1/2, 0 | 1: margin-MSE of the first query is (1/2 - 0)^2 = 1/4, the second has no pair; pointwise (1/4 + 0 + 1) / 3 = 5/12
    for weight, expected in ((0.0, 0.25), (0.6, 0.5)):
        loss = score_loss(TrainStudentConfig(pointwise_weight=weight), scores, lessons, np.arange(3))
        assert float(loss) == pytest.approx(expected)


def test_trust_weights_the_rows_of_a_batch() -> None:
    values, trust = np.array([0.5, 0.0, 1.0, 0.0], np.float32), np.array([9.0, 1.0, 0.5, 0.25], np.float32)
    lessons = Lessons(pa.table({}), np.array([3, 4, 4, 4]), values, values, values, np.zeros(4, bool), {}, trust)
    # rows 1 to 3: residuals 1, 0, 3 with weights 1, 1/2, 1/4: pairs 1/2 (1)^2 + 1/4 (2)^2 + 1/8 (3)^2 = 21/8 over 7/8
    loss = score_loss(TrainStudentConfig(), torch.tensor([1.0, 1.0, 3.0]), lessons, np.arange(1, 4))
    assert float(loss) == pytest.approx(3.0)


def test_doubt_reaches_the_student(toy: Toy, tmp_path: Path) -> None:
    given = {"max_pairs": 240, "validation_share": 0.05, "uncertainty_weight": 0.9}
    labels = tables.read_table(toy.soft_targets, "soft_targets")
    weights = []
    for name, entropy in (("sure", 0.0), ("unsure", np.linspace(0, 1, len(labels)))):
        keys = {key: labels[key] for key in ("pair_id", "query_id", "item_id")}
        tables.write_table(str(tmp_path / name), "soft_targets", label_table(keys, labels["score"].to_numpy(), entropy))
        train(Toy(**toy.inputs() | {"soft_targets": str(tmp_path / name)}), tmp_path / f"m-{name}", **given)
        weights.append(load_file(tmp_path / f"m-{name}" / "model.safetensors"))
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_the_order_of_human_grades_is_added_to_the_loss() -> None:
    values, judged = np.array([0.5, 0.0, 1.0, 0.0], np.float32), np.array([0.0, 1.0, np.nan, 0.3], np.float32)
    lessons = Lessons(pa.table({}), np.array([4, 4, 4, 7]), values, values, judged, np.zeros(4, bool), {})
    scores = torch.tensor([1.0, 0.0, 0.5, 0.0])
    alone = float(score_loss(TrainStudentConfig(), scores, lessons, np.arange(4)))
    # of the three items of the first query two are judged, and the better one is a margin of 1 behind: ln(1 + e^(1 / temperature))
    for temperature, cost in ((1.0, np.log(1 + np.e)), (0.5, np.log(1 + np.exp(2)))):
        config = TrainStudentConfig(judgment_weight=0.5, judgment_temperature=temperature)
        assert float(score_loss(config, scores, lessons, np.arange(4))) - alone == pytest.approx(0.5 * cost, abs=1e-6)


def test_human_grades_pull_a_student_away_from_its_teacher(toy: Toy, tmp_path: Path, bi_encoder: tuple[Path, Report]) -> None:
    """The toy's teacher likes overlap; people here grade the opposite, which vectors of one network can only follow half-way."""
    right = tables.read_table(toy.soft_targets, "soft_targets")
    gains = np.round(1.0 - right["score"].to_numpy(), 3)
    columns = {"grade": np.rint(2 * gains).astype(np.int32), "gain": gains, "split": ["train"] * len(right)}
    judged = pa.table(
        {"query_id": right["query_id"], "item_id": right["item_id"], "judged_at": pa.nulls(len(right), pa.date32()), **columns}
    )
    tables.write_table(str(tmp_path / "judgments"), "judgments", judged)
    settings = {"architecture": "bi_encoder", "num_epochs": 2, "judgment_weight": 20.0}
    report = run(
        TrainStudentConfig(**FAST | settings), **toy.inputs(), judgments=str(tmp_path / "judgments"), model=str(tmp_path / "m"),
        tracker=NullTracker(),
    )  # fmt: skip
    assert report.metrics["num_judged_pairs"] == 2400
    assert report.metrics["validation.pairwise_agreement"] < bi_encoder[1].metrics["validation.pairwise_agreement"] - 0.2


def test_a_weight_without_human_grades_is_refused(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"judgment_weight = 0\.5 needs human grades; give the judgments table \(--judgments\)"):
        train(toy, tmp_path / "m", judgment_weight=0.5)


@pytest.mark.parametrize("architecture", ["cross_encoder", "bi_encoder"])
def test_predictions_are_made_without_dropout_and_leave_training_as_it_was(toy: Toy, architecture: str) -> None:
    texts = tuple(column[:40] for column in texts_of(toy))
    spec = ModelSpec(architecture, 24)
    lessons = Lessons(pa.table({}), np.zeros(40, int), np.arange(40.0), np.arange(40.0), np.zeros(40), np.zeros(40, bool), {})
    parts = (load_model(Path(toy.encoder), spec), load_tokenizer(Path(toy.encoder)), texts, lessons)
    student = step._build(TrainStudentConfig(architecture=architecture, dropout=0.5), spec, *parts)
    student.train()
    rows = np.arange(40)[::-1].copy()
    whole = student.predict(rows)
    np.testing.assert_allclose(student.predict(rows, chunk=7), whole, atol=1e-5)
    np.testing.assert_allclose(student.predict(np.arange(40)), whole[::-1], atol=1e-5)
    assert student.training
    with torch.no_grad():
        assert not torch.equal(student(rows), student(rows))  # the encoder's own dropout is 0; the configured one is at work


def test_checkpoints_are_of_these_settings_and_inputs(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "table").write_text("a")
    made = [step._identity(TrainStudentConfig(seed=seed), toy.items, str(tmp_path / "table")) for seed in (1, 1, 2)]
    (tmp_path / "table").write_text("other")
    made.append(step._identity(TrainStudentConfig(seed=1), toy.items, str(tmp_path / "table")))
    assert made[0] == made[1]
    assert len(set(made)) == 3


def test_metrics_of_every_epoch_are_tracked(toy: Toy, tmp_path: Path) -> None:
    told: list[tuple[int | None, set[str]]] = []

    class Listener(NullTracker):
        def metrics(self, values: Any, step: int | None = None) -> None:
            told.append((step, set(values)))

    config = TrainStudentConfig(**FAST | {"max_pairs": 240, "validation_share": 0.05, "num_epochs": 3})
    run(config, **toy.inputs(), model=str(tmp_path / "m"), tracker=Listener())
    epochs = [at for at, names in told if "validation.spearman" in names]
    assert epochs == [3, 6]  # 20 queries in batches of 8: 3 steps an epoch; the last epoch's stand in the report


def test_a_teacher_is_not_where_a_student_starts(toy: Toy, tmp_path: Path) -> None:
    scorer = Scorer(toy.encoder)
    save(str(tmp_path / "t"), scorer.model, scorer.tokenizer, ModelSpec("teacher", 24, gains=[0.0, 1.0]))
    with pytest.raises(InputError, match=r"is a teacher; a cross_encoder starts from encoder or cross_encoder"):
        run(TrainStudentConfig(), **toy.inputs() | {"encoder": str(tmp_path / "t")}, model=str(tmp_path / "m"), tracker=NullTracker())


def test_an_item_that_the_table_lacks_is_named_before_training(toy: Toy, tmp_path: Path) -> None:
    items = tables.read_table(toy.items, "items").slice(1)
    tables.write_table(str(tmp_path / "items"), "items", items)
    with pytest.raises(InputError, match=r"1 values of 'item_id' are not in the item table, first 'i0'"):
        run(TrainStudentConfig(), **toy.inputs() | {"items": str(tmp_path / "items")}, model=str(tmp_path / "m"), tracker=NullTracker())


def test_training_that_diverges_stops_and_leaves_no_model(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lower learning_rate"):
        train(toy, tmp_path / "m", learning_rate=1e30, max_pairs=480, validation_share=0.05)
    assert not (tmp_path / "m").exists()


def test_one_text_for_all_items_is_a_collapsed_student(toy: Toy, tmp_path: Path) -> None:
    items = tables.read_table(toy.items, "items")
    same = items.set_column(1, "title", pa.array(["w1"] * len(items)))
    tables.write_table(str(tmp_path / "items"), "items", same)
    inputs = toy.inputs() | {"items": str(tmp_path / "items")}
    with pytest.raises(InputError, match="collapsed"):
        run(TrainStudentConfig(**FAST, max_pairs=240, validation_share=0.05), **inputs, model=str(tmp_path / "m"), tracker=NullTracker())
    assert not (tmp_path / "m").exists()


def test_soft_targets_outside_the_scale_are_refused(toy: Toy, tmp_path: Path) -> None:
    labels = tables.read_table(toy.soft_targets, "soft_targets")
    keys = {name: labels[name] for name in ("pair_id", "query_id", "item_id")}
    tables.write_table(str(tmp_path / "logits"), "soft_targets", label_table(keys, 8.0 * labels["score"].to_numpy()))
    inputs = toy.inputs() | {"soft_targets": str(tmp_path / "logits")}
    with pytest.raises(InputError, match=r"'score' runs from 0 to 8; expected gains lie in 0 to 1"):
        run(TrainStudentConfig(), **inputs, model=str(tmp_path / "m"), tracker=NullTracker())
