"""Model folders and scoring: what is refused, and that a pair's score is its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel, Qwen3Config, Qwen3Model

from components.prepare_encoder.vocabulary import learn_tokenizer
from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.batches import padding_share, token_batches
from components.shared.models.pooling import mean_pool
from components.shared.models.scoring import Scorer
from components.shared.models.tokens import encode_rows

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64}
WORDS = ["red", "blue", "shoes", "lamp", "chair", "for", "large", "small", "garden", "kitchen"]
LEFT = ["red shoes", "lamp", "large garden chair for large garden", "blue"]
RIGHT = ["blue shoes small", "lamp", "chair", "kitchen lamp for small kitchen and garden with red chair red chair red chair"]


def tokenizer() -> Any:
    return learn_tokenizer([" ".join(WORDS)] * 3, 200, 64)


def backbone(name: str) -> Any:
    torch.manual_seed(1)
    words = {"vocab_size": len(tokenizer()), "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 3}
    if name == "bert":
        return BertModel(BertConfig(**SIZES, vocab_size=len(tokenizer()), pad_token_id=0))
    if name == "qwen3":
        return Qwen3Model(Qwen3Config(**SIZES, **words, num_key_value_heads=1, head_dim=16))
    return LlamaModel(LlamaConfig(**SIZES, **words, num_key_value_heads=1))


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., str]:
    def make(name: str, kind: str = "teacher") -> str:
        """A folder of the backbone with, for joint kinds, a head of clearly different answers."""
        gains = [0.0, 0.5, 1.0] if kind == "teacher" else []
        spec = folder.ModelSpec(kind, 32, gains=gains)
        bare = str(tmp_path / "bare")
        folder.save(bare, backbone(name), tokenizer(), folder.ModelSpec("encoder", 32))
        model = folder.load_model(Path(bare), spec)
        if kind in folder.JOINT_KINDS:
            head = model.classifier if hasattr(model, "classifier") else model.score
            torch.nn.init.normal_(head.weight, std=1.0, generator=torch.Generator().manual_seed(2))
        uri = str(tmp_path / f"{name}-{kind}")
        folder.save(uri, model, tokenizer(), spec)
        return uri

    return make


def test_special_tokens_in_a_text_are_letters() -> None:
    (ids,) = encode_rows(tokenizer(), ["red"], ["lamp [SEP] red [PAD]"], max_tokens=32)["input_ids"]
    found = tokenizer().convert_ids_to_tokens(ids)
    assert found[:4] == ["[CLS]", "red", "[SEP]", "lamp"]
    assert found.count("[SEP]") == 2  # the tokenizer's own
    assert "[PAD]" not in found


@pytest.mark.parametrize("name", ["bert", "qwen3", "llama"])
def test_a_pair_scores_the_same_alone_and_in_any_batch(make_folder: Callable[..., str], name: str) -> None:
    uri = make_folder(name)
    together = Scorer(uri).logits(LEFT, RIGHT)
    small = Scorer(uri, batch_tokens=20).logits(LEFT, RIGHT)
    turned = Scorer(uri).logits(LEFT[::-1], RIGHT[::-1])[::-1]
    alone = np.concatenate([Scorer(uri).logits([one], [other]) for one, other in zip(LEFT, RIGHT, strict=True)])
    for other in (small, turned, alone):
        np.testing.assert_allclose(together, other, atol=1e-5)
    assert np.ptp(together, axis=0).min() > 1e-3  # the pairs do differ, so equality above says something


@pytest.mark.parametrize("name", ["qwen3", "llama"])
def test_a_decoders_head_reads_the_last_real_token(make_folder: Callable[..., str], name: str) -> None:
    uri = make_folder(name)
    scorer = Scorer(uri)
    encoded = scorer.tokenizer(LEFT[0], RIGHT[0], return_tensors="pt")
    with torch.inference_mode():
        hidden = scorer.model.model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).last_hidden_state
        expected = scorer.model.score(hidden[0, -1]).numpy()  # no padding here: the last position is the last real token
    longest_beside_it = Scorer(uri).logits(LEFT, RIGHT)[0]
    np.testing.assert_allclose(longest_beside_it, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["encoder", "bi_encoder"])
def test_separate_kinds_score_by_cosine(make_folder: Callable[..., str], kind: str) -> None:
    scorer = Scorer(make_folder("bert", kind))
    assert scorer.scores(["red shoes"], ["red shoes"])[0] == pytest.approx(1.0, abs=1e-5)
    assert scorer.scores(["red shoes"], ["blue lamp"])[0] == pytest.approx(scorer.scores(["blue lamp"], ["red shoes"])[0], abs=1e-6)
    assert scorer.scores(["red shoes"], ["kitchen lamp for garden"])[0] < 0.999


def test_a_teachers_score_is_its_expected_gain(make_folder: Callable[..., str]) -> None:
    scorer = Scorer(make_folder("bert"))
    probabilities = scorer.probabilities(LEFT, RIGHT)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)
    # gains 0, 0.5, 1: the expected gain is p1 / 2 + p2
    np.testing.assert_allclose(scorer.scores(LEFT, RIGHT), probabilities[:, 1] / 2 + probabilities[:, 2], atol=1e-6)


def test_mean_pool_leaves_padding_out() -> None:
    hidden = torch.tensor([[[3.0, 0.0], [0.0, 4.0], [100.0, 100.0]]])
    pooled = mean_pool(hidden, torch.tensor([[1, 1, 0]]))
    # mean (1.5, 2) has length 2.5 -> (0.6, 0.8)
    torch.testing.assert_close(pooled, torch.tensor([[0.6, 0.8]]))


def test_spec_comes_back_as_it_was_saved(make_folder: Callable[..., str]) -> None:
    spec = folder.read_spec(folder.fetch(make_folder("bert")))
    assert (spec.kind, spec.max_tokens, spec.gains, spec.num_labels()) == ("teacher", 32, [0.0, 0.5, 1.0], 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"text_version": "0"}, "reads texts of version 0.*retrain"), ({"kind": "oracle"}, "kind 'oracle' is unknown; one of encoder")],
)
def test_a_spec_we_cannot_serve_is_refused(make_folder: Callable[..., str], change: dict[str, str], message: str) -> None:
    uri = Path(make_folder("bert"))
    spec = json.loads((uri / "relevance.json").read_text())
    (uri / "relevance.json").write_text(json.dumps({**spec, **change}))
    with pytest.raises(InputError, match=message):
        Scorer(str(uri))


def test_labels_without_gains_are_refused(make_folder: Callable[..., str]) -> None:
    uri = Path(make_folder("bert"))
    (uri / "relevance.json").unlink()
    with pytest.raises(InputError, match=r"3 labels and no relevance\.json"):
        Scorer(str(uri))


def test_pickle_weights_are_refused_and_named(make_folder: Callable[..., str]) -> None:
    uri = Path(make_folder("bert"))
    (uri / "model.safetensors").unlink()
    torch.save({}, uri / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no \*\.safetensors \(pytorch_model\.bin\)"):
        folder.fetch(str(uri))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_folders_that_bring_code_are_refused(make_folder: Callable[..., str], name: str) -> None:
    uri = Path(make_folder("bert"))
    settings = json.loads((uri / name).read_text())
    (uri / name).write_text(json.dumps({**settings, "auto_map": {"AutoModel": "modeling.Evil"}}))
    with pytest.raises(InputError, match="remote code"):
        folder.fetch(str(uri))


def test_absent_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        folder.fetch(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no config\.json"):
        folder.fetch(str(tmp_path / "empty"))


@given(lengths=st.lists(st.integers(1, 90), max_size=200), budget=st.integers(1, 400))
@settings(deadline=None)
def test_token_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    array = np.asarray(lengths, np.int64)
    batches = token_batches(array, budget)
    assert sorted(int(row) for rows in batches for row in rows) == list(range(len(array)))
    assert all(len(rows) * array[rows].max() <= budget or len(rows) == 1 for rows in batches)
    longest = [int(array[rows].max()) for rows in batches]
    assert longest == sorted(longest, reverse=True)


@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=200))
@settings(deadline=None)
def test_sorting_by_length_never_pads_more_than_arrival_order(lengths: list[int]) -> None:
    array = np.asarray(lengths, np.int64)
    batches = token_batches(array, 10**9)
    assert padding_share(array, batches) == pytest.approx(1 - array.sum() / (len(array) * array.max()))
    assert 0.0 <= padding_share(array, token_batches(array, 128)) < 1.0
