"""The processes that train one network together."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.shared.models import folder
from components.shared.training import Stepper


@dataclass(frozen=True)
class World:
    """One process by itself, or one of several.

    Attributes:
        wrap: turns a network into (what is called in the loss, how it is updated).
        loading: while open, a network that is loaded is shared out among the processes, where it is to be.
        gather: what every process gave, in the order of their ranks; all must call.
        fetch: a model as a folder of this machine; all must call.
    """

    rank: int = 0
    size: int = 1
    device: torch.device | None = None
    wrap: Callable[[torch.nn.Module], tuple[torch.nn.Module, Stepper]] | None = None
    loading: Callable[[], AbstractContextManager[None]] = nullcontext
    gather: Callable[[Any], list[Any]] = lambda one: [one]
    fetch: Callable[[str], Path] = folder.fetch

    def share_of(self, batch: np.ndarray, group: np.ndarray | None = None) -> tuple[np.ndarray, int]:
        """This process's part of a batch of rows, whole groups of it where `group` [rows] numbers them, and the weight of what the part
        adds to the batch's mean: the mean over processes is then the batch's. A process that gets nothing reads a row in vain."""
        place = np.arange(len(batch)) if group is None else np.unique(group, return_inverse=True)[1]
        mine = batch[place % self.size == self.rank]
        return (mine, self.size) if len(mine) else (batch[:1], 0)

    def idle_share(self, batches: list[tuple[np.ndarray, np.ndarray | None]]) -> float:
        """Of all processes' turns at these batches, each with its `group` or None, the share in which `share_of` gives them nothing."""
        parts = [len(batch) if group is None else len(np.unique(group)) for batch, group in batches]
        return float(np.mean([max(0.0, 1 - one / self.size) for one in parts]))

    def turns(self, batches: list[np.ndarray]) -> list[np.ndarray]:
        """This process's batches; all processes have equally many, because weights that are shared out are gathered by all at once."""
        missing = -len(batches) % self.size
        return (batches + batches[:1] * missing)[self.rank :: self.size]
