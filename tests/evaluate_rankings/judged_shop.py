"""A small judged shop and rankings of three systems."""

import numpy as np
import pyarrow as pa

GAINS = [0.0, 0.01, 0.1, 1.0]
LABELS = ["I", "C", "S", "E"]
NUM_QUERIES, NUM_ITEMS = 24, 8
EVIL = '<script>alert(1)</script> $x^$ "red" & shoe'


def card_of(gains=GAINS):
    source = {"file": "x.csv", "columns": {}}
    return {
        "name": "tiny <shop>", "licence": "CC0", "root": "file:///data", "snapshot": "abc123", "judged_at": None,
        "grades": {label: {"grade": grade, "gain": gains[grade]} for grade, label in enumerate(LABELS)},
        "items": source, "queries": source, "judgments": source, "log": {"queries": "q", "events": "e"},
    }  # fmt: skip


def grades():
    return np.random.default_rng(0).integers(0, 4, (NUM_QUERIES, NUM_ITEMS))


def ranking(system, noise, broken=None):
    """Scores of all pairs: the grade plus noise; `broken` replaces the score of all."""
    scores = grades() + np.random.default_rng(abs(hash_of(system))).normal(0, noise, (NUM_QUERIES, NUM_ITEMS))
    if broken is not None:
        scores[:] = broken
    rank = np.argsort(np.argsort(-scores, axis=1), axis=1) + 1
    return pa.table(
        {
            "query_id": np.repeat([f"q{n:02}" for n in range(NUM_QUERIES)], NUM_ITEMS),
            "item_id": np.tile([f"i{n}" for n in range(NUM_ITEMS)], NUM_QUERIES),
            "score": scores.ravel(),
            "rank": rank.ravel(),
            "system": [system] * scores.size,
        }
    )


def hash_of(text):
    return int.from_bytes(text.encode()[:4], "big")
