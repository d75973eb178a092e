"""The rules' sub-judgments: what each of them says, and where they would rather say nothing."""

import pyarrow as pa
import pytest

from components.shared.rule_annotator import RuleAnnotator
from components.shared.schema import ASPECTS, TABLES

ITEMS = {
    "pan": ("Alvera black steel frying pan 8 inch", "Alvera", "Kitchen > Frying Pans", "black", "material: steel; size: 8 inch; lid: yes"),
    "pan2": (
        "Bronto white steel frying pan 10 inch",
        "Bronto",
        "Kitchen > Frying Pans",
        "white",
        "material: steel; size: 10 inch; lid: no",
    ),
    "pan3": ("Alvera onyx aluminum frying pan", "Alvera", "Kitchen > Frying Pans", "onyx", "material: aluminum"),
    "pot": ("Bronto black steel saucepan 500 ml", "Bronto", "Kitchen > Saucepans", "black", "material: steel; size: 500 ml; lid: yes"),
    "phone": ("Solvei Nova 7 black smartphone 64 gb", "Solvei", "Electronics > Smartphones", "black", "size: 64 gb"),
    "phone2": ("Solvei Aero 9 white smartphone 128 gb", "Solvei", "Electronics > Smartphones", "white", "size: 128 gb"),
    "case": (
        "Galvo white protective case for Solvei Nova 7",
        "Galvo",
        "Accessories > Phone Cases",
        "white",
        "fits: Solvei Nova 7; flap: no",
    ),
    "case2": (
        "Galvo black protective case for Solvei Aero 9",
        "Galvo",
        "Accessories > Phone Cases",
        "black",
        "fits: Solvei Aero 9; flap: yes",
    ),
    "bare": ("Something", None, None, None, None),
}
M, X, N, U = "match", "mismatch", "not_mentioned", None
QUERIES = {
    "alvera black frying pans": {"pan": (M, M, M, N, N), "pan2": (M, X, X, N, N), "pot": (X, X, M, N, N), "pan3": (M, M, U, N, N)},
    "frying pan without lid": {"pan": (M, N, N, X, N), "pan2": (M, N, N, M, N), "phone": (X, N, N, M, N)},
    "steel saucepan 0.5 l": {"pot": (M, N, M, N, N), "pan": (X, N, U, N, N)},
    "frying pan 20.3cm": {"pan": (M, N, M, N, N), "pan2": (M, N, X, N, N)},
    "protective case for solvei nova 7": {"case": (M, N, N, N, M), "case2": (M, N, N, N, X), "phone": (X, N, N, N, X)},
    "solvei nova 7 smartphone": {"phone": (M, M, M, N, N), "phone2": (M, M, X, N, N), "case": (X, X, X, N, N)},
    "white case with flap for nova 7": {"case": (U, N, X, N, M)},  # "case" alone is not what titles call them
    "black skillet": {"pan": (U, N, M, N, N), "pan2": (U, N, X, N, N)},  # a word of shoppers
    "gift for men": {"pan": (U, N, N, N, U)},
    "frying pan no rust": {"pan": (M, N, N, U, N)},
    "saucepan frying pan": {"pot": (U, N, N, N, N)},
    "bare minimum": {"bare": (U, N, N, N, N)},
    "alvera frying pan": {"bare": (U, U, N, N, N)},
}  # fmt: skip


def annotator(judgments: pa.Table | None = None) -> RuleAnnotator:
    columns = ("title", "brand", "category", "color", "attributes")
    rows = [{"item_id": item, **dict(zip(columns, values, strict=True)), "description": None} for item, values in ITEMS.items()]
    queries = pa.table({"query_id": list(QUERIES), "query": list(QUERIES)})
    return RuleAnnotator(queries, pa.Table.from_pylist(rows, schema=TABLES["items"].schema), judgments)


def verdicts(found: pa.Table) -> dict[tuple[str, str], tuple[str | None, ...]]:
    told = {(row["query_id"], row["item_id"], row["aspect"]): row["verdict"] for row in found.to_pylist()}
    pairs = {(query, item) for query, items in QUERIES.items() for item in items}
    return {pair: tuple(told.get((*pair, aspect)) for aspect in ASPECTS) for pair in pairs}


@pytest.fixture(scope="module")
def listed() -> pa.Table:
    pairs = [(query, item) for query, items in QUERIES.items() for item in items]
    return pa.table({"query_id": [query for query, _ in pairs], "item_id": [item for _, item in pairs]})


@pytest.mark.parametrize("query", QUERIES)
def test_verdicts(listed: pa.Table, query: str) -> None:
    found = verdicts(annotator().annotate(listed))
    assert {item: found[query, item] for item in QUERIES[query]} == QUERIES[query]


def test_it_cites_what_it_compared(listed: pa.Table) -> None:
    found = {
        (row["query_id"], row["item_id"], row["aspect"]): (row["query_span"], row["item_span"])
        for row in annotator().annotate(listed).to_pylist()
    }
    assert found["alvera black frying pans", "pan2", "brand"] == ("alvera", "Bronto")
    assert found["frying pan 20.3cm", "pan2", "attribute"] == ("20.3 cm", "10 inch")
    assert found["alvera black frying pans", "pan", "negation"] == (None, None)


def test_judgments_of_other_queries_teach_what_a_word_means(listed: pa.Table) -> None:
    def learned(gains: dict[str, dict[str, float]]) -> tuple[str | None, ...]:
        rows = [{"query_id": query, "item_id": item, "gain": gain} for query, items in gains.items() for item, gain in items.items()]
        for query in gains:
            QUERIES.setdefault(query, {})
        found = annotator(pa.Table.from_pylist(rows)).annotate(listed)
        return verdicts(found)["black skillet", "pan"]

    others = {"alvera skillet": {"pan": 1.0, "pot": 0.1}, "steel skillet": {"pan2": 0.8, "pot": 0.0}}
    try:
        assert learned(others)[0] == "match"
        assert (
            learned({"alvera skillet": others["alvera skillet"], "black skillet": {"pan": 1.0}})[0] is None
        )  # its own judgments do not count
        assert learned({**others, "steel skillet": {"pan2": 0.8, "pot": 1.0}})[0] is None  # too close to call
    finally:
        for query in others:
            QUERIES.pop(query, None)
