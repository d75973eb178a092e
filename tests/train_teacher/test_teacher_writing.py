"""A teacher that writes: what it is taught by task, what a batch of that costs, and that it learns to judge step by step."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from decoder_folders import make_writer

from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.generative import Wording
from components.shared.models.scoring import Scorer
from components.shared.schema import TABLES
from components.shared.tables import read_table, write_table
from components.shared.text import DECODER_PREFIX
from components.shared.tracking import NullTracker
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Examples, Sources, Tables, read_tables
from components.train_teacher.network import teacher_spec
from components.train_teacher.step import run
from components.train_teacher.writing import WritingExamples, WritingObjective

ALL = ["explain", "rules", "reflect"]
SHORT = {
    "min_pairwise_accuracy": 0.0,
    "form": "generative", "reasoning": ALL, "num_neighbors": 0, "max_tokens": 48, "step_tokens": 40, "batch_size": 24, "precision": "fp32",
    "validation_share": 0.2, "smoothing": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_writer(str(tmp_path_factory.mktemp("writer")), "qwen3", positions=256)


def lessons(shop: dict[str, str], writer: str, **settings: Any) -> tuple[WritingExamples, Tables, TrainTeacherConfig]:
    config = TrainTeacherConfig.model_validate({**SHORT, **settings})
    tables = read_tables(Sources(**{**shop, "encoder": writer}), config)
    path = folder.fetch(writer)
    spec, tokenizer = teacher_spec(path, config, tables.card.gains()), folder.load_tokenizer(path)
    return WritingExamples.of(Examples.of(tables, spec, tokenizer, config), tables, spec, tokenizer, config), tables, config


def sub_judgments(uri: Path, rows: list[dict[str, str]]) -> str:
    schema = TABLES["sub_judgments"].schema
    write_table(str(uri), "sub_judgments", pa.Table.from_pylist([dict.fromkeys(schema.names) | row for row in rows], schema=schema))
    return str(uri)


def told(examples: WritingExamples, number: int) -> str:
    given, mask = examples.encoded.batch(np.array([number]))
    ids, written = given["input_ids"][0].tolist(), int(mask.sum()) + 1
    decode = examples.encoded.wording.tokenizer.decode
    return f"{decode(ids[:-written])}>>{decode(ids[-written:])}"


def test_each_task_asks_and_answers_in_its_own_way(shop: dict[str, str], writer: str) -> None:
    examples, tables, _ = lessons(shop, writer)
    pairs = tables.training
    row = pc.index(pc.and_(pc.equal(pairs["query_id"], "q1"), pc.equal(pairs["item_id"], "i0")), True).as_py()  # blue shoes, red shoes
    start = f"{DECODER_PREFIX.format(left='query: blue shoes')}title: red shoes | color: red | description: a shoes\n"
    # no step about the category: this shop's items have none
    steps = "brand: not_mentioned\nattribute: mismatch\nnegation: not_mentioned\naccessory_for: not_mentioned\ngrade:1"
    size = len(examples.encoded.prompts)
    by_task = {name: told(examples, place * size + row) for name, place in examples.first.items()}
    assert list(by_task) == ["explain", "rules", "grade", "reflect"]
    assert by_task["explain"].startswith(f"{start}Judge every aspect")
    assert by_task["explain"].endswith(f"\n>>{steps}")
    assert "Rules:\ncategory: an item of another kind" in by_task["rules"]
    assert by_task["rules"].endswith(f"Check rule by rule, then give the grade.\n>>{steps}")
    assert by_task["grade"] == f"{start}Give the grade.\n>>grade:1"
    assert "Someone decided grade: 0, which is wrong." in by_task["reflect"]
    assert by_task["reflect"].endswith(f">>error: too_low\n{steps}")
    looked_back = told(examples, (examples.first["reflect"] + 2) * size + row)
    assert "decided grade: 2," in looked_back
    assert ">>error: too_high\n" in looked_back
    assert (
        examples.encoded.lengths[examples.first["rules"] * size + row]
        == examples.encoded.batch(np.array([size + row]))[0]["input_ids"].shape[1]
    )


def test_every_pair_is_shown_once_with_a_task_that_is_switched_on(shop: dict[str, str], writer: str) -> None:
    examples, _, config = lessons(shop, writer)
    size, num_pairs = len(examples.encoded.prompts), len(examples.grades)
    numbers = np.concatenate([np.concatenate(examples.batches(epoch, config)) for epoch in range(12)])
    assert np.bincount(examples.pairs_of(numbers)).tolist() == [12] * num_pairs
    shares = np.bincount(np.minimum(numbers // size, 3), minlength=4) / len(numbers)
    np.testing.assert_allclose(shares, 0.25, atol=0.04)
    decisions, grades = numbers // size - examples.first["reflect"], examples.grades[examples.pairs_of(numbers)]
    reflected = decisions >= 0
    assert (decisions[reflected] != grades[reflected]).all()
    assert set(np.unique(decisions[reflected])) == {0, 1, 2}
    again, _, _ = lessons(shop, writer, reasoning=["rules"])
    assert list(again.first) == ["rules", "grade"]
    assert np.concatenate(again.batches(0, config)).max() < 2 * size
    plain, _, _ = lessons(shop, writer, reasoning=[])
    assert list(plain.first) == ["grade"]


def test_the_loss_is_that_of_the_reply_alone(shop: dict[str, str], writer: str) -> None:
    examples, _, _ = lessons(shop, writer, smoothing=0.2, balance=0.5)
    model = folder.load_model(folder.fetch(writer), folder.read_spec(Path(writer)))
    objective = WritingObjective(examples, torch.device("cpu"))
    numbers = np.array([0, 5, 3 * len(examples.encoded.prompts) + 7, 2 * len(examples.encoded.prompts)])
    expected = []
    for number in numbers.tolist():
        given, mask = examples.encoded.batch(np.array([number]))
        ids, written = given["input_ids"][0], int(mask.sum())
        with torch.inference_mode():
            log_p = torch.log_softmax(model(ids[None]).logits[0], -1)
        of_tokens = [-log_p[place - 1, ids[place]] for place in range(len(ids) - 1 - written, len(ids) - 1)]
        grade = int(examples.grades[number % len(examples.grades)])
        shares = {0: [0.8, 0.2, 0.0], 1: [0.1, 0.8, 0.1], 2: [0.0, 0.2, 0.8]}[grade]
        of_grade = -(torch.tensor(shares) * log_p[-2, examples.encoded.wording.grade.grades]).sum()
        weight = examples.examples.weights[number % len(examples.grades)]
        expected.append((float(sum(of_tokens)) / written + float(of_grade)) * weight)
    with torch.inference_mode():
        found = [float(objective(model, np.array([number]))) for number in numbers]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        np.testing.assert_allclose(float(objective(model, numbers)), np.mean(expected), rtol=1e-4)


def test_it_learns_to_judge_step_by_step(shop: dict[str, str], writer: str, tmp_path: Path) -> None:
    judgments = read_table(shop["judgments"], "judgments")
    shoes = pc.is_in(judgments["item_id"], value_set=pa.array(["i0", "i1", "i2"]))  # what items tell is quicker learnt than what pairs do
    grades = pc.if_else(shoes, pa.scalar(2, pa.int32()), pa.scalar(0, pa.int32()))
    write_table(str(tmp_path / "j"), "judgments", judgments.set_column(judgments.column_names.index("grade"), "grade", grades))
    rows = judgments.select(["query_id", "item_id"]).append_column("verdict", pc.if_else(shoes, "match", "mismatch")).to_pylist()
    sub_judgments(tmp_path / "s", [{**row, "aspect": "category", "annotator": "a"} for row in rows])
    config = TrainTeacherConfig.model_validate(
        {**SHORT, "reasoning": ["explain"], "sub_judgments": str(tmp_path / "s"), "num_epochs": 10, "learning_rate": 5e-3}
    )
    given = {**shop, "encoder": writer, "judgments": str(tmp_path / "j")}
    report = run(config, **given, model=str(tmp_path / "m"), tracker=NullTracker())
    spec = folder.read_spec(tmp_path / "m")
    assert (spec.replies, spec.step_tokens, spec.decoder) == (["explain", "grade"], 40, True)
    scorer = Scorer(str(tmp_path / "m"))
    assert scorer.writer is not None
    left = ["query: red shoes"] * 2
    right = [f"title: {one} | color: {one.split()[0]} | description: a {one.split()[1]}" for one in ("red shoes", "green cup")]
    written = scorer.writer.write(left, right)
    assert not written.malformed
    assert [(chain.steps["category"].verdict if chain else None) for chain in written.chains()] == ["match", "mismatch"]
    scores = scorer.scores(left, right)
    assert scores[0] > scores[1] + 0.3
    assert Scorer(str(tmp_path / "m"), steps=False).scores(left, right)[0] > scores[1] + 0.3
    assert report.metrics["validation.malformed_share"] == 0


def test_sub_judgments_come_from_a_table(shop: dict[str, str], writer: str, tmp_path: Path) -> None:
    ids = read_table(shop["judgments"], "judgments").slice(0, 1).to_pylist()[0]
    rows = [{"query_id": ids["query_id"], "item_id": ids["item_id"], "aspect": "brand", "verdict": "mismatch", "annotator": "a"}]
    rows.append({**rows[0], "query_id": "q-elsewhere"})
    examples, tables, config = lessons(shop, writer, sub_judgments=sub_judgments(tmp_path / "one", rows), validation_share=0.0)
    assert examples.has_steps.sum() == 1
    (row,) = np.flatnonzero(examples.has_steps)
    assert (tables.training["query_id"][int(row)].as_py(), tables.training["item_id"][int(row)].as_py()) == (
        ids["query_id"],
        ids["item_id"],
    )
    assert ">>brand: mismatch\ngrade:" in told(examples, int(row))
    numbers = np.concatenate(examples.batches(0, config))
    others = numbers[examples.pairs_of(numbers) != row]
    assert (others // len(examples.encoded.prompts) == examples.first["grade"]).all()
    elsewhere = sub_judgments(tmp_path / "other", rows[1:])
    with pytest.raises(InputError, match=r"key 'sub_judgments' = '.*other.*': none for the \d+ training pairs; annotate these"):
        lessons(shop, writer, sub_judgments=elsewhere)


@pytest.mark.nightly
@pytest.mark.parametrize("stage", [2, 3])
def test_two_processes_learn_to_write_what_one_does(shop: dict[str, str], writer: str, tmp_path: Path, stage: int) -> None:
    settings = {**SHORT, "num_epochs": 1, "learning_rate": 2e-3}
    given = {**shop, "encoder": writer}
    reports = [
        run(TrainTeacherConfig.model_validate({**settings, **more}), **given, model=str(tmp_path / name), tracker=NullTracker())
        for name, more in (("one", {}), ("two", {"num_processes": 2, "zero_stage": stage}))
    ]
    for name in ("loss.last", "validation.cross_entropy"):
        np.testing.assert_allclose(reports[1].metrics[name], reports[0].metrics[name], rtol=2e-3)
    texts = (["query: red shoes"], ["title: red shoes"])
    np.testing.assert_allclose(*(Scorer(str(tmp_path / name), steps=False).logits(*texts) for name in ("one", "two")), atol=1e-2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_adapters_learn_to_write_too(shop: dict[str, str], writer: str, tmp_path: Path, precision: str) -> None:
    settings = {
        **SHORT,
        "reasoning": ["reflect"],
        "lora_rank": 4,
        "num_epochs": 1,
        "precision": precision,
        "activation_checkpointing": True,
    }
    config = TrainTeacherConfig.model_validate(settings)
    report = run(config, **{**shop, "encoder": writer}, model=str(tmp_path / "m"), tracker=NullTracker())
    scorer = Scorer(str(tmp_path / "m"), precision=precision)
    before = folder.load_model(folder.fetch(writer), folder.read_spec(Path(writer)))
    assert not torch.equal(scorer.model.lm_head.weight.float(), before.lm_head.weight) or not torch.equal(
        scorer.model.model.layers[0].self_attn.q_proj.weight.float(), before.model.layers[0].self_attn.q_proj.weight
    )
    assert scorer.engine.split(", ")[1] == "writes grade"  # reflecting needs a decision, so nothing scores by it
    assert np.isfinite(report.metrics["validation.cross_entropy"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "head"}, "for a teacher that writes; set form 'generative'"),
        ({"reasoning": ["rules", "rules"]}, "reasoning rules, rules names a task twice"),
        ({"folding": "walmart"}, "form 'generative' learns tokens: set folding"),
        ({"ranking_weight": 1.0}, "form 'generative' learns tokens"),
        ({"reading": "separate"}, "form 'generative' learns tokens"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainTeacherConfig.from_mapping({**SHORT, **settings}, section="teacher")


def test_networks_that_do_not_fit_are_refused(shop: dict[str, str], writer: str) -> None:
    config = TrainTeacherConfig.model_validate(SHORT)
    with pytest.raises(InputError, match=r"key 'form' = 'generative': '.*' is no decoder and cannot write; set 'head'"):
        teacher_spec(folder.fetch(shop["encoder"]), config, [0.0, 1.0])
    wide = config.model_copy(update={"max_tokens": 200})
    with pytest.raises(InputError, match=r"'max_tokens' = 200: with \d+ tokens of task and reply it is more than the 256"):
        teacher_spec(folder.fetch(writer), wide, [0.0, 1.0])
    with pytest.raises(InputError, match=r"key 'step_tokens' = 5: this tokenizer writes the longest chain in \d+; raise it"):
        lessons(shop, writer, step_tokens=5)
    assert Wording(folder.load_tokenizer(folder.fetch(writer)), 3).grade.prefix
