"""The step's page: its counts by hand, the same in the picture, and no text of a stranger."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from neighbor_shop import FIRST_DAY, shown

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.coverage import Coverage, measure
from components.retrieve_neighbors.page import render
from components.retrieve_neighbors.step import run
from components.shared.tracking import NullTracker

PUBLISHED = RetrieveNeighborsConfig.from_mapping({"rule": "published", "min_rate": 0.2, "num_neighbors": 2}, section="neighbors")


def small() -> Coverage:
    """Five queries, three items; five pairs with a click, of which two are accepted."""
    newest = pa.table({"side": ["query", "query", "query", "item"], "key": ["shoe", "shoe", "hat", "i1"]})
    evidence = pa.table({
        "clicks": [40, 25, 20, 9, 5, 0], "impressions": [100, 100, 50, 100, 100, 100], "rate": [0.4, 0.25, 0.4, 0.09, 0.05, 0.0],
        "strength": [0.4, 0.25, 0.4, 0.09, 0.05, 0.0],
    })  # fmt: skip
    queries = pa.table({"query": ["shoe", "shoe", "hat", "sock", "boot"], "segment": ["head", "head", "tail", "tail", "unseen"]})
    return measure(newest, evidence, queries, pa.table({"item_id": ["i1", "i2", "i3"]}), PUBLISHED)


def test_counts_by_hand():
    found = small()
    # shoe has two neighbors, hat one, sock and boot none; i1 one, i2 and i3 none
    assert {side: counts.tolist() for side, counts in found.listed.items()} == {"query": [2, 1, 1, 0], "item": [2, 1, 0, 0]}
    # a text of two judged queries counts once
    assert found.segments == {"head": (1, 1), "torso": (0, 0), "tail": (1, 2), "unseen": (0, 1)}
    assert found.metrics() == {"coverage.head": 1.0, "coverage.tail": 0.5, "coverage.unseen": 0.0}


def test_every_clicked_pair_is_on_its_side_of_the_threshold_unless_it_lacks_impressions():
    found = small()
    assert (found.accepted.sum(), found.refused.sum()) == (2, 3)  # a pair without a click is no evidence
    assert np.repeat(found.edges[:-1], found.accepted) == pytest.approx([0.25, 0.39], abs=0.011)
    # the third has the rate, but only 50 impressions
    assert np.repeat(found.edges[:-1], found.refused) == pytest.approx([0.05, 0.09, 0.39], abs=0.011)


def test_the_picture_says_the_counts():
    page = render(small(), FIRST_DAY, PUBLISHED).decode()
    shown_texts = re.findall(r"<text[^>]*>([^<]*)</text>|<tspan[^>]*>([^<]*)</tspan>", page)
    words = " ".join(one or other for one, other in shown_texts)
    for part in (
        "query: 2 of 4 have one", "item: 1 of 3 have one", "neighbor: 2 pairs", "no neighbor: 3 pairs", "min_rate 0.2",
        "head", "1 of 1", "tail", "1 of 2", "0 of 1",
    ):  # fmt: skip
        assert part in words
    assert "<h1>Behavior neighbors of the morning of 2026-09-01</h1>" in page
    assert render(small(), FIRST_DAY, PUBLISHED).decode() == page


def test_a_page_of_nothing_can_be_drawn():
    names = ("clicks", "impressions", "clients", "rate", "lower_bound", "strength")
    nothing = pa.table({"side": pa.array([], pa.string()), "key": pa.array([], pa.string())})
    evidence = pa.table({name: pa.array([], pa.float64()) for name in names})
    queries = pa.table({"query": ["shoe"], "segment": ["unseen"]})
    config = RetrieveNeighborsConfig.from_mapping({}, section="neighbors")
    found = measure(nothing, evidence, queries, pa.table({"item_id": pa.array([], pa.string())}), config)
    assert found.listed["query"].tolist() == [1, 0, 0, 0, 0]
    assert b"query: 0 of 1 have one" in render(found, FIRST_DAY, config)


def test_the_page_lies_beside_the_table_and_holds_no_query_and_no_title(write: Callable, tmp_path: Path):
    evil = "<script>alert(1)</script>"
    uris = write([shown(evil, "i1", FIRST_DAY, 100, 40), shown("shoe", "i2", FIRST_DAY, 100, 0)])
    report = run(RetrieveNeighborsConfig(), **uris, neighbors=str(tmp_path / "out/neighbors"), tracker=NullTracker())
    page = (tmp_path / "out/neighbors.html").read_text()
    assert "query: 1 of 2 have one" in page
    assert "min_lower_bound 0.05" in page
    assert "script" not in page
    assert report.metrics["coverage.head"] == 0.5
