"""Our losses against those of the same name in sentence-transformers, on the same tiny cross-encoder, texts and targets."""

import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import losses as others
from sentence_transformers.sentence_transformer import losses as of_towers
from transformers import BertConfig, BertForSequenceClassification

from components.prepare_encoder.vocabulary import learn_tokenizer
from components.shared.losses import bce, kl_listwise, listnet, margin_mse, pointwise_mse, ranknet

QUERIES = ["red shoes", "garden lamp"]
ITEMS = [["blue shoes", "red lamp", "red shoes for garden"], ["lamp", "garden lamp", "small chair"]]
TARGETS = [[0.1, 0.3, 0.9], [0.6, 0.8, 0.2]]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("cross"))
    tokenizer = learn_tokenizer(["red blue shoes lamp chair for large small garden kitchen"] * 3, 120, 64)
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=120,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=1,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return CrossEncoder(folder, activation_fn=torch.nn.Identity(), device="cpu").eval()


@pytest.fixture(scope="module")
def ours(network):
    """Scores, targets, groups and their number, as our losses take them."""
    pairs = [(query, item) for query, items in zip(QUERIES, ITEMS, strict=True) for item in items]
    scores = torch.from_numpy(network.predict(pairs))
    assert scores.std() > 0.1  # else equal losses would say nothing
    return scores, torch.tensor(TARGETS).flatten(), torch.tensor([0, 0, 0, 1, 1, 1]), 2


def one_by_one():
    """Columns of pairs, as their pointwise losses take them."""
    return [[query for query, items in zip(QUERIES, ITEMS, strict=True) for _ in items], [item for items in ITEMS for item in items]]


@pytest.mark.parametrize(("name", "loss"), [("MSELoss", pointwise_mse), ("BinaryCrossEntropyLoss", bce)])
def test_pointwise(network, ours, name, loss):
    theirs = getattr(others, name)(network)(one_by_one(), torch.tensor(TARGETS).flatten())
    assert loss(*ours).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_listnet(network, ours):
    theirs = others.ListNetLoss(network)([QUERIES, ITEMS], [torch.tensor(one) for one in TARGETS])
    assert listnet(*ours).item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_kl_over_the_list_with_a_temperature(ours, temperature):
    """Theirs is of a bi-encoder's products; vectors of one number make these any scores."""
    scores, targets, groups, number = ours
    theirs = of_towers.DistillKLDivLoss(None, student_temperature=1.0, teacher_temperature=temperature)
    columns = [torch.ones(2, 1), *scores.reshape(2, 3).T[:, :, None]]
    found = kl_listwise(scores, targets / temperature, groups, number).item()
    assert found == pytest.approx(theirs.compute_loss_from_embeddings(columns, torch.tensor(TARGETS)).item(), rel=1e-5)


def test_margin_mse_of_every_two_items(network, ours):
    """Theirs takes one pair of items a row; ours is its mean over all of them."""
    places = [(first, second) for first in range(3) for second in range(first + 1, 3)]
    columns = [[], [], []]
    margins = []
    for query, items, targets in zip(QUERIES, ITEMS, TARGETS, strict=True):
        for first, second in places:
            for column, value in zip(columns, (query, items[first], items[second]), strict=True):
                column.append(value)
            margins.append(targets[first] - targets[second])
    theirs = others.MarginMSELoss(network)(columns, torch.tensor(margins))
    assert margin_mse(*ours).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_ranknet(network, ours):
    """Theirs is a mean over all pairs; both queries have three, so ours weighs them alike."""
    theirs = others.RankNetLoss(network, reduction_log="natural")([QUERIES, ITEMS], [torch.tensor(one) for one in TARGETS])
    assert ranknet(*ours).item() == pytest.approx(theirs.item(), rel=1e-5)
