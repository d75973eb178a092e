"""What the teacher is shown: which pairs, which texts, which share of a batch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.batches import padding_share
from components.shared.tables import read_table, write_table
from components.shared.training import Encoded
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Examples, Sources, Tables, held_out_queries, identity_of, read_tables
from components.train_teacher.fine_tuning import teacher_spec, warn_of_idle
from components.train_teacher.objective import Objective
from components.train_teacher.world import World

CONFIG = TrainTeacherConfig(num_neighbors=1, max_tokens=64, neighbor_dropout=0.5, validation_share=0.2, batch_size=16)


@pytest.fixture(scope="module")
def tables(shop: dict[str, str]) -> Tables:
    return read_tables(Sources(**shop), CONFIG)


@pytest.fixture(scope="module")
def examples(shop: dict[str, str], tables: Tables) -> Examples:
    path = folder.fetch(shop["encoder"])
    return Examples.of(tables, teacher_spec(path, CONFIG, tables.card.gains()), folder.load_tokenizer(path), CONFIG)


def test_only_split_train_is_read_and_queries_are_held_out_whole(tables: Tables) -> None:
    # 12 queries x 12 items, one query is split test; 20 % of 11 queries = 2 are held out
    assert (len(tables.training), len(tables.validation), tables.num_other_split) == (9 * 12, 2 * 12, 12)
    training, validation = (set(one["query_id"].to_pylist()) for one in (tables.training, tables.validation))
    assert not training & validation
    assert "q11" not in training | validation


@given(num_queries=st.integers(1, 40), share=st.floats(0, 0.99), seed=st.integers(0, 5))
@settings(deadline=None)
def test_some_queries_are_always_left_to_train_on(num_queries: int, share: float, seed: int) -> None:
    ids = pa.chunked_array([pa.array([f"q{n}" for n in range(num_queries)] * 2)])
    held_out = held_out_queries(ids, share, seed).to_pylist()
    assert len(held_out) == min(round(num_queries * share), num_queries - 1)
    assert len(set(held_out)) == len(held_out)


def test_each_pair_is_shown_once_an_epoch_with_or_without_neighbors(examples: Examples) -> None:
    for epoch in range(3):
        rows = np.concatenate(examples.batches(epoch, CONFIG))
        assert sorted(examples.pairs_of(rows)) == list(range(108))
        assert 0.3 < (rows >= 108).mean() < 0.7
    again = np.concatenate(examples.batches(2, CONFIG))
    np.testing.assert_array_equal(rows, again)


def test_bare_rows_read_no_neighbor(tables: Tables, examples: Examples) -> None:
    pairs = list(zip(tables.training["query_id"].to_pylist(), tables.training["item_id"].to_pylist(), strict=True))
    row = pairs.index(("q0", "i0"))  # 'red shoes', whose one neighbor is 'blue shoes'
    decode: Any = examples.encoded.tokenizer.decode
    shown, bare = (decode(examples.encoded.columns["input_ids"][at]) for at in (row, row + len(pairs)))
    assert "shoppers accepted : blue shoes" in shown
    assert "accepted" not in bare
    assert "query : red shoes" in bare
    assert "title : red shoes" in bare


def test_the_judged_pair_is_not_its_own_evidence(tables: Tables, examples: Examples) -> None:
    pairs = list(zip(tables.training["query_id"].to_pylist(), tables.training["item_id"].to_pylist(), strict=True))
    own = examples.encoded.columns["input_ids"][pairs.index(("q0", "i1"))]  # i1 is the neighbor of 'red shoes' itself
    assert "accepted" not in examples.encoded.tokenizer.decode(own)


def test_without_neighbors_there_is_one_variant(shop: dict[str, str]) -> None:
    config = CONFIG.model_copy(update={"num_neighbors": 0})
    tables = read_tables(Sources(**{**shop, "neighbors": ""}), config)
    path = folder.fetch(shop["encoder"])
    examples = Examples.of(tables, teacher_spec(path, config, tables.card.gains()), folder.load_tokenizer(path), config)
    assert examples.shares.tolist() == [1.0]
    assert len(examples.encoded.lengths) == 108


class Constant(torch.nn.Module):
    """Answers the same logits for every pair."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.answer = torch.nn.Parameter(torch.tensor(logits))

    def forward(self, input_ids: torch.Tensor, **_: torch.Tensor) -> Any:
        return type("Output", (), {"logits": self.answer.expand(len(input_ids), -1)})


