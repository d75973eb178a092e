"""What a training costs: counts and memory against values worked by hand."""

import logging
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from decoder_folders import make_writer
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma3Config, GraniteConfig, Qwen3Config, Qwen3ForCausalLM, Qwen3ForSequenceClassification

from components.shared.models import folder
from components.train_teacher import fine_tuning
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.cost import Shape, estimate, kept_bytes_of, measured_peak
from components.train_teacher.examples import Examples, Sources, read_tables
from components.train_teacher.network import ready_to_learn, teacher_spec
from components.train_teacher.writing import WritingExamples, WritingObjective

SHAPE = Shape(parameters=1000, trained=100, multiplied=800, layers=2, hidden=10, kept_bytes=100.0, input_bytes=20)


def cost_of(**settings: Any):
    return estimate(SHAPE, TrainTeacherConfig(batch_size=4, **settings), num_tokens=1e6, mean_tokens=20.0, peak=1e6)


def decoder(**more: Any) -> Qwen3ForSequenceClassification:
    sizes = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "vocab_size": 11}
    return Qwen3ForSequenceClassification(Qwen3Config(**sizes, intermediate_size=16, num_labels=4, pad_token_id=0, **more))


def test_shape_of_a_decoder_by_hand() -> None:
    shape = Shape.of(decoder(), decoder().config, TrainTeacherConfig(precision="fp32"))
    # a layer: q 8 x 8, k and v 8 x 4, o 8 x 8, norms of heads 4 + 4, three matrices 8 x 16, norms 8 + 8 = 600; last norm 8, head 32
    assert shape.multiplied == 3 * (64 + 2 * 32 + 64 + 8 + 3 * 128 + 16) + 8 + 32
    assert shape.parameters == shape.multiplied + 11 * 8
    assert (shape.trained, shape.layers, shape.hidden) == (shape.parameters, 3, 8)
    assert shape.input_bytes == 8 * 4


def test_what_a_layer_keeps_is_what_autograd_saves() -> None:
    network = decoder()
    config = TrainTeacherConfig(precision="fp32")
    ids = torch.ones(1, 200, dtype=torch.long)
    seen: dict[int, torch.Tensor] = {}
    weights = {value.untyped_storage().data_ptr() for value in network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(lambda value: seen.setdefault(value.untyped_storage().data_ptr(), value), lambda v: v):
        network.train()(input_ids=ids, attention_mask=torch.ones_like(ids))
    kept = sum(value.untyped_storage().nbytes() for place, value in seen.items() if place not in weights)
    estimated = kept_bytes_of(network.config, config, half=False) * 3 * 200
    assert 0.75 * kept < estimated < kept  # the rest is embeddings, last norm and head
    with_adapters = kept_bytes_of(network.config, TrainTeacherConfig(precision="fp32", lora_rank=4), half=False)
    assert with_adapters > estimated / 600


def test_what_cannot_be_cut_to_two_layers_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    class Uncut(Qwen3Config):
        model_type = "uncut"

    config = TrainTeacherConfig(precision="fp32")
    assert kept_bytes_of(Uncut(), config, half=False) == 0
    assert caplog.messages == ["activations of a uncut cannot be estimated, so they are left out (KeyError)"]
    # a family without a classifier is looked at as what it is
    sizes = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16}
    assert kept_bytes_of(GraniteConfig(**sizes), config, half=False) > 8 * 4


def test_memory_of_what_is_gathered_and_of_two_batches_by_hand() -> None:
    # trained: 12 bytes each for a checkpoint; all at the end: 4 bytes of 1000 and of the 100 trained
    settings = {"num_processes": 2, "zero_stage": 2, "precision": "fp32"}
    assert cost_of(**settings).gathered == 4 * 1100
    full = estimate(replace(SHAPE, trained=1000), TrainTeacherConfig(batch_size=4, **settings), num_tokens=1.0, mean_tokens=20.0, peak=1e6)
    assert full.gathered == 12 * 1000
    assert "MiB of main memory for the process that writes" in full.sentence()
    assert cost_of(precision="fp32").gathered == 0
    tuned = {"preference_epochs": 1, "precision": "fp32"}
    assert cost_of(**tuned).activations == 2 * cost_of(precision="fp32").activations
    assert cost_of(**tuned, preference_weight=0.0).activations == 2 * cost_of(precision="fp32").activations
    assert cost_of(**tuned, preference_weight=1.0).activations == cost_of(precision="fp32").activations


