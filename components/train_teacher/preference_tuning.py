"""A second phase after training: prefer the judged grade over the model's own wrong first answer, and keep the better of both models.

Pairs are mined from training queries only. The model before tuning answers them once; that is the mining and the frozen reference of DPO
at the same time. What is tuned is accepted on held-out training queries: its over/under ratio must be nearer to 1, at no loss of precision
at the boundary that errors crossed most, and at little macro F1.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pyarrow as pa
import torch
from scipy.special import log_softmax
from sklearn.metrics import f1_score

from components.shared import storage
from components.shared.models import folder
from components.shared.models.arithmetic import pick_device
from components.shared.tables import to_parquet
from components.shared.tracking import NullTracker, Tracker
from components.shared.training import Checkpoints, fit, shuffled_batches
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Examples, Sources, Tables, identity_of
from components.train_teacher.grade_bias import biased_boundary, boundary_precision, confusion, over_under_ratio
from components.train_teacher.held_out import HeldOut
from components.train_teacher.network import build_network, export
from components.train_teacher.objective import Objective
from components.train_teacher.preference import Preferences
from components.train_teacher.world import World

logger = logging.getLogger(__name__)


class PreferenceTracker(NullTracker):
    """Passes curves on under names of their own, so that they do not run into those of training."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        self.tracker.metrics({f"preference.{name}": value for name, value in values.items()}, step)


@dataclass(frozen=True)
class Grading:
    """How a model grades held-out pairs: its over/under ratio, macro F1, and pairs by judged and predicted grade [grades, grades]."""

    ratio: float
    macro_f1: float
    counts: np.ndarray

    @staticmethod
    def of(logits: np.ndarray, judged: np.ndarray) -> "Grading":
        predicted = logits.argmax(axis=1)
        macro_f1 = float(f1_score(judged, predicted, labels=np.unique(judged), average="macro"))
        return Grading(over_under_ratio(judged, predicted), macro_f1, confusion(judged, predicted, logits.shape[1]))


def is_better(before: Grading, after: Grading, max_f1_loss: float) -> bool:
    """Whether grades are less one-sided, by the distance of the ratio's logarithm from 0, precision at the boundary that errors crossed
    most is no lower, and macro F1 fell by at most `max_f1_loss`."""
    less_biased = abs(math.log(after.ratio)) < abs(math.log(before.ratio))
    precision = [boundary_precision(one.counts, *biased_boundary(before.counts)) for one in (before, after)]
    return less_biased and precision[1] >= precision[0] and before.macro_f1 - after.macro_f1 <= max_f1_loss


