"""Texts that models read: hand-written expectations, and that no input breaks or changes them twice."""

import unicodedata

import pyarrow as pa
import pyarrow.json as pajson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared import text

ANY_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=300)  # a lone surrogate is not UTF-8: no Arrow string holds one


def one(function, *values):
    return function(*[pa.array([value], pa.string()) for value in values])[0].as_py()


def items(**fields):
    names = ("title", "brand", "color", "category", "attributes", "description")
    return pa.table({name: pa.array([fields.get(name)], pa.string()) for name in names})


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("  Red\t\nShoes ", "red shoes"),
        ("ＦＵＬＬ ｗｉｄｔｈ", "full width"),  # NFKC
        ("ﬁne", "fine"),
        ("a\u200bb\u202ec", "a b c"),  # zero width, right-to-left override
        ("a\u2028b\u00a0c\u1680d", "a b c d"),  # line separator, no-break space, ogham space
        ("\x00a\x00", "a"),
        ("cafe\u0301", "café"),
        ("ΆΣ 😀", "άσ 😀"),
        ("\x00\u200b ", ""),
        (None, None),
        ("x" * 255 + " yz", "x" * 255),  # a cut leaves no space at its end
    ],
)
def test_query_forms(given_text, expected):
    assert one(text.normalise_query, given_text) == expected


@settings(max_examples=300, deadline=None)
@given(ANY_TEXT)
def test_normalising_twice_is_normalising_once(given_text):
    once = one(text.normalise_query, given_text)
    assert one(text.normalise_query, once) == once
    assert len(once) <= text.MAX_QUERY_CHARS
    assert once == once.strip()
    assert unicodedata.is_normalized("NFKC", one(text.clean, given_text))


@settings(max_examples=150, deadline=None)
@given(ANY_TEXT, ANY_TEXT)
def test_no_seller_opens_a_field(title, brand):
    row = items(title=title, brand=brand)
    for joined in (text.item_text(row)[0].as_py(), text.teacher_item(row)[0].as_py()):
        assert joined.count("|") == joined.count(text.SEPARATOR.strip()) <= 1  # ours, between title and brand, and no other
    left = one(text.teacher_query, title)
    assert "|" not in left


def test_huge_query_is_cut():
    assert len(one(text.normalise_query, "x y" * 400_000)) == 256


def test_a_students_query_opens_no_field():
    assert one(text.query_text, " RED | Shoes ") == "red / shoes"


def test_item_text_by_hand():
    row = items(title="Red | Shoes", brand="Acme", category="Shoes", description="never shown to a student")
    assert text.item_text(row).to_pylist() == ["Red / Shoes | brand: Acme | category: Shoes"]


def test_teacher_texts_by_hand():
    row = items(title="Red Shoes", color="red", attributes="size 9", description="Light.")
    accepted, found = pa.array(["Blue | Shoes; Socks"]), pa.array(["red shoes; running shoe"])
    assert text.teacher_item(row).to_pylist() == ["title: Red Shoes | color: red | attributes: size 9 | description: Light."]
    assert text.teacher_item(row, found).to_pylist() == [
        "title: Red Shoes | color: red | found by: red shoes; running shoe | attributes: size 9 | description: Light."
    ]
    assert one(text.teacher_query, "RED  Shoes") == "query: red shoes"
    assert text.teacher_query(pa.array(["Red Shoes"]), accepted).to_pylist() == [
        "query: red shoes | shoppers accepted: Blue / Shoes; Socks"
    ]
    assert text.teacher_query(pa.array(["x"]), pa.array([None], pa.string())).to_pylist() == ["query: x"]


def test_fields_are_cut_to_their_limits():
    row = items(title="t" * 900, description="d" * 9000)
    assert len(text.item_text(row)[0].as_py()) == text.MAX_FIELD_CHARS
    expected = len("title: ") + text.MAX_FIELD_CHARS + len(" | description: ") + text.MAX_DESCRIPTION_CHARS
    assert len(text.teacher_item(row)[0].as_py()) == expected
    evidence = pa.array(["e" * 900])
    assert len(text.teacher_item(row, evidence)[0].as_py()) == expected + len(" | found by: ") + 600
    assert len(one(text.teacher_query, "q", "e" * 900)) == len("query: q | shoppers accepted: ") + 600


def test_lone_surrogates_never_become_text():
    with pytest.raises(UnicodeEncodeError):
        pa.array(["a\ud800b"])
    with pytest.raises(pa.ArrowInvalid):
        pajson.read_json(pa.BufferReader(b'{"query": "a\\ud800b"}'))