def test_flops_of_a_token_by_hand() -> None:
    # 4 x 800 + 2 x 100 trained + 12 x 2 layers x 10 x 20 tokens
    assert SHAPE.flops_per_token(20.0) == 3200 + 200 + 4800


def test_memory_of_one_process_by_hand() -> None:
    cost = cost_of(precision="fp32")
    # float32: 900 frozen and 100 trained x 4; gradients 4, two moments 8; 2 layers x 100 bytes x (4 rows x 20 tokens)
    assert (cost.weights, cost.gradients, cost.optimizer, cost.activations) == (4000, 400, 800, 2 * 100 * 80)
    half = cost_of(precision="bf16", activation_checkpointing=True)
    # frozen in bf16; trained in float32 beside bf16 copies; a layer's input per layer, and one layer whole
    assert (half.weights, half.activations) == (900 * 2 + 100 * 6, (2 * 20 + 100) * 80)


def test_the_loss_of_a_reply_by_hand() -> None:
    settings = Qwen3Config(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=4, vocab_size=11, pad_token_id=0
    )
    writer = Qwen3ForCausalLM(settings)
    bytes_of = [
        Shape.of(writer, settings, TrainTeacherConfig(precision="fp32", step_tokens=40, **more)).reply_bytes
        for more in ({}, {"form": "generative"}, {"form": "generative", "reasoning": ["explain"]})
    ]
    # four float32 numbers of each of 11 words, at `grade`, `:` and the grade, and at 40 tokens of steps before them
    assert bytes_of == [0, 16 * 11 * 3, 16 * 11 * 43]
    shape = replace(SHAPE, reply_bytes=1000.0)
    given = {"batch_size": 4, "precision": "fp32", "num_processes": 2}
    plain, again = (
        estimate(shape, TrainTeacherConfig(**given, activation_checkpointing=on), num_tokens=1e6, mean_tokens=20.0, peak=1e6)
        for on in (False, True)
    )
    # 4 replies on 2 devices; with checkpointing a layer that is computed again, 100 x 80 bytes, is more than the loss before it
    assert (plain.activations, again.activations) == ((2 * 100 * 80 + 4 * 1000) / 2, (2 * 20 * 80 + 100 * 80) / 2)


def test_the_loss_of_replies_holds_what_is_estimated(shop: dict[str, str], tmp_path: Path) -> None:
    writer = folder.fetch(make_writer(str(tmp_path), "qwen3", positions=256))
    settings: dict[str, Any] = {"form": "generative", "num_neighbors": 0, "max_tokens": 48, "batch_size": 24, "precision": "fp32"}
    config = TrainTeacherConfig(**settings, reasoning=["reflect"], step_tokens=34)  # as the longest chain
    tables = read_tables(Sources(**{**shop, "encoder": str(writer)}), config)
    spec, tokenizer = teacher_spec(writer, config, tables.card.gains()), folder.load_tokenizer(writer)
    examples = WritingExamples.of(Examples.of(tables, spec, tokenizer, config), tables, spec, tokenizer, config)
    assert max(map(len, examples.encoded.replies)) == config.step_tokens
    network = folder.load_model(writer, spec)
    rows = examples.batches(0, config)[0]
    logits = len(rows) * config.step_tokens * network.config.vocab_size * 4
    with LivingTensors(least=0.9 * logits) as living:
        WritingObjective(examples, torch.device("cpu"))(network, rows).backward()
    assert 1.0 <= Shape.of(network, network.config, config).reply_bytes * len(rows) / living.peak < 1.05