class Mixture:
    """Batches of mined pairs, each with a batch of ordinary ones, and what they cost."""

    def __init__(self, preferences: Preferences, examples: Examples, gains: list[float], config: TrainTeacherConfig, device: torch.device):
        self.preferences, self.examples, self.config, self.device = preferences, examples, config, device
        # the prompt that held-out queries are looked at with: the last stage, or the one with neighbors, which is the first
        self.rows = preferences.rows + (len(examples.grades) * (len(config.stages) - 1) if config.stages else 0)
        self.objective = Objective(examples, gains, config, device)

    def batches(self, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """(numbers of mined pairs, rows of `examples`): each mined pair once; a function of (seed, epoch)."""
        config, lengths = self.config, self.examples.encoded.lengths[self.rows]
        sizes = {"batch_size": config.batch_size} if config.batch_size else {"batch_tokens": config.batch_tokens}
        mined = shuffled_batches(lengths, np.random.default_rng([config.seed, epoch, 1]), **sizes)
        return list(zip(mined, cycle(self.examples.batches(config.num_epochs + epoch, config)), strict=False))

    def loss(self, model: torch.nn.Module, batch: tuple[np.ndarray, np.ndarray]) -> torch.Tensor:
        mined, ordinary = batch
        weight = self.config.preference_weight
        logits = model(**self.examples.encoded.batch(self.rows[mined], self.device)).logits
        loss = weight * self.preferences.loss(logits, mined, self.config.preference_beta)
        return loss + (1 - weight) * self.objective(model, ordinary) if weight < 1 else loss


def prefer(config: TrainTeacherConfig, sources: Sources, tables: Tables, reference: str, model: str, tracker: Tracker) -> dict[str, float]:
    """Tune the model folder `reference` and write `model`: the tuned model, or the reference again where tuning made it no better.

    Writes `<model>-preferences.parquet`, the mined pairs; checkpoints go to `<model>-preference-checkpoints`.

    Returns:
        preference.pairs, .accepted (1 or 0), and of the held-out queries .before.* and .after.*: over_under_ratio, macro_f1, and
        boundary_precision at the boundary between grades that the errors before cross most one-sidedly; macro_f1_loss.
    """
    path = folder.fetch(reference)
    spec, tokenizer, device = folder.read_spec(path), folder.load_tokenizer(path), pick_device()
    network = build_network(path, spec, config).to(device)
    held_out, training = (
        HeldOut(pairs, tables, spec, tokenizer, config, World(), device) for pairs in (tables.validation, tables.training)
    )
    network.eval()
    before = Grading.of(held_out.outputs(network), held_out.grades)
    examples = Examples.of(tables, spec, tokenizer, config)
    preferences = Preferences.mine(log_softmax(training.outputs(network), axis=1), examples.grades, config.preference_top_k)
    storage.write_bytes(f"{storage.normalise(model)}-preferences.parquet", to_parquet(mined_table(tables.training, preferences)))
    after = before
    if len(preferences.rows):
        mixture = Mixture(preferences, examples, spec.gains, config, device)
        fit(
            network, mixture.batches, mixture.loss, num_steps=config.preference_epochs * len(mixture.batches(0)),
            size_of=lambda batch: len(batch[0]) + len(batch[1]), learning_rate=config.preference_learning_rate,
            warmup_share=config.warmup_share, weight_decay=config.weight_decay, max_grad_norm=config.max_grad_norm,
            precision=config.precision, seed=config.seed, tracker=PreferenceTracker(tracker), log_steps=config.log_steps,
            checkpoints=Checkpoints(model + "-preference-checkpoints", identity_of(sources, config)),
            checkpoint_steps=config.checkpoint_steps,
        )  # fmt: skip
        after = Grading.of(held_out.outputs(network), held_out.grades)
    accepted = is_better(before, after, config.preference_max_f1_loss)
    export(model, network if accepted else folder.load_model(path, spec), tokenizer, spec)
    found = comparison(before, after) | {"pairs": float(len(preferences.rows)), "accepted": float(accepted)}
    logger.info("preference tuning %s: %s", "accepted" if accepted else "dropped, the model before it is kept", found)
    return {f"preference.{name}": value for name, value in found.items()}


def comparison(before: Grading, after: Grading) -> dict[str, float]:
    boundary = biased_boundary(before.counts)
    found: dict[str, float] = {"macro_f1_loss": before.macro_f1 - after.macro_f1}
    for name, one in (("before", before), ("after", after)):
        own = {"over_under_ratio": one.ratio, "macro_f1": one.macro_f1, "boundary_precision": boundary_precision(one.counts, *boundary)}
        found |= {f"{name}.{metric}": value for metric, value in own.items()}
    return found


def mined_table(training: pa.Table, preferences: Preferences) -> pa.Table:
    """query_id, item_id, chosen, rejected and the reference's margin of each mined pair."""
    pairs = training.select(["query_id", "item_id"]).take(pa.array(preferences.rows))
    chosen, rejected = (pa.array(grades, pa.int32()) for grades in (preferences.chosen, preferences.rejected))
    return pa.table(
        {**{name: pairs[name] for name in pairs.column_names}, "chosen": chosen, "rejected": rejected, "margin": preferences.margin}
    )
