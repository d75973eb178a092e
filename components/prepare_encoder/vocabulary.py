"""A WordPiece tokenizer learnt from the shop's own texts."""

from collections import Counter

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from components.shared import text

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
MAX_LETTERS = 1000
MAX_WORD_CHARS = 64


def catalogue_texts(items: pa.Table, queries: pa.Table, max_texts: int, seed: int) -> list[str]:
    """Everything a model will read of this shop, at most `max_texts` texts, items and queries in proportion; field names included."""
    rng = np.random.default_rng(seed)
    share = min(1.0, max_texts / max(1, len(items) + len(queries)))
    items, queries = _drawn(items, share, rng), _drawn(queries, share, rng)
    # each side is shown once with its behavior field, so that the names of these fields become tokens too
    item_texts = text.teacher_item(items, items["title"]).to_pylist()
    query_texts = text.teacher_query(queries["query"], queries["query"]).to_pylist()
    return item_texts + query_texts


def short_texts(items: pa.Table, queries: pa.Table, max_texts: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts whose words belong together: of items title with brand, color and category; of queries what was typed."""
    rng = np.random.default_rng(seed)
    share = min(1.0, max_texts / max(1, len(items) + len(queries)))
    items, queries = _drawn(items, share, rng), _drawn(queries, share, rng)
    return text.item_text(items).to_pylist(), text.query_text(queries["query"]).to_pylist()


def _drawn(table: pa.Table, share: float, rng: np.random.Generator) -> pa.Table:
    if share >= 1.0:
        return table
    return table.take(np.sort(rng.choice(len(table), max(1, int(len(table) * share)), replace=False)))


def learn_tokenizer(texts: list[str], vocab_size: int, max_tokens: int) -> PreTrainedTokenizerFast:
    """BERT's conventions: lower case, `[CLS] a [SEP] b [SEP]`, segment ids 0 and 1, longest piece first.

    Pieces are learnt by pair merging without a mark for pieces inside a word: `tokenizers` numbers marked pieces in the order of a
    randomly seeded hash table, so that the same texts would give another vocabulary in every process.
    """
    normalizer, words = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    letters = Counter(character for line in texts for character in normalizer.normalize_str(line) if not character.isspace())
    alphabet = sorted(letters, key=lambda one: (-letters[one], one))[: min(MAX_LETTERS, vocab_size // 2)]
    merging = Tokenizer(models.BPE())
    merging.normalizer, merging.pre_tokenizer = normalizer, words  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=list(SPECIAL.values()), initial_alphabet=alphabet,
        limit_alphabet=len(alphabet), show_progress=False,
    )  # fmt: skip
    merging.train_from_iterator(texts, trainer)
    pieces = merging.get_vocab()
    model = models.WordPiece(pieces, unk_token=SPECIAL["unk_token"], max_input_chars_per_word=MAX_WORD_CHARS, continuing_subword_prefix="")
    learnt = Tokenizer(model)
    learnt.normalizer, learnt.pre_tokenizer = normalizer, words  # pyright: ignore[reportAttributeAccessIssue]
    ids = [(SPECIAL[name], pieces[SPECIAL[name]]) for name in ("cls_token", "sep_token")]
    learnt.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=learnt, model_max_length=max_tokens, model_input_names=inputs, **SPECIAL)
