"""What two annotators agree on is right far more often than either (acceptance check U11)."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.annotate_pairs.agreement import agreed
from components.annotate_pairs.annotators import SCHEMA
from components.shared.schema import ASPECTS, VERDICTS

PAIRS = 3000


def annotations(verdicts: np.ndarray) -> pa.Table:
    """Rows of one annotator; `verdicts` [pairs, aspects], -1 where nothing is told."""
    pair, aspect = np.nonzero(verdicts >= 0)
    ids = pa.array([f"q{one:05d}" for one in pair])
    names = pa.array(ASPECTS).take(pa.array(aspect))
    told = pa.array(VERDICTS).take(pa.array(verdicts[pair, aspect]))
    return pa.Table.from_arrays(
        [ids, pa.repeat("i", len(ids)), names, told, pa.nulls(len(ids), pa.string()), pa.nulls(len(ids), pa.string())], schema=SCHEMA
    )


def erring(truth: np.ndarray, accuracy: float, rng: np.random.Generator, *, always_next: bool = False) -> np.ndarray:
    shift = np.ones_like(truth) if always_next else rng.integers(1, len(VERDICTS), truth.shape)
    return np.where(rng.random(truth.shape) < accuracy, truth, (truth + shift) % len(VERDICTS))


def share_right(kept: pa.Table, truth: np.ndarray) -> float:
    pair = np.array([int(one[1:]) for one in kept["query_id"].to_pylist()])
    aspect = np.array([ASPECTS.index(one) for one in kept["aspect"].to_pylist()])
    verdict = np.array([VERDICTS.index(one) for one in kept["verdict"].to_pylist()])
    return float((truth[pair, aspect] == verdict).mean())


@pytest.mark.parametrize("always_next", [False, True])
def test_independent_annotators_of_85_percent_agree_on_what_is_right(always_next):
    rng = np.random.default_rng(5)
    truth = rng.integers(0, len(VERDICTS), (PAIRS, len(ASPECTS)))
    found = agreed({name: annotations(erring(truth, 0.85, rng, always_next=always_next)) for name in ("a", "b")})
    same_error = 0.15**2 * (1 if always_next else 0.5)
    share_kept, right = 0.85**2 + same_error, 0.85**2 / (0.85**2 + same_error)
    assert len(found.kept) / truth.size == pytest.approx(share_kept, abs=0.01)
    assert share_right(found.kept, truth) == pytest.approx(right, abs=0.006)
    assert share_right(found.kept, truth) >= 0.95
    assert (found.told_by_all, found.disagree) == (truth.size, truth.size - len(found.kept))


def test_annotators_that_err_together_gain_nothing():
    rng = np.random.default_rng(6)
    truth = rng.integers(0, len(VERDICTS), (PAIRS, len(ASPECTS)))
    one = annotations(erring(truth, 0.85, rng))
    found = agreed({"a": one, "b": one})
    assert len(found.kept) == truth.size
    assert share_right(found.kept, truth) == pytest.approx(0.85, abs=0.01)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 2), st.integers(-1, 2)), min_size=5, max_size=5), st.integers(1, 3))
def test_a_step_is_kept_where_all_tell_the_same(rows, num_annotators):
    told = np.array(rows)[:, :num_annotators]
    found = agreed({f"a{place}": annotations(told[None, :, place]) for place in range(num_annotators)})
    same = (told >= 0).all(axis=1) & (told == told[:, :1]).all(axis=1)
    assert found.kept["aspect"].to_pylist() == [aspect for aspect, keep in zip(ASPECTS, same, strict=True) if keep]
    assert found.kept["verdict"].to_pylist() == [VERDICTS[row[0]] for row, keep in zip(told, same, strict=True) if keep]
    assert found.told_by_all == int((told >= 0).all(axis=1).sum())
    assert found.disagree == found.told_by_all - int(same.sum())


def test_spans_are_of_the_first_that_cites():
    def one(query_span: str | None, item_span: str | None) -> pa.Table:
        return pa.Table.from_pylist(
            [dict(zip(SCHEMA.names, ("q", "i", "brand", "match", query_span, item_span), strict=True))], schema=SCHEMA
        )

    kept = agreed({"rules": one("", None), "judge": one("alvera", "Alvera"), "other": one("x", "y")}).kept.to_pylist()
    assert kept == [
        {"query_id": "q", "item_id": "i", "aspect": "brand", "verdict": "match", "query_span": "alvera", "item_span": "Alvera",
         "annotator": "rules + judge + other"}
    ]  # fmt: skip
