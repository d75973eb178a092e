"""Entropy and disagreement by hand, and as the step stores them beside soft targets."""

from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.doubt import disagreements, entropies, places
from components.score_pairs.step import run
from components.shared import tables
from components.shared.errors import InputError
from components.shared.tracking import NullTracker


def test_entropy_by_hand():
    # even over 3: log 3 / log 3 = 1; sure: 0; (1/2, 1/2, 0): log 2 / log 3 = 0.63093
    found = entropies(np.array([[1 / 3] * 3, [0, 1, 0], [0.5, 0.5, 0]], np.float32))
    assert found == pytest.approx([1, 0, 0.63093], abs=1e-5)


def test_places_by_hand():
    # group 0: 5 > 3 > 1 -> 1, 0.5, 0; group 1: 2 and 2 share place 0.5 of 0..1; group 2 is alone
    found = places(np.array([5.0, 2.0, 1.0, 2.0, 3.0, 9.0]), np.array([0, 1, 0, 1, 0, 2]))
    assert found[:5].tolist() == [1, 0.5, 0, 0.5, 0.5]
    assert np.isnan(found[5])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=30))
def test_places_are_the_mean_ranks_of_scipy(rows):
    group, values = (np.array(column) for column in zip(*rows, strict=True))
    group = np.unique(group, return_inverse=True)[1]
    found = places(values.astype(float), group)
    for number in range(group.max() + 1):
        own = group == number
        if own.sum() > 1:
            assert found[own] == pytest.approx((rankdata(values[own]) - 1) / (own.sum() - 1))


def test_disagreement_by_hand():
    rows = pa.table({"query_id": list("aaaabb"), "item_id": list("123412"), "score": [0.9, 0.5, 0.1, 0.7, 0.3, 0.6]})
    clicks = pa.table({"query_id": list("aaab"), "item_id": list("3121"), "rate": [0.4, 0.2, 0.1, 0.5]})
    # shoppers saw a1 (0.2), a2 (0.1), a3 (0.4): places 0.5, 0, 1; the teacher's among those: 1, 0.5, 0; b1 stands alone
    found = disagreements(rows, clicks)
    assert found[:3].tolist() == [0.5, 0.5, 1.0]
    assert np.isnan(found[3:]).all()


@pytest.fixture
def interactions(tmp_path):
    uri = str(tmp_path / "interactions")
    # q1 "red shoes": i1 and i2 over two days; i3 is shown too seldom, a query of the same items is another query
    rows = [("red shoes", "i1", 1, 15, 6), ("red shoes", "i1", 2, 15, 6), ("red shoes", "i2", 1, 30, 1), ("red shoes", "i3", 1, 19, 19)]
    rows += [("blue sneakers", "i1", 1, 99, 9)]
    query, item, day, impressions, clicks = (list(column) for column in zip(*rows, strict=True))
    zero = [0] * len(rows)
    columns = {"query": query, "item_id": item, "day": [date(2026, 9, one) for one in day], "impressions": impressions, "clicks": clicks}
    columns |= {"add_to_carts": zero, "purchases": zero, "clients": zero, "corrected_impressions": [float(one) for one in impressions]}
    tables.write_table(uri, "interactions", pa.table({**columns, "corrected_clicks": pa.nulls(len(rows), pa.float64())}))
    return uri


def test_the_step_stores_doubt_beside_soft_targets(shop, model_folders, interactions, tmp_path):
    given = {"pairs": shop.pairs, "queries": shop.queries, "items": shop.items, "model": model_folders["teacher"]}
    config, out = ScorePairsConfig(num_threads=1), str(tmp_path / "out")
    run(config, **given, interactions=interactions, scores=out, tracker=NullTracker())
    rows = tables.read_table(out, "soft_targets")
    assert rows["entropy"].to_numpy() == pytest.approx(entropies(np.array(rows["probabilities"].to_pylist())), abs=1e-6)
    assert 0 < rows["entropy"].to_numpy().mean() < 1
    told = {(one["query_id"], one["item_id"]): one for one in rows.to_pylist() if one["disagreement"] is not None}
    teacher_prefers_i1 = told["q1", "i1"]["score"] > told["q1", "i2"]["score"]  # shoppers do: 12 of 30 against 1 of 30
    assert {key: one["disagreement"] for key, one in told.items()} == dict.fromkeys(
        [("q1", "i1"), ("q1", "i2")], 0.0 if teacher_prefers_i1 else 1.0
    )
    with pytest.raises(InputError, match="was begun with interactions"):
        run(config.model_copy(update={"min_impressions": 5}), **given, interactions=interactions, scores=out, tracker=NullTracker())
    run(config, **given, scores=str(tmp_path / "without"), tracker=NullTracker())
    assert tables.read_table(str(tmp_path / "without"), "soft_targets")["disagreement"].null_count == 20
