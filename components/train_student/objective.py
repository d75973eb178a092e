"""What a training step minimises: the distillation loss of scores, and what is learnt beside it."""

import numpy as np
import torch

from components.shared.losses import LOSSES, pointwise_mse, ranknet
from components.train_student.adversarial import adversarial_loss
from components.train_student.config import TrainStudentConfig
from components.train_student.counterfactuals import draw_copies, order_loss
from components.train_student.students import Student
from components.train_student.sub_judgments import sub_judgment_loss
from components.train_student.targets import Lessons


def score_loss(config: TrainStudentConfig, scores: torch.Tensor, lessons: Lessons, rows: np.ndarray) -> torch.Tensor:
    """The configured loss of `rows`, plus the pointwise anchor and the order of human grades."""
    found, number = np.unique(lessons.query[rows], return_inverse=True)
    targets, groups = (torch.from_numpy(values).to(scores.device) for values in (lessons.targets[rows], number))
    trust = {} if lessons.trust is None else {"weights": torch.from_numpy(lessons.trust[rows]).to(scores.device)}
    loss = LOSSES[config.loss](scores, targets, groups, len(found), **trust)
    if config.pointwise_weight:
        loss = loss + config.pointwise_weight * pointwise_mse(scores, targets, groups, len(found), **trust)
    if config.judgment_weight:
        gains = torch.from_numpy(lessons.judged[rows]).to(scores.device)
        loss = loss + config.judgment_weight * ranknet(scores / config.judgment_temperature, gains, groups, len(found))
    return loss


def batch_loss(config: TrainStudentConfig, student: Student, lessons: Lessons, rows: np.ndarray) -> torch.Tensor:
    """The loss of a training step on `rows`: of their scores, of the heads, and of the edited copies drawn to stand beside them.

    Copies are drawn by torch's seed, which is that of the step, so that a resumed run draws the same.
    """
    places, copies = np.zeros(0, np.int64), np.zeros(0, np.int64)
    if lessons.copies is not None:
        rng = np.random.default_rng(int(torch.randint(2**31, (1,))))
        places, copies = draw_copies(lessons.copies[rows], config.counterfactual_share, rng)

    def loss(answers: torch.Tensor) -> torch.Tensor:
        """Args: answers: of rows, then of copies [rows + copies, 1 + heads]."""
        own, scores = answers[: len(rows)], answers[:, 0]
        whole = score_loss(config, own[:, 0], lessons, rows)
        if lessons.met is not None:
            met = torch.from_numpy(lessons.met[rows]).to(answers.device)
            whole = whole + config.sub_judgment_weight * sub_judgment_loss(own[:, 1:], met)
        if len(copies):
            of_copies = order_loss(scores[torch.from_numpy(places)], scores[len(rows) :], config.judgment_temperature)
            whole = whole + config.counterfactual_weight * of_copies
        return whole

    return adversarial_loss(config, student, np.concatenate([rows, copies]), loss)
