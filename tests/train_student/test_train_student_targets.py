"""Joining pairs to soft targets, holding queries out, and the number a score imitates."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.shared.errors import InputError
from components.train_student.config import TrainStudentConfig
from components.train_student.targets import MAX_VALIDATION_PAIRS, Lessons, choose_validation, imitate, make_lessons


def tables(sizes: list[int], **columns: Any) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Pairs, soft targets and queries: query number k has sizes[k] items with gains rising from 0.1."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    keys = {
        "pair_id": pa.array([f"p{row:03d}" for row in range(len(owner))]),
        "query_id": pa.array([f"q{number}" for number in owner]),
        "item_id": pa.array([f"i{row}" for row in range(len(owner))]),
    }
    gains = pa.array(np.concatenate([0.1 + 0.8 * np.arange(size) / max(sizes) for size in sizes]))
    split = pa.array(columns.get("split", [None] * len(sizes)), pa.string())
    return pa.table(keys), pa.table({**keys, "score": gains}), pa.table({"query_id": [f"q{k}" for k in range(len(sizes))], "split": split})


def test_rows_are_joined_by_pair_id_and_everything_dropped_is_counted() -> None:
    pairs, labels, queries = tables([4, 1, 3, 3], split=[None, "train", "test", "train"])
    shuffled = labels.take(pa.array([10, 3, 2, 1, 4, 5, 6, 7, 8, 9]))  # no label for p000
    lessons = make_lessons(TrainStudentConfig(), pairs, shuffled, queries)
    assert lessons.dropped == {"no_soft_target": 1, "excluded_split": 3, "single_item_query": 1, "over_max_pairs": 0}
    assert lessons.pairs["pair_id"].to_pylist() == ["p001", "p002", "p003", "p008", "p009", "p010"]
    # q0: 0.1 + 0.8 * (1, 2, 3) / 4; q3: 0.1 + 0.8 * (0, 1, 2) / 4
    np.testing.assert_allclose(lessons.gains, [0.3, 0.5, 0.7, 0.1, 0.3, 0.5], rtol=1e-6)
    assert lessons.query.tolist() == [0, 0, 0, 1, 1, 1]
    assert len({*lessons.query[lessons.training()]} & {*lessons.query[lessons.validation()]}) == 0


def test_human_gains_are_joined_by_query_and_item_and_only_from_split_train() -> None:
    pairs, labels, queries = tables([2, 2])  # rows q0: i0, i1; q1: i2, i3
    judgments = pa.table(
        {
            "query_id": ["q1", "q0", "q0", "q0"],
            "item_id": ["i2", "i1", "i2", "i0"],
            "gain": [0.4, 1.0, 0.7, 0.2],
            "split": ["train", "train", "train", "dev"],
        }
    )
    lessons = make_lessons(TrainStudentConfig(judgment_weight=1.0), pairs, labels, queries, judgments)
    np.testing.assert_allclose(lessons.judged, [np.nan, 1.0, 0.4, np.nan], rtol=1e-6)
    assert np.isnan(make_lessons(TrainStudentConfig(), pairs, labels, queries).judged).all()


def test_doubtful_pairs_count_less() -> None:
    pairs, labels, queries = tables([2, 2])
    labels = labels.append_column("entropy", pa.array([0.0, 0.5, 1.0, 0.2])).append_column("disagreement", pa.array([None, 1.0, 0.5, None]))
    trust = make_lessons(TrainStudentConfig(uncertainty_weight=0.8, disagreement_weight=0.5), pairs, labels, queries).trust
    # (1 - 0.8 e)(1 - 0.5 d): 1 * 1, 0.6 * 0.5, 0.2 * 0.75, 0.84 * 1
    np.testing.assert_allclose(trust, [1.0, 0.3, 0.15, 0.84], rtol=1e-6)
    assert make_lessons(TrainStudentConfig(), pairs, labels, queries).trust is None


def test_single_items_are_kept_for_a_pointwise_part() -> None:
    for settings in ({"loss": "pointwise_mse"}, {"pointwise_weight": 0.1}):
        lessons = make_lessons(TrainStudentConfig(**settings), *tables([3, 1, 2]))
        assert len(lessons.gains) == 6


def test_logit_target_by_hand() -> None:
    # clip 0.1: 0 -> 0.1 -> ln(1/9); 0.5 -> 0; 0.75 -> ln 3; all over temperature 2
    found = imitate(TrainStudentConfig(clip=0.1, temperature=2.0), np.array([0.0, 0.5, 0.75, 1.0]))
    np.testing.assert_allclose(found, [-math.log(9) / 2, 0.0, math.log(3) / 2, math.log(9) / 2], rtol=1e-6)


def test_probability_target_is_the_gain() -> None:
    gains = np.array([0.0, 0.2, 1.0])
    np.testing.assert_allclose(imitate(TrainStudentConfig(target="probability"), gains), gains, rtol=1e-6)
    np.testing.assert_allclose(imitate(TrainStudentConfig(target="probability", temperature=4), gains), gains / 4, rtol=1e-6)


def test_spread_is_taken_within_queries() -> None:
    # without its query's mean: (1, 3) -> (-1, 1), (10, 11) -> (-1/2, 1/2); from -1 to 1
    targets = np.array([1.0, 10.0, 3.0, 11.0])
    assert Lessons(pa.table({}), np.array([0, 1, 0, 1]), targets, targets, targets, np.zeros(4, bool), {}).spread() == 2.0


@pytest.mark.parametrize(
    ("gains", "message"),
    [([0.1, np.nan], "not finite"), ([-0.1, 0.5], "0 to 1"), ([0.5, 1.2], "0 to 1"), ([0.4, 0.4], "everywhere")],
)
def test_useless_targets_are_refused(gains: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        imitate(TrainStudentConfig(), np.array(gains))


def test_a_query_keeps_its_side_when_others_come_and_go() -> None:
    names = [f"q{number}" for number in range(400)]
    before = choose_validation(names, np.full(400, 5), 0.2)
    after = choose_validation(names[100:], np.full(300, 5), 0.2)
    assert before[100:].tolist() == after.tolist()
    assert 0.14 < before.mean() < 0.26


def test_one_query_with_two_items_is_always_held_out_and_the_rest_is_bounded() -> None:
    assert choose_validation(["a", "b", "c"], np.array([1, 4, 1]), 1e-9).tolist() == [False, True, False]
    sizes = np.full(500, 1000)
    chosen = choose_validation([f"q{number}" for number in range(500)], sizes, 0.5)
    assert 0 < sizes[chosen].sum() <= MAX_VALIDATION_PAIRS


def test_max_pairs_takes_whole_queries_and_larger_budgets_hold_smaller_ones() -> None:
    inputs = tables([5] * 40)
    small, large = (make_lessons(TrainStudentConfig(max_pairs=number), *inputs) for number in (52, 120))
    assert len(small.training()) == 50
    assert len(large.training()) == 120
    kept = [{*lessons.pairs["pair_id"].to_pylist()} for lessons in (small, large)]
    assert kept[0] < kept[1]
    assert small.validation().size == large.validation().size > 0


def test_max_pairs_below_one_query_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        make_lessons(TrainStudentConfig(max_pairs=4), *tables([5] * 4))
    assert str(caught.value) == "max_pairs = 4 is less than the rows of one query; raise it, or set 0 to take all"


def test_splits_are_left_out_as_configured() -> None:
    inputs = tables([3, 3, 3, 3], split=["train", "dev", "test", None])
    kept = {}
    for excluded in ([], ["train"], ["dev", "test"]):
        lessons = make_lessons(TrainStudentConfig(exclude_splits=excluded), *inputs)
        kept[" ".join(excluded)] = [*dict.fromkeys(lessons.pairs["query_id"].to_pylist())]
    assert kept == {"": ["q0", "q1", "q2", "q3"], "train": ["q1", "q2", "q3"], "dev test": ["q0", "q3"]}


def test_soft_targets_of_another_pool_are_refused() -> None:
    pairs, labels, queries = tables([3, 3])
    other = labels.set_column(2, "item_id", pa.array(["x"] * 6))
    with pytest.raises(InputError, match="'p000' has another 'item_id' in soft_targets than in pairs \\('i0'\\)"):
        make_lessons(TrainStudentConfig(), pairs, other, queries)


def test_too_little_left_says_what_was_left_out() -> None:
    with pytest.raises(InputError, match=r"1 queries have soft targets.*'excluded_split': 3"):
        make_lessons(TrainStudentConfig(), *tables([3, 3], split=["test", "train"]))


def test_bce_needs_probabilities() -> None:
    with pytest.raises(InputError, match="target: probability"):
        TrainStudentConfig.from_mapping({"loss": "bce"}, section="cross_encoder")
    given = {"loss": "bce", "target": "probability"}
    assert TrainStudentConfig.from_mapping(given, section="cross_encoder").score_is_logit()
    with pytest.raises(InputError, match=r"temperature = 0\.5 would scale; set 1"):
        TrainStudentConfig.from_mapping({**given, "temperature": 0.5}, section="cross_encoder")


def test_the_section_decides_the_architecture() -> None:
    for section in ("cross_encoder", "bi_encoder"):
        assert TrainStudentConfig.from_mapping({"num_epochs": 2.0}, section=section).architecture == section
    assert TrainStudentConfig.from_mapping({"architecture": "cross_encoder"}, section="bi_encoder").architecture == "cross_encoder"
