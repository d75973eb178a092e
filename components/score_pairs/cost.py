"""What scoring costs: tokens and seconds of every shard, pairs per second and time left, and a budget that stops between shards."""

import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from components.score_pairs.config import ScorePairsConfig
from components.shared import shards
from components.shared.errors import InputError
from components.shared.models.scoring import PairScorer
from components.shared.shards import Commit, ShardPlan

SPENT = ("seconds", "tokens", "positions", "charged")


class Meter:
    """Counts what a model computes: `tokens` that are real, `positions` with padding; and the seconds of one device.

    It looks at what the backbone is given, so it counts whatever batching, packing or prefix sharing is done; other engines than
    transformers have no backbone to look at, so there only seconds count, and what an endpoint charges.
    """

    def __init__(self, scorer: PairScorer, share: float, since: float) -> None:
        """`share` of a device that this process has; its clock was at `since` when it began to load."""
        self.scorer, self.share, self.since = scorer, share, since
        self.charged, model = 0.0, scorer.model
        self.tokens = self.positions = 0
        self._lock = threading.Lock()
        if model is not None:
            model.base_model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, args: tuple[Any, ...], given: Mapping[str, Any]) -> None:
        del module
        ids = next(one for one in (given.get("input_ids"), given.get("inputs_embeds"), *args) if one is not None)
        size = ids.shape[0] * ids.shape[1]
        mask = given.get("attention_mask")
        # with cached prefixes the mask is longer than what is computed here; without one nothing is padding
        real = int(mask[:, -ids.shape[1] :].sum()) if mask is not None and mask.dim() == 2 else size
        with self._lock:
            self.positions += size
            self.tokens += real

    def read(self) -> dict[str, float]:
        """What was spent since it was last read; loading and waiting are part of the seconds."""
        now = time.monotonic()
        spent = {"seconds": (now - self.since) * self.share, "tokens": self.tokens, "positions": self.positions}
        spent["charged"] = self.scorer.charged - self.charged
        self.since, self.tokens, self.positions, self.charged = now, 0, 0, self.scorer.charged
        return spent


class Ledger:
    """What the shards of a plan have cost, in this run and before it.

    Args:
        sizes: pairs of every shard.
        commits: what earlier runs committed.
        share: of what is left of the budget that this process may spend; below 1 for a worker of a group.
    """

    def __init__(self, config: ScorePairsConfig, sizes: Mapping[int, int], commits: Iterable[Commit], share: float = 1.0) -> None:
        self.config, self.sizes = config, sizes
        self.total = dict.fromkeys(SPENT, 0.0)
        self.pairs = self.scored = 0
        self.stopped = False
        self._under_way: set[int] = set()
        self._known: set[int] = set()
        for one in commits:
            self.add(one["shard"], one["spent"])
        self.limit = self.cost() + share * (config.budget - self.cost()) if config.budget else math.inf
        self.scored, self.since = 0, time.monotonic()

    def add(self, shard: int, spent: Mapping[str, float]) -> None:
        """A shard is committed."""
        self._under_way.discard(shard)
        self._known.add(shard)
        self.scored += self.sizes.get(shard, 0)
        if spent:
            self.pairs += self.sizes.get(shard, 0)
            for name in SPENT:
                self.total[name] += spent.get(name, 0.0)

    def complete(self, commits: Iterable[Commit]) -> None:
        """Take in what other workers committed meanwhile."""
        for one in commits:
            if one["shard"] not in self._known:
                self.add(one["shard"], one["spent"])

    def cost(self) -> float:
        return self.total["seconds"] / 3600 * self.config.device_hour_price + self.total["charged"]

    def estimate(self) -> float:
        """Cost of all shards at what a pair has cost so far."""
        return self.cost() / max(self.pairs, 1) * sum(self.sizes.values())

    def affordable(self, todo: Iterable[int]) -> Iterator[int]:
        """Shards to begin, as long as what is under way and one more fit into the budget; what a pair costs is not known at first."""
        for shard in todo:
            waiting = sum(self.sizes.get(one, 0) for one in {*self._under_way, shard})
            if self.cost() * (1 + waiting / max(self.pairs, 1)) > self.limit:
                self.stopped = True
                return
            self._under_way.add(shard)
            yield shard

    def check(self, plan: ShardPlan) -> None:
        """Raises InputError when the budget stopped the work: pointless to retry as it is, and nothing is lost."""
        if self.stopped:
            done, name = plan.num_shards - len(shards.pending(plan)), self.config.currency
            raise InputError(
                f"key 'budget' = {self.config.budget:g} {name} is used up: {done} of {plan.num_shards} shards are committed for "
                f"{self.cost():.4g}, all will cost about {self.estimate():.4g}; raise it and run again: it goes on where it was"
            )

    def rate(self) -> float:
        """Pairs per second of this run."""
        return self.scored / max(time.monotonic() - self.since, 1e-9)

    def progress(self, num_left: int) -> str:
        """Pairs per second, time left for `num_left` pairs, and with a price the cost so far and in the end."""
        cost = f", {self.cost():.4g} of about {self.estimate():.4g} {self.config.currency}" if self.cost() else ""
        return f"{self.rate():.1f} pairs/s, {num_left / max(self.rate(), 1e-9):.0f} s left{cost}"

    def metrics(self) -> dict[str, float]:
        """Of all shards, whoever scored them and when."""
        padding = 1 - self.total["tokens"] / self.total["positions"] if self.total["positions"] else 0.0
        found = {"tokens": self.total["tokens"], "padding_share": padding, "device_seconds": self.total["seconds"]}
        if self.cost():
            found |= {"cost": self.cost(), "cost_per_million_pairs": self.cost() / max(self.pairs, 1) * 1e6}
        return found
