"""What a batch costs: the grades, and the order of items within queries."""

import numpy as np
import torch

from components.shared.losses import ranknet
from components.train_teacher import targets
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Examples


class Objective:
    """Mean loss of a batch, by the configured reading and loss."""

    def __init__(self, examples: Examples, gains: list[float], config: TrainTeacherConfig, device: torch.device) -> None:
        self.examples, self.device, self.config = examples, device, config
        self.targets = torch.from_numpy(examples.targets).float().to(device)
        self.gains = torch.tensor(gains, dtype=torch.float32, device=device)

    def __call__(self, model: torch.nn.Module, rows: np.ndarray) -> torch.Tensor:
        """Scalar: the grades' loss plus the weighted ranking loss; of a model that reads separately the ranking loss alone."""
        logits = model(**self.examples.encoded.batch(rows, self.device)).logits
        pairs = self.examples.pairs_of(rows)
        grades = torch.from_numpy(self.examples.grades[pairs]).to(self.device)
        if self.config.reading == "separate":
            return self._of_order(logits[:, 0], pairs, grades)
        loss = self._of_grades(logits, pairs)
        if self.config.ranking_weight:
            log_t, log_rest = targets.expected_gain_logs(logits, self.gains)
            loss = loss + self.config.ranking_weight * self._of_order(log_t - log_rest, pairs, grades)
        return loss

    def _of_order(self, scores: torch.Tensor, pairs: np.ndarray, grades: torch.Tensor) -> torch.Tensor:
        """RankNet over the items of each query."""
        names, number = np.unique(self.examples.query[pairs], return_inverse=True)
        return ranknet(scores, self.gains[grades], torch.from_numpy(number).to(self.device), len(names))

    def _of_grades(self, logits: torch.Tensor, pairs: np.ndarray) -> torch.Tensor:
        """Weighted mean over the rows; weights average 1 over all pairs, so the mean needs no other divisor."""
        weights = torch.from_numpy(self.examples.weights[pairs]).float().to(self.device)
        wanted = self.targets[torch.from_numpy(pairs).to(self.device)]
        if self.config.loss_name() == "binary_cross_entropy":
            losses = targets.expected_gain_cross_entropy(logits, self.gains, wanted @ self.gains)
        else:
            losses = targets.soft_cross_entropy(logits, wanted)
        return (losses * weights).mean()
