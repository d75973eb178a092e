"""Term marks: words that name a kind of item, a brand or a color have a vector in common, beside their own (ei-SRC, arXiv 2406.02135).

The paper's model takes the mark of each token as a further input, also when it serves. Here a mark depends on the word alone, so that it
is learnt as an embedding of its own and at the end added to the embeddings of its words: the folder scores as the student did, in
sentence-transformers, ONNX and everywhere else, and costs what one without marks costs. What names what is read from the catalogue.
"""

from typing import Any

import duckdb
import pyarrow as pa
import torch
from torch import nn

from components.shared.errors import InputError
from components.shared.lexical import WORD
from components.shared.models.tokens import plain_ids
from components.shared.rule_annotator import LINKS, MACROS, NEGATIONS
from components.shared.text import SHORT_FIELDS

TERM_SHARE, TERM_ITEMS = 0.5, 2  # of the items with the word, in a field or the title, those that have it in the field; at least so many
MARK_SPEED = 30.0
"""Marks move by MARK_SPEED x learning rate, because they start from nothing beside words that an encoder knows."""

_TERMS = """
WITH forms AS (
    SELECT item_id, field, form, stem(lower(form)) AS stem
    FROM (SELECT item_id, field, unnest(regexp_extract_all(text, $word)) AS form
          FROM (UNPIVOT items ON COLUMNS(* EXCLUDE item_id) INTO NAME field VALUE text))
    WHERE length(form) > 1 AND NOT list_contains($empty, lower(form)) AND NOT regexp_full_match(form, '[0-9]+')
), holders AS (SELECT stem, field, count(DISTINCT item_id) AS items FROM forms WHERE field <> 'title' GROUP BY ALL),
terms AS (
    SELECT stem, arg_max(field, (holders.items, field)) AS field
    FROM holders JOIN (SELECT stem, count(DISTINCT item_id) AS items FROM forms GROUP BY stem) AS everywhere USING (stem)
    WHERE holders.items >= greatest($least, $share * everywhere.items) GROUP BY stem
)
SELECT DISTINCT unnest([form, lower(form)]) AS form, terms.field FROM forms JOIN terms USING (stem) ORDER BY form
"""


def catalogue_terms(items: pa.Table) -> pa.Table:
    """The words that name something: `form` as texts of the catalogue write it, and in lower case, and the `field` that it is a value of.

    A word is a term of a field if at least `TERM_ITEMS` items have it there, and `TERM_SHARE` of those that have it anywhere; where two
    fields share it, of the one with more items. Singular and plural are one word; single letters and numbers are none.
    """
    with duckdb.connect() as connection:
        connection.execute(MACROS)
        connection.register("items", items.select(["item_id", "title", *SHORT_FIELDS]))
        values = {"word": WORD, "empty": [*NEGATIONS, *LINKS, "for", "with"], "share": TERM_SHARE, "least": TERM_ITEMS}
        return connection.sql(_TERMS, params=values).to_arrow_table()


def token_kinds(tokenizer: Any, terms: pa.Table) -> torch.Tensor:
    """Of each token [vocabulary] the number of the field that its word is a term of, from 1, or 0; words in pieces have none."""
    kinds, special = torch.zeros(len(tokenizer), dtype=torch.long), set(tokenizer.all_special_ids)
    numbers = [1 + SHORT_FIELDS.index(field) for field in terms["field"].to_pylist()]
    forms = terms["form"].to_pylist()
    for lead in ("", " "):  # for tokenizers that read the space before a word as its part
        for ids, number in zip(plain_ids(tokenizer, [lead + form for form in forms]), numbers, strict=True):
            if len(ids) == 1 and ids[0] not in special:
                kinds[ids[0]] = number
    return kinds


class MarkedEmbedding(nn.Module):
    """Word embeddings plus the mark of each word's kind, which starts at 0.

    Args:
        words: the embeddings of a network.
        kinds: of each token [vocabulary], from `token_kinds`.
    """

    kinds: torch.Tensor

    def __init__(self, words: nn.Embedding, kinds: torch.Tensor) -> None:
        super().__init__()
        self.words = words
        self.marks = nn.Parameter(torch.zeros(len(SHORT_FIELDS), words.embedding_dim))
        self.register_buffer("kinds", kinds, persistent=False)

    def of_kinds(self, kinds: torch.Tensor) -> torch.Tensor:
        # not by indexing, whose gradients add up in another order each time
        return nn.functional.embedding(kinds, nn.functional.pad(MARK_SPEED * self.marks, (0, 0, 1, 0)))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.words(ids) + self.of_kinds(self.kinds[ids])

    @torch.no_grad()
    def folded(self) -> nn.Embedding:
        """The words' embeddings with their marks in them."""
        self.words.weight[: len(self.kinds)] += self.of_kinds(self.kinds)
        return self.words


def mark_terms(network: Any, tokenizer: Any, items: pa.Table) -> int:
    """Let a network learn marks of the catalogue's terms; returns how many tokens have one.

    Raises:
        InputError: if no term of the catalogue is one token.
    """
    kinds = token_kinds(tokenizer, catalogue_terms(items))
    if not kinds.any():
        fields = ", ".join(SHORT_FIELDS)
        raise InputError(f"key 'mark_terms': no word of {fields} is one token of the encoder; set false, or prepare_encoder's added_words")
    network.set_input_embeddings(MarkedEmbedding(network.get_input_embeddings(), kinds))
    return int(kinds.count_nonzero())


def fold_marks(network: Any) -> None:
    """Add the marks to their words, which makes an ordinary network of a marked one; its scores stay."""
    embedding = network.get_input_embeddings()
    if isinstance(embedding, MarkedEmbedding):
        network.set_input_embeddings(embedding.folded())
