"""Edits by hand: what each changes, where it does not apply, and that a text's edit is its own."""

from random import Random
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.score_pairs.config import ScorePairsConfig
from components.shared.edits import EDITS, FIELDS, INJECTION, LOWERING, Values, edit_pairs, edited_system, split_edited
from components.shared.schema import ITEMS

ATTRIBUTES = "material: mesh; size: 500 ml; lid: yes"


def queries_of(*texts: str) -> pa.Table:
    return pa.table({"query": pa.array(texts, pa.string())})


def items_of(*titles: str, **fields: str) -> pa.Table:
    rows = [{**dict.fromkeys(ITEMS.schema.names), "title": title, **fields} for title in titles]
    return pa.Table.from_pylist(rows, schema=ITEMS.schema)


CATALOGUE = items_of("Alvera red bottle", brand="Alvera", color="red", attributes=ATTRIBUTES)
CATALOGUE = pa.concat_tables([CATALOGUE, items_of("x", brand="Bronto", color="Navy", attributes="material: canvas; fits: Lumeo Aero")])
VALUES = Values.of(CATALOGUE, queries_of("red shoes", "canvas bag", "bronto lumeo", "mesh"))


def edited(kind: str, query: str, title: str, seed: int = 0, **fields: str) -> tuple[str, dict[str, str]] | None:
    """(query, item) after the edit."""
    found = edit_pairs(kind, queries_of(query), items_of(title, **fields), VALUES, seed)
    return (found.queries["query"][0].as_py(), found.items.to_pylist()[0]) if len(found.rows) else None


def all_of(kind: str, query: str, title: str, **fields: str) -> set[tuple[str, str]]:
    """Query and title after the edit, for many seeds."""
    found = [edited(kind, query, title, seed, **fields) for seed in range(60)]
    return {(one[0], one[1]["title"]) for one in found if one}


def test_values_are_those_that_queries_ask_for():
    names = {"alvera": "brand", "bronto": "brand", "red": "color", "navy": "color", "mesh": "material", "canvas": "material"}
    assert VALUES.name_of == {**names, "lumeo aero": "fits"}
    assert VALUES.values_of == {"brand": ["bronto"], "color": ["red"], "material": ["canvas", "mesh"]}
    both = Values.of(items_of("x", brand="Red", color="red"), queries_of("red"))
    assert both.name_of == {}  # a brand and a color


def test_a_typo_is_one_letter_of_a_longer_word():
    found = {query for query, _ in all_of("typo", "red shoe without tap", "x")}
    # shoe: positions 1 and 2 dropped or swapped with the next; "without" would mean something else, "red" and "tap" are too short
    assert found == {f"red {word} without tap" for word in ("soe", "she", "sohe", "sheo")}
    assert edited("typo", "tv 55 red", "x") is None


def test_words_are_swapped_but_not_across_markers_and_sizes():
    assert all_of("word_swap", "red shoes without white laces 12 cm", "x") == {("shoes red without white laces 12 cm", "x")}
    assert edited("word_swap", "shoes 12 cm", "x") is None
    assert edited("word_swap", "case for phone", "x") is None


def test_only_words_that_nobody_asked_for_are_dropped():
    found = {title for _, title in all_of("dropped_word", "red shoes", "Alvera red shoes mesh 12 cm without laces")}
    assert found == {"red shoes mesh 12 cm without laces", "Alvera red shoes 12 cm without laces"}
    assert edited("dropped_word", "red shoes", "red shoes") is None


def test_a_converted_size_is_the_same_size():
    found = {title for _, title in all_of("converted_unit", "bottle", "Bottle 500 ml")}
    assert {"Bottle 0.5 l", "Bottle 50 cl", "Bottle 16.91 oz"} <= found
    assert "Bottle 500 ml" not in found
    whole = edited("converted_unit", "bottle", "Bottle 500 ml", attributes=ATTRIBUTES)
    assert whole is not None
    assert whole[1]["attributes"].replace(whole[1]["title"].removeprefix("Bottle "), "500 ml") == ATTRIBUTES
    assert edited("converted_unit", "bottle", "Bottle") is None


def test_an_asked_number_or_unit_becomes_another():
    asked = ("0.5 l bottle", "Bottle 500ml 3 cm")  # nobody asked for the 3 cm
    assert {title for _, title in all_of("number", *asked)} == {f"Bottle {n}ml 3 cm" for n in (125, 250, 1000, 2000)}
    assert "Bottle 500l 3 cm" in {title for _, title in all_of("unit", *asked)}
    for kind in ("number", "unit"):
        assert edited(kind, "300 ml bottle", asked[1]) is None
        assert edited(kind, "bottle", asked[1]) is None


