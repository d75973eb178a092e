"""A student's scores as gains: what the map is fitted to, what it writes, and that it changes no order."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import Toy

from components.shared import tables
from components.shared.calibration import Bins, Calibration
from components.shared.errors import InputError
from components.shared.models.folder import ModelSpec, read_spec
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.tracking import NullTracker
from components.train_student.calibrating import as_they_stand, unlearnt
from components.train_student.config import TrainStudentConfig
from components.train_student.step import run
from components.train_student.targets import Lessons

SETTINGS = {"learning_rate": 3e-3, "max_tokens": 24, "queries_per_batch": 8, "items_per_query": 12, "checkpoint_steps": 0}
SETTINGS |= {"architecture": "bi_encoder", "validation_share": 0.3, "calibration_error": 0.1}


def judge(toy: Toy, place: Path, split: str = "train") -> str:
    """People say that half of what the teacher calls a half match is good, and that full matches are."""
    pairs = tables.read_table(toy.soft_targets, "soft_targets")
    coin = np.random.default_rng(0).random(len(pairs))
    gains = (coin < pairs["score"].to_numpy()).astype(float)
    columns = {"grade": gains.astype(np.int32), "gain": gains, "judged_at": pa.nulls(len(pairs), pa.date32())}
    columns |= {"split": [split] * len(pairs), "votes": pa.nulls(len(pairs), pa.list_(pa.int32()))}
    judged = pa.table({"query_id": pairs["query_id"], "item_id": pairs["item_id"], **columns})
    tables.write_table(str(place), "judgments", judged.select(tables.TABLES["judgments"].schema.names))
    return str(place)


@pytest.fixture(scope="module")
def trained(toy: Toy, tmp_path_factory: pytest.TempPathFactory):
    place = tmp_path_factory.mktemp("calibrated")
    given = {**toy.inputs(), "judgments": judge(toy, place / "judgments"), "tracker": NullTracker()}
    plain = run(TrainStudentConfig(**SETTINGS), **toy.inputs(), model=str(place / "plain"), tracker=NullTracker())
    report = run(TrainStudentConfig(**SETTINGS, calibration="isotonic"), **given, model=str(place / "model"))
    return place, plain, report


def test_scores_become_gains_that_can_be_believed(trained):
    _, plain, report = trained
    assert report.metrics["calibration.error_after"] <= report.metrics["calibration.error_before"] / 2
    assert report.metrics["calibration.pairs"] == report.metrics["num_validation_pairs"]  # the judged pairs it did not learn from
    assert {name: value for name, value in report.metrics.items() if name.startswith("validation.")} == {
        name: value for name, value in plain.metrics.items() if name.startswith("validation.")
    }


def test_the_folder_holds_the_map_and_no_order_changes(toy: Toy, trained):
    place, _, _ = trained
    found = Calibration.from_json(read_spec(place / "model").calibration)
    pairs, queries, items = (tables.read_table(getattr(toy, name), name) for name in ("pairs", "queries", "items"))
    scorer = Scorer(str(place / "model"))
    scores = scorer.scores(*model_texts(scorer.spec, pairs, queries, items, None))
    gains = found.gains(scores, np.array(["tail"] * len(scores)))
    assert (np.argsort(gains, kind="stable") == np.argsort(scores, kind="stable")).all()
    judged = tables.read_table(str(place / "judgments"), "judgments")["gain"].to_numpy()  # of the pairs, in their order
    assert Bins.of(gains, judged).error() < Bins.of(as_they_stand(scorer.spec, scores), judged).error() / 2
    assert found.hide_below is not None
    assert (gains[judged == 1.0] < found.hide_below).mean() < 0.15  # an expectation of 0.1, on other queries
    assert b"after" in (place / "model-calibration.svg").read_bytes()


def test_a_student_that_is_not_calibrated_says_nothing(trained):
    assert read_spec(trained[0] / "plain").calibration == {}


def test_only_train_queries_that_are_not_learnt_from_are_looked_at():
    names = [f"q{number:02d}" for number in range(20)]
    lessons_of = pa.table({"query_id": pa.chunked_array([names[:12]])})
    held_out = np.arange(12) >= 10
    lessons = Lessons(lessons_of, np.arange(12), *(np.zeros(12),) * 3, held_out, {})
    rows = [(name, f"i{item}", "dev" if name == "q19" else "train") for name in names for item in range(6)]
    judgments = pa.table(dict(zip(("query_id", "item_id", "split"), map(list, zip(*rows, strict=True)), strict=True)))
    found = unlearnt(judgments, lessons)
    assert sorted(set(found["query_id"].to_pylist())) == names[10:19]  # held out, or not in the pool; q19 is a dev query
    with pytest.raises(InputError, match=r"48 pairs of 8 queries are too few .* raise validation_share"):
        unlearnt(judgments.filter(pa.compute.not_equal(judgments["query_id"], "q18")), lessons)


def test_calibration_without_judgments_is_refused(toy: Toy, tmp_path: Path):
    with pytest.raises(InputError, match="calibration = platt needs human grades; give the judgments table"):
        run(TrainStudentConfig(**SETTINGS, calibration="platt"), **toy.inputs(), model=str(tmp_path / "m"), tracker=NullTracker())


def test_what_scores_say_before_any_fit():
    scores = np.array([0.0, -0.5, 2.0])
    np.testing.assert_allclose(as_they_stand(ModelSpec("cross_encoder", 8), scores), [0.5, 0.37754067, 0.88079708])
    np.testing.assert_allclose(as_they_stand(ModelSpec("cross_encoder", 8, temperature=4.0), scores), [0.5, 0.11920292, 0.99966465])
    np.testing.assert_allclose(as_they_stand(ModelSpec("graph", 8, target="probability", temperature=0.25), scores), [0.0, 0.0, 0.5])
    np.testing.assert_allclose(as_they_stand(ModelSpec("bi_encoder", 8), scores), [0.0, 0.0, 1.0])
