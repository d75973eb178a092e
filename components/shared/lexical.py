"""Lexical ranking: BM25 over the items' short texts, for candidates of the pool and as the baseline of every report.

Variant: Lucene's accurate BM25 with k1 = 1.2 and b = 0.75 (Kamphuis et al., ECIR 2020, "Which BM25 do you mean?"),

    score(q, d) = sum over tokens t of q of  ln(1 + (N - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * |d| / mean |d|))

summed over the query's tokens as typed, a repeated token counting twice. Scores are float64 and do not depend on the process.
"""

from collections.abc import Sequence

import bm25s
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

K1 = 1.2
B = 0.75
# marks (\p{M}) belong to words: without them Hindi and Thai fall apart at every vowel sign
WORD = r"[\p{L}\p{M}\p{N}]+"


def tokenise(texts: pa.Array | pa.ChunkedArray | Sequence[str]) -> pa.ChunkedArray:
    """Lower-case words [rows of list<string>]; a null has no words. Scripts without spaces give one word per run of letters."""
    column = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.string())
    with duckdb.connect() as connection:
        lowered = pc.utf8_lower(pc.fill_null(column, "")).cast(pa.string())
        connection.register("texts", pa.table({"row": np.arange(len(column)), "text": lowered}))
        found = connection.sql("SELECT regexp_extract_all(text, ?) AS words FROM texts ORDER BY row", params=[WORD])
        return found.to_arrow_table()["words"]


class LexicalIndex:
    """BM25 over a catalogue held in memory.

    Args:
        item_ids: ids of the items [num_items]; a ranking breaks ties by this order.
        texts: their texts [num_items].
    """

    def __init__(self, item_ids: Sequence[str] | pa.Array | pa.ChunkedArray, texts: pa.Array | pa.ChunkedArray | Sequence[str]) -> None:
        self.item_ids = item_ids
        self.num_items = len(item_ids)
        tokens = tokenise(texts)
        if len(tokens) != self.num_items:
            raise ValueError(f"{self.num_items} item ids, {len(tokens)} texts")
        # our own sorted vocabulary: the one that bm25s makes follows the order of a set, which differs from process to process
        unique = pc.unique(pc.list_flatten(tokens))
        unique = unique.take(pc.sort_indices(unique))
        self._vocabulary = {word: place for place, word in enumerate(unique.to_pylist())}
        self._model = self._index(tokens, unique) if self._vocabulary else None

    def _index(self, tokens: pa.ChunkedArray, unique: pa.Array) -> bm25s.BM25:
        places = pc.index_in(pc.list_flatten(tokens), value_set=unique).to_numpy()
        ends = np.cumsum(pc.list_value_length(tokens).to_numpy())
        model = bm25s.BM25(k1=K1, b=B, method="lucene", dtype="float64", backend="numpy")
        model.index((np.split(places, ends[:-1]), dict(self._vocabulary)), create_empty_token=False, show_progress=False)
        return model

    def scores(self, query: str) -> np.ndarray:
        """Score of every item [num_items]; zeros where no word of the query is known."""
        return self._scores(tokenise([query])[0].as_py())

    def _scores(self, words: list[str]) -> np.ndarray:
        known = [self._vocabulary[word] for word in words if word in self._vocabulary]
        if self._model is None or not known:
            return np.zeros(self.num_items)
        return np.asarray(self._model.get_scores_from_ids(known))

    def top(self, queries: Sequence[str], n: int) -> tuple[np.ndarray, np.ndarray]:
        """The best items of each query: (positions [queries, n] int64, scores [queries, n]), best first, ties in item order.

        `n` is cut to the number of items. Items without a common word are there with score 0.
        """
        n = min(n, self.num_items)
        positions = np.zeros((len(queries), n), np.int64)
        scores = np.zeros((len(queries), n))
        for row, words in enumerate(tokenise(queries).to_pylist()):
            of_all = self._scores(words)
            positions[row] = _best(of_all, n)
            scores[row] = of_all[positions[row]]
        return positions, scores

    def scores_of(self, queries: Sequence[str] | pa.Array | pa.ChunkedArray, item_positions: np.ndarray) -> np.ndarray:
        """Scores of given pairs [pairs]: row i is query text i with the item at `item_positions[i]`. Each text is scored once."""
        column = queries if isinstance(queries, pa.Array | pa.ChunkedArray) else pa.array(queries, pa.string())
        unique = pc.unique(column)
        group = pc.index_in(column, value_set=unique).to_numpy()
        order = np.argsort(group, kind="stable")
        result = np.zeros(len(column))
        rows_of = np.split(order, np.cumsum(np.bincount(group, minlength=len(unique)))[:-1])
        for words, rows in zip(tokenise(unique).to_pylist(), rows_of, strict=False):
            result[rows] = self._scores(words)[np.asarray(item_positions)[rows]]
        return result


def _best(scores: np.ndarray, n: int) -> np.ndarray:
    """Positions of the n largest, larger first, equal ones by position."""
    if n == 0:
        return np.zeros(0, np.int64)
    threshold = np.partition(scores, len(scores) - n)[len(scores) - n]
    above = np.flatnonzero(scores > threshold)
    level = np.flatnonzero(scores == threshold)[: n - len(above)]
    chosen = np.sort(np.concatenate([above, level]))
    return chosen[np.argsort(-scores[chosen], kind="stable")]
