"""What training a recipe's teacher takes, counted from a config without weights, against values worked by hand."""

from typing import Any

import pytest
from transformers import MistralConfig

from components.shared.errors import InputError
from components.train_teacher import cost
from pipelines import estimate, recipe
from pipelines.__main__ import main

GPU_BYTES = 80e9
KEPT = 400_000.0  # of a token by a layer: about what looking finds, which takes half a minute
LAYER = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096  # q and o, k and v, the three of the MLP, two norms
HEAD, EMBEDDINGS = 2 * 4096, 32000 * 4096
MISTRAL_7B = 32 * LAYER + EMBEDDINGS + 4096 + HEAD
ADAPTERS = 32 * 256 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))  # rank x (inputs + outputs) of each matrix


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the config of Mistral 7B (its classes' defaults) and no weights."""
    place = tmp_path_factory.mktemp("mistral")
    MistralConfig().save_pretrained(place)
    return str(place)


def estimate_of(name: str, mistral: str, *overrides: str) -> Any:
    given = {"judgments": "1e6", "prompt_tokens": "300", "model": mistral, "peak_tflops": "700"}
    return estimate.estimate_of(recipe.load(name, overrides), given)


def test_one_gpu_by_hand(mistral: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "kept_bytes_of", lambda *_, **__: KEPT)
    found = estimate_of("decoder_gpu", mistral)
    assert MISTRAL_7B == 7_110_668_288
    trained = ADAPTERS + HEAD
    # frozen in bf16; what learns in float32 beside the bf16 copies of autocast, with two moments
    assert (found.weights, found.gradients, found.optimizer) == (2 * MISTRAL_7B + 6 * trained, 4 * trained, 8 * trained)
    # checkpointing keeps each layer's input, 4096 numbers in bf16, and one layer whole, of 16384 tokens
    assert found.activations == (32 * 4096 * 2 + KEPT) * 16384
    assert found.memory < GPU_BYTES
    assert found.num_tokens == pytest.approx(0.9 * 1e6 * 300)  # a tenth of the queries is held out
    multiplied = MISTRAL_7B - EMBEDDINGS + trained
    flops = 4 * multiplied + 2 * trained + 12 * 32 * 4096 * 300
    assert found.hours == pytest.approx(0.9 * 1e6 * 300 * flops / (700e12 * 0.35) / 3600)


def test_two_nodes_share_all_of_it_by_hand(mistral: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "kept_bytes_of", lambda *_, **__: KEPT)
    found, one_node = (estimate_of(name, mistral) for name in ("decoder_nodes", "cluster"))
    trained = ADAPTERS + HEAD
    assert (found.num_devices, one_node.num_devices) == (16, 8)
    # ZeRO-3: bf16 weights and gradients, float32 master and two moments, each on one of 16 devices
    assert found.weights == pytest.approx(2 * (MISTRAL_7B + trained) / 16)
    assert (found.gradients, found.optimizer) == (2 * trained / 16, 12 * trained / 16)
    assert one_node.weights == 2 * found.weights
    assert one_node.activations == found.activations  # twice the batch on twice the devices
    assert one_node.hours == pytest.approx(2 * found.hours)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["decoder_gpu", "decoder_nodes"])
def test_the_7b_recipes_fit_on_80_gb(mistral: str, name: str) -> None:
    found = estimate_of(name, mistral)
    assert 1e9 < found.memory < GPU_BYTES
    assert found.activations > 1e9


def test_all_weights_of_7b_do_not_fit_on_one(mistral: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "kept_bytes_of", lambda *_, **__: KEPT)
    assert estimate_of("decoder_gpu", mistral, "teacher.lora_rank=0").memory > GPU_BYTES


def test_the_command_prints_the_estimate_of_a_recipe_that_builds_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "--recipe", "decoder_tiny", "--judgments", "3000", "--peak-tflops", "0.1"]) == 0
    # 0.9 x 3000 pairs x 128 tokens at most x 6 epochs
    assert capsys.readouterr().out.startswith("decoder_tiny: estimate: ")
    assert main(["estimate", "--recipe", "tiny", "--judgments", "3000", "--prompt-tokens", "64", "--peak-tflops", "0.1"]) == 0
    assert "0.691 M tokens" in capsys.readouterr().out  # 0.9 x 3000 pairs x 64 tokens x 4 epochs


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt_tokens": "513"}, "--prompt-tokens 513 is above teacher.max_tokens 512; lower it"),
        ({"judgments": "many"}, "--judgments 'many': give a number"),
        ({"peak_tflops": "0"}, "--peak-tflops '0': give a number from 0.001"),
        ({"model": "/nowhere"}, "'/nowhere' has no config.json here"),
    ],
)
def test_refusals(mistral: str, given: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate.estimate_of(recipe.load("decoder_gpu"), {"judgments": "10", "model": mistral, **given})
