"""From tables to training examples: prompts with and without neighbors, targets, batches."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from components.shared import storage
from components.shared.card import DatasetCard, read_card
from components.shared.errors import InputError
from components.shared.models.folder import ModelSpec
from components.shared.models.inputs import model_texts
from components.shared.tables import read_table
from components.shared.training import Encoded, shuffled_batches
from components.train_teacher import targets
from components.train_teacher.config import TrainTeacherConfig


@dataclass(frozen=True)
class Sources:
    """Addresses of what the teacher learns from."""

    card: str
    encoder: str
    items: str
    queries: str
    judgments: str
    neighbors: str


@dataclass(frozen=True)
class Tables:
    """The tables, and the judgments of split `train` divided by query."""

    card: DatasetCard
    items: pa.Table
    queries: pa.Table
    neighbors: pa.Table | None
    training: pa.Table
    validation: pa.Table
    num_other_split: int


def read_tables(sources: Sources, config: TrainTeacherConfig) -> Tables:
    """Read and check everything that training needs.

    Raises:
        InputError: when there is nothing to train on, or a grade is not on the card.
    """
    card = read_card(sources.card)
    judgments = read_table(sources.judgments, "judgments")
    train = judgments.filter(pc.equal(judgments["split"], "train")).sort_by([("query_id", "ascending"), ("item_id", "ascending")])
    if not len(train):
        raise InputError(f"'{sources.judgments}' has no judgments with split 'train' ({len(judgments)} in all); check the card's split")
    grades = train["grade"].to_numpy()
    if grades.min() < 0 or grades.max() >= len(card.gains()):
        wrong = next(int(one) for one in np.unique(grades) if not 0 <= one < len(card.gains()))
        raise InputError(
            f"'{sources.judgments}': column 'grade' has {wrong}, the card has grades 0 to {len(card.gains()) - 1}; correct one"
        )
    held_out = pc.is_in(train["query_id"], value_set=held_out_queries(train["query_id"], config.validation_share, config.seed))
    neighbors = read_table(sources.neighbors, "neighbors") if config.num_neighbors else None
    return Tables(
        card,
        read_table(sources.items, "items"),
        read_table(sources.queries, "queries"),
        neighbors,
        train.filter(pc.invert(held_out)),
        train.filter(held_out),
        len(judgments) - len(train),
    )


def held_out_queries(query_ids: pa.ChunkedArray, share: float, seed: int) -> pa.Array:
    """A random `share` of the distinct queries, sorted; never all of them."""
    distinct = np.unique(query_ids.to_numpy())
    number = min(round(len(distinct) * share), len(distinct) - 1)
    return pa.array(np.sort(np.random.default_rng(seed).permutation(distinct)[:number]), pa.string())


@dataclass(frozen=True)
class Examples:
    """Encoded prompts [variants x pairs]: row `p` is pair p as it is, row `pairs + p` the same without neighbors."""

    encoded: Encoded
    grades: np.ndarray
    weights: np.ndarray
    num_variants: int

    @staticmethod
    def of(tables: Tables, spec: ModelSpec, tokenizer: object, config: TrainTeacherConfig) -> "Examples":
        left, right = model_texts(spec, tables.training, tables.queries, tables.items, tables.neighbors)
        hidden = spec.num_neighbors > 0 and config.neighbor_dropout > 0
        if hidden:
            bare_left, bare_right = model_texts(replace(spec, num_neighbors=0), tables.training, tables.queries, tables.items, None)
            left, right = left + bare_left, right + bare_right
        grades = tables.training["grade"].to_numpy().astype(np.int64)
        weights = targets.grade_weights(grades, len(spec.gains), config.balance)[grades]
        encoded = Encoded.of(tokenizer, left, right, max_tokens=spec.max_tokens)
        return Examples(encoded, grades, weights, 2 if hidden else 1)

    def batches(self, epoch: int, config: TrainTeacherConfig) -> list[np.ndarray]:
        """Rows of `encoded`, each pair once, some of them without neighbors; a function of (seed, epoch)."""
        rng = np.random.default_rng([config.seed, epoch])
        rows = np.arange(len(self.grades))
        if self.num_variants > 1:
            rows = rows + len(rows) * (rng.random(len(rows)) < config.neighbor_dropout)
        sizes = {"batch_size": config.batch_size} if config.batch_size else {"batch_tokens": config.batch_tokens}
        return [rows[chosen] for chosen in shuffled_batches(self.encoded.lengths[rows], rng, **sizes)]

    def pairs_of(self, rows: np.ndarray) -> np.ndarray:
        return rows % len(self.grades)


class Objective:
    """Mean loss of a batch of rows, by the configured folding."""

    def __init__(self, examples: Examples, gains: list[float], config: TrainTeacherConfig, device: torch.device) -> None:
        self.examples, self.device, self.folding = examples, device, config.folding
        smoothing = config.smoothing if config.folding == "card" else 0.0
        self.targets = torch.from_numpy(targets.grade_targets(len(gains), smoothing)).float().to(device)
        self.gains = torch.tensor(gains, dtype=torch.float32, device=device)

    def __call__(self, model: torch.nn.Module, rows: np.ndarray) -> torch.Tensor:
        """Weighted mean over `rows`; weights average 1 over all pairs, so the mean needs no other divisor."""
        pairs = self.examples.pairs_of(rows)
        grades = torch.from_numpy(self.examples.grades[pairs]).to(self.device)
        weights = torch.from_numpy(self.examples.weights[pairs]).float().to(self.device)
        logits = model(**self.examples.encoded.batch(rows, self.device)).logits
        if self.folding == "walmart":
            losses = targets.expected_gain_cross_entropy(logits, self.gains, self.gains[grades])
        else:
            losses = targets.soft_cross_entropy(logits, self.targets[grades])
        return (losses * weights).mean()


def identity_of(sources: Sources, config: TrainTeacherConfig) -> str:
    """Names the training that a checkpoint belongs to: everything that shapes the loss curve, nothing about where it runs."""
    elsewhere = {"num_processes", "zero_stage", "timeout_s", "checkpoint_steps", "log_steps"}
    content = [storage.listing_digest(uri) for uri in vars(sources).values() if uri]
    return storage.to_json([config.model_dump(mode="json", exclude=elsewhere), content]).decode()
