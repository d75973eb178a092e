"""A batch of queries shared by two processes: DistributedDataParallel's averaged gradient is that of one process."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from components.shared.losses import LOSSES

QUERIES, ITEMS, WIDTH = 4, 3, 5


def gradients(network: torch.nn.Module, queries: range) -> dict[str, torch.Tensor]:
    """Of every loss, from the items of these queries: [parameters]."""
    rng = np.random.default_rng(5)
    features, targets = torch.from_numpy(rng.normal(size=(QUERIES, ITEMS, WIDTH))), torch.from_numpy(rng.uniform(size=(QUERIES, ITEMS)))
    rows = list(queries)
    groups = torch.arange(len(rows)).repeat_interleave(ITEMS)
    found = {}
    for name, loss in LOSSES.items():
        network.zero_grad()
        loss(network(features[rows].flatten(0, 1))[:, 0], targets[rows].flatten(), groups, len(rows)).backward()
        found[name] = torch.cat([one.grad.flatten().clone() for one in network.parameters() if one.grad is not None])
    return found


def network() -> torch.nn.Module:
    torch.manual_seed(2)
    return torch.nn.Sequential(torch.nn.Linear(WIDTH, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()


def work(rank: int, place: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{place}/meeting", rank=rank, world_size=2)
    half = range(rank * QUERIES // 2, (rank + 1) * QUERIES // 2)
    torch.save(gradients(DistributedDataParallel(network()), half), f"{place}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    """What each of two processes holds after its backward passes."""
    place: Path = tmp_path_factory.mktemp("two")
    multiprocessing.spawn(work, (str(place),), nprocs=2)
    return [torch.load(place / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_have_the_gradient_of_one(name: str, of_two: list[dict[str, torch.Tensor]]) -> None:
    alone = gradients(network(), range(QUERIES))[name]
    assert alone.abs().max() > 1e-4
    for found in of_two:
        torch.testing.assert_close(found[name], alone)
