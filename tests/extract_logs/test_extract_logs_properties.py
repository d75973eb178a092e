"""Whatever the rows and their order: nothing crashes, every row is accounted for, equal content gives equal bytes."""

import json
import random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tiny_ubi import DAY, event, search, write_lines, write_parquet

from components.shared import text

SLOW = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = ["red shoes", "Red  Shoes", "blue hat", "blue hats", "usb c cable", "red shoes men"]


def _log(seed: int) -> tuple[list, list]:
    """Searches of four clients, some at the same moment, some logged twice with another text or client; events of one or two sessions."""
    rng = random.Random(seed)
    queries = [search(f"q{n % 64}", rng.choice(WORDS), f"c{n % 4}", f"{DAY}T10:{rng.randrange(20):02d}:00Z") for n in range(70)]
    rows = [
        event(
            f"q{rng.randrange(66)}",
            f"i{rng.randrange(3)}",
            rng.choice(["impression", "impression", "click", "purchase", "clik"]),
            rng.randrange(5),
            session_id=rng.choice(["s1", "s1", "s2", None]),
        )
        for _ in range(150)
    ]
    return rows, queries


@SLOW
@example(seed=1, order=random.Random(1), times=2)
@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False), times=st.integers(1, 3))
def test_order_and_repetition_of_rows_change_nothing(extract, seed, order, times):
    rows, queries = _log(seed)
    straight = extract(rows, queries, min_clients=2, propensity="estimated", propensity_min_clicks=1)
    mixed = [dict(row) for row in rows * times]
    asked = [dict(query) for query in queries * times]
    order.shuffle(mixed)
    order.shuffle(asked)
    shuffled = extract(mixed, asked, min_clients=2, propensity="estimated", propensity_min_clicks=1)
    for name in ("events", "interactions", "queries", "reformulations"):
        assert straight.digest(name) == shuffled.digest(name)
    assert len(straight.table("reformulations")) > 0 or seed != 1  # the example has what the property is about
    assert shuffled.report.kept == straight.report.kept
    assert shuffled.report.read == len(rows) * times


_any_text = st.text(st.characters(), max_size=40)  # surrogates included: json writes them as escapes
_any_value = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _any_text, st.lists(_any_text, max_size=2))
_any_line = st.one_of(
    st.binary(max_size=40).filter(lambda line: line.strip() and b"\n" not in line and b"\r" not in line),
    st.builds(
        lambda query, item, position, time, attributes: json.dumps(
            event("q1", item, position=position, user_query=query, timestamp=time) | attributes
        ).encode(),
        _any_text, _any_text, _any_value, _any_value,
        st.dictionaries(st.sampled_from(["event_attributes", "client_id", "query_id", "session_id"]), _any_value, max_size=1),
    ),
)  # fmt: skip


@SLOW
@given(lines=st.lists(_any_line, max_size=20), typed=_any_text)
def test_arbitrary_lines_never_crash_and_reconcile(extract, lines, typed):
    rows = [*lines, json.dumps(event("q0")).encode()]
    got = extract(rows, [search("q1", typed), search("q0", "red shoes")])
    assert got.report.read == len(rows)  # the Report itself refuses counts that do not add up
    assert len(got.table("events")) == got.report.kept >= 1
    assert got.report.quarantined == sum(count for name, count in got.report.metrics.items() if name.startswith("malformed."))


@pytest.mark.parametrize(
    "typed",
    [
        "a\0b",
        "\u202eevil\u202c",
        "👩‍👩‍👧 shoes",
        "x" * 1_000_000,
        "İstanbul ẞ",
        " \u200b ",
        "'; DROP TABLE staged; --",
        '{"$ne": 1}',
        "<email>",
    ],
    ids=["nul", "right-to-left", "emoji", "huge", "case", "zero-width", "sql", "json", "placeholder"],
)
def test_hostile_queries_in_parquet(extract, tmp_path, typed):
    write_parquet(tmp_path / "shop/ubi_queries/part-0.parquet", [search("q1", typed), search("q2", "red shoes")])
    write_parquet(tmp_path / "shop/ubi_events/part-0.parquet", [event("q1"), event("q2")])
    got = extract(root=tmp_path / "shop")
    assert got.report.read == 2
    assert all(0 < len(row["query"]) <= text.MAX_QUERY_CHARS and "\0" not in row["query"] for row in got.table("events"))


def test_one_huge_line_is_only_a_row(extract, tmp_path):
    write_lines(tmp_path / "shop/ubi_queries/part-0.ndjson", [search("q1", "y " * 2_000_000), search("q2", "red shoes")])
    write_lines(tmp_path / "shop/ubi_events/part-0.ndjson", [event("q1", user_query="z" * 3_000_000), event("q2")])
    assert extract(root=tmp_path / "shop").report.kept == 2
