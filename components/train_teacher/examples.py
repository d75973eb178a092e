"""From tables to training examples: prompts with and without neighbors, and batches of them."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.shared import storage
from components.shared.card import DatasetCard, read_card
from components.shared.errors import InputError
from components.shared.models.batches import grouped_batches
from components.shared.models.folder import ModelSpec
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.tables import read_table
from components.shared.training import Encoded, shuffled_batches
from components.train_teacher import targets
from components.train_teacher.config import TrainTeacherConfig

LEAST_SPREAD = 1e-4  # standard deviation of cosines below which they are rounding
ITEMS_PER_QUERY = 8  # items of a query that stand together where a loss compares them


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
class Batch:
    """Rows of `Examples.encoded`, and whether the encoder's own similarity or the grades are learnt from them."""

    rows: np.ndarray
    warm_start: bool

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Examples:
    """Encoded prompts [variants x pairs]: row `p` is pair p as it is, row `pairs + p` the same without neighbors.

    `query` is the number of each pair's query and `grades` its grade [pairs]; `similarities` is what the warm start imitates
    [variants x pairs], empty without one.
    """

    encoded: Encoded
    query: np.ndarray
    grades: np.ndarray
    weights: np.ndarray
    similarities: np.ndarray
    num_variants: int

    @staticmethod
    def of(tables: Tables, spec: ModelSpec, encoder: str, tokenizer: object, config: TrainTeacherConfig) -> "Examples":
        left, right = model_texts(spec, tables.training, tables.queries, tables.items, tables.neighbors)
        hidden = spec.num_neighbors > 0 and config.neighbor_dropout > 0
        if hidden:
            bare_left, bare_right = model_texts(replace(spec, num_neighbors=0), tables.training, tables.queries, tables.items, None)
            left, right = left + bare_left, right + bare_right
        grades = tables.training["grade"].to_numpy().astype(np.int64)
        weights = targets.grade_weights(grades, len(spec.gains), config.balance)[grades]
        encoded = Encoded.of(tokenizer, left, right, max_tokens=spec.max_tokens)
        similarities = own_similarities(encoder, left, right, spec.max_tokens, config) if config.warm_start_epochs else np.zeros(0)
        query = np.unique(tables.training["query_id"].to_numpy(), return_inverse=True)[1]
        return Examples(encoded, query, grades, weights, similarities, 2 if hidden else 1)

    def batches(self, epoch: int, config: TrainTeacherConfig) -> list[Batch]:
        """Each pair once, some without neighbors; a function of (seed, epoch).

        Rows of a batch are of like length; where a loss compares the items of a query, they are groups of whole queries instead, and
        the items of one query are shown with or without neighbors alike.
        """
        rng = np.random.default_rng([config.seed, epoch])
        rows = np.arange(len(self.grades))
        warm_start = epoch < config.warm_start_epochs
        grouped = warm_start or config.ranking_weight > 0
        if self.num_variants > 1:
            draws = rng.random(int(self.query.max()) + 1)[self.query] if grouped else rng.random(len(rows))
            rows = rows + len(rows) * (draws < config.neighbor_dropout)
        if grouped:
            rows_each = config.batch_size or config.batch_tokens / float(self.encoded.lengths[rows].mean())
            size = {"queries_per_batch": max(1, int(rows_each / ITEMS_PER_QUERY)), "items_per_query": ITEMS_PER_QUERY}
            chosen = grouped_batches(self.query, np.arange(len(rows)), epoch, seed=config.seed, **size)
        else:
            sizes = {"batch_size": config.batch_size} if config.batch_size else {"batch_tokens": config.batch_tokens}
            chosen = shuffled_batches(self.encoded.lengths[rows], rng, **sizes)
        return [Batch(rows[one], warm_start) for one in chosen]

    def pairs_of(self, rows: np.ndarray) -> np.ndarray:
        return rows % len(self.grades)


def own_similarities(encoder: str, left: list[str], right: list[str], max_tokens: int, config: TrainTeacherConfig) -> np.ndarray:
    """Cosine of the encoder's own vectors of the two texts [rows], in standard deviations over the rows.

    Raises:
        InputError: for an encoder to which all pairs look alike.
    """
    scorer = Scorer(encoder, precision=config.precision)
    scorer.spec = replace(scorer.spec, max_tokens=max_tokens)
    cosines = scorer.scores(left, right)
    if cosines.std() < LEAST_SPREAD:
        raise InputError(f"key 'warm_start_epochs': encoder '{encoder}' gives all pairs the similarity {cosines.mean():.3f}; set 0")
    return (cosines / cosines.std()).astype(np.float32)


def identity_of(sources: Sources, config: TrainTeacherConfig) -> str:
    """Names the training that a checkpoint belongs to: everything that shapes the loss curve, nothing about where it runs."""
    elsewhere = {"num_processes", "zero_stage", "timeout_s", "checkpoint_steps", "log_steps"}
    content = [storage.listing_digest(uri) for uri in vars(sources).values() if uri]
    return storage.to_json([config.model_dump(mode="json", exclude=elsewhere), content]).decode()