def test_the_objective_of_equal_logits_is_known(examples: Examples) -> None:
    # equal logits: cross-entropy ln 3 whatever the target; walmart: t = (0 + .5 + 1) / 3 = .5, so ln 2 whatever the target
    batch = np.arange(20)
    for folding, expected in (("card", np.log(3)), ("grades", np.log(3)), ("walmart", np.log(2))):
        gains = [0.0, 0.5, 1.0]
        objective = Objective(examples, gains, CONFIG.model_copy(update={"folding": folding}), torch.device("cpu"))
        assert float(objective(Constant([0.0, 0.0, 0.0]), batch)) == pytest.approx(expected, abs=1e-6)


def test_the_loss_is_named_and_votes_are_its_target(examples: Examples) -> None:
    # logits (0, 0, ln 2): probabilities 1/4, 1/4, 1/2, expected gain .625; votes 1:1 of the outer grades
    voted = replace(examples, targets=np.tile([0.5, 0.0, 0.5], (108, 1)))
    expected = {"soft_cross_entropy": 0.5 * np.log(4) + 0.5 * np.log(2), "binary_cross_entropy": -0.5 * np.log(0.625 * 0.375)}
    for name, value in expected.items():
        objective = Objective(voted, [0.0, 0.5, 1.0], CONFIG.model_copy(update={"loss": name}), torch.device("cpu"))
        assert float(objective(Constant([0.0, 0.0, np.log(2.0)]), np.arange(20))) == pytest.approx(value, abs=1e-6)
    assert TrainTeacherConfig(folding="walmart").loss_name() == "binary_cross_entropy"
    assert TrainTeacherConfig(folding="walmart", loss="soft_cross_entropy").loss_name() == "soft_cross_entropy"


def with_votes(shop: dict[str, str], place: Path, votes: list[list[int] | None]) -> Sources:
    judgments = read_table(shop["judgments"], "judgments")
    column = pa.array(votes + [None] * (len(judgments) - len(votes)), pa.list_(pa.int32()))
    write_table(str(place), "judgments", judgments.set_column(judgments.column_names.index("votes"), "votes", column))
    return Sources(**{**shop, "judgments": str(place)})


def test_votes_of_the_table_reach_the_targets(shop: dict[str, str], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"validation_share": 0.0, "folding": "grades", "vote_prior": 1.0})
    tables = read_tables(with_votes(shop, tmp_path / "j", [None, [1, 2, 0]]), config)
    path = folder.fetch(shop["encoder"])
    found = Examples.of(tables, teacher_spec(path, config, tables.card.gains()), folder.load_tokenizer(path), config).targets
    assert found[0].tolist() == [0.0, 0.0, 1.0]  # q0, i0 is good
    np.testing.assert_allclose(found[1], [0.25, 0.75, 0.0])  # q0, i1 is fair: 1, 2 + 1, 0 of 4


