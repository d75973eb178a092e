"""What a batch costs: the grades, the order within queries, and in the warm start the encoder's own similarity."""

import numpy as np
import torch

from components.shared.losses import margin_mse, ranknet
from components.train_teacher import targets
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Batch, Examples


class Objective:
    """Mean loss of a batch, by the configured folding."""

    def __init__(self, examples: Examples, gains: list[float], config: TrainTeacherConfig, device: torch.device) -> None:
        self.examples, self.device, self.folding, self.ranking_weight = examples, device, config.folding, config.ranking_weight
        smoothing = config.smoothing if config.folding == "card" else 0.0
        self.targets = torch.from_numpy(targets.grade_targets(len(gains), smoothing)).float().to(device)
        self.gains = torch.tensor(gains, dtype=torch.float32, device=device)

    def __call__(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Scalar. In the warm start margin-MSE to the encoder's similarities; else the grades' loss plus the weighted ranking loss."""
        logits = model(**self.examples.encoded.batch(batch.rows, self.device)).logits
        pairs = self.examples.pairs_of(batch.rows)
        names, number = np.unique(self.examples.query[pairs], return_inverse=True)
        groups = torch.from_numpy(number).to(self.device)
        if batch.warm_start:
            wanted = torch.from_numpy(self.examples.similarities[batch.rows]).to(self.device)
            return margin_mse(self._order(logits), wanted, groups, len(names))
        grades = torch.from_numpy(self.examples.grades[pairs]).to(self.device)
        loss = self._of_grades(logits, pairs, grades)
        if self.ranking_weight:
            loss = loss + self.ranking_weight * ranknet(self._order(logits), self.gains[grades], groups, len(names))
        return loss

    def _order(self, logits: torch.Tensor) -> torch.Tensor:
        """What the items of a query are ordered by: the logit of the expected gain [rows]."""
        log_t, log_rest = targets.expected_gain_logs(logits, self.gains)
        return log_t - log_rest

    def _of_grades(self, logits: torch.Tensor, pairs: np.ndarray, grades: torch.Tensor) -> torch.Tensor:
        """Weighted mean over the rows; weights average 1 over all pairs, so the mean needs no other divisor."""
        weights = torch.from_numpy(self.examples.weights[pairs]).float().to(self.device)
        if self.folding == "walmart":
            losses = targets.expected_gain_cross_entropy(logits, self.gains, self.gains[grades])
        else:
            losses = targets.soft_cross_entropy(logits, self.targets[grades])
        return (losses * weights).mean()
