"""Whole words for an encoder that spells them in pieces: which ones, what they start from, and that all else stays."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from components.prepare_encoder import extension
from components.prepare_encoder.config import PrepareEncoderConfig
from components.prepare_encoder.step import run
from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.report import Report
from components.shared.schema import ITEMS, QUERIES
from components.shared.tables import write_table
from components.shared.text import field_marks, item_text
from components.shared.tracking import NullTracker

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "blue",
    "##tooth",
    "head",
    "##set",
    "wire",
    "##less",
    "red",
    "mi",
    "1",
    "##2",
    "|",
    ":",
]
PIECES += ["brand", "color", "category"]
TITLES = ["Bluetooth headset", "bluetooth headset red", "wireless headset", "wireless mi 12"]


def spelling_tokenizer(kind: Any = models.WordPiece) -> PreTrainedTokenizerFast:
    vocabulary = {piece: number for number, piece in enumerate(PIECES)}
    raw = Tokenizer(kind(vocabulary, unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()  # pyright: ignore
    raw.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names)


def spelling_encoder(place: Path, kind: Any = models.WordPiece) -> BertModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 32}
    model = BertModel(BertConfig(vocab_size=len(PIECES), **sizes))
    folder.save(str(place), model, spelling_tokenizer(kind), folder.ModelSpec("encoder", 32))
    return model


def prepare(place: Path, **settings: Any) -> Report:
    titles = [{"item_id": f"i{n}", "title": title} for n, title in enumerate(TITLES)]
    # what dev and test queries say may not be learnt: "wireless wireless ..." would come first
    asked = [("bluetooth", "train"), ("wireless wireless wireless wireless", "dev"), ("mi 12", None)]
    queries = [
        {"query_id": f"q{n}", "query_text": text, "query": text, "frequency": 1, "segment": "head", "split": split}
        for n, (text, split) in enumerate(asked)
    ]
    for spec, rows in ((ITEMS, titles), (QUERIES, queries)):
        filled = [{name: row.get(name) for name in spec.schema.names} for row in rows]
        write_table(str(place / spec.name), spec.name, pa.Table.from_pylist(filled, schema=spec.schema))
    config = PrepareEncoderConfig(source=str(place / "given"), max_tokens=32, **settings)
    tables = {name: str(place / name) for name in ("items", "queries")}
    return run(config, **tables, encoder=str(place / "made"), tracker=NullTracker())


def test_words_that_save_most_pieces_come_whole_and_start_from_their_mean(tmp_path: Path):
    given = spelling_encoder(tmp_path / "given")
    report = prepare(tmp_path, added_words=2)
    tokenizer = folder.load_tokenizer(tmp_path / "made")
    # bluetooth and headset stand in three texts each, wireless in two that may be learnt from
    assert tokenizer.tokenize("Bluetooth headset, wireless") == ["bluetooth", "headset", "[UNK]", "wire", "##less"]
    made = folder.load_model(tmp_path / "made", folder.read_spec(tmp_path / "made"))
    old, new = given.get_input_embeddings().weight, made.get_input_embeddings().weight
    assert len(new) == len(PIECES) + 2 + len(field_marks()) == report.metrics["vocab_size"]
    assert torch.equal(new[: len(PIECES)], old)
    torch.testing.assert_close(new[tokenizer.convert_tokens_to_ids("bluetooth")], (old[5] + old[6]) / 2)
    torch.testing.assert_close(new[tokenizer.convert_tokens_to_ids("headset")], (old[7] + old[8]) / 2)
    assert report.metrics["added_words"] == 2
    # titles 4, 5, 4, 5 pieces and queries 2, 3; then 2, 3, 3, 5 and 1, 3
    assert report.metrics["tokens_per_pair.before"] == pytest.approx(18 / 4 + 5 / 2)
    assert report.metrics["tokens_per_pair"] == pytest.approx(13 / 4 + 4 / 2)


def test_the_mark_of_a_field_is_one_token_that_starts_from_the_mean_of_its_pieces(tmp_path: Path):
    given = spelling_encoder(tmp_path / "given").get_input_embeddings().weight
    prepare(tmp_path, added_words=1)
    tokenizer = folder.load_tokenizer(tmp_path / "made")
    new = folder.load_model(tmp_path / "made", folder.read_spec(tmp_path / "made")).get_input_embeddings().weight
    items = pa.table({"title": ["Red | brand: head"], "brand": ["Mi"], "color": ["blue"], "category": [None]})
    (text,) = item_text(items.cast(pa.schema([(name, pa.string()) for name in items.schema.names]))).to_pylist()
    tokens = tokenizer.tokenize(text, split_special_tokens=True)
    assert tokens == ["red", "[UNK]", "brand", ":", "head", "| brand:", "mi", "| color:", "blue"]  # a title cannot write a mark
    torch.testing.assert_close(new[tokenizer.convert_tokens_to_ids("| color:")], given[[15, 18, 16]].mean(0))
    read = Tokenizer.from_file(str(tmp_path / "made" / "tokenizer.json"))  # as the server does
    read.encode_special_tokens = True
    assert read.encode(text, add_special_tokens=False).tokens == tokens


def test_marks_are_added_once(tmp_path: Path):
    model = spelling_encoder(tmp_path / "given")
    tokenizer = folder.load_tokenizer(tmp_path / "given")
    for _ in range(2):
        extension.add_marks(model, tokenizer, [*field_marks(), "head"])
        assert len(tokenizer) == len(model.get_input_embeddings().weight) == len(PIECES) + 3


def test_texts_without_new_words_are_read_as_before(tmp_path: Path):
    given = spelling_encoder(tmp_path / "given").eval()
    prepare(tmp_path, added_words=9)
    made = folder.load_model(tmp_path / "made", folder.read_spec(tmp_path / "made")).eval()
    batches = [folder.load_tokenizer(tmp_path / name)("red mi", "blue 12", return_tensors="pt") for name in ("given", "made")]
    assert torch.equal(batches[0]["input_ids"], batches[1]["input_ids"])
    torch.testing.assert_close(made(**batches[1]).last_hidden_state, given(**batches[0]).last_hidden_state)


def test_numbers_and_words_seen_once_stay_in_pieces():
    known = extension.words_in_pieces(spelling_tokenizer(), ["12 12 headset", "wireless", "headset unknown unknown"])
    assert known == {"headset": (2, [7, 8]), "wireless": (1, [9, 10])}
    assert extension.choose_words(known, 9) == ["headset"]
    assert extension.choose_words({"b": (2, [1, 2]), "a": (2, [1, 2]), "c": (2, [1, 2, 3])}, 2) == ["c", "a"]


def test_mistakes_are_named(tmp_path: Path):
    spelling_encoder(tmp_path / "given", models.WordLevel)
    with pytest.raises(InputError, match=r"key 'added_words': only BERT's WordPiece tokenizers .* this one is a WordLevel; set 0"):
        prepare(tmp_path, added_words=2)
    with pytest.raises(InputError, match="has learnt its vocabulary from the catalogue; set added_words 0, or vocab_size"):
        PrepareEncoderConfig.from_mapping({"added_words": 2}, section="student_encoder")
