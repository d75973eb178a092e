"""The optimisation loop: schedule, batches, resume, non-finite losses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from components.shared import storage
from components.shared.errors import InputError
from components.shared.models.batches import padding_share
from components.shared.tracking import SpoolTracker
from components.shared.training import AdamWStepper, Checkpoints, Curve, Encoded, decay_groups, fit, learning_rate_at, shuffled_batches

INPUTS = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
TRUTH = INPUTS @ torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, 1.0])


def network() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(16, 1))


def batches(epoch: int) -> list[np.ndarray]:
    return np.array_split(np.random.default_rng(epoch).permutation(40), 5)


def squared_error(model: torch.nn.Module, rows: np.ndarray) -> torch.Tensor:
    return ((model(INPUTS[rows])[:, 0] - TRUTH[rows]) ** 2).mean()


def train(model: torch.nn.Module, folder: Path | None = None, on_step: Callable[[int], None] | None = None, identity: str = "a", **more):
    given = {"num_steps": 23, "learning_rate": 0.05, "seed": 5, "checkpoint_steps": 4}
    checkpoints = Checkpoints(str(folder), identity) if folder else None
    return fit(model, batches, squared_error, checkpoints=checkpoints, on_step=on_step, **{**given, **more})


def killed_at(step: int) -> Callable[[int], None]:
    def on_step(done: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return on_step


@pytest.mark.parametrize(("step", "expected"), [(1, 0.5), (2, 1.0), (3, 8 / 9), (10, 1 / 9)])
def test_learning_rate_rises_then_falls_linearly(step: int, expected: float) -> None:
    # 10 steps, warm-up 0.2 = 2 steps: 1/2, 2/2; then (10 - step + 1) / (10 - 2 + 1): step 3 = 8/9, step 10 = 1/9
    assert learning_rate_at(step, 10, 1.0, 0.2) == pytest.approx(expected)


def test_first_step_is_adamw_with_its_formula() -> None:
    # after one step Adam moves every weight by lr * g / (|g| + eps) = lr * sign(g); the matrix is first shrunk by 1 - lr * decay
    model = torch.nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0]]))
        model.bias.fill_(4.0)
    fit(model, lambda _: [0], lambda m, _: m(torch.tensor([[3.0, -1.0]])).sum(), num_steps=1, learning_rate=0.1, weight_decay=0.5,
        max_grad_norm=100.0, size_of=lambda _: 1)  # fmt: skip
    # gradients: weight (3, -1), bias 1 -> 1 * 0.95 - 0.1 = 0.85; 2 * 0.95 + 0.1 = 2.0; bias is not decayed: 4 - 0.1 = 3.9
    torch.testing.assert_close(model.weight.detach(), torch.tensor([[0.85, 2.0]]))
    assert float(model.bias.detach()) == pytest.approx(3.9)


def test_vectors_are_not_decayed() -> None:
    named = dict(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2)).named_parameters())
    decayed, free = decay_groups(named, 0.1)
    assert (len(decayed["params"]), decayed["weight_decay"]) == (1, 0.1)
    assert (len(free["params"]), free["weight_decay"]) == (3, 0.0)


def test_loss_falls_and_the_curve_counts_pairs() -> None:
    curve = train(network(), num_steps=100)
    assert np.mean(curve.losses[-5:]) < 0.2 * np.mean(curve.losses[:5])
    assert curve.num_pairs == 800  # 100 batches of 8
    assert curve.metrics()["num_steps"] == 100


@pytest.mark.parametrize("killed", [4, 6, 19])
def test_a_killed_run_goes_on_with_the_same_curve(tmp_path: Path, killed: int) -> None:
    whole, resumed = network(), network()
    expected = train(whole)
    with pytest.raises(KeyboardInterrupt):
        train(network(), tmp_path / "c", on_step=killed_at(killed))
    seen: list[int] = []
    curve = train(resumed, tmp_path / "c", on_step=seen.append)
    assert seen[0] == killed // 4 * 4 + 1  # it went on from the last multiple of 4, it did not start again
    np.testing.assert_allclose(curve.losses, expected.losses, rtol=0, atol=1e-6)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_half_written_checkpoint_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(network(), tmp_path / "c", on_step=killed_at(9))
    (tmp_path / "c" / "step-00000008" / "state.json").unlink()  # as if killed between the tensors and their state
    (tmp_path / "c" / "step-00000008" / "tensors.safetensors").write_bytes(b"half")
    seen: list[int] = []
    train(network(), tmp_path / "c", on_step=seen.append)
    assert seen[0] == 5


def test_a_checkpoint_of_other_settings_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(network(), tmp_path / "c", on_step=killed_at(9))
    seen: list[int] = []
    train(network(), tmp_path / "c", on_step=seen.append, identity="b")
    assert seen[0] == 1


def test_checkpoints_of_other_settings_give_way_to_ones_own(tmp_path: Path) -> None:
    one, other = (Checkpoints(str(tmp_path), name) for name in "ab")
    for step in (400, 600):
        one.save(Curve([1.0] * step), {"weights/w": torch.ones(2)})
    other.save(Curve([2.0] * 200), {"weights/w": torch.zeros(2)})
    assert [place.name for place in tmp_path.iterdir()] == ["step-00000200"]
    found = other.newest()
    assert found is not None
    assert found[0].losses == [2.0] * 200
    assert one.newest() is None


def test_tensors_are_never_taken_with_the_state_of_other_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (Checkpoints(str(tmp_path), name) for name in "ab")
    one.save(Curve([1.0]), {"weights/w": torch.ones(2)})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            other.save(Curve([2.0]), {"weights/w": torch.zeros(2)})
    assert (one.newest(), other.newest()) == (None, None)


def test_only_the_two_newest_checkpoints_are_kept_and_none_is_pickle(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(network(), tmp_path / "c", on_step=killed_at(17))
    assert sorted(one.name for one in (tmp_path / "c").iterdir()) == ["step-00000012", "step-00000016"]
    assert {one.suffix for one in (tmp_path / "c").rglob("*") if one.is_file()} == {".safetensors", ".json"}
    kept = load_file(tmp_path / "c" / "step-00000016" / "tensors.safetensors")
    assert kept["weights/0.weight"].shape == kept["exp_avg_sq/0.weight"].shape == (16, 6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_leaves_weights_as_they_were(tmp_path: Path, value: float) -> None:
    model, before = network(), []
    calls = iter(range(1, 100))

    def loss_of(one: torch.nn.Module, rows: np.ndarray) -> torch.Tensor:
        if next(calls) < 10:
            return squared_error(one, rows)
        before.extend(value.detach().clone() for value in one.parameters())
        return squared_error(one, rows) * value

    with pytest.raises(InputError, match=r"stopped at step 10 of 23: loss (nan|inf).*lower learning_rate"):
        fit(model, batches, loss_of, num_steps=23, learning_rate=0.01, checkpoints=Checkpoints(str(tmp_path)), checkpoint_steps=4)
    for one, other in zip(before, model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert storage.exists(str(tmp_path / "step-00000008" / "state.json"))


def test_a_gradient_that_is_not_finite_stops_too() -> None:
    with pytest.raises(InputError, match=r"gradient norm (nan|inf)"):
        fit(network(), batches, lambda m, rows: torch.sqrt(m(INPUTS[rows]).sum() * 0.0), num_steps=3, learning_rate=0.1)


def test_no_batches_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no batches"):
        fit(network(), lambda _: [], squared_error, num_steps=3, learning_rate=0.1)


def test_bf16_autocast_learns_and_keeps_weights_in_float32() -> None:
    model = network()
    curve = train(model, precision="bf16", num_steps=60)
    assert np.mean(curve.losses[-5:]) < 0.5 * np.mean(curve.losses[:5])
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_metrics_are_logged_every_few_steps_and_at_the_end(tmp_path: Path) -> None:
    tracker = SpoolTracker(tmp_path / "spool.jsonl", "teacher")
    curve = train(network(), tracker=tracker, log_steps=10)
    lines = [storage.json.loads(line) for line in (tmp_path / "spool.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 23]
    assert lines[0]["values"]["teacher.loss"] == pytest.approx(np.mean(curve.losses[:10]))


def test_frozen_weights_stay_out_of_optimizer_and_checkpoint() -> None:
    model = network()
    next(model.parameters()).requires_grad_(False)
    assert "weights/0.weight" not in AdamWStepper(model, weight_decay=0.0, max_grad_norm=1.0).tensors()


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=300), size=st.integers(1, 40), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_shuffled_batches_hold_every_row_once_within_their_size(lengths: list[int], size: int, seed: int) -> None:
    array = np.asarray(lengths)
    by_rows = shuffled_batches(array, np.random.default_rng(seed), batch_size=size)
    assert sorted(np.concatenate(by_rows)) == list(range(len(array)))
    assert max(map(len, by_rows)) <= size
    by_tokens = shuffled_batches(array, np.random.default_rng(seed), batch_tokens=64)
    assert sorted(np.concatenate(by_tokens)) == list(range(len(array)))
    assert all(len(rows) * array[rows].max() <= 64 for rows in by_tokens)


def test_shuffled_batches_pad_little_and_differ_between_epochs() -> None:
    lengths = np.random.default_rng(0).integers(20, 160, 4000)
    one, other = (shuffled_batches(lengths, np.random.default_rng(seed), batch_tokens=4096) for seed in (1, 2))
    assert padding_share(lengths, one) < 0.10
    assert [rows.tolist() for rows in one] != [rows.tolist() for rows in other]
    again = shuffled_batches(lengths, np.random.default_rng(1), batch_tokens=4096)
    assert [rows.tolist() for rows in one] == [rows.tolist() for rows in again]


def test_encoded_rows_are_cut_and_padded_to_the_longest_of_their_batch() -> None:
    from components.prepare_encoder.vocabulary import learn_tokenizer

    tokenizer = learn_tokenizer(["red shoes", "blue lamp"] * 3, 100, 32)
    encoded = Encoded.of(tokenizer, ["red", "red red red red red red"], ["lamp", "lamp"], max_tokens=8)
    assert encoded.lengths.tolist() == [5, 8]  # [CLS] red [SEP] lamp [SEP]; the second is cut to 8
    batch = encoded.batch([0, 1])
    assert batch["input_ids"].shape == (2, 8)
    assert batch["attention_mask"][0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert batch["token_type_ids"][0].tolist()[:5] == [0, 0, 0, 1, 1]


def test_what_a_step_says_of_itself(tmp_path: Path) -> None:
    spool = tmp_path / "spool.jsonl"
    model = torch.nn.Linear(2, 1, bias=False)
    # d/dw of w . (3, 4) is (3, 4), of length 5, in both steps
    fit(model, lambda _: [0, 0], lambda m, _: m(torch.tensor([[3.0, 4.0]])).sum(), num_steps=2, learning_rate=0.1, max_grad_norm=100.0,
        size_of=lambda _: 3, tokens_of=lambda _: 7, utilisation=lambda speed: speed / 10, log_steps=1,
        tracker=SpoolTracker(spool, "s"))  # fmt: skip
    said = [json.loads(line)["values"] for line in spool.read_text().splitlines()]
    assert [one["s.gradient_norm"] for one in said] == pytest.approx([5.0, 5.0])
    for one in said:
        assert one["s.tokens_per_second"] == pytest.approx(one["s.pairs_per_second"] * 7 / 3)
        assert one["s.utilisation"] == pytest.approx(one["s.tokens_per_second"] / 10)
