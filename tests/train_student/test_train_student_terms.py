"""Term marks: which words have one, that they are shared while a student learns, and that the folder afterwards is an ordinary one."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from conftest import SPECIAL, WORDS, Toy, tiny_tokenizer
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModel, PreTrainedTokenizerFast

from components.shared import tables
from components.shared.errors import InputError
from components.shared.models.folder import ModelSpec, load_model, load_tokenizer
from components.shared.models.scoring import Scorer
from components.shared.report import Report
from components.shared.tracking import NullTracker
from components.train_student.config import TrainStudentConfig
from components.train_student.step import run
from components.train_student.students import BiEncoder, save_student
from components.train_student.terms import MarkedEmbedding, catalogue_terms, fold_marks, mark_terms, token_kinds

BRANDS, COLORS = WORDS[:4], WORDS[4:8]
SHORT = {"learning_rate": 3e-3, "max_tokens": 24, "queries_per_batch": 8, "checkpoint_steps": 0, "max_pairs": 600}


def catalogue(**columns: list[str | None]) -> pa.Table:
    number = len(columns["title"])
    ids = {"item_id": [f"i{place}" for place in range(number)]}
    return pa.table({**ids, **{name: columns.get(name, [None] * number) for name in ("title", "brand", "color", "category")}})


def told(items: pa.Table) -> dict[str, str]:
    found = catalogue_terms(items)
    assert len(set(found["form"].to_pylist())) == len(found)  # a word is a term of one field at most
    return dict(zip(found["form"].to_pylist(), found["field"].to_pylist(), strict=True))


def test_terms_by_hand() -> None:
    found = told(
        catalogue(
            title=["Acme red lamp", "red Lamps for 2", "the Acme cup", "cup by the window", "orange the cup", "Solo cup"],
            brand=["Acme", None, "Acme", "The Window", "The Window", "Solo"],
            color=["red", "red", None, None, None, None],
            category=["Home > Lamps", "Home > Lamps", "Home > Cups for 2", "Home > Cups for 2", None, None],
        )
    )
    # cup: category of 2 of the 4 items that have it, plural there and singular in titles; Solo: one item is too few; by, the, for: empty
    assert found == {
        **{"Acme": "brand", "acme": "brand", "Window": "brand", "window": "brand", "red": "color", "Home": "category", "home": "category"},
        **{"Lamps": "category", "lamps": "category", "lamp": "category", "Cups": "category", "cups": "category", "cup": "category"},
    }


def test_a_word_that_titles_have_without_the_field_is_no_term() -> None:
    shop = catalogue(title=["apple", "apple", "apple juice", "apple tree", "apple"], brand=["Apple", "Apple", None, None, None])
    assert told(shop) == {}  # 2 of 5
    assert told(shop.slice(0, 4)) == {"Apple": "brand", "apple": "brand"}  # 2 of 4


def test_of_two_fields_the_one_with_more_items() -> None:
    shop = catalogue(title=["a"] * 5, brand=["Orange", "Orange", None, None, None], color=[None, None, "orange", "orange", "orange"])
    assert told(shop) == {"Orange": "color", "orange": "color"}


def test_tokens_of_whole_words_alone_have_a_kind() -> None:
    terms = pa.table({"form": ["w1", "w5", "w1 w2", "unheard", "[SEP]"], "field": ["brand", "color", "brand", "brand", "category"]})
    kinds = token_kinds(tiny_tokenizer(), terms)
    assert {place: kind for place, kind in enumerate(kinds.tolist()) if kind} == {len(SPECIAL) + 1: 1, len(SPECIAL) + 5: 2}


def test_a_word_behind_a_space_is_its_own_token_to_some_tokenizers() -> None:
    raw = Tokenizer(models.BPE({"a": 0, "c": 1, "Ġ": 2, "ac": 3, "Ġac": 4}, [("a", "c"), ("Ġ", "ac")]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    terms = pa.table({"form": ["ac"], "field": ["brand"]})
    assert token_kinds(PreTrainedTokenizerFast(tokenizer_object=raw), terms).tolist() == [0, 0, 0, 1, 1]


def marked_network(toy: Toy) -> tuple[Any, Any]:
    tokenizer, network = load_tokenizer(Path(toy.encoder)), load_model(Path(toy.encoder), ModelSpec("bi_encoder", 24)).eval()
    shop = catalogue(title=["x"] * 8, brand=[*BRANDS, *BRANDS], color=[*COLORS, *COLORS])
    assert mark_terms(network, tokenizer, shop) == len(BRANDS) + len(COLORS)
    return tokenizer, network


def test_a_marked_network_scores_the_same_until_it_learns_and_the_same_when_marks_are_folded(toy: Toy) -> None:
    tokenizer, network = marked_network(toy)
    batch = tokenizer([" ".join(WORDS[:9]), "w9 w10"], padding=True, return_tensors="pt")
    plain = load_model(Path(toy.encoder), ModelSpec("bi_encoder", 24)).eval()
    with torch.no_grad():
        assert torch.equal(network(**batch).last_hidden_state, plain(**batch).last_hidden_state)
        torch.nn.init.normal_(network.get_input_embeddings().marks, generator=torch.Generator().manual_seed(1))
        marked = network(**batch).last_hidden_state
        fold_marks(network)
        assert torch.equal(network(**batch).last_hidden_state, marked)
    assert not torch.allclose(marked[0], plain(**batch).last_hidden_state[0])
    assert torch.equal(marked[1], plain(**batch).last_hidden_state[1])  # neither word is a term
    assert network.state_dict().keys() == plain.state_dict().keys()


def test_the_folder_scores_as_the_marked_student_did(toy: Toy, tmp_path: Path) -> None:
    tokenizer, network = marked_network(toy)
    torch.nn.init.normal_(network.get_input_embeddings().marks, std=0.05, generator=torch.Generator().manual_seed(1))
    texts = (["w0 w9", "w5 w1"], ["w3 w10 w4", "w12 w2"])
    student = BiEncoder(network, tokenizer, texts, max_tokens=24, batch_tokens=99, scale=1.0).eval()
    scores = student.predict(np.arange(2))[:, 0]
    fold_marks(network)
    save_student(str(tmp_path / "m"), student, tokenizer, ModelSpec("bi_encoder", 24))
    np.testing.assert_allclose(Scorer(str(tmp_path / "m")).scores(*texts), scores, atol=1e-5)
    assert np.abs(Scorer(toy.encoder).scores(*texts) - scores).max() > 1e-3


def test_what_is_learnt_of_one_brand_reaches_the_others(toy: Toy) -> None:
    tokenizer, network = marked_network(toy)
    student = BiEncoder(network, tokenizer, (["w0 w9"], ["w0 w10"]), max_tokens=24, batch_tokens=99, scale=1.0)
    student.answers(np.arange(1))[0, 0].backward()
    embedding = network.get_input_embeddings()
    assert isinstance(embedding, MarkedEmbedding)
    moved = embedding.marks.grad.abs().sum(1) > 0
    assert moved.tolist() == [True, False, False]  # brand, color, category
    before = embedding.words.weight.detach().clone()
    with torch.no_grad():
        embedding.marks -= embedding.marks.grad
    fold_marks(network)
    change = (network.get_input_embeddings().weight.detach() - before)[len(SPECIAL) :].abs().sum(1) > 0
    assert [word for word, one in zip(WORDS, change.tolist(), strict=True) if one] == BRANDS


def train(toy: Toy, model: Path, **settings: Any) -> Report:
    """On the toy shop with a word of the title as each item's brand or color, where it has one."""
    given = toy.inputs()
    if not (place := model.parent / "items").exists():
        items = tables.read_table(toy.items, "items")
        for name, words in (("brand", BRANDS), ("color", COLORS)):
            value = pc.extract_regex(items["title"], rf"\b(?P<word>{'|'.join(words)})\b")
            items = items.set_column(items.column_names.index(name), name, pc.struct_field(value, "word"))
        tables.write_table(str(place), "items", items)
    settings = {"architecture": "bi_encoder", **SHORT, **settings}
    return run(TrainStudentConfig(**settings), **{**given, "items": str(place)}, model=str(model), tracker=NullTracker())


