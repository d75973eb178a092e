"""Decoders as scorers: one score per pair, whatever stands beside it, on whichever side padding is, by whichever method."""

from pathlib import Path

import numpy as np
import pytest
import torch
from decoder_folders import END, bpe, make_decoder
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertModel, GemmaConfig, GemmaModel, Qwen3Config, T5Config, T5EncoderModel

from components.shared.models import folder, norms, packed
from components.shared.models.decoders import METHODS, DecoderClassifier
from components.shared.models.packs import Pack, cut_packs
from components.shared.models.scoring import Scorer
from components.shared.models.tokens import JoinedPairs, join_pairs

FAMILIES = ("qwen3", "llama", "gpt2")
NO_PACKS = ("gpt2", "packed")  # its forward asks for as many tokens at the end as at the start
LEFT = ["query: red shoes"] * 3 + ["query: lamp | shoppers accepted: large garden lamp"] * 2 + ["query: blue"]
RIGHT = ["title: red shoes", "title: lamp " * 6, "", "title: lamp", "title: small red chair", "title: kitchen"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {name: make_decoder(str(tmp_path_factory.mktemp(name)), name) for name in FAMILIES}


@pytest.fixture(scope="module")
def classifiers(folders: dict[str, str]) -> dict[str, DecoderClassifier]:
    return {name: Scorer(uri).decoder for name, uri in folders.items()}


def plain_logits(classifier: DecoderClassifier, ids: list[int]) -> np.ndarray:
    """transformers' own answer to one row, without padding."""
    with torch.inference_mode():
        return classifier.model(torch.tensor([ids])).logits[0].float().numpy()


@pytest.mark.parametrize(("name", "method"), [(name, method) for name in FAMILIES for method in METHODS if (name, method) != NO_PACKS])
def test_every_method_gives_the_logits_of_the_plain_forward(classifiers, name, method):
    classifier = classifiers[name]
    pairs = join_pairs(classifier.tokenizer, LEFT, RIGHT, 96)
    expected = np.stack([plain_logits(classifier, pairs.row(number)) for number in range(len(LEFT))])
    np.testing.assert_allclose(classifier.logits(pairs, method), expected, atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 1e-2  # the pairs do differ, so equality above says something


ids = st.lists(st.integers(1, 290), min_size=1, max_size=40)
prefixes = st.lists(ids, min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_pair_scores_the_same_alone_and_in_any_batch_and_order(classifiers, data):
    heads = data.draw(prefixes)
    rows = data.draw(st.lists(st.tuples(st.integers(0, len(heads) - 1), ids), min_size=1, max_size=8))
    order = data.draw(st.permutations(range(len(rows))))
    budget, method = data.draw(st.integers(16, 400)), data.draw(st.sampled_from(sorted(METHODS)))
    classifier = classifiers["qwen3"]
    alone = np.stack([plain_logits(classifier, heads[head] + item) for head, item in rows])
    shuffled = JoinedPairs(heads, np.asarray([rows[at][0] for at in order]), [rows[at][1] for at in order])
    other = DecoderClassifier(classifier.model, classifier.tokenizer, batch_tokens=budget)
    np.testing.assert_allclose(other.logits(shuffled, method), alone[order], atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_packs_hold_every_row_once_within_the_budget(data):
    heads = data.draw(prefixes)
    rows = data.draw(st.lists(st.tuples(st.integers(0, len(heads) - 1), ids), min_size=1, max_size=20))
    pairs = JoinedPairs(heads, np.asarray([head for head, _ in rows]), [item for _, item in rows])
    budget = data.draw(st.integers(1, 300))
    cut = list(cut_packs(pairs, budget))
    assert sorted(np.concatenate(cut)) == list(range(len(rows)))
    for chosen in cut:
        num_tokens = Pack.of(pairs, chosen, torch.device("cpu"), torch.float32).ids.shape[1]
        assert num_tokens <= budget or len(chosen) == 1
        distinct = {int(pairs.prefix[row]) for row in chosen}
        assert num_tokens == sum(len(heads[one]) for one in distinct) + sum(len(pairs.items[row]) for row in chosen)


def test_a_prefix_is_computed_once_and_the_last_layer_only_where_it_is_read(classifiers, monkeypatch):
    classifier = classifiers["qwen3"]
    pairs = JoinedPairs([[5] * 30], np.zeros(4, np.int64), [[7, 8], [9], [3] * 5, [4, 4]])
    seen = []
    for layer in classifier.model.base_model.layers:
        real = layer.mlp.forward
        monkeypatch.setattr(layer.mlp, "forward", lambda x, real=real: (seen.append(x.shape[1]), real(x))[1])
    classifier.logits(pairs, "packed")
    assert seen == [40, 40, 4]  # 30 + 2 + 1 + 5 + 2 tokens, then one per item


def test_attention_on_an_accelerator_is_that_of_the_cpu():
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(3, 5, 4, 8, generator=generator)
    key, value = (torch.randn(3, 16, 2, 8, generator=generator) for _ in range(2))
    bias = torch.zeros(3, 1, 5, 16).masked_fill(torch.rand(3, 1, 5, 16, generator=generator) < 0.4, -torch.inf)
    bias[..., 0] = 0.0
    shaped = key.transpose(1, 2), value.transpose(1, 2)
    one, two = (attend(query.transpose(1, 2)[:, :2], *shaped, bias, 0.3) for attend in (packed.short_attention, packed.fused_attention))
    torch.testing.assert_close(one, two, atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", ["plain", "prefix_cache"])
def test_side_and_amount_of_padding_change_no_score(folders, method):
    scorer = Scorer(folders["qwen3"], method=method)
    right = scorer.logits(LEFT, RIGHT)
    scorer.tokenizer.padding_side = "left"
    np.testing.assert_allclose(scorer.logits(LEFT, RIGHT), right, atol=1e-5)
    pad = scorer.tokenizer.pad
    scorer.tokenizer.pad = lambda batch, **more: pad(batch, padding="max_length", max_length=96, **more)
    for side in ("left", "right"):
        scorer.tokenizer.padding_side = side
        np.testing.assert_allclose(scorer.logits(LEFT, RIGHT), right, atol=1e-5)


def test_a_title_cannot_end_the_text(folders):
    # the padding token is the end token here: read as one, the head would look at the token before it
    scorer = Scorer(folders["qwen3"])
    pairs = join_pairs(scorer.tokenizer, ["query: red"], [f"title: lamp {END}"], 96)
    assert scorer.tokenizer.pad_token_id not in pairs.row(0)
    np.testing.assert_allclose(
        scorer.logits(["query: red"], [f"title: lamp {END}"])[0], plain_logits(scorer.decoder, pairs.row(0)), atol=1e-5
    )


def test_prefix_and_item_are_tokenised_apart_and_the_item_is_cut_first():
    tokenizer = bpe()
    pairs = join_pairs(tokenizer, ["red", "red", "blue"], ["shoes", "lamp " * 40, "shoes"], 70)
    start = tokenizer("How well does the item fit what the shopper searched for?\nred\n", add_special_tokens=False)["input_ids"]
    assert pairs.prefix.tolist()[0] == pairs.prefix.tolist()[1] != pairs.prefix.tolist()[2]
    assert pairs.row(0) == start + tokenizer("shoes")["input_ids"]
    assert pairs.row(1) == start + tokenizer("lamp " * 40)["input_ids"][: 70 - len(start)]
    alone = join_pairs(tokenizer, ["red"], ["lamp " * 40], 70)
    assert alone.row(0) == pairs.row(1)


def test_a_prefix_that_is_too_long_leaves_a_quarter_to_the_item():
    pairs = join_pairs(bpe(), ["garden " * 60], ["lamp " * 60], 40)
    assert (len(pairs.prefixes[0]), len(pairs.items[0]), pairs.lengths.tolist()) == (30, 10, [40])


def test_bf16_weights_move_logits_little(folders):
    exact, rounded = (Scorer(folders["qwen3"], precision=one, method="packed").logits(LEFT, RIGHT) for one in ("fp32", "bf16"))
    assert 0 < np.abs(exact - rounded).max() < 0.3


@pytest.mark.parametrize(("family", "expected"), [("qwen3", True), ("llama", True), ("gpt2", True), ("bert", False), ("t5", False)])
def test_what_is_a_decoder(folders, tmp_path, family, expected):
    place = Path(folders[family]) if family in folders else tmp_path
    if family == "bert":
        BertModel(
            BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=20)
        ).save_pretrained(place)
    if family == "t5":
        T5EncoderModel(T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=20)).save_pretrained(place)
    assert folder.is_decoder(place) is expected


def test_a_decoder_that_looks_ahead_is_none(tmp_path):
    Qwen3Config(use_bidirectional_attention=True).save_pretrained(tmp_path)
    assert not folder.is_decoder(tmp_path)


def test_a_classifier_of_others_is_read_as_the_decoder_it_is(folders, tmp_path):
    spec = folder.ModelSpec("cross_encoder", 96, decoder=True)
    uri = make_decoder(str(tmp_path), "qwen3", "cross_encoder")
    (Path(uri) / folder.SPEC).unlink()
    assert folder.read_spec(Path(uri)) == folder.ModelSpec("cross_encoder", 128, source=uri, decoder=spec.decoder)


def test_only_norms_that_are_torchs_own_are_fused(classifiers):
    model = classifiers["qwen3"].model
    named = {name for name, one in model.named_modules() if type(one).__name__ == "Qwen3RMSNorm"}
    assert len(norms.plain_norms(model)) == len(named) == 3 * 4 + 1  # two and two in each layer, one at the end
    gemma = GemmaModel(
        GemmaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16, vocab_size=20, head_dim=16)
    )
    torch.nn.init.normal_(gemma.norm.weight)
    assert gemma.norm not in norms.plain_norms(gemma)  # it scales by 1 + weight
    hidden = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(4))
    before = model.base_model.norm(hidden)
    with norms.fused([model.base_model.norm]):
        torch.testing.assert_close(model.base_model.norm(hidden), before)