class LivingTensors(TorchDispatchMode):
    """The most bytes in tensors of at least `least` bytes that were alive at once."""

    def __init__(self, least: float) -> None:
        super().__init__()
        self.least, self.peak, self.sizes = least, 0, {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for one in [made] if isinstance(made, torch.Tensor) else []:
            storage = one.untyped_storage()
            if storage.nbytes() >= self.least and storage._cdata not in self.sizes:
                self.sizes[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.sizes.pop, storage._cdata)
        self.peak = max(self.peak, sum(self.sizes.values()))
        return made


def test_the_part_that_reads_texts_is_counted() -> None:
    words = decoder().config.to_dict() | {"model_type": "gemma3_text"}
    pictures = {"hidden_size": 16, "num_hidden_layers": 5, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 28}
    settings = Gemma3Config(text_config=words, vision_config=pictures | {"patch_size": 14})
    shape = Shape.of(decoder(), settings, TrainTeacherConfig(precision="fp32"))
    assert (shape.layers, shape.hidden, shape.input_bytes) == (3, 8, 8 * 4)
    assert shape.kept_bytes > 8 * 4


@pytest.mark.parametrize(("stage", "shares"), [(0, (1, 1, 4)), (1, (1, 1, 4)), (2, (1, 4, 4)), (3, (4, 4, 4))])
def test_each_zero_stage_shares_out_one_more(stage: int, shares: tuple[int, int, int]) -> None:
    cost = cost_of(precision="bf16", num_processes=4, zero_stage=stage)
    assert (cost.weights, cost.gradients, cost.optimizer) == (2000 / shares[0], 200 / shares[1], 1200 / shares[2])
    assert cost.activations == 2 * 100 * 80 / 4


def test_time_and_utilisation_by_hand() -> None:
    cost = cost_of(precision="fp32", num_processes=2)
    # 8200 FLOPs a token, two devices of 1e6 FLOP/s: 100 tokens/s are 0.41 of the peak
    assert cost.utilisation(100.0) == pytest.approx(0.41)
    assert cost.hours == pytest.approx(1e6 * 8200 / (2e6 * 0.35) / 3600)
    assert cost.sentence().startswith("estimate: 0 MiB a device (weights 0 MiB")
    assert "1 M tokens, 3.3 h on 2 at 35% of 1e-06 TFLOP/s" in cost.sentence()


def test_the_peak_is_what_a_product_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 4.0, 10.0, 12.0, 20.0, 23.0, 30.0, 35.0])  # the best of four took 2 s
    monkeypatch.setattr("components.train_teacher.cost.time.perf_counter", lambda: next(clock))
    assert measured_peak(torch.device("cpu"), "fp32") == 2 * 1024**3 / 2.0


def test_a_frozen_backbone_leaves_the_head_to_learn_and_learns_in_float32() -> None:
    network = ready_to_learn(decoder(), TrainTeacherConfig(freeze_backbone=True, precision="bf16"))
    learns = {name for name, value in network.named_parameters() if value.requires_grad}
    assert learns == {"score.weight"}
    assert {value.dtype for name, value in network.named_parameters() if name not in learns} == {torch.bfloat16}
    assert network.score.weight.dtype == torch.float32


def test_adapters_and_head_learn_in_float32_over_bf16() -> None:
    network = ready_to_learn(decoder(), TrainTeacherConfig(lora_rank=2, precision="bf16"))
    kinds = {value.requires_grad: set() for value in network.parameters()}
    for value in network.parameters():
        kinds[value.requires_grad].add(value.dtype)
    assert kinds == {True: {torch.float32}, False: {torch.bfloat16}}


def test_a_frozen_backbone_beside_adapters_is_refused() -> None:
    with pytest.raises(ValueError, match="freeze_backbone leaves only the head to train"):
        TrainTeacherConfig(freeze_backbone=True, lora_rank=2)


def test_what_will_not_fit_is_said_before(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.INFO)
    cost = cost_of(precision="fp32")
    for available, warned in ((0, False), (10**9, False), (100, True)):
        caplog.clear()
        monkeypatch.setattr(fine_tuning, "device_memory", lambda _, size=available: size)
        fine_tuning.announce(cost, torch.device("cpu"))
        assert caplog.messages[0].startswith("estimate: ")
        assert any("less than estimated" in one for one in caplog.messages) == warned
