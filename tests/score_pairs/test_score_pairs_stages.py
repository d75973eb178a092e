"""A teacher that is asked in several stages: what each prompt shows, what it costs, and one answer from all of them."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from encoder_folders import make_model
from hypothesis import given
from hypothesis import strategies as st

from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.step import run
from components.shared import tables, text
from components.shared.errors import InputError
from components.shared.models.folder import ModelSpec
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.models.stages import combined_logits
from components.shared.tracking import NullTracker

STAGES = ["semantic", "query", "item", "both"]
WEIGHTS, OFFSETS = [0.1, 0.0, 0.6, 0.5], [0.2, 0.0, -0.1]


@pytest.fixture(scope="module")
def staged(tmp_path_factory) -> str:
    uri = make_model(str(tmp_path_factory.mktemp("staged") / "m"), "teacher", num_neighbors=2)
    place = Path(uri) / "relevance.json"
    more = {"stages": STAGES, "stage_weights": WEIGHTS, "stage_offsets": OFFSETS}
    place.write_text(json.dumps({**json.loads(place.read_text()), **more}))
    return uri


def read(shop) -> dict[str, pa.Table]:
    return {name: tables.read_table(getattr(shop, name), name) for name in ("queries", "items", "neighbors")}


def pairs_of(*names: tuple[str, str], judged_at: date | None = None) -> pa.Table:
    columns = {"query_id": [one for one, _ in names], "item_id": [two for _, two in names]}
    return pa.table({**columns, "judged_at": pa.array([judged_at] * len(names), pa.date32())})


def test_each_stage_shows_more(shop):
    left, right = model_texts(ModelSpec("teacher", 64, num_neighbors=2, stages=STAGES), pairs_of(("q1", "i4")), **read(shop))
    # q1's own neighbor is i4 and i4's is q1: a pair never reads itself, so a pair with other neighbors follows
    assert text.split_stages(left, 4) == [["query: red shoes"]] * 4
    assert text.split_stages(right, 4) == [["title: blue sneakers"]] * 4
    left, right = model_texts(ModelSpec("teacher", 64, num_neighbors=2, stages=STAGES), pairs_of(("q1", "i1"), ("q4", "i4")), **read(shop))
    first = [rows[0] for rows in text.split_stages(left, 4)]
    bare, shown = "query: red shoes", "query: red shoes | shoppers accepted: blue sneakers"
    assert first == [bare, shown, bare, "query: red shoes | shoppers accepted: often: blue sneakers"]  # its lower bound is 0.3
    second = [rows[1] for rows in text.split_stages(right, 4)]
    bare, shown = "title: blue sneakers", "title: blue sneakers | found by: red shoes"
    assert second == [bare, bare, shown, "title: blue sneakers | found by: often: red shoes"]


def test_no_stage_reads_what_came_after_the_judgment(shop):
    spec = ModelSpec("teacher", 64, num_neighbors=2, stages=STAGES)
    left, _ = model_texts(spec, pairs_of(("q1", "i1"), judged_at=date(2025, 12, 31)), **read(shop))
    assert text.split_stages(left, 4) == [["query: red shoes"]] * 4


def test_one_prompt_is_the_text_it_always_was(shop):
    pairs, given_tables = pairs_of(("q1", "i1"), ("q4", "i4")), read(shop)
    plain = model_texts(ModelSpec("teacher", 64, num_neighbors=2), pairs, **given_tables)
    assert plain == (["query: red shoes | shoppers accepted: blue sneakers", "query: blue sneakers"],
                     ["title: red running shoes", "title: blue sneakers | found by: red shoes"])  # fmt: skip
    assert model_texts(ModelSpec("teacher", 64, num_neighbors=2, stages=["neighbors"]), pairs, **given_tables) == plain


@given(titles=st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=40), min_size=1, max_size=4))
def test_no_title_opens_a_stage(titles):
    cleaned = [text.clean(pa.array([one, "x"])) for one in titles]
    rows = text.join_stages(cleaned).to_pylist()
    assert text.split_stages(rows, len(titles)) == [column.to_pylist() for column in cleaned]


STRENGTHS = [(0.0, "rarely"), (0.099, "rarely"), (0.1, "sometimes"), (0.2, "often"), (0.4, "mostly"), (1.0, "mostly")]


@pytest.mark.parametrize(("bound", "word"), STRENGTHS)
def test_strength_is_a_word(bound, word):
    assert text.with_strength(pa.array(["shoes"]), pa.array([bound])).to_pylist() == [f"{word}: shoes"]


def test_a_log_linear_pool_by_hand():
    # stage 1 says (1/4, 3/4), stage 2 (1/2, 1/2): 2 ln p1 + ln p2 + offset = ln (1/16 x 1/2) + ln 3, ln (9/16 x 1/2), that is 3 : 9
    logits = np.log([[[0.25, 0.75]], [[3.0, 3.0]]])
    found = combined_logits(logits, np.array([2.0, 1.0]), np.array([np.log(3.0), 0.0]))
    np.testing.assert_allclose(found, np.log([[3 / 32, 9 / 32]]), atol=1e-6)
    alone = combined_logits(logits, np.array([0.0, 1.0]), np.zeros(2))
    np.testing.assert_allclose(alone, np.log([[0.5, 0.5]]), atol=1e-6)


def test_stages_are_scored_alone_and_combined(staged, monkeypatch):
    left = [text.STAGE_SEPARATOR.join(["red", "red shoes", "red", "red kettle"]), text.STAGE_SEPARATOR.join(["hose"] * 4)]
    right = [text.STAGE_SEPARATOR.join(["kettle", "kettle", "kettle hose", "kettle"]), text.STAGE_SEPARATOR.join(["hose"] * 4)]
    scorer = Scorer(staged)
    asked, read = [], scorer._logits
    monkeypatch.setattr(scorer, "_logits", lambda one, two: asked.extend(one) or read(one, two))
    stages = scorer.stage_logits(left, right)
    assert len(asked) == 4 + 1  # the second pair's stages are one text
    assert stages.shape == (4, 2, 3)
    alone = np.stack([scorer._logits([one], [two])[0] for one, two in zip(left[0].split("\x1e"), right[0].split("\x1e"), strict=True)])
    np.testing.assert_allclose(stages[:, 0], alone, atol=1e-5)
    np.testing.assert_allclose(stages[:, 1], np.tile(stages[0, 1], (4, 1)))
    np.testing.assert_allclose(scorer.logits(left, right), combined_logits(stages, np.array(WEIGHTS), np.array(OFFSETS)), atol=1e-6)
    assert scorer.stage_logits([], []).shape == (4, 0, 3)


def test_a_staged_teacher_labels_the_pool(shop, staged, tmp_path):
    places = {name: getattr(shop, name) for name in ("pairs", "queries", "items", "neighbors")}
    run(ScorePairsConfig(num_threads=1), **places, model=staged, scores=str(tmp_path / "out"), tracker=NullTracker())
    rows = {(one["query_id"], one["item_id"]): one for one in tables.read_table(str(tmp_path / "out"), "soft_targets").to_pylist()}
    scorer = Scorer(staged)
    texts = model_texts(scorer.spec, pairs_of(("q1", "i1"), ("q4", "i4")), **read(shop))
    expected = scorer.probabilities(*texts)
    found = [rows["q1", "i1"]["probabilities"], rows["q4", "i4"]["probabilities"]]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    plain = Scorer(make_model(str(tmp_path / "plain"), "teacher", num_neighbors=2))
    assert np.abs(expected - plain.probabilities(["query: red shoes"] * 2, ["title: red running shoes"] * 2)).max() > 1e-3


@pytest.mark.parametrize("engine", ["onnx", "vllm"])
def test_other_engines_refuse_stages(shop, staged, tmp_path, engine):
    places = {name: getattr(shop, name) for name in ("pairs", "queries", "items", "neighbors")}
    with pytest.raises(InputError, match=f"key 'engine' = '{engine}': model '.*' is asked in 4 stages; set transformers"):
        run(ScorePairsConfig(engine=engine), **places, model=staged, scores=str(tmp_path / "out"), tracker=NullTracker())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": ["semantic", "oracle"]}, "stage 'oracle' is unknown; one of semantic, query, item, neighbors, both"),
        ({"stage_weights": [1.0]}, "1 stage_weights and 3 stage_offsets; give one per stage and one per grade"),
        ({"stage_offsets": []}, "4 stage_weights and 0 stage_offsets"),
    ],
)
def test_a_spec_that_cannot_be_combined_is_refused(staged, tmp_path, change, message):
    given_spec = json.loads((Path(staged) / "relevance.json").read_text())
    uri = Path(make_model(str(tmp_path / "m"), "teacher"))
    (uri / "relevance.json").write_text(json.dumps({**given_spec, **change}))
    with pytest.raises(InputError, match=message):
        Scorer(str(uri))
