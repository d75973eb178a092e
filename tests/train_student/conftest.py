"""A toy shop for students: words are ids, the teacher's gain is the share of query words that stand in the title."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from components.shared import tables
from components.shared.models import folder

WORDS = [f"w{number}" for number in range(24)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@dataclass(frozen=True)
class Toy:
    """Addresses of the five inputs."""

    encoder: str
    items: str
    queries: str
    pairs: str
    soft_targets: str

    def inputs(self) -> dict[str, str]:
        return dict(vars(self))


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, model_input_names=["input_ids", "token_type_ids", "attention_mask"], **names)


def write_encoder(uri: str, *, width: int = 64, layers: int = 1, seed: int = 1) -> str:
    torch.manual_seed(seed)
    shape = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=2 * width,
        max_position_embeddings=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.08,
    )  # fmt: skip
    folder.save(uri, BertModel(shape), tiny_tokenizer(), folder.ModelSpec("encoder", 24))
    return uri


def write_toy(root: Path, *, num_queries: int, items_each: int, offsets: tuple[float, float] | None = None, seed: int = 0) -> Toy:
    """Queries of 2 words, titles of 4. Gain = overlap; with `offsets` 0.1 overlap + a constant per query drawn between the two."""
    rng = np.random.default_rng(seed)
    asked = np.argsort(rng.random((num_queries, len(WORDS))), axis=1)[:, :2]
    owner = np.repeat(np.arange(num_queries), items_each)
    titles = np.argsort(rng.random((len(owner), len(WORDS))), axis=1)[:, :4]
    shared = rng.integers(0, 3, len(owner))
    titles[:, :2] = np.where(np.arange(2) < shared[:, None], asked[owner], titles[:, :2])
    titles = rng.permuted(titles, axis=1)
    overlap = (titles[:, :, None] == asked[owner][:, None, :]).any(1).mean(1)
    gains = overlap if offsets is None else 0.1 * overlap + rng.uniform(*offsets, num_queries)[owner]
    query_ids = pa.array([f"q{number}" for number in owner])
    item_ids = pa.array([f"i{number}" for number in range(len(owner))])
    pair_ids = pa.array([f"p{number:05d}" for number in range(len(owner))])
    text = pa.array([" ".join(WORDS[word] for word in row) for row in asked])
    names = pa.array([f"q{number}" for number in range(num_queries)])
    toy = Toy(write_encoder(str(root / "encoder")), *(str(root / name) for name in ("items", "queries", "pairs", "soft_targets")))
    empty = pa.nulls(len(owner), pa.string())
    columns = dict.fromkeys(("brand", "category", "color", "attributes", "description"), empty)
    title = pa.array([" ".join(WORDS[word] for word in row) for row in titles])
    tables.write_table(toy.items, "items", pa.table({"item_id": item_ids, "title": title, **columns}))
    tables.write_table(toy.queries, "queries", query_table(names, text, ["train"] * num_queries))
    shard = pa.array(np.zeros(len(owner), np.int32))
    source = pa.array(["random"] * len(owner))
    keys = {"pair_id": pair_ids, "query_id": query_ids, "item_id": item_ids}
    tables.write_table(toy.pairs, "pairs", pa.table({**keys, "source": source, "shard": shard}))
    tables.write_table(toy.soft_targets, "soft_targets", label_table(keys, gains))
    return toy


def query_table(names: pa.Array, text: pa.Array, split: list[str | None]) -> pa.Table:
    once = pa.array([1] * len(names))
    return pa.table(
        {"query_id": names, "query_text": text, "query": text, "frequency": once, "segment": pa.array(["tail"] * len(names)),
         "kind": pa.nulls(len(names), pa.string()), "split": pa.array(split, pa.string())}
    )  # fmt: skip


def label_table(keys: dict[str, pa.Array], gains: np.ndarray, entropy: float | np.ndarray = 0.0) -> pa.Table:
    doubt = {"entropy": pa.array(np.broadcast_to(entropy, len(gains)), pa.float32()), "disagreement": pa.nulls(len(gains), pa.float32())}
    probabilities = pa.array([[1.0 - gain, gain] for gain in gains.tolist()], pa.list_(pa.float32()))
    digests = dict.fromkeys(("text_digest", "model_digest", "engine"), pa.array(["d"] * len(gains)))
    return pa.table({**keys, "probabilities": probabilities, "score": pa.array(gains), **doubt, **digests})


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return write_toy(tmp_path_factory.mktemp("toy"), num_queries=200, items_each=12)
