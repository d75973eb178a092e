"""A student that reads the behavior graph: its formulas by hand, and that it learns what the texts do not say."""

import math
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import WORDS, label_table, query_table, write_encoder

from components.shared import storage, tables
from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.graph import HEAD_FILE, EgoTexts, GraphHead, word_interaction
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.tables import read_table
from components.shared.tracking import NullTracker
from components.train_student.config import TrainStudentConfig
from components.train_student.step import run
from components.train_student.students import GraphStudent, save_student

UNIT = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])


def test_texts_are_numbered_once_and_lists_are_cut_at_k():
    ego = EgoTexts.of(["lamp\x1ebed lamp; desk lamp; lamp", "lamp\x1e"], ["chair\x1elamp", "desk lamp\x1echair; seat"], order=1, k=2)
    assert ego.texts == ["lamp", "chair", "desk lamp", "bed lamp", "seat"]
    assert ego.nodes.tolist() == [[0, 1], [0, 2]]
    assert ego.neighbors.tolist() == [[[[3, 2]], [[0, -1]]], [[[-1, -1]], [[1, 4]]]]
    needed, nodes, neighbors = ego.distinct(np.array([1]))
    assert (needed.tolist(), nodes.tolist(), neighbors.tolist()) == ([0, 1, 2, 4], [[0, 2]], [[[[-1, -1]], [[1, 3]]]])