@pytest.mark.parametrize("architecture", ["bi_encoder", "cross_encoder"])
def test_the_folder_of_a_marked_student_is_an_ordinary_one(toy: Toy, tmp_path: Path, architecture: str) -> None:
    reports = {on: train(toy, tmp_path / str(on), architecture=architecture, mark_terms=on) for on in (False, True)}
    assert reports[True].metrics["marked_tokens"] == len(BRANDS) + len(COLORS)
    assert "marked_tokens" not in reports[False].metrics
    marked, plain = (load_file(tmp_path / on / "model.safetensors") for on in ("True", "False"))
    assert {name: one.shape for name, one in marked.items()} == {name: one.shape for name, one in plain.items()}
    titles = tables.read_table(str(tmp_path / "items"), "items")["title"].to_pylist()[:12]
    alone = Scorer(str(tmp_path / "True")).scores(["w0 w5"] * 12, titles)
    assert len(set(alone)) > 6
    assert not np.allclose(alone, Scorer(str(tmp_path / "False")).scores(["w0 w5"] * 12, titles))


def test_a_killed_marked_run_goes_on_and_ends_in_the_same_weights(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {"mark_terms": True, "checkpoint_steps": 2, "num_epochs": 1}
    train(toy, tmp_path / "whole", **short)
    with monkeypatch.context() as patch:
        patch.setattr("components.train_student.step.fold_marks", lambda network: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(toy, tmp_path / "killed", **short)
    newest = sorted((tmp_path / "killed.checkpoints").iterdir())
    shutil.rmtree(newest[-1])  # two steps more to make again
    train(toy, tmp_path / "killed", **short)
    assert (tmp_path / "killed" / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_marks_are_averaged_with_the_start_like_their_words(toy: Toy, tmp_path: Path) -> None:
    weights = {}
    for share in (1.0, 0.5):
        train(toy, tmp_path / str(share), mark_terms=True, trained_weight=share)
        weights[share] = AutoModel.from_pretrained(tmp_path / str(share)).get_input_embeddings().weight.detach()
    start = AutoModel.from_pretrained(toy.encoder).get_input_embeddings().weight.detach()
    torch.testing.assert_close(weights[0.5], (weights[1.0] + start) / 2)


def test_a_catalogue_without_terms_is_refused(toy: Toy, tmp_path: Path) -> None:
    given = {"architecture": "bi_encoder", **SHORT, "mark_terms": True}
    with pytest.raises(InputError, match=r"key 'mark_terms': no word of .* is one token of the encoder; set false"):
        run(TrainStudentConfig(**given), **toy.inputs(), model=str(tmp_path / "m"), tracker=NullTracker())
    assert not (tmp_path / "m").exists()
