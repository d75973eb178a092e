"""Edited copies of relevant pairs: values by hand, which pairs have one, and a student that learns to put them below."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import Toy, label_table, query_table
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from components.shared import tables
from components.shared.edits import LOWERING
from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.scoring import Scorer
from components.shared.report import Report
from components.shared.tracking import NullTracker
from components.train_student.config import TrainStudentConfig
from components.train_student.counterfactuals import draw_copies, make_copies, order_loss, share_falling
from components.train_student.objective import batch_loss, score_loss
from components.train_student.step import run
from components.train_student.targets import Lessons

COLORS, KINDS = ("red", "blue", "green", "white"), ("shoes", "lamp", "cup", "chair", "bag", "shirt")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *COLORS, *KINDS, "protective", "case", "for", "without", "color", ":", "|"]
SETTINGS = {"architecture": "bi_encoder", "learning_rate": 3e-3, "max_tokens": 24, "queries_per_batch": 8, "items_per_query": 12}
SETTINGS |= {"checkpoint_steps": 0, "num_epochs": 6, "validation_share": 0.2}
NEGATION, ACCESSORY = LOWERING.index("negation"), LOWERING.index("accessory_for")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Every color of every kind, asked for and sold: 1 for both right, 1/2 for the kind, 0 otherwise."""
    root = tmp_path_factory.mktemp("shop")
    raw = Tokenizer(models.WordLevel({word: number for number, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()  # pyright: ignore
    raw.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **names)
    torch.manual_seed(1)
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 128, "max_position_embeddings": 32}
    model = BertModel(BertConfig(vocab_size=len(VOCABULARY), initializer_range=0.08, **sizes))
    toy = Toy(*(str(root / name) for name in ("encoder", "items", "queries", "pairs", "soft_targets")))
    folder.save(toy.encoder, model, tokenizer, folder.ModelSpec("encoder", 24))
    things = list(product(COLORS, KINDS))
    text = pa.array([" ".join(thing) for thing in things])
    number = pa.array([str(place) for place in range(len(things))])
    empty = dict.fromkeys(("brand", "category", "attributes", "description"), pa.nulls(len(things), pa.string()))
    color = pa.array([color for color, _ in things])
    tables.write_table(toy.items, "items", pa.table({"item_id": number, "title": text, "color": color, **empty}))
    tables.write_table(toy.queries, "queries", query_table(number, text, ["train"] * len(things)))
    asked, given = (one.ravel() for one in np.meshgrid(np.arange(len(things)), np.arange(len(things)), indexing="ij"))
    gains = np.array([(things[a][1] == things[b][1]) * (1 + (things[a][0] == things[b][0])) / 2 for a, b in zip(asked, given, strict=True)])
    keys = {"pair_id": pa.array([f"p{n:04d}" for n in range(len(asked))]), "query_id": number.take(asked), "item_id": number.take(given)}
    once = {"source": pa.array(["random"] * len(asked)), "shard": pa.array(np.zeros(len(asked), np.int32))}
    tables.write_table(toy.pairs, "pairs", pa.table({**keys, **once}))
    tables.write_table(toy.soft_targets, "soft_targets", label_table(keys, gains))
    return toy


def train(toy: Toy, model: Path, **settings: Any) -> Report:
    return run(TrainStudentConfig(**SETTINGS | settings), **toy.inputs(), model=str(model), tracker=NullTracker())


def lessons_of(pairs: list[tuple[str, str, float]]) -> Lessons:
    query, item, gains = (list(column) for column in zip(*pairs, strict=True))
    table = pa.table({"query_id": query, "item_id": item, "pair_id": [str(n) for n in range(len(pairs))]})
    values = np.asarray(gains, np.float32)
    return Lessons(table, np.zeros(len(pairs), np.int64), values, values, values, np.zeros(len(pairs), bool), {})


def test_the_order_of_copies_by_hand():
    # differences 1 and -2 over a temperature of 1/2: ln(1 + e^-2) + ln(1 + e^4) = .126928 + 4.018150, over two
    found = order_loss(torch.tensor([3.0, 0.0]), torch.tensor([2.0, 2.0]), 0.5)
    assert found.item() == pytest.approx((0.126928 + 4.018150) / 2, abs=1e-6)
    assert order_loss(torch.zeros(0), torch.zeros(0), 1.0).item() == 0


def test_a_row_stands_with_one_of_its_own_copies_as_often_as_asked():
    copies = np.tile(np.array([[-1, 7, 9], [-1, -1, -1], [-1, -1, 8]]), (400, 1))
    places, drawn = draw_copies(copies, 0.5, np.random.default_rng(0))
    assert set(drawn.tolist()) == {7, 8, 9}
    assert (copies[places] == drawn[:, None]).any(1).all()
    assert len(places) == pytest.approx(400, abs=40)  # of 800 rows that have one
    assert np.count_nonzero(drawn == 7) == pytest.approx(np.count_nonzero(drawn == 9), abs=40)
    assert len(draw_copies(copies, 0.0, np.random.default_rng(0))[0]) == 0


def test_relevant_pairs_have_copies_whose_rows_count_on(shop: Toy):
    queries, items = tables.read_table(shop.queries, "queries"), tables.read_table(shop.items, "items")
    lessons = lessons_of([("0", "0", 1.0), ("0", "6", 0.4), ("0", "0", 0.5)])  # red shoes, and for them blue ones
    config = TrainStudentConfig(counterfactual_share=1.0)
    copies, (left, right) = make_copies(config, folder.ModelSpec("bi_encoder", 24), lessons, queries, items, None)
    assert (copies[1] == -1).all()
    assert sorted(copies[copies >= 0].tolist()) == list(range(3, 3 + len(left)))
    assert (left[copies[0, ACCESSORY] - 3], right[copies[0, ACCESSORY] - 3]) == ("red shoes", "Protective case for red shoes | color: red")
    assert copies[0, NEGATION] == -1  # the query excludes nothing
    with pytest.raises(InputError, match=r"no edit applies to any of 0 pairs whose gain is 0\.5 or more"):
        make_copies(config, folder.ModelSpec("bi_encoder", 24), lessons_of([("0", "0", 0.1)]), queries, items, None)


class Fixed(torch.nn.Module):
    """Answers by row."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores = torch.tensor(scores)[:, None]

    def answers(self, rows: np.ndarray) -> torch.Tensor:
        return self.scores[torch.from_numpy(rows)]

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.answers(rows).numpy()


def test_copies_are_added_to_the_loss_of_their_originals():
    lessons = lessons_of([("q", "a", 1.0), ("q", "b", 0.0)])
    copies = np.full((2, len(LOWERING)), -1)
    copies[1, ACCESSORY] = 2
    student: Any = Fixed([1.0, 0.5, 2.5])
    config = TrainStudentConfig(counterfactual_share=1.0, counterfactual_weight=0.1)
    alone = score_loss(config, torch.tensor([1.0, 0.5]), lessons, np.arange(2))
    with_copies = Lessons(**vars(lessons) | {"copies": copies})
    assert batch_loss(config, student, lessons, np.arange(2)).item() == pytest.approx(alone.item())
    found = batch_loss(config, student, with_copies, np.arange(2)).item()
    assert found - alone.item() == pytest.approx(0.1 * np.log(1 + np.exp(2)), abs=1e-6)  # the copy is 2 above its original


def test_shares_of_copies_below_by_hand():
    copies = np.full((3, len(LOWERING)), -1)
    copies[:, ACCESSORY], copies[0, NEGATION] = [3, 4, 5], 6
    found = share_falling(Fixed([1.0, 1.0, 1.0, 0.0, 1.0, 2.0, 0.5]), np.ones(3), copies)  # type: ignore[arg-type]
    assert found == {"negation": 1.0, "accessory_for": pytest.approx(1 / 3)}
    assert share_falling(Fixed([1.0]), np.ones(1), copies[:1] * 0 - 1) == {}  # type: ignore[arg-type]


def test_a_student_learns_to_put_copies_below(shop: Toy, tmp_path: Path):
    reports = {name: train(shop, tmp_path / name, counterfactual_share=share) for name, share in (("with", 1.0), ("without", 0.0))}
    assert reports["with"].metrics["validation.falls.accessory_for"] == 1.0
    assert reports["with"].metrics["validation.spearman"] > 0.6
    assert not [name for name in reports["without"].metrics if "falls" in name]
    things = [(f"{color} {kind}", color) for color, kind in product(COLORS, KINDS)]
    drops = {}
    for name in reports:
        scorer = Scorer(str(tmp_path / name))
        asked = [thing for thing, _ in things]
        plain, edited = (
            scorer.scores(asked, [f"{start}{thing} | color: {color}" for thing, color in things]) for start in ("", "protective case for ")
        )
        drops[name] = (plain - edited).mean()
    assert drops["with"] > drops["without"] + 0.05  # of a cosine


def test_equal_seeds_draw_equal_copies(shop: Toy, tmp_path: Path):
    settings = {"counterfactual_share": 0.5, "num_epochs": 2}
    for name in "ab":
        train(shop, tmp_path / name, **settings)
    train(shop, tmp_path / "c", **settings | {"counterfactual_share": 0.4})
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]
