"""How the states of a text's tokens become one vector."""

import torch


def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Unit-length mean of the hidden states of real tokens: [batch, tokens, width], [batch, tokens] -> [batch, width]."""
    weight = mask.unsqueeze(-1).to(hidden.dtype)
    pooled = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1.0)
    return torch.nn.functional.normalize(pooled, dim=-1)