def test_a_word_of_the_query_looks_for_its_best_word_of_the_item():
    states = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]], [[3.0, 4.0], [0.0, 1.0], [1.0, 0.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    # (1, 0) finds 0.6 and (0, 1) finds 1; the third words are padding
    assert word_interaction(states, mask, torch.tensor([[0, 1]])).tolist() == pytest.approx([0.8])


def test_attention_of_a_list_by_hand():
    head = GraphHead(1)
    with torch.no_grad():
        head.sharpness[0, 0] = torch.tensor([0.02, -0.03])  # 2 x cosine with the query, 5 - 3 = 2 x cosine with the item
    nodes, neighbors = torch.tensor([[0, 1]]), torch.tensor([[[[1, 2]], [[-1, -1]]]])
    query, item = head.attended(UNIT, nodes, neighbors).detach().unbind(1)
    weights = [math.exp(2 * 0 + 2 * 1), math.exp(2 * 0.6 + 2 * 0.8)]
    gathered = np.array([weights[1] * 0.6, weights[0] + weights[1] * 0.8])
    assert query[0, 0].tolist() == [1.0, 0.0]
    assert query[0, 1].tolist() == pytest.approx((gathered / np.linalg.norm(gathered)).tolist(), abs=1e-6)
    assert item[0].tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_features_have_names_and_lists_that_are_absent_count_nothing():
    head = GraphHead(1)
    nodes, neighbors = torch.tensor([[0, 1]]), torch.tensor([[[[2]], [[-1]]]])
    found = dict(zip(head.names(), head.features(torch.tensor([0.25]), UNIT, nodes, neighbors)[0].tolist(), strict=True))
    wanted = {"words": 0.25, "query_0_item_0": 0.0, "query_1_item_0": 0.8, "query_0_item_1": 0.0, "query_1_item_1": 0.0}
    assert found == pytest.approx({**wanted, "query_has_1": 1.0, "item_has_1": 0.0})
    assert GraphHead(2).names().count("query_2_item_1") == 1
    assert len(GraphHead(2).names()) == 1 + 9 + 4


def test_the_score_starts_as_the_text_match_and_is_a_weighted_sum():
    head = GraphHead(1, scale=4.0)
    features = torch.tensor([[0.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]])
    assert head(features).tolist() == [2.0]
    with torch.no_grad():
        head.weights[2], head.shift[...] = 0.01, 0.03
    assert head(features).tolist() == pytest.approx([2.0 + 4.0 * 1.0 + 3.0])
    assert head.readable()["query_0_item_1"] == pytest.approx(4.0)


@dataclass(frozen=True)
class Graph:
    """Addresses; the teacher's gain follows from behavior alone: no query shares a word with a title."""

    encoder: str
    items: str
    queries: str
    pairs: str
    soft_targets: str
    neighbors: str

    def inputs(self) -> dict[str, str]:
        return dict(vars(self))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Queries say two of 12 words, titles one of 12 others twice; relevant is what has the word that the query's shoppers took."""
    root, rng = tmp_path_factory.mktemp("graph"), np.random.default_rng(3)
    num_queries, each = 144, 8
    meant = rng.integers(12, 24, num_queries)
    owner = np.repeat(np.arange(num_queries), each)
    good = rng.random(len(owner)) < 0.5
    first = np.where(good, meant[owner], 12 + (meant[owner] - 12 + rng.integers(1, 12, len(owner))) % 12)
    queries = [f"{WORDS[number // 12]} {WORDS[number % 12]}" for number in range(num_queries)]
    titles = [f"{WORDS[word]} {WORDS[word]}" for word in first]
    names, item_ids = [f"q{number}" for number in range(num_queries)], [f"i{number}" for number in range(len(owner))]
    places = Graph(
        write_encoder(str(root / "encoder")), *(str(root / name) for name in ("items", "queries", "pairs", "soft_targets", "neighbors"))
    )
    empty = pa.nulls(len(owner), pa.string())
    columns = dict.fromkeys(("brand", "category", "color", "attributes", "description"), empty)
    tables.write_table(places.items, "items", pa.table({"item_id": item_ids, "title": titles, **columns}))
    table = query_table(pa.array(names), pa.array(queries), ["train"] * num_queries)
    tables.write_table(places.queries, "queries", table)
    keys = {"pair_id": [f"p{n:05d}" for n in range(len(owner))], "query_id": [names[n] for n in owner], "item_id": item_ids}
    keys = {name: pa.array(values) for name, values in keys.items()}
    extra = {"source": pa.array(["random"] * len(owner)), "shard": pa.array(np.zeros(len(owner), np.int32))}
    tables.write_table(places.pairs, "pairs", pa.table({**keys, **extra}))
    tables.write_table(places.soft_targets, "soft_targets", label_table(keys, np.where(good, 0.9, 0.1)))
    write_neighbors(places.neighbors, queries, [f"{WORDS[word]} {WORDS[word]}" for word in meant])
    return places


def write_neighbors(uri: str, keys: list[str], texts: list[str]) -> None:
    """One item that shoppers took, for each query."""
    number = len(keys)
    columns = {
        "snapshot": [date(2026, 1, 1)] * number, "side": ["query"] * number, "key": keys, "left_out": [""] * number,
        "rank": pa.array([1] * number, pa.int32()), "neighbor": [f"other{n}" for n in range(number)], "text": texts,
        "corrected_impressions": [9.0] * number, "clicks": [5] * number, "clients": [4] * number, "rate": [0.5] * number,
        "lower_bound": [0.3] * number, "upper_bound": [0.7] * number,
    }  # fmt: skip
    tables.write_table(uri, "neighbors", pa.table(columns))


SETTINGS: dict[str, Any] = {"architecture": "graph", "num_epochs": 6, "learning_rate": 1e-3, "max_tokens": 16, "checkpoint_steps": 0}


def test_what_behavior_alone_says_is_learnt_at_order_1_and_not_at_order_0(graph: Graph, tmp_path: Path):
    agreement = {}
    for order in (0, 1):
        config = TrainStudentConfig(**SETTINGS, graph_order=order)
        report = run(config, **graph.inputs(), model=str(tmp_path / str(order)), tracker=NullTracker())
        agreement[order] = report.metrics["validation.pairwise_agreement"]
    assert agreement[1] > 0.9
    assert agreement[0] < 0.7
    assert report.metrics["weight.query_1_item_0"] > 1.0


@pytest.fixture(scope="module")
def student(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("student") / "model")
    run(TrainStudentConfig(**{**SETTINGS, "num_epochs": 1}), **graph.inputs(), model=place, tracker=NullTracker())
    return place


def texts_of(student: str, graph: Graph) -> tuple[list[str], list[str]]:
    spec = folder.read_spec(Path(student))
    given = (read_table(getattr(graph, name), name) for name in ("pairs", "queries", "items", "neighbors"))
    return model_texts(spec, *given)


def test_a_pair_scores_the_same_alone_and_in_any_batch(graph: Graph, student: str):
    left, right = texts_of(student, graph)
    together = Scorer(student, batch_tokens=64).scores(left, right)
    alone = [Scorer(student).scores(left[row : row + 1], right[row : row + 1])[0] for row in (0, 7, 500)]
    np.testing.assert_allclose(together[[0, 7, 500]], alone, atol=1e-5)
    assert together.std() > 0.1


def test_the_folder_scores_as_the_student_did(graph: Graph, student: str, tmp_path: Path):
    texts = tuple(side[:40] for side in texts_of(student, graph))
    spec, place = folder.read_spec(Path(student)), Path(student)
    made = GraphStudent(folder.load_model(place, spec), folder.load_tokenizer(place), texts, spec=spec, batch_tokens=512, scale=1.0)
    with torch.no_grad():
        made.head.weights.normal_(generator=torch.Generator().manual_seed(2))
    again = str(tmp_path / "again")
    save_student(again, made, folder.load_tokenizer(place), spec)
    np.testing.assert_allclose(Scorer(again).scores(*texts), made.predict(np.arange(40))[:, 0], atol=1e-5)


def test_without_neighbors_or_its_head_a_graph_student_is_refused(graph: Graph, student: str, tmp_path: Path):
    inputs = {name: uri for name, uri in graph.inputs().items() if name != "neighbors"}
    with pytest.raises(InputError, match="trained with behavior neighbors; give the neighbors table"):
        run(TrainStudentConfig(**SETTINGS), **inputs, model=str(tmp_path / "m"), tracker=NullTracker())
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", folder.SPEC):
        (copy / name).write_bytes((Path(student) / name).read_bytes())
    with pytest.raises(InputError, match=f"no {HEAD_FILE}"):
        Scorer(str(copy))
    (copy / HEAD_FILE).write_bytes((Path(student) / HEAD_FILE).read_bytes())
    spec = storage.read_json(str(copy / folder.SPEC))
    storage.write_json(str(copy / folder.SPEC), {**spec, "graph_order": 2})
    with pytest.raises(InputError, match="not the head of a graph student of order 2"):
        Scorer(str(copy))


def test_a_student_teaches_the_next_by_the_probability_its_logit_stands_for(graph: Graph, student: str):
    left, right = (side[:5] for side in texts_of(student, graph))
    scorer = Scorer(student)
    wanted = 1.0 / (1.0 + np.exp(-scorer.scores(left, right)))
    np.testing.assert_allclose(scorer.probabilities(left, right), np.stack([1 - wanted, wanted], 1), atol=1e-6)
