"""Contrastive adversarial training: a student must answer alike when its embeddings are pushed where that hurts most.

ei-SRC (arXiv 2406.02135), whose released code takes the divergence on raw logits over the batch and ships with all of this switched off;
here it is taken on probabilities, pair by pair, in both directions.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from components.train_student.config import TrainStudentConfig
from components.train_student.students import Student

SMALLEST = 1e-6  # probability that is told from 0


def embeddings_of(network: Any) -> torch.nn.Module:
    """What turns ids into the vectors that the first layer reads: positions, segments and norm included, where the network has them."""
    return getattr(network.base_model, "embeddings", None) or network.get_input_embeddings()


@contextmanager
def recording(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """While open, gives the outputs of `module`, one for each forward pass."""
    seen: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, given: Any, output: Any) -> None:
        seen.append(output)

    hook = module.register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def shifting(module: torch.nn.Module, shifts: Sequence[torch.Tensor]) -> Iterator[None]:
    """While open, each forward pass has the next of `shifts` added to the outputs of `module`."""
    coming = iter(shifts)

    def push(module: torch.nn.Module, given: Any, output: Any) -> Any:
        return output + next(coming)

    hook = module.register_forward_hook(push)
    try:
        yield
    finally:
        hook.remove()


def directions(gradients: Sequence[torch.Tensor], size: float) -> list[torch.Tensor]:
    """size x g / ||g|| of each row [rows, tokens, width], the norm over the row's tokens and width (the released code takes 5.0)."""
    norms = (one.flatten(1).norm(dim=1).clamp(min=1e-12) for one in gradients)
    return [size * one.detach() / norm.detach()[:, None, None] for one, norm in zip(gradients, norms, strict=True)]


def symmetric_kl(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(KL(p || q) + KL(q || p)) / 2 of two probabilities of being relevant, [rows] each; it is (p - q)(logit p - logit q) / 2."""
    first, second = (one.clamp(SMALLEST, 1.0 - SMALLEST) for one in (first, second))
    return 0.5 * (first - second) * (torch.logit(first) - torch.logit(second))


def adversarial_loss(
    config: TrainStudentConfig, student: Student, rows: np.ndarray, loss: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """loss(clean) + w loss(pushed) + v mean symmetric KL(clean, pushed), by the configured weights; the clean loss alone where both are 0.

    Args:
        loss: of what the student answers on `rows` [rows, 1 + heads].
    """
    if not config.adversarial_weight and not config.contrast_weight:
        return loss(student.answers(rows))
    module = embeddings_of(student.network)
    with recording(module) as seen:
        answers = student.answers(rows)
    clean = loss(answers)
    shifts = directions(torch.autograd.grad(clean, seen, retain_graph=True), config.adversarial_size)
    with shifting(module, shifts):
        pushed = student.answers(rows)
    p, q = (torch.sigmoid(one[:, 0]) if config.score_is_logit() else one[:, 0] for one in (answers, pushed))
    return clean + config.adversarial_weight * loss(pushed) + config.contrast_weight * symmetric_kl(p, q).mean()
