"""Preference pairs and the loss on them: where the judged grade was not the model's first answer but close to it, it should have been.

LREF (arXiv 2503.09223) takes the right answer found further down the beam as chosen and the model's own wrong first answer as rejected. A
classifier's beam is its grades in order of their probability; a teacher that writes the grade has the same distribution at that token.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import logsigmoid


def dpo_loss(chosen: torch.Tensor, rejected: torch.Tensor, reference_margin: torch.Tensor, beta: float) -> torch.Tensor:
    """-log sigmoid(beta ((log p(y+) - log p_ref(y+)) - (log p(y-) - log p_ref(y-)))) of each pair [pairs].

    Direct preference optimization (Rafailov et al. 2023, arXiv 2305.18290, equation 7). LREF's alpha of 0.65 is either this beta or the
    weight of the loss among others; its text does not say which.

    Args:
        chosen, rejected: log-probabilities of y+ and y- by the model [pairs].
        reference_margin: log p_ref(y+) - log p_ref(y-) [pairs], by the model that tuning started from.
    """
    return -logsigmoid(beta * (chosen - rejected - reference_margin))


@dataclass(frozen=True)
class Preferences:
    """Mined pairs [mined].

    Attributes:
        rows: numbers of the training pairs, ascending.
        chosen, rejected: the judged grade, and the model's first answer.
        margin: log p(chosen) - log p(rejected) by the model that was asked, below 0.
    """

    rows: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray
    margin: np.ndarray

    @staticmethod
    def mine(log_p: np.ndarray, judged: np.ndarray, top_k: int) -> "Preferences":
        """Those pairs whose judged grade is among the `top_k` likeliest, but not the first.

        Args:
            log_p: log-probability of each grade [pairs, grades]; judged: grades [pairs].
        """
        order = np.argsort(-log_p, axis=1, kind="stable")
        place = (order == judged[:, None]).argmax(axis=1)
        rows = np.flatnonzero((place > 0) & (place < top_k))
        chosen, rejected = judged[rows], order[rows, 0]
        return Preferences(rows, chosen, rejected, log_p[rows, chosen] - log_p[rows, rejected])

    def loss(self, logits: torch.Tensor, which: np.ndarray, beta: float) -> torch.Tensor:
        """Mean DPO loss of the mined pairs `which` [batch], from the model's logits [batch, grades]."""
        log_p = torch.log_softmax(logits.float(), dim=-1)
        chosen, rejected = (
            log_p.gather(1, torch.from_numpy(grades[which, None]).to(log_p.device))[:, 0] for grades in (self.chosen, self.rejected)
        )
        return dpo_loss(chosen, rejected, torch.from_numpy(self.margin[which]).to(log_p), beta).mean()
