"""Whole words of the catalogue, and marks of its fields, for a pretrained encoder that spells them in pieces (ei-SRC, arXiv 2406.02135).

Fewer tokens make every pass shorter and leave more of a long title within `max_tokens`. A new token starts from the mean of its pieces, so
that the first layer reads about what it read before; the training that follows does the rest.
"""

from collections import Counter
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, models

from components.shared.errors import InputError
from components.shared.models.tokens import plain_ids


def words_in_pieces(tokenizer: Any, texts: list[str]) -> dict[str, tuple[int, list[int]]]:
    """Words that the tokenizer spells in several pieces: how often they stand in `texts`, and the pieces' ids.

    Numbers are left out: their digits say more than a word of their own that is seen twice.

    Raises:
        InputError: for a tokenizer that is no WordPiece.
    """
    backend = _backend(tokenizer)
    counts: Counter[str] = Counter()
    for text in texts:
        normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
        counts.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal))
    words = [word for word in counts if word.isalnum() and not word.isdigit()]
    pieces = plain_ids(tokenizer, words)
    found = zip(words, pieces, strict=True)
    return {word: (counts[word], ids) for word, ids in found if len(ids) > 1 and tokenizer.unk_token_id not in ids}


def _backend(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not isinstance(backend.model, models.WordPiece) or backend.pre_tokenizer is None:
        kind = type(tokenizer).__name__ if backend is None else type(backend.model).__name__
        raise InputError(f"key 'added_words': only BERT's WordPiece tokenizers take words of the catalogue, this one is a {kind}; set 0")
    return backend


def choose_words(known: dict[str, tuple[int, list[int]]], max_words: int, min_count: int = 2) -> list[str]:
    """At most `max_words` words, those first that save most pieces: occurrences x (pieces - 1)."""
    saved = {word: count * (len(ids) - 1) for word, (count, ids) in known.items() if count >= min_count}
    return sorted(saved, key=lambda word: (-saved[word], word))[:max_words]


def add_words(model: Any, tokenizer: Any, words: list[str]) -> None:
    """Append `words` to the vocabulary, their embeddings the mean of their pieces'; ids that were there before stay."""
    backend = _backend(tokenizer)
    parts, start, old = plain_ids(tokenizer, words), len(tokenizer), backend.model
    vocabulary = backend.get_vocab(with_added_tokens=False) | {word: start + place for place, word in enumerate(words)}
    backend.model = models.WordPiece(
        vocabulary, unk_token=old.unk_token, max_input_chars_per_word=old.max_input_chars_per_word,
        continuing_subword_prefix=old.continuing_subword_prefix,
    )  # fmt: skip
    _grow(model, start, parts)


def add_marks(model: Any, tokenizer: Any, marks: list[str]) -> None:
    """Let each text of `marks` that takes several tokens be one, which says that a field of its kind follows (the paper's term marks).

    An embedding beside word and place would need an input that no stock reader of the folder gives; a token travels with the text.
    """
    parts = dict(zip(marks, plain_ids(tokenizer, marks), strict=True))
    wanted = {mark: ids for mark, ids in parts.items() if len(ids) > 1 and tokenizer.unk_token_id not in ids}
    start = len(tokenizer)
    tokenizer.add_tokens([AddedToken(mark, normalized=True) for mark in wanted])
    _grow(model, start, list(wanted.values()))


def _grow(model: Any, start: int, parts: list[list[int]]) -> None:
    """Append an embedding for each of `parts`, the mean of those that it names."""
    model.resize_token_embeddings(start + len(parts), mean_resizing=False)
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        for place, ids in enumerate(parts):
            weight[start + place] = weight[ids].mean(0)


def pair_tokens(tokenizer: Any, *texts: list[str]) -> float:
    """Tokens of an item's text plus those of a query's, special ones left out, each averaged over its `texts`."""
    return float(sum(np.mean([len(ids) for ids in plain_ids(tokenizer, side)]) for side in texts if side))
