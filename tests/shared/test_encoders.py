"""Encoders read in packs: the logits of the plain forward, the last layer only at the first token, and who is not read so."""

import numpy as np
import pytest
import torch
from encoder_families import MAX_TOKENS, make_families
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.models.encoders import EncoderClassifier

FIRST_POSITION = {"bert": 0, "electra": 0, "roberta": 1}  # RoBERTa counts on from the padding's number; absent: not read in packs


@pytest.fixture(scope="module")
def classifiers() -> dict[str, EncoderClassifier]:
    tokenizer, made = make_families()
    return {name: EncoderClassifier(model, tokenizer, max_tokens=MAX_TOKENS, batch_tokens=64) for name, model in made.items()}


def columns(rows: list[list[int]]) -> dict[str, list[list[int]]]:
    types = [[0] * (len(row) // 2) + [1] * (len(row) - len(row) // 2) for row in rows]
    return {"input_ids": rows, "token_type_ids": types, "attention_mask": [[1] * len(row) for row in rows]}


def one_by_one(classifier: EncoderClassifier, encoded: dict[str, list[list[int]]]) -> np.ndarray:
    """Each row by transformers' own forward, without padding."""
    classifier.model.set_attn_implementation("eager")
    rows = [{name: torch.tensor([column[row]]) for name, column in encoded.items()} for row in range(len(encoded["input_ids"]))]
    with torch.inference_mode():
        return np.concatenate([classifier.model(**row).logits.numpy() for row in rows])


def test_who_is_read_in_packs(classifiers):
    assert {name: one.first_position for name, one in classifiers.items() if one.first_position is not None} == FIRST_POSITION


@pytest.mark.parametrize("name", ["bert", "electra", "roberta"])
@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.lists(st.integers(4, 119), min_size=1, max_size=MAX_TOKENS), min_size=1, max_size=12))
def test_packs_give_the_logits_of_the_plain_forward(classifiers, name, rows):
    encoded = columns(rows)
    if name == "roberta":
        del encoded["token_type_ids"]  # it has one segment only
    found = classifiers[name].logits(encoded)
    np.testing.assert_allclose(found, one_by_one(classifiers[name], encoded), atol=2e-5)


@pytest.mark.parametrize("name", ["deberta", "modernbert_cls", "modernbert_mean"])
def test_the_others_are_padded(classifiers, name):
    encoded = columns([[5, 6, 7], list(range(4, 4 + MAX_TOKENS)), [9] * 17])
    if name.startswith("modernbert"):
        del encoded["token_type_ids"]
    np.testing.assert_allclose(classifiers[name].logits(encoded), one_by_one(classifiers[name], encoded), atol=2e-5)


def test_the_last_layer_works_at_first_tokens_alone(classifiers, monkeypatch):
    classifier, seen = classifiers["bert"], []
    for layer in classifier.model.base_model.encoder.layer:
        real = layer.intermediate.forward
        monkeypatch.setattr(layer.intermediate, "forward", lambda x, real=real: (seen.append(tuple(x.shape[:2])), real(x))[1])
    classifier.logits(columns([[5, 6, 7], [8, 9]]))
    assert seen == [(1, 5), (1, 5), (1, 2)]


def test_the_model_is_left_as_it_was(classifiers):
    model = classifiers["bert"].model
    model.set_attn_implementation("sdpa")
    before = [len(one._forward_hooks) + len(one._forward_pre_hooks) for one in model.modules()]
    classifiers["bert"].logits(columns([[5, 6, 7]]))
    assert model.config._attn_implementation == "sdpa"
    assert [len(one._forward_hooks) + len(one._forward_pre_hooks) for one in model.modules()] == before
