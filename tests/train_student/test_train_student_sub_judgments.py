"""Sub-judgments beside the score: values by hand, what the heads read, where verdicts come from, and folders that do not hold the heads."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from conftest import Toy, query_table
from safetensors.torch import load_file

from components.shared import tables
from components.shared.errors import InputError
from components.shared.models.folder import ModelSpec, load_model, load_tokenizer
from components.shared.report import Report
from components.shared.schema import ASPECTS
from components.shared.tracking import NullTracker
from components.train_student.config import TrainStudentConfig
from components.train_student.step import run
from components.train_student.students import BiEncoder, CrossEncoder
from components.train_student.sub_judgments import head_accuracy, sub_judgment_loss, sub_judgments_of

SETTINGS = {"learning_rate": 3e-3, "max_tokens": 24, "queries_per_batch": 8, "items_per_query": 12, "checkpoint_steps": 0}
TEXTS = (["w1 w2", "w3", "w4 w5"], ["w1 w7 w8", "w9 w10", "w5"])
NAN = float("nan")


def test_the_loss_of_the_heads_by_hand():
    logits = torch.tensor([[0.0, 2.0], [1.0, -3.0]], requires_grad=True)
    met = torch.tensor([[1.0, 0.0], [NAN, NAN]])
    loss = sub_judgment_loss(logits, met)
    # row 1: ln 2 + ln(1 + e^2) = .693147 + 2.126928; row 2 is told nothing; over two rows
    assert loss.item() == pytest.approx((0.693147 + 2.126928) / 2, abs=1e-6)
    loss.backward()
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), [[-0.25, 0.440399], [0, 0]], atol=1e-6)  # (sigmoid - met) / 2


def test_accuracy_of_heads_by_hand():
    met = np.array([[1.0, NAN], [1.0, NAN], [0.0, NAN], [NAN, NAN], [1.0, NAN]])
    met = np.pad(met, ((0, 0), (0, 3)), constant_values=NAN)
    logits = np.tile(np.array([[2.0], [-1.0], [-1.0], [9.0], [0.5]]), 5)
    assert head_accuracy(logits, met) == {"category.accuracy": 0.75, "category.majority": 0.75}


def network_of(toy: Toy, kind: str) -> Any:
    torch.manual_seed(0)
    return load_model(Path(toy.encoder), ModelSpec(kind, 24)).eval()


def test_heads_of_a_cross_encoder_read_what_its_score_reads(toy: Toy):
    network, tokenizer = network_of(toy, "cross_encoder"), load_tokenizer(Path(toy.encoder))
    student = CrossEncoder(network, tokenizer, TEXTS, max_tokens=24, batch_tokens=12, num_heads=2)
    answers, heads = student.answers(np.arange(3)), student.heads
    assert heads is not None
    batch = tokenizer(*TEXTS, padding=True, return_tensors="pt")
    pooled = network.bert(**batch).pooler_output
    torch.testing.assert_close(answers, torch.cat([network.classifier(pooled), heads(pooled)], dim=1), rtol=1e-4, atol=1e-5)
    assert not student.score_head()._forward_pre_hooks


def test_heads_of_a_bi_encoder_read_the_product_of_both_vectors(toy: Toy):
    network, tokenizer = network_of(toy, "bi_encoder"), load_tokenizer(Path(toy.encoder))
    student = BiEncoder(network, tokenizer, TEXTS, max_tokens=24, batch_tokens=4096, scale=3.0, num_heads=2)
    answers, heads = student.answers(np.arange(3)), student.heads
    assert heads is not None
    left, right = (
        torch.nn.functional.normalize(
            torch.stack([network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in side]), dim=1
        )
        for side in TEXTS
    )
    torch.testing.assert_close(answers[:, 0], 3.0 * (left * right).sum(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(answers[:, 1:], heads(64 * left * right), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def told(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Verdicts of the toy: an attribute is met where the teacher sees any overlap; every third query asks for a brand that nothing has."""
    labels = tables.read_table(toy.soft_targets, "soft_targets").select(["query_id", "item_id", "score"])
    attribute = pc.if_else(pc.greater(labels["score"], 0.0), "match", "mismatch")
    asks = [int(name.removeprefix("q")) % 3 == 0 for name in labels["query_id"].to_pylist()]
    rows = [table_of(labels, "attribute", attribute), table_of(labels.filter(pa.array(asks)), "brand", "mismatch")]
    rows.append(table_of(labels, "negation", "not_mentioned"))
    place = str(tmp_path_factory.mktemp("told") / "sub_judgments")
    tables.write_table(place, "sub_judgments", pa.concat_tables(rows))
    return place


def table_of(labels: pa.Table, aspect: str, verdict: Any) -> pa.Table:
    verdict = pa.array([verdict] * len(labels)) if isinstance(verdict, str) else verdict
    once = {name: pa.array([value] * len(labels), pa.string()) for name, value in (("aspect", aspect), ("annotator", "hand"))}
    spans = dict.fromkeys(("query_span", "item_span"), pa.nulls(len(labels), pa.string()))
    return pa.table({"query_id": labels["query_id"], "item_id": labels["item_id"], "verdict": verdict, **once, **spans})


