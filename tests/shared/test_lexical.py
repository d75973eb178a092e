"""BM25 by arithmetic, its ties and edges, and the words it sees."""

import math
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.lexical import K1, B, LexicalIndex, tokenise

TEXTS = ["red shoe", "Red red hat box", "blue shoe"]
word_lists = st.lists(st.lists(st.sampled_from(["red", "blue", "shoe", "hat", "box"]), max_size=6).map(" ".join), min_size=1, max_size=8)


def index() -> LexicalIndex:
    return LexicalIndex(["a", "b", "c"], TEXTS)


def reference(texts: list[str], query: str) -> list[float]:
    """Lucene's BM25 written out, one item at a time."""
    documents = [text.lower().split() for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in query.lower().split():
            df = sum(word in one for one in documents)
            tf = document.count(word)
            if tf:
                idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
                score += idf * tf / (tf + K1 * (1 - B + B * len(document) / mean))
        scores.append(score)
    return scores


def test_scores_by_hand():
    # N = 3, lengths 2, 4, 2, mean 8/3; df(red) = df(shoe) = 2, idf = ln(1 + 1.5/2.5) = ln 1.6 = 0.470003629
    # item a: norm = 1.2 * (0.25 + 0.75 * 2/(8/3)) = 0.975, each word 0.470003629 / 1.975 = 0.237976521, two words 0.475953042
    # item b: norm = 1.2 * (0.25 + 0.75 * 4/(8/3)) = 1.65, red twice: 0.470003629 * 2 / 3.65 = 0.257536235
    # item c: only shoe, as in a: 0.237976521
    assert index().scores("red shoe") == pytest.approx([0.475953042, 0.257536235, 0.237976521], abs=1e-6)


def test_a_repeated_query_word_counts_twice():
    assert index().scores("hat hat") == pytest.approx(2 * index().scores("hat"))


def test_top_is_ordered_and_cut():
    positions, scores = index().top(["red shoe", "blue"], 2)
    assert positions.tolist() == [[0, 1], [2, 0]]
    assert scores[1, 1] == 0.0
    assert scores[0, 0] > scores[0, 1] > 0


@pytest.mark.parametrize("query", ["zebra", "", "!!!", "   "])
def test_without_a_known_word_all_is_zero_in_item_order(query: str):
    positions, scores = index().top([query], 3)
    assert positions.tolist() == [[0, 1, 2]]
    assert not scores.any()


def test_ties_follow_item_order():
    equal = LexicalIndex(list("vwxyz"), ["hat", "shoe one", "shoe two", "shoe six", "hat"])
    assert equal.top(["shoe"], 2)[0].tolist() == [[1, 2]]
    assert equal.top(["shoe"], 4)[0].tolist() == [[1, 2, 3, 0]]


def test_more_than_all_is_all():
    assert index().top(["shoe"], 99)[0].shape == (1, 3)


@pytest.mark.parametrize("texts", [[], ["", "..."]])
def test_a_catalogue_without_words(texts: list[str]):
    empty = LexicalIndex([str(i) for i in range(len(texts))], texts)
    positions, scores = empty.top(["shoe"], 5)
    assert positions.shape == (1, len(texts))
    assert not scores.any()


def test_ids_and_texts_must_match():
    with pytest.raises(ValueError, match="2 item ids, 1 texts"):
        LexicalIndex(["a", "b"], ["one"])


def test_scores_of_pairs_in_their_order():
    queries = pa.chunked_array([["blue", "red shoe"], ["blue", "zebra", "red shoe"]])
    result = index().scores_of(queries, np.array([2, 1, 0, 0, 0]))
    assert result == pytest.approx([index().scores("blue")[2], index().scores("red shoe")[1], 0, 0, index().scores("red shoe")[0]])
    assert result[0] > 0
    assert len(index().scores_of([], np.array([], int))) == 0


@settings(max_examples=25, deadline=None)
@given(texts=word_lists, query=st.lists(st.sampled_from(["red", "shoe", "hat", "unknown"]), max_size=4).map(" ".join), n=st.integers(1, 9))
def test_top_agrees_with_the_formula(texts: list[str], query: str, n: int):
    built = LexicalIndex(list(map(str, range(len(texts)))), texts)
    assert built.scores(query) == pytest.approx(reference(texts, query), abs=1e-9)
    positions, scores = built.top([query], n)
    exact = built.scores(query)
    assert positions[0].tolist() == sorted(range(len(texts)), key=lambda place: (-exact[place], place))[:n]
    assert scores[0] == pytest.approx(exact[positions[0]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Men's 1/2-inch T-shirt", ["men", "s", "1", "2", "inch", "t", "shirt"]),
        ("snake_case", ["snake", "case"]),
        ("Ärmel ÉTÉ", ["ärmel", "été"]),
        ("हिन्दी किताब", ["हिन्दी", "किताब"]),
        ("靴 赤い", ["靴", "赤い"]),
        ("—!", []),
        (None, []),
    ],
)
def test_words(text: str | None, words: list[str]):
    assert tokenise(pa.array([text], pa.string())).to_pylist() == [words]


def test_words_keep_row_order():
    texts = [f"item {row}" for row in range(5000)]
    assert [words[1] for words in tokenise(texts).to_pylist()] == [str(row) for row in range(5000)]


def test_scores_do_not_depend_on_the_process():
    code = (
        "from components.shared.lexical import LexicalIndex as L\n"
        f"print(L(['a', 'b', 'c'], {TEXTS!r}).scores('red shoe hat blue box red').tobytes().hex())"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
