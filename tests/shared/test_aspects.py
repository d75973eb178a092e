"""The chain of sub-judgments: what is written is what is read, and what is not of the form is refused with its reason."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.aspects import ERRORS, Chain, MalformedChainError, Step, parse_chain, verdict_numbers
from components.shared.schema import ASPECTS, VERDICTS

WORDS = st.text(st.characters(exclude_characters="|", exclude_categories=("Cc", "Cf", "Z", "Cs")), max_size=12)
STEPS = st.builds(Step, st.sampled_from(VERDICTS), WORDS, WORDS)
CHAINS = st.builds(
    Chain, st.dictionaries(st.sampled_from(ASPECTS), STEPS), st.integers(0, 4), st.sampled_from(["", *ERRORS])
)  # fmt: skip


def test_a_chain_is_a_line_per_step_and_the_grade():
    steps = {"brand": Step("mismatch", "alvera", "Bronto"), "category": Step("match", "sneakers"), "negation": Step("not_mentioned")}
    text = Chain(steps, 3, "too_low").text()
    assert text == "error: too_low\ncategory: match | sneakers |\nbrand: mismatch | alvera | Bronto\nnegation: not_mentioned\ngrade: 3"


@given(CHAINS)
def test_what_is_written_is_read_back(chain):
    assert parse_chain(chain.text(), 5) == chain
    assert parse_chain(Chain(chain.steps).text()) == Chain(chain.steps)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_grade"),
        ("category: match", "no_grade"),
        ("grade: 5", "unknown_grade"),
        ("grade: three", "unknown_grade"),
        ("grade: 3\nfine", "no_grade"),
        ("grade: 3\ngrade: 3", "unknown_aspect"),
        ("size: match\ngrade: 3", "unknown_aspect"),
        ("brand: matches\ngrade: 3", "unknown_verdict"),
        ("I think it fits\ngrade: 3", "no_step"),
        ("brand: match | a | b | c\ngrade: 3", "no_step"),
        ("brand: match\nbrand: match\ngrade: 3", "repeated_aspect"),
        ("brand: match\ncategory: match\ngrade: 3", "aspects_out_of_order"),
        ("error: wrong\ngrade: 3", "unknown_error"),
    ],
)
def test_what_is_malformed_is_refused_with_a_reason(text, reason):
    with pytest.raises(MalformedChainError) as caught:
        parse_chain(text, 5)
    assert caught.value.reason == reason


def test_verdicts_become_numbers_by_pair_and_aspect():
    rows = [("q", "a", "brand", "mismatch"), ("q", "b", "category", "match"), ("other", "a", "brand", "match")]
    told = pa.table(dict(zip(("query_id", "item_id", "aspect", "verdict"), map(list, zip(*rows, strict=True)), strict=True)))
    pairs = pa.table({"query_id": ["q", "q", "q"], "item_id": ["b", "a", "c"]})
    assert verdict_numbers(told, pairs).tolist() == [[0, -1, -1, -1, -1], [-1, 1, -1, -1, -1], [-1] * 5]