def test_votes_on_another_scale_are_refused(shop: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column 'votes' has 4 counts, the card has 3 grades"):
        read_tables(with_votes(shop, tmp_path / "j", [[1, 2, 0], [1, 2, 0, 0]]), CONFIG)


class Answers(torch.nn.Module):
    """Answers logits that were given, row by row; it has to be asked about all rows at once."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.answer = torch.tensor(logits)

    def forward(self, **_: torch.Tensor) -> Any:
        return type("Output", (), {"logits": self.answer})


def test_the_ranking_loss_is_added_by_its_weight(examples: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    assert examples.grades[:3].tolist() == [2, 1, 0]  # three items of one query
    logits = [[0.0, 0.0, 0.0], [0.0, 0.0, np.log(2.0)], [np.log(2.0), 0.0, 0.0]]
    batch = np.arange(3)

    def loss(weight: float) -> float:
        objective = Objective(examples, [0.0, 0.5, 1.0], CONFIG.model_copy(update={"ranking_weight": weight}), torch.device("cpu"))
        monkeypatch.setattr(objective, "passes", lambda rows: [rows])
        return float(objective(Answers(logits), batch))

    # t = 1/2, 5/8, 3/8, so logits 0, ln(5/3), -ln(5/3); -log sigmoid of the three differences: ln(1 + 5/3), ln(1 + 3/5), ln(1 + 9/25)
    assert loss(3.0) - loss(0.0) == pytest.approx(3.0 * (np.log(8 / 3) + np.log(8 / 5) + np.log(34 / 25)) / 3, abs=1e-5)


def test_a_teacher_that_reads_separately_learns_by_the_order_alone(shop: dict[str, str], tables: Tables) -> None:
    path, config = folder.fetch(shop["encoder"]), CONFIG.model_copy(update={"reading": "separate"})
    apart = Examples.of(tables, teacher_spec(path, config, tables.card.gains()), folder.load_tokenizer(path), config)
    objective = Objective(apart, [0.0, 0.5, 1.0], config, torch.device("cpu"))
    # grades 2, 1, 0 with scores 1, 2, 0: differences -1, 1 and 2 of the better to the worse
    loss = float(objective(Answers([[1.0], [2.0], [0.0]]), np.arange(3)))
    assert loss == pytest.approx((np.log(1 + np.e) + np.log(1 + np.exp(-1)) + np.log(1 + np.exp(-2))) / 3, abs=1e-6)


@pytest.mark.parametrize("settings", [{"ranking_weight": 1.0}, {"reading": "separate"}])
def test_batches_of_a_query_show_all_its_items_alike(examples: Examples, settings: dict[str, Any]) -> None:
    batches = examples.batches(1, CONFIG.model_copy(update={**settings, "items_per_query": 6}))
    for batch in batches:
        queries = examples.query[examples.pairs_of(batch)]
        assert 6 <= len(batch) <= 12
        for name in np.unique(queries):
            shown = batch[queries == name] >= 108
            assert len(shown) >= 6  # a query's 12 items are dealt into two groups, which may meet in one batch
            assert shown.all() or not shown.any()
    rows = np.concatenate(batches)
    assert sorted(examples.pairs_of(rows)) == list(range(108))
    assert 0 < (rows >= 108).mean() < 1


class Linear(torch.nn.Module):
    """Answers differ from row to row by their ids; padding changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(200, 3)
        self.read: list[tuple[int, int]] = []

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: torch.Tensor) -> Any:
        self.read.append(tuple(input_ids.shape))
        return type("Output", (), {"logits": (self.embedding(input_ids) * attention_mask[..., None]).sum(1)})


def loss_and_gradient(objective: Objective, batch: np.ndarray, size: int, group: np.ndarray | None = None) -> tuple[float, torch.Tensor]:
    """Means over `size` processes."""
    model, total = Linear(), 0.0
    for rank in range(size):
        mine, weight = World(rank, size).share_of(batch, group)
        loss = objective(model, mine, batch) * weight / size
        loss.backward()
        total += float(loss)
    assert model.embedding.weight.grad is not None
    return total, model.embedding.weight.grad


@pytest.mark.parametrize("num_rows", [1, 2, 5, 16])
def test_processes_together_see_the_whole_batchs_mean(examples: Examples, num_rows: int) -> None:
    objective = Objective(examples, [0.0, 0.4, 1.0], CONFIG, torch.device("cpu"))
    batch = np.arange(num_rows) * 7 % 108
    one, other = (loss_and_gradient(objective, batch, size) for size in (1, 3))
    assert other[0] == pytest.approx(one[0], rel=1e-5)
    torch.testing.assert_close(other[1], one[1])


@pytest.mark.parametrize("size", [2, 3, 8])
def test_processes_together_compare_the_items_that_one_compares(examples: Examples, size: int) -> None:
    # 5 + 12 + 3 + 1 items of four queries; the last has no pair to order, and of 8 processes four get no query
    batch = np.concatenate([np.arange(5), np.arange(12, 24), np.arange(30, 33), [50]])[np.random.default_rng(0).permutation(21)]
    for zero_stage in (0, 3):
        config = CONFIG.model_copy(update={"ranking_weight": 1.0, "zero_stage": zero_stage})
        objective = Objective(examples, [0.0, 0.4, 1.0], config, torch.device("cpu"))
        group = examples.query[examples.pairs_of(batch)]
        one, other = loss_and_gradient(objective, batch, 1), loss_and_gradient(objective, batch, size, group)
        assert other[0] == pytest.approx(one[0], rel=1e-5)
        torch.testing.assert_close(other[1], one[1])
        assert one[0] != pytest.approx(loss_and_gradient(objective, batch, size)[0], rel=1e-2)  # query after query is torn apart