def train(toy: Toy, model: Path, **settings: Any) -> Report:
    return run(TrainStudentConfig(**SETTINGS | settings), **toy.inputs(), model=str(model), tracker=NullTracker())


def test_heads_learn_and_stay_out_of_the_folder(toy: Toy, told: str, tmp_path: Path):
    settings = {"architecture": "bi_encoder", "num_epochs": 8}
    report = train(toy, tmp_path / "with", sub_judgment_weight=1.0, sub_judgments=told, **settings)
    found = {name.removeprefix("validation.sub_judgments."): value for name, value in report.metrics.items() if "sub_judgments" in name}
    assert set(found) == {"attribute.accuracy", "attribute.majority", "brand.accuracy", "brand.majority"}  # negation is never asked for
    assert found["attribute.accuracy"] > found["attribute.majority"] + 0.1
    assert report.metrics["validation.pairwise_agreement"] > 0.95
    train(toy, tmp_path / "without", **settings, max_pairs=120, validation_share=0.01)
    files = [{path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*")} for name in ("with", "without")]
    assert files[0] == files[1]
    assert load_file(tmp_path / "with/model.safetensors").keys() == load_file(tmp_path / "without/model.safetensors").keys()


def test_heads_of_a_cross_encoder_move_its_network_under_a_push_too(toy: Toy, told: str, tmp_path: Path):
    given = {"sub_judgment_weight": 1.0, "sub_judgments": told, "max_pairs": 240, "validation_share": 0.05, "adversarial_weight": 0.5}
    weights = []
    for name, settings in (("whole", given), ("score", {**given, "sub_judgment_weight": 0.0, "sub_judgments": ""})):
        report = train(toy, tmp_path / name, **settings)
        weights.append(load_file(tmp_path / name / "model.safetensors"))
        assert ("validation.sub_judgments.attribute.accuracy" in report.metrics) == (name == "whole")
    assert not torch.equal(weights[0]["bert.embeddings.word_embeddings.weight"], weights[1]["bert.embeddings.word_embeddings.weight"])


def shop() -> tuple[pa.Table, pa.Table, pa.Table, pa.Table]:
    """Three items of one brand and one of another, and queries by brand; `trainer` is no word of the catalogue."""
    items = [("i1", "Alvera shoe", "Alvera", "Shoes"), ("i2", "Alvera lamp", "Alvera", "Lamps"), ("i3", "Bronto shoe", "Bronto", "Shoes")]
    empty = dict.fromkeys(("color", "attributes", "description"), pa.nulls(3, pa.string()))
    columns = dict(zip(("item_id", "title", "brand", "category"), map(list, zip(*items, strict=True)), strict=True))
    text = pa.array(["alvera trainer", "trainer", "bronto trainer"])
    queries = query_table(pa.array(["q1", "q2", "q3"]), text, ["train"] * 3)
    pairs = pa.table({"query_id": ["q1", "q1", "q1"], "item_id": ["i1", "i2", "i3"]})
    judged = [(query, item, 1.0 if item != "i2" else 0.0) for query in ("q2", "q3") for item in ("i1", "i2", "i3")]
    judgments = pa.table(dict(zip(("query_id", "item_id", "gain"), map(list, zip(*judged, strict=True)), strict=True)))
    return pairs, queries, pa.table({**columns, **empty}), judgments.append_column("split", pa.array(["train"] * 6))


def test_rules_tell_where_no_table_does_and_learn_from_train_judgments_alone():
    config = TrainStudentConfig(sub_judgment_weight=1.0)
    pairs, queries, items, judgments = shop()
    brand, category = ASPECTS.index("brand"), ASPECTS.index("category")
    alone = sub_judgments_of(config, pairs, queries, items, None)
    assert alone[:, brand].tolist() == [1.0, 1.0, 0.0]
    assert np.isnan(alone[:, category]).all()
    taught = sub_judgments_of(config, pairs, queries, items, judgments)
    assert taught[:, category].tolist() == [1.0, 0.0, 1.0]
    of_dev = judgments.set_column(3, "split", pa.array(["dev"] * 6))
    assert np.isnan(sub_judgments_of(config, pairs, queries, items, of_dev)[:, category]).all()


def test_mistakes_are_named(toy: Toy, told: str, tmp_path: Path):
    with pytest.raises(InputError, match="sub_judgments names a table that weighs nothing"):
        TrainStudentConfig.from_mapping({"sub_judgments": told}, section="cross_encoder")
    rows = tables.read_table(told, "sub_judgments")
    tables.write_table(str(tmp_path / "unasked"), "sub_judgments", rows.filter(pc.equal(rows["verdict"], "not_mentioned")))
    with pytest.raises(InputError, match="unasked' tell no verdict on these pairs; annotate the pool"):
        train(toy, tmp_path / "m", sub_judgment_weight=0.5, sub_judgments=str(tmp_path / "unasked"))


def test_another_table_makes_another_student(toy: Toy, told: str, tmp_path: Path):
    config = TrainStudentConfig(sub_judgment_weight=1.0, sub_judgments=told)
    before = config.references()
    copy = str(tmp_path / "told")
    tables.write_table(copy, "sub_judgments", tables.read_table(told, "sub_judgments").slice(1))
    of_copy = config.model_copy(update={"sub_judgments": copy})
    assert config.references() == before != of_copy.references()
