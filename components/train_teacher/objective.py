"""What a batch costs: the grades, and the order of items within queries."""

import numpy as np
import torch

from components.shared.losses import ranknet
from components.shared.training import EncodedApart
from components.train_teacher import targets
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Examples

ALL_SHARED = 3  # the stage of ZeRO that shares out weights too


class Objective:
    """Mean loss of a batch, by the configured reading and loss.

    Where a loss compares items, rows of unlike length stand together, which are read in several passes of similar length: exact, and it
    saves most padding. ZeRO 3 gathers weights in each pass, so that processes must make equally many: as many as the whole batch would
    take, which no part of it exceeds.
    """

    def __init__(self, examples: Examples, gains: list[float], config: TrainTeacherConfig, device: torch.device) -> None:
        self.examples, self.device, self.config = examples, device, config
        self.targets = torch.from_numpy(examples.targets).float().to(device)
        self.gains = torch.tensor(gains, dtype=torch.float32, device=device)
        self.judged = np.asarray(gains, np.float32)[examples.grades]
        self.lengths = examples.encoded.tokens.lengths if isinstance(examples.encoded, EncodedApart) else examples.encoded.lengths

    def __call__(self, model: torch.nn.Module, rows: np.ndarray, batch: np.ndarray | None = None) -> torch.Tensor:
        """Scalar: the grades' loss plus the weighted ranking loss; of a model that reads separately the ranking loss alone.

        Args:
            batch: what `rows` are a part of, with whole queries where items are compared; the loss is what they add to its mean.
        """
        batch = rows if batch is None else batch
        encoded = self.examples.encoded
        if isinstance(encoded, EncodedApart):
            return self._of_order(model(**encoded.batch(rows, self.device)).logits[:, 0], rows, batch)
        parts = self.passes(rows)
        logits = torch.cat([model(**encoded.batch(part, self.device)).logits for part in parts])
        rows = np.concatenate(parts)
        loss = self._of_grades(logits, self.examples.pairs_of(rows)) * (len(rows) / len(batch))
        if self.config.ranking_weight:
            log_t, log_rest = targets.expected_gain_logs(logits, self.gains)
            loss = loss + self.config.ranking_weight * self._of_order(log_t - log_rest, rows, batch)
        if self.config.zero_stage == ALL_SHARED:
            shortest = rows[[self.lengths[rows].argmin()]]
            for _ in range(len(self.passes(batch)) - len(parts)):
                loss = loss + 0.0 * model(**encoded.batch(shortest, self.device)).logits.sum()
        return loss

    def passes(self, rows: np.ndarray) -> list[np.ndarray]:
        """Numbers in `lengths` of what each forward pass over `rows` reads."""
        return self.examples.encoded.passes(rows) if self.config.compares_items() else [rows]

    def _of_order(self, scores: torch.Tensor, rows: np.ndarray, batch: np.ndarray) -> torch.Tensor:
        """RankNet over the items of each query, as what it adds to the mean over the queries of `batch`."""
        pairs = self.examples.pairs_of(rows)
        names, number = np.unique(self.examples.query[pairs], return_inverse=True)
        gains, groups = (torch.from_numpy(values).to(self.device) for values in (self.judged[pairs], number))
        loss = ranknet(scores, gains, groups, len(names))
        return loss * (self._num_ordered(rows) / max(1, self._num_ordered(batch)))

    def _num_ordered(self, rows: np.ndarray) -> int:
        """Queries that have items of different gain, over which RankNet is a mean."""
        pairs = self.examples.pairs_of(rows)
        distinct = np.unique(np.stack([self.examples.query[pairs], self.judged[pairs]]), axis=1)
        return int((np.unique(distinct[0], return_counts=True)[1] > 1).sum())

    def _of_grades(self, logits: torch.Tensor, pairs: np.ndarray) -> torch.Tensor:
        """Weighted mean over the rows; weights average 1 over all pairs, so the mean needs no other divisor."""
        weights = torch.from_numpy(self.examples.weights[pairs]).float().to(self.device)
        wanted = self.targets[torch.from_numpy(pairs).to(self.device)]
        if self.config.loss_name() == "binary_cross_entropy":
            losses = targets.expected_gain_cross_entropy(logits, self.gains, wanted @ self.gains)
        else:
            losses = targets.soft_cross_entropy(logits, wanted)
        return (losses * weights).mean()
