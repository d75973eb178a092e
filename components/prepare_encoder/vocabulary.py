"""A WordPiece tokenizer learnt from the shop's own texts."""

import re

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from components.shared import text

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
SHORT_TEXT_CHARS = 400


def catalogue_texts(items: pa.Table, queries: pa.Table, max_texts: int, seed: int) -> list[str]:
    """Everything a model will read of this shop, at most `max_texts` texts, items and queries in proportion; field names included."""
    rng = np.random.default_rng(seed)
    share = min(1.0, max_texts / max(1, len(items) + len(queries)))
    items, queries = _drawn(items, share, rng), _drawn(queries, share, rng)
    # each side is shown once with its behavior field, so that the names of these fields become tokens too
    item_texts = text.teacher_item(items, items["title"]).to_pylist()
    query_texts = text.teacher_query(queries["query"], queries["query"]).to_pylist()
    return item_texts + query_texts


def short_texts(items: pa.Table, queries: pa.Table, max_texts: int, seed: int) -> list[str]:
    """Texts whose words belong together: title with brand, color and category, and queries."""
    rng = np.random.default_rng(seed)
    share = min(1.0, max_texts / max(1, len(items) + len(queries)))
    items, queries = _drawn(items, share, rng), _drawn(queries, share, rng)
    return text.item_text(items).to_pylist() + text.query_text(queries["query"]).to_pylist()


def _drawn(table: pa.Table, share: float, rng: np.random.Generator) -> pa.Table:
    if share >= 1.0:
        return table
    return table.take(np.sort(rng.choice(len(table), max(1, int(len(table) * share)), replace=False)))


def learn_tokenizer(texts: list[str], vocab_size: int, max_tokens: int) -> PreTrainedTokenizerFast:
    """BERT's conventions: lower case, `[CLS] a [SEP] b [SEP]`, segment ids 0 and 1."""
    learnt = Tokenizer(models.WordPiece(unk_token=SPECIAL["unk_token"], max_input_chars_per_word=64))  # pyright: ignore[reportCallIssue]
    learnt.normalizer = normalizers.BertNormalizer(lowercase=True)  # pyright: ignore[reportAttributeAccessIssue]
    learnt.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
    alphabet = sorted({character for line in texts for character in line.lower() if re.match(r"\S", character)})
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=list(SPECIAL.values()), limit_alphabet=1000,
        initial_alphabet=alphabet[:1000], show_progress=False,
    )  # fmt: skip
    learnt.train_from_iterator(texts, trainer)
    ids = [(SPECIAL[name], learnt.token_to_id(SPECIAL[name])) for name in ("cls_token", "sep_token")]
    learnt.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=learnt, model_max_length=max_tokens, model_input_names=inputs, **SPECIAL)