def test_rows_of_unlike_length_are_read_in_passes_that_pad_little(examples: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(30), 0.4, 108).astype(int), 8, 64)
    ids: list[list[int]] = [rng.integers(1, 200, length).tolist() for length in lengths]
    masks = [[1] * length for length in lengths]
    encoded = Encoded(examples.encoded.tokenizer, {"input_ids": ids, "attention_mask": masks}, lengths)
    made_up, batch = replace(examples, encoded=encoded, shares=np.ones(1)), np.arange(36)
    config, model = CONFIG.model_copy(update={"ranking_weight": 1.0, "zero_stage": 3}), Linear()
    objective = Objective(made_up, [0.0, 0.4, 1.0], config, torch.device("cpu"))
    found = float(objective(model, batch))
    share, num_passes = padding_share(lengths, objective.passes(batch)), len(model.read)
    assert share == pytest.approx(1 - lengths[batch].sum() / sum(rows * longest for rows, longest in model.read))
    assert (num_passes > 1, share < 0.1) == (True, True)
    # under ZeRO 3 a part of the batch takes as many passes as all of it, the others of one row in vain
    model.read.clear()
    part = batch[:4]
    some = float(objective(model, part, batch))
    real = len(objective.passes(part))
    assert real < num_passes
    assert model.read[real:] == [(1, lengths[part].min())] * (num_passes - real)
    monkeypatch.setattr(objective, "passes", lambda rows: [rows])
    assert (float(objective(model, batch)), float(objective(model, part, batch))) == pytest.approx((found, some), rel=1e-5)


def test_identity_sees_what_shapes_the_curve_only(shop: dict[str, str]) -> None:
    sources = Sources(**shop)
    same = CONFIG.model_copy(update={"num_nodes": 2, "num_processes": 2, "launcher": "trainjob", "checkpoint_steps": 5, "zero_stage": 3})
    assert identity_of(sources, CONFIG) == identity_of(sources, same)
    assert identity_of(sources, CONFIG) != identity_of(sources, CONFIG.model_copy(update={"learning_rate": 1e-3}))
    assert identity_of(sources, CONFIG) != identity_of(replace(sources, items=shop["queries"]), CONFIG)


def test_a_checkpoint_belongs_to_the_arithmetic_of_its_machine_and_to_the_steps_that_it_was_taught(
    shop: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, found = Sources(**shop), []
    for half in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda half=half: half)
        found.append([identity_of(sources, CONFIG.model_copy(update={"precision": name})) for name in ("auto", "fp32", "bf16")])
    assert found[0][0] == found[0][1] == found[1][1]
    assert found[1][0] == found[0][2]
    taught = CONFIG.model_copy(update={"sub_judgments": str(tmp_path / "steps")})
    before = []
    for content in ("one", "two"):
        (tmp_path / "steps").mkdir(exist_ok=True)
        (tmp_path / "steps" / "part-0.parquet").write_text(content)
        before.append(identity_of(sources, taught))
    assert before[0] != before[1]


@pytest.mark.parametrize(
    ("more", "needs"),
    [({"preference_epochs": 1}, "preference_epochs needs"), ({"stages": ["semantic", "both"]}, "combiner 'learned' needs"), ({}, "")],
)
def test_a_share_of_few_queries_that_is_none_is_refused_where_one_is_needed(shop: dict[str, str], more: dict[str, Any], needs: str) -> None:
    config = TrainTeacherConfig(**{"num_neighbors": 1, "validation_share": 0.02, **more})
    if not needs:
        assert len(read_tables(Sources(**shop), config).validation) == 0
        return
    with pytest.raises(InputError, match=rf"validation_share 0.02 of the 11 training queries is none, and {needs} one; raise it"):
        read_tables(Sources(**shop), config)


def test_turns_that_bring_no_pair_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    rows, queries = np.arange(12), np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    # 16 processes share 12 rows, or 3 whole queries of them: 4/16 and 13/16 of the turns are in vain
    assert World(size=16).idle_share([(rows, None), (rows, queries)]) == pytest.approx((4 / 16 + 13 / 16) / 2)
    assert World(size=3).idle_share([(rows, None), (rows, queries)]) == 0
    warn_of_idle(0.04)
    assert not caplog.records
    warn_of_idle(0.25)
    assert caplog.messages == ["25% of the processes' turns bring them no pair: raise batch_tokens or batch_size, or lower num_processes"]