def test_an_asked_attribute_becomes_another_of_its_kind_everywhere():
    assert {title for _, title in all_of("attribute", "mesh shoes", "Mesh shoes, red")} == {
        ("Canvas shoes, red").replace("Canvas", "canvas")
    }
    found = edited("attribute", "alvera shoes", "Alvera shoes", brand="Alvera", description="made by Alvera")
    assert found is not None
    assert [found[1][name] for name in ("title", "brand", "description")] == ["bronto shoes", "bronto", "made by bronto"]
    assert edited("attribute", "mesh shoes", "Leather shoes") is None  # the item has it not
    assert edited("attribute", "shoes without mesh", "Mesh shoes") is None  # it is not asked for
    assert edited("attribute", "red shoes", "Red shoes") is None  # nobody asks for another color


def test_what_a_query_excludes_is_there():
    assert all_of("negation", "shoes without laces", "Mesh shoes") == {("shoes without laces", "Mesh shoes with laces")}
    assert all_of("negation", "shoes no laces", "Shoes without Laces, red") == {("shoes no laces", "Shoes with laces, red")}
    found = edited("negation", "shoes without laces", "Shoes", attributes="laces: no; lid: no")
    assert found is not None
    assert found[1]["attributes"] == "laces: yes; lid: no"
    assert edited("negation", "shoes without laces", "Shoes with laces") is None  # it was there before
    assert edited("negation", "shoes with laces", "Mesh shoes") is None


def test_an_accessory_stands_in_the_items_place():
    found = edited("accessory_for", "phone", "Lumeo phone", category="Phones", attributes="a: b", brand="Lumeo")
    assert found is not None
    assert [found[1][name] for name in ("title", "category", "attributes", "brand")] == [
        "Protective case for Lumeo phone",
        "Accessories",
        "",
        "Lumeo",
    ]
    assert edited("accessory_for", "cover for phone", "Lumeo phone") is None
    assert edited("accessory_for", "phone", "Strap for phone") is None


def test_what_sellers_write_into_titles():
    assert all_of("keyword_stuffing", "red shoes", "Cup") == {("red shoes", "Cup red shoes red shoes")}
    assert all_of("instruction_injection", "red shoes", "Cup") == {("red shoes", f"Cup. {INJECTION}")}


@given(st.sampled_from(list(EDITS)), st.integers(0, 3), st.randoms(use_true_random=False))
def test_an_edit_does_not_depend_on_what_stands_beside_it(kind: str, seed: int, order: Random):
    texts = [("red mesh shoes 12 cm", "Alvera red mesh shoes 12 cm laces"), ("0.5 l bottle", "Bottle 500 ml"), ("phone", "Lumeo phone")]
    whole = [edited(kind, *pair, seed) for pair in texts]
    rows = order.sample(range(3), 3)
    together = edit_pairs(kind, queries_of(*(texts[r][0] for r in rows)), items_of(*(texts[r][1] for r in rows)), VALUES, seed)
    found = {rows[at]: (q, item) for at, q, item in zip(together.rows.tolist(), together.queries["query"].to_pylist(),
                                                         together.items.to_pylist(), strict=True)}  # fmt: skip
    assert [found.get(row) for row in range(3)] == whole


def test_all_items_of_a_query_see_the_same_typing_mistake():
    found = edit_pairs("typo", queries_of(*["running shoes"] * 9), items_of(*(f"item {n}" for n in range(9))), VALUES)
    assert len(set(found.queries["query"].to_pylist())) == 1
    assert found.rows.tolist() == list(range(9))


def test_no_rows_and_empty_fields():
    for kind in EDITS:
        found = edit_pairs(kind, queries_of(), items_of(), VALUES)
        assert (len(found.rows), len(found.queries), found.items.schema) == (0, 0, ITEMS.schema)
        assert np.issubdtype(found.rows.dtype, np.int64)
        edit_pairs(kind, queries_of("", " "), items_of("", "a"), VALUES)


@pytest.mark.parametrize(
    ("name", "parts"), [("a~typo", ("a", "typo")), ("a~b~unit", ("a~b", "unit")), ("a~other", ("a~other", "")), ("~typo", ("~typo", ""))]
)
def test_names_of_edited_systems(name: str, parts: tuple[str, str]):
    assert split_edited(name) == parts
    assert not parts[1] or edited_system(*parts) == name


def test_the_settings_know_every_edit():
    kind = get_args(ScorePairsConfig.model_fields["edits"].annotation)[0]
    assert get_args(kind) == tuple(EDITS)
    assert set(LOWERING) == {"attribute", "number", "unit", "negation", "accessory_for"}
    assert set(FIELDS) < set(ITEMS.schema.names)
