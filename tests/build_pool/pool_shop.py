"""A small shop for the pool: train, dev and log queries, items in two categories, a log with clicks."""

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.shared.schema import TABLES
from components.shared.tables import write_table

Rows = list[dict[str, Any]]
COLORS = ("red", "blue", "green", "black", "white", "brown")


def query(query_id: str, text: str, split: str | None = None, frequency: int = 10) -> dict[str, Any]:
    return {"query_id": query_id, "query_text": text, "query": text, "frequency": frequency, "segment": "head", "split": split}


def item(item_id: str, title: str, category: str | None = None) -> dict[str, Any]:
    return {"item_id": item_id, "title": title, "category": category}


def judgment(query_id: str, item_id: str, split: str) -> dict[str, Any]:
    return {"query_id": query_id, "item_id": item_id, "grade": 1, "gain": 1.0, "split": split}


def shown(text: str, item_id: str, impressions: int, clicks: int = 0, day: int = 1) -> dict[str, Any]:
    counts = {"impressions": impressions, "clicks": clicks, "add_to_carts": 0, "purchases": 0, "clients": 5}
    return {"query": text, "item_id": item_id, "day": date(2026, 9, day), "corrected_impressions": float(impressions), **counts}


SHOP: dict[str, Rows] = {
    "items": [item(f"shoe-{color}", f"{color} shoe", "shoes") for color in COLORS] + [item(f"hat-{c}", f"{c} hat", "hats") for c in COLORS],
    "queries": [
        query("t1", "red shoe", "train", 50),
        query("t2", "blue hat", "train", 40),
        query("d1", "green suede shoe", "dev", 90),
        query("e1", "black felt hat", "test", 80),
        query("l1", "hat", None, 30),
        query("l2", "shoe", None, 20),
        query("l3", "brown", None, 5),
    ],
    "judgments": [
        judgment("t1", "shoe-red", "train"),
        judgment("t1", "shoe-blue", "train"),
        judgment("t2", "hat-blue", "train"),
        judgment("d1", "shoe-green", "dev"),
        judgment("e1", "hat-black", "test"),
    ],
    "interactions": [
        shown("red shoe", "shoe-red", 30, 9),
        shown("red shoe", "shoe-green", 20),
        shown("red shoe", "shoe-green", 15, day=2),
        shown("red shoe", "hat-red", 10),
        shown("hat", "hat-white", 8, 2),
        shown("green suede shoe", "shoe-green", 90, 50),
    ],
}


def write_shop(folder: Path, **changed: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Writes SHOP with some tables changed; table -> URI."""
    uris = {}
    for name, rows in {**SHOP, **changed}.items():
        schema = TABLES[name].schema
        table = pa.Table.from_pylist([{column: row.get(column) for column in schema.names} for row in rows], schema)
        uris[name] = str(folder / name)
        write_table(uris[name], name, table)
    return uris


def tiny_model(uri: str, kind: str) -> str:
    """A random model of the shop's words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

    from components.shared.models import folder

    torch.manual_seed(3)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *COLORS, "hat", "shoe", "hats", "shoes", "category", ":", "|"]
    inner = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "num_labels": 1}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=64, initializer_range=0.5, **sizes)
    model = BertForSequenceClassification(config) if kind in folder.JOINT_KINDS else BertModel(config)
    folder.save(uri, model, tokenizer, folder.ModelSpec(kind, 32))
    return uri
