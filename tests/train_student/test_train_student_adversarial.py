"""Contrastive adversarial training: values by hand, a push that hurts, and a student that it makes steadier."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Toy

from components.shared.models.folder import ModelSpec, load_model, load_tokenizer
from components.shared.tracking import NullTracker
from components.train_student.adversarial import adversarial_loss, directions, embeddings_of, recording, shifting, symmetric_kl
from components.train_student.config import TrainStudentConfig
from components.train_student.step import run
from components.train_student.students import CrossEncoder

TEXTS = (["red shoes", "blue lamp", "cup", "large green cup"], ["red shoes for kids", "chair", "small cup", "green cup for tea and cake"])


def student_of(toy: Toy, batch_tokens: int = 4096) -> CrossEncoder:
    torch.manual_seed(0)
    network: Any = load_model(Path(toy.encoder), ModelSpec("cross_encoder", 24)).eval()  # without dropout, so that passes are alike
    torch.nn.init.normal_(network.classifier.weight, std=1.0)
    return CrossEncoder(network, load_tokenizer(Path(toy.encoder)), TEXTS, max_tokens=24, batch_tokens=batch_tokens)


def test_symmetric_kl_by_hand():
    # p = 1/2, q = 3/4: KL(p||q) = .5 ln(2/3) + .5 ln 2 = .143841, KL(q||p) = .75 ln 1.5 + .25 ln .5 = .130812; the other pair is alike
    found = symmetric_kl(torch.tensor([0.5, 0.2], dtype=torch.float64), torch.tensor([0.75, 0.2], dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), [(0.1438410 + 0.1308120) / 2, 0.0], atol=1e-6)
    assert torch.isfinite(symmetric_kl(torch.tensor([0.0]), torch.tensor([1.0]))).all()


def test_a_push_has_its_length_in_every_row_by_hand():
    gradient = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 0.2]]])
    (found,) = directions([gradient], 5.0)
    assert found.tolist() == [[[3.0, 0.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 5.0]]]


def test_a_push_raises_the_loss_more_than_any_other_of_its_length(toy: Toy):
    student, rows, size = student_of(toy), np.arange(4), 0.05
    module = embeddings_of(student.network)
    with recording(module) as seen:
        before = student(rows).sum()
    shifts = directions(torch.autograd.grad(before, seen), size)
    generator = torch.Generator().manual_seed(1)
    others = [directions([torch.randn(one.shape, generator=generator) for one in shifts], size) for _ in range(5)]
    rises = []
    for one in (shifts, *others):
        with torch.no_grad(), shifting(module, one):
            rises.append(float(student(rows).sum() - before))
    assert rises[0] > 2 * max(0.0, *rises[1:])


def test_the_parts_of_the_loss_add_up_and_passes_do_not_matter(toy: Toy):
    config = TrainStudentConfig(adversarial_weight=0.5, contrast_weight=2.0, adversarial_size=0.3)
    rows, wanted = np.arange(4), torch.tensor([1.0, -1.0, 0.0, 2.0])

    def loss(answers: torch.Tensor) -> torch.Tensor:
        return ((answers[:, 0] - wanted) ** 2).mean()

    student = student_of(toy)
    module = embeddings_of(student.network)
    with recording(module) as seen:
        clean = student.answers(rows)
    with shifting(module, directions(torch.autograd.grad(loss(clean), seen), 0.3)):
        pushed = student.answers(rows)
    contrast = symmetric_kl(torch.sigmoid(clean[:, 0]), torch.sigmoid(pushed[:, 0])).mean()
    expected = loss(clean) + 0.5 * loss(pushed) + 2.0 * contrast
    for batch_tokens in (4096, 12):  # one pass of four pairs, and four passes of one
        found = adversarial_loss(config, student_of(toy, batch_tokens), rows, loss)
        assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    assert adversarial_loss(TrainStudentConfig(), student, rows, loss).item() == pytest.approx(loss(clean).item())
    # a score that bce trains is a logit too
    config = config.model_copy(update={"loss": "bce", "target": "probability"})
    assert adversarial_loss(config, student_of(toy), rows, loss).item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_step_down_the_contrast_makes_answers_steadier(toy: Toy):
    config = TrainStudentConfig(contrast_weight=1.0, adversarial_size=0.3)
    student, rows = student_of(toy), np.arange(4)
    module = embeddings_of(student.network)

    def contrast() -> torch.Tensor:
        """What is left of the whole when the loss itself, whose gradient gives the push, counts next to nothing."""
        return adversarial_loss(config, student, rows, lambda answers: 1e-4 * answers.mean())

    before = contrast()
    before.backward()
    with torch.no_grad():
        for value in student.network.parameters():
            value -= 0.05 * value.grad if value.grad is not None else 0.0
    assert contrast() < before
    assert not module._forward_hooks


def test_the_step_trains_with_it(toy: Toy, tmp_path: Path):
    settings = {"architecture": "bi_encoder", "learning_rate": 3e-3, "max_tokens": 24, "queries_per_batch": 8, "checkpoint_steps": 0}
    given = {**settings, "adversarial_weight": 0.5, "contrast_weight": 0.5, "adversarial_size": 0.5, "max_pairs": 600}
    report = run(TrainStudentConfig(**given), **toy.inputs(), model=str(tmp_path / "m"), tracker=NullTracker())
    assert report.metrics["validation.spearman"] > 0.4
