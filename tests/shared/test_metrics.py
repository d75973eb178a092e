"""Metrics against values computed by hand, intervals against their promise, and the score check against seeded failures."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared import metrics
from components.shared.errors import InputError

ESCI = [0.0, 0.01, 0.1, 1.0]  # I, C, S, E


def judgments(grades: dict[str, list[int]]) -> pa.Table:
    rows = [(query, f"i{place}", grade) for query, of_query in grades.items() for place, grade in enumerate(of_query)]
    return pa.table([pa.array(column) for column in zip(*rows, strict=True)], names=["query_id", "item_id", "grade"])


def rankings(scores: dict[str, list[float]], system: str = "ours") -> pa.Table:
    rows = [(system, query, f"i{place}", float(score)) for query, of_query in scores.items() for place, score in enumerate(of_query)]
    return pa.table([pa.array(column) for column in zip(*rows, strict=True)], names=["system", "query_id", "item_id", "score"])


def value(table: pa.Table, metric: str, query: str = "q", system: str = "ours") -> float:
    found = [r["value"] for r in table.to_pylist() if (r["system"], r["query_id"], r["metric"]) == (system, query, metric)]
    assert len(found) == 1
    return found[0]


def test_ndcg_honours_the_gains_of_esci():
    # ranked I, C, S, E: (0/1 + .01/log2 3 + .1/2 + 1/log2 5) / (1 + .1/log2 3 + .01/2 + 0) = 0.4870 / 1.0681 = 0.45594
    found = metrics.per_query(judgments({"q": [0, 1, 2, 3]}), rankings({"q": [4, 3, 2, 1]}), gains=ESCI)
    dcg, best = 0.01 / math.log2(3) + 0.1 / 2 + 1 / math.log2(5), 1 + 0.1 / math.log2(3) + 0.01 / 2
    assert value(found, "ndcg@10") == pytest.approx(dcg / best, abs=1e-12)
    assert value(found, "ndcg@10") == pytest.approx(0.45594, abs=1e-5)


def test_swapped_gains_of_s_and_c_would_show():
    # esci-data#9 swapped them: ranked S, C is then worse than 1
    found = metrics.per_query(judgments({"q": [2, 1]}), rankings({"q": [2, 1]}), gains=ESCI)
    swapped = metrics.per_query(judgments({"q": [2, 1]}), rankings({"q": [2, 1]}), gains=[0.0, 0.1, 0.01, 1.0])
    assert value(found, "ndcg@10") == 1.0
    assert value(swapped, "ndcg@10") < 0.75


def test_ndcg_cutoff_and_items_without_a_judgment():
    # top 2 are an unjudged item and grade 1; the ideal holds grade 1, 1: (1/log2 3) / (1 + 1/log2 3) = 0.38685
    ours = rankings({"q": [1, 2]})
    ours = pa.concat_tables([ours, pa.table({"system": ["ours"], "query_id": ["q"], "item_id": ["unknown"], "score": [9.0]})])
    found = metrics.per_query(judgments({"q": [1, 1]}), ours, gains=[0.0, 1.0], cutoff=2)
    assert value(found, "ndcg@2") == pytest.approx(0.38685, abs=1e-5)


def test_pairwise_accuracy_and_auc_by_hand():
    # grades 3, 1, 1, 0 with scores 2, 3, 1, 1. Pairs of different gain: 3>1 lost, 3>1 won, 3>0 won, 1>0 won, 1>0 tie: 3.5 / 5.
    # auc at grade 3: against 3, 1, 1 -> 2 / 3; at grade 1: pairs (2,1), (3,1) won and (1,1) tie: 2.5 / 3
    judged, ours = judgments({"q": [3, 1, 1, 0]}), rankings({"q": [2, 3, 1, 1]})
    found = metrics.per_query(judged, ours, gains=ESCI)
    assert value(found, "pairwise_accuracy") == pytest.approx(0.7)
    assert value(found, "auc") == pytest.approx(2 / 3)
    assert value(metrics.per_query(judged, ours, gains=ESCI, positive_grade=1), "auc") == pytest.approx(2.5 / 3)


def test_a_left_out_item_or_query_is_ranked_last():
    # only the grade 0 item is ranked: both judged pairs (3 over 0) are lost; query p is not ranked at all: all ties
    judged = judgments({"q": [3, 3, 0], "p": [3, 0]})
    ours = pa.table({"system": ["ours"], "query_id": ["q"], "item_id": ["i2"], "score": [-5.0]})
    found = metrics.per_query(judged, ours, gains=ESCI)
    assert value(found, "pairwise_accuracy") == 0.0
    assert (value(found, "ndcg@10", "p"), value(found, "pairwise_accuracy", "p")) == (0.0, 0.5)


def test_queries_without_a_contrast_are_left_out_and_counted():
    judged = judgments({"same": [2, 2], "zero": [0, 0], "mixed": [3, 0], "low": [1, 0]})
    found = metrics.per_query(judged, rankings({name: [2, 1] for name in ("same", "zero", "mixed", "low")}), gains=ESCI)
    assert metrics.left_out(judged, found, metrics.metric_names()) == {"ndcg@10": 1, "pairwise_accuracy": 2, "auc": 3}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_metrics_equal_the_plain_loops(data):
    size = data.draw(st.integers(2, 14))
    grades = data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    scores = data.draw(st.permutations(range(size)))
    found = metrics.per_query(judgments({"q": grades}), rankings({"q": scores}), gains=ESCI)
    gain = [ESCI[grade] for grade in grades]
    pairs = [(a, b) for a in range(size) for b in range(size) if gain[a] > gain[b]]
    by_metric = {row["metric"]: row["value"] for row in found.to_pylist()}
    if pairs:
        assert by_metric["pairwise_accuracy"] == pytest.approx(np.mean([scores[a] > scores[b] for a, b in pairs]))
    if any(gain):
        order = sorted(range(size), key=lambda place: -scores[place])[:10]
        dcg = sum(gain[item] / math.log2(place + 2) for place, item in enumerate(order))
        best = sum(one / math.log2(place + 2) for place, one in enumerate(sorted(gain, reverse=True)[:10]))
        assert by_metric["ndcg@10"] == pytest.approx(dcg / best)
    assert set(by_metric) <= set(metrics.metric_names())


def test_tied_scores_do_not_follow_the_order_of_ids():
    # the relevant item is always the first id; a constant model must not look perfect, nor empty
    grades = {f"q{n}": [1, 0, 0, 0] for n in range(200)}
    found = metrics.per_query(judgments(grades), rankings({q: [0.0] * 4 for q in grades}), gains=[0.0, 1.0])
    mean = np.mean(metrics.values_of(found, "ours", "ndcg@10")["value"].to_numpy())
    assert mean == pytest.approx((1 + 1 / math.log2(3) + 1 / 2 + 1 / math.log2(5)) / 4, abs=0.05)
    assert set(metrics.values_of(found, "ours", "pairwise_accuracy")["value"].to_pylist()) == {0.5}


def test_row_order_changes_nothing():
    random = np.random.default_rng(3)
    judged = judgments({f"q{n}": random.integers(0, 4, 6).tolist() for n in range(20)})
    ours = rankings({f"q{n}": random.integers(0, 3, 6).tolist() for n in range(20)})
    again = metrics.per_query(judged.take(random.permutation(120)), ours.take(random.permutation(120)), gains=ESCI)
    assert again.equals(metrics.per_query(judged, ours, gains=ESCI))


def test_gain_scale_is_exact_where_it_can_be():
    assert metrics.gain_scale(ESCI) == 100
    assert metrics.gain_scale([0, 1 / 3, 2 / 3, 1]) == 3
    assert metrics.gain_scale([0, 0.123456789, 1]) == 10_000
    assert metrics.gain_scale([1 / 9999, 1 / 9998, 1]) == 10_000  # each is exact, together they would need 99,970,002


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(InputError, match="score"):
        metrics.per_query(judgments({"q": [1, 0]}), rankings({"q": [bad, 1]}), gains=[0, 1])


@pytest.mark.parametrize("grade", [2, -1])
def test_a_grade_without_gain_is_refused(grade):
    with pytest.raises(InputError, match=f"^judgments: column 'grade' has {grade}; the gain table has grades 0 to 1$"):
        metrics.per_query(judgments({"q": [grade, 0]}), rankings({"q": [2, 1]}), gains=[0, 1])


def test_nothing_to_measure_is_the_users_mistake():
    nothing = judgments({"q": [0]}).slice(0, 0)
    with pytest.raises(InputError, match=r"^judgments: no rows to evaluate on; check the splits that are evaluated$"):
        metrics.per_query(nothing, rankings({"q": [1]}), gains=[0, 1])
    with pytest.raises(InputError, match=r"^no query to average over; the metric is defined on none of the judged queries$"):
        metrics.mean_interval(np.zeros(0), 5)
    with pytest.raises(InputError, match="needs the same queries on both sides; got 2 and 3"):
        metrics.paired_interval(np.ones(2), np.ones(3), 5)


def test_an_interval_covers_the_share_that_is_asked():
    # resampled means of (0, 1) are 0, 1/2, 1 with chances 1/4, 1/2, 1/4: the middle 40 % is all 1/2, the middle 95 % reaches 0 and 1
    values = np.array([0.0, 1.0])
    middle, wide = (metrics.mean_interval(values, 5, level=level) for level in (0.4, 0.95))
    assert (middle.low, middle.mean, middle.high, middle.num_queries) == (0.5, 0.5, 0.5, 2)
    assert (wide.low, wide.high) == (0.0, 1.0)
    paired = metrics.paired_interval(values + 0.25, np.full(2, 0.25), 5, level=0.4)
    assert (paired.low, paired.high) == (0.5, 0.5)


def test_intervals_are_repeatable_and_paired_ones_see_more():
    random = np.random.default_rng(0)
    hard = random.uniform(0, 1, 200)
    ours, theirs = hard + 0.01 + random.normal(0, 0.02, 200), hard + random.normal(0, 0.02, 200)
    assert metrics.mean_interval(ours, 5) == metrics.mean_interval(ours, 5)
    assert metrics.mean_interval(ours, 5) != metrics.mean_interval(ours, 6)
    assert metrics.mean_interval(ours, 5).low < metrics.mean_interval(theirs, 5).high  # unpaired, they overlap
    paired = metrics.paired_interval(ours, theirs, 5)
    assert paired.low > 0
    assert paired.p < 0.01
    assert paired.mean == pytest.approx(np.mean(ours - theirs))


def test_equal_systems_differ_by_nothing():
    paired = metrics.paired_interval(np.ones(10), np.ones(10), 5)
    assert (paired.mean, paired.low, paired.high, paired.p) == (0.0, 0.0, 0.0, 1.0)


def test_sign_flip_p_by_hand():
    # four differences of +1: only all-plus and all-minus of 16 sign patterns are as extreme, so p is near 2/16
    assert metrics.paired_interval(np.ones(4), np.zeros(4), 5, num_resamples=20_000).p == pytest.approx(0.125, abs=0.01)


def test_sign_flip_p_is_never_zero_and_sees_equal_patterns_through_rounding():
    # 40 differences of one sign: no flip of 100 is as extreme, and the observed one counts itself: 1 / 101
    assert metrics.paired_interval(np.ones(40), np.zeros(40), 5, num_resamples=100).p == 1 / 101
    # these sum to another last digit in another order; all-plus and all-minus are still 2 of the 32 patterns
    five = np.array([0.3, 0.1, 0.2, 0.7, 0.1])
    assert metrics.paired_interval(five, np.zeros(5), 5, num_resamples=20_000).p == pytest.approx(2 / 32, abs=0.005)


def test_intervals_cover_the_true_mean_as_often_as_they_say():
    random = np.random.default_rng(1)
    covered = 0
    for seed in range(300):
        found = metrics.mean_interval(random.beta(2, 1, 60), seed, num_resamples=400)
        covered += found.low <= 2 / 3 <= found.high
    assert 0.90 <= covered / 300 <= 0.985  # 95 % asked; 300 trials have a standard error of 1.3 %


def test_common_queries_are_aligned():
    rows = [("a", "q2", 0.2), ("a", "q1", 0.1), ("b", "q3", 0.9), ("b", "q2", 0.5)]
    table = pa.table({"system": [r[0] for r in rows], "query_id": [r[1] for r in rows], "metric": ["m"] * 4, "value": [r[2] for r in rows]})
    ids, ours, theirs = metrics.common_values(table, "a", "b", "m")
    assert (ids, ours.tolist(), theirs.tolist()) == (["q2"], [0.2], [0.5])


def test_seeded_failures_are_all_found_and_good_scores_pass():
    random = np.random.default_rng(2)
    judged = judgments({f"q{n}": [0] * 8 for n in range(20)})
    good = 0
    for _ in range(50):
        scores = random.normal(0, 1, (20, 8)) * 10 ** random.uniform(-6, 4)
        good += not metrics.check_scores(rankings({f"q{n}": scores[n].tolist() for n in range(20)}), judged)
    assert good == 50  # no false stop
    cases = {
        "NaN": np.where(random.random((20, 8)) < 0.01, np.nan, 1.0 + random.random((20, 8))),
        "distinct": np.full((20, 8), 0.7),
        "2 distinct": np.where(random.random((20, 8)) < 0.5, 0.0, 1.0),
        "equal in 20": np.repeat(random.normal(0, 1, (20, 1)), 8, axis=1) * (1 + 1e-9 * random.random((20, 8))),
        "infinite": np.full((20, 8), np.inf),
    }
    cases["NaN"][0, 0] = np.nan
    for text, scores in cases.items():
        reasons = metrics.check_scores(rankings({f"q{n}": scores[n].tolist() for n in range(20)}), judged)
        assert any(text in reason for reason in reasons), (text, reasons)


def test_a_constant_query_is_forgiven_while_most_are_not():
    spread, constant, alone = [1.0, 2.0, 3.0], [0.5, 0.5 + 1e-9, 0.5], [0.7]
    half = {"a": spread, "b": constant, "c": alone, "d": alone}
    assert metrics.check_scores(rankings(half)) == []  # one of two; a query with one item has no order to lose
    assert metrics.check_scores(rankings({**half, "e": constant})) == ["all scores are equal in 2 of 3 queries"]
    small = {query: [score * 1e-9 for score in scores] for query, scores in {**half, "e": [4.0, 5.0, 6.0]}.items()}
    assert metrics.check_scores(rankings(small)) == []  # small is not equal


def test_scores_must_be_numbers_and_more_than_two_of_them():
    assert metrics.check_scores(rankings({"q": [1.0, 2.0]})) == []  # two pairs cannot have three scores
    assert metrics.check_scores(rankings({"q": [1.0, 2.0, 2.0]})) == ["only 2 distinct scores over 3 pairs"]
    holey = pa.table({"query_id": ["q"] * 4, "item_id": list("abcd"), "score": [1.0, None, math.inf, 3.0]})
    assert metrics.check_scores(holey) == ["2 of 4 scores are NaN, infinite or null"]


def test_judged_pairs_without_a_score_are_counted():
    judged = judgments({"q": [0, 1, 2, 3]})
    assert metrics.check_scores(rankings({"q": [1.0, 2.0, 3.0]}), judged) == ["1 of 4 judged pairs have no score"]
    assert metrics.check_scores(rankings({"q": [1.0]}).slice(0, 0), judged) == ["no scores"]


AMAZON = {
    "SIM": (0.2203, 0.3573, 0.6011, 0.3959, 0.3473),
    "ETA": (0.2233, 0.3626, 0.6076, 0.4008, 0.3511),
    "TWIN": (0.2223, 0.3627, 0.6116, 0.4017, 0.3508),
    "QIN": (0.2200, 0.3650, 0.6146, 0.4038, 0.3521),
    "SEMINAR": (0.2261, 0.3661, 0.6107, 0.4041, 0.3543),
}
KUAISAR = {
    "SIM": (0.2129, 0.2129, 0.2638, 0.2523, 0.3082, 0.2661, 0.6259, 0.3293, 0.2330),
    "ETA": (0.2191, 0.1891, 0.2839, 0.2642, 0.3270, 0.2756, 0.6107, 0.3313, 0.2476),
    "TWIN": (0.2185, 0.2185, 0.2427, 0.2558, 0.2846, 0.2709, 0.6117, 0.3294, 0.2110),
    "QIN": (0.2139, 0.2139, 0.3272, 0.2535, 0.3636, 0.2672, 0.6219, 0.3312, 0.2782),
    "SEMINAR": (0.2248, 0.2248, 0.3520, 0.2816, 0.3886, 0.2969, 0.6782, 0.3457, 0.2687),
}


@pytest.mark.parametrize("system", AMAZON)
def test_possible_lines_of_a_published_log_pass(system):
    line = dict(zip(("hit@1", "ndcg@5", "hit@10", "ndcg@10", "mrr"), AMAZON[system], strict=True))
    assert metrics.impossible_combinations(line, 100) == []


@pytest.mark.parametrize("system", KUAISAR)
def test_impossible_lines_of_a_published_log_are_named(system):
    names = ("hit@1", "ndcg@1", "hit@5", "ndcg@5", "hit@10", "ndcg@10", "hit@50", "ndcg@50", "mrr")
    line = dict(zip(names, KUAISAR[system], strict=True))
    conflict = metrics.impossible_combinations(line, 100)
    assert conflict
    for name in conflict:  # it is a smallest set: without any one of them the rest is possible
        assert metrics.impossible_combinations({key: line[key] for key in conflict if key != name}, 100) == []


def test_one_line_that_contradicts_itself_in_one_metric():
    # ETA of KuaiSAR: with one positive, ndcg@1 is hit@1
    assert metrics.impossible_combinations({"hit@1": 0.2191, "ndcg@1": 0.1891}, 100) == ["hit@1", "ndcg@1"]
    for metric in ("auc", "ndcg@ten"):
        with pytest.raises(InputError, match=f"^metric '{metric}': only hit@k, ndcg@k and mrr of tables with one positive item"):
            metrics.impossible_combinations({metric: 0.5}, 100)


def test_rounding_of_a_published_line_is_allowed_for():
    # hit@1 = ndcg@1 = 1/3, printed with four and with three digits: 0.3333 and 0.333 differ by 3e-4
    line = {"hit@1": 0.3333, "ndcg@1": 0.333}
    assert metrics.impossible_combinations(line, 10, tolerance=5.1e-4) == []
    assert metrics.impossible_combinations(line, 10) == ["hit@1", "ndcg@1"]
