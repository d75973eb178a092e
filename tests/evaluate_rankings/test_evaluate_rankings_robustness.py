"""The report on robustness: numbers by hand, what is left out, and where they are written."""

import numpy as np
import pyarrow as pa
import pytest
from test_evaluate_rankings_step import CONFIG, evaluate

from components.evaluate_rankings.robustness import logged, measure_robustness, split_rankings
from components.shared import tables
from components.shared.schema import RANKINGS
from components.shared.tracking import NullTracker

GAINS = [0.0, 0.5, 1.0]


def rows_of(system, scores):
    """Scores by query and item."""
    told = [(query, item, score) for query, items in scores.items() for item, score in items.items()]
    names, items, values = map(list, zip(*told, strict=True))
    return pa.table(
        {"query_id": names, "item_id": items, "score": np.asarray(values, float), "rank": [1] * len(told), "system": [system] * len(told)}
    )


CLEAN = {"q": {"a": 4.0, "b": 2.0, "c": 0.0}, "p": {"a": 1.0, "b": 1.0, "c": 3.0}}
JUDGED = rows_of("", {"q": {"a": 2, "b": 1, "c": 0}, "p": {"a": 0, "b": 0, "c": 2}})
JUDGED = JUDGED.select(["query_id", "item_id"]).append_column("grade", pa.array(JUDGED["score"].to_numpy().astype(np.int32)))
SPREAD = np.sqrt(((8 / 3) + (8 / 9)) / 2)  # variances of 4, 2, 0 and of 1, 1, 3


def measured(scores, positive=2):
    rankings, edited = split_rankings(
        pa.concat_tables([rows_of("s", CLEAN), *(rows_of(f"s~{kind}", told) for kind, told in scores.items())])
    )
    return {row["edit"]: row for row in measure_robustness(edited, rankings, JUDGED, GAINS, positive, CONFIG)}


def test_an_item_is_compared_with_the_others_as_they_are_by_hand():
    found = measured({"keyword_stuffing": {"q": {"c": 3.0}, "p": {"a": 1.0, "b": 3.0}}})["keyword_stuffing"]
    assert (found["num_pairs"], found["lowers"], found["order_flips"]["num_queries"]) == (3, False, 2)
    # q: c rises by 3 over b, not over a: one of two. p: a stays under c, b ties with c, and a-b was a tie before: (0 + 1/2) / 2
    assert found["order_flips"]["mean"] == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert found["score_change"]["mean"] == pytest.approx((3 + (0 + 2) / 2) / 2 / SPREAD)
    # against the grades: q has 3 right of 3 and then 2; p 2 of 2 and then 1.5
    assert found["accuracy_drop"]["mean"] == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert "falls" not in found


def test_all_items_are_compared_under_an_edited_query_by_hand():
    found = measured({"typo": {"q": {"a": 1.0, "b": 0.0, "c": 0.5}}})["typo"]
    # a-b and a-c stay, b-c turns round, each seen from both sides
    assert found["order_flips"]["mean"] == pytest.approx(1 / 3)
    assert found["order_flips"]["num_queries"] == 1
    # a query that the edit does not apply to keeps its order: drops of 1/3 and 0
    assert found["accuracy_drop"]["mean"] == pytest.approx(1 / 6)


def test_edits_that_lower_relevance_are_asked_of_positive_pairs_by_hand():
    edits = {"unit": {"q": {"a": 3.0, "b": 9.0}, "p": {"a": 9.0, "c": 3.0}}}
    found = measured(edits)["unit"]
    assert found["num_pairs"] == 2  # a of q falls, c of p stays as it is
    assert found["falls"]["mean"] == pytest.approx(1 / 2)
    assert found["score_change"]["mean"] == pytest.approx((-1 + 0) / 2 / SPREAD)
    assert found["order_flips"]["mean"] == 0
    assert "accuracy_drop" not in found
    assert measured(edits, positive=1)["unit"]["num_pairs"] == 3
    assert measured({"unit": {"p": {"a": 9.0}}}) == {}  # no positive pair


def test_scores_that_are_all_alike_change_by_nothing():
    rankings, edited = split_rankings(pa.concat_tables([rows_of("s", {"q": {"a": 1, "b": 1}}), rows_of("s~typo", {"q": {"a": 2, "b": 1}})]))
    (found,) = measure_robustness(edited, rankings, JUDGED, GAINS, 2, CONFIG)
    assert found["score_change"]["mean"] == 0
    assert "order_flips" not in found  # no two items were told apart


def test_names_are_logged_and_other_marks_are_systems():
    found = measure_robustness(
        *reversed(split_rankings(pa.concat_tables([rows_of("s", CLEAN), rows_of("s~typo", CLEAN)]))), JUDGED, GAINS, 2, CONFIG
    )
    assert logged(found) == {"robustness.s.typo.score_change": 0, "robustness.s.typo.order_flips": 0, "robustness.s.typo.accuracy_drop": 0}
    clean, edited = split_rankings(rows_of("a~b", CLEAN))
    assert (clean["system"].to_pylist(), len(edited)) == (["a~b"] * 6, 0)


class Told(NullTracker):
    def __init__(self):
        self.told = {}

    def metrics(self, values, step=None):
        self.told |= values


def test_the_step_writes_them_and_ranks_only_texts_as_they_are(shop, tmp_path):
    plain = tables.read_table(shop["cross_encoder"], "rankings")
    edits = [plain.set_column(4, "system", pa.array([f"cross_encoder~{kind}"] * len(plain))) for kind in ("typo", "negation")]
    lower = edits[1].set_column(2, "score", pa.array(edits[1]["score"].to_numpy() - 1.0))
    tables.write_table(str(tmp_path / "both"), "rankings", pa.concat_tables([plain, edits[0], lower]).cast(RANKINGS.schema))
    tracker = Told()
    places = ",".join([shop["teacher"], str(tmp_path / "both")])
    report, result = evaluate(shop, tmp_path / "out", tracker=tracker, rankings=places)
    before, plainly = evaluate(shop, tmp_path / "before", rankings=",".join([shop["teacher"], shop["cross_encoder"]]))
    assert result["systems"] == plainly["systems"]
    assert plainly["robustness"] == []
    assert report.read - before.read == report.kept - before.kept + 2 * 4 * 8 == 2 * len(plain)  # 4 train queries are not evaluated
    found = {row["edit"]: row for row in result["robustness"]}
    assert found["typo"]["order_flips"]["mean"] == 0
    assert found["negation"]["falls"]["mean"] == 1
    assert tracker.told["robustness.cross_encoder.negation.falls"] == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<h2>Robustness</h2>" in page
    assert (tmp_path / "out" / "plots" / "robustness-falls.svg").read_text().startswith("<svg")
    assert "Robustness" not in (tmp_path / "before" / "report.html").read_text()
