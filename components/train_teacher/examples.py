"""From tables to training examples: one or several prompts of each pair, and batches of them."""

from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.shared import storage
from components.shared.card import DatasetCard, read_card
from components.shared.errors import InputError
from components.shared.models.arithmetic import resolve_precision
from components.shared.models.batches import grouped_batches
from components.shared.models.folder import ModelSpec
from components.shared.models.inputs import model_texts
from components.shared.tables import read_table
from components.shared.text import split_stages
from components.shared.training import Encoded, EncodedApart, shuffled_batches
from components.train_teacher import targets
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.selection import KEPT


@dataclass(frozen=True)
class Sources:
    """Addresses of what the teacher learns from; `selection` names the file of the selected pairs, where some were selected."""

    card: str
    encoder: str
    items: str
    queries: str
    judgments: str
    neighbors: str
    selection: str = ""


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
        InputError: when there is nothing to train on, nothing held out that a setting needs, or a grade is not on the card.
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
    lengths = pc.list_value_length(train["votes"])
    if pc.any(pc.not_equal(lengths, len(card.gains()))).as_py():
        raise InputError(f"'{sources.judgments}': column 'votes' has {pc.max(lengths)} counts, the card has {len(card.gains())} grades")
    validation = held_out_queries(train["query_id"], config.validation_share, config.seed)
    if not len(validation) and (needed_by := config.needs_held_out()):
        raise InputError(
            f"validation_share {config.validation_share:g} of the {pc.count_distinct(train['query_id'])} training queries is none, and "
            f"{needed_by} needs one; raise it, or give more judgments"
        )
    held_out = pc.is_in(train["query_id"], value_set=validation)
    neighbors = read_table(sources.neighbors, "neighbors") if config.num_neighbors else None
    return Tables(
        card,
        read_table(sources.items, "items"),
        read_table(sources.queries, "queries"),
        neighbors,
        selected(train.filter(pc.invert(held_out)), sources.selection),
        train.filter(held_out),
        len(judgments) - len(train),
    )


def selected(training: pa.Table, selection: str) -> pa.Table:
    """The pairs that the file `selection` (see `selectors.py`) keeps; all, where there is no file.

    Raises:
        InputError: when the file is about other pairs.
    """
    if not selection:
        return training
    found = pq.read_table(pa.BufferReader(storage.read_bytes(selection)))
    if any(found[name].to_pylist() != training[name].to_pylist() for name in ("query_id", "item_id", "grade")):
        raise InputError(f"'{selection}' was made from other judgments, or with another validation_share or seed; remove it")
    return training.filter(pc.equal(found["reason"], KEPT))


def held_out_queries(query_ids: pa.ChunkedArray, share: float, seed: int) -> pa.Array:
    """A random `share` of the distinct queries, sorted; never all of them."""
    distinct = np.unique(query_ids.to_numpy())
    number = min(round(len(distinct) * share), len(distinct) - 1)
    return pa.array(np.sort(np.random.default_rng(seed).permutation(distinct)[:number]), pa.string())


def vote_matrix(votes: pa.ChunkedArray, num_grades: int) -> np.ndarray:
    """People who gave each grade [pairs, grades], rows of 0 where it is not known; every list has `num_grades` counts."""
    found = np.zeros((len(votes), num_grades))
    found[votes.is_valid().to_numpy()] = votes.combine_chunks().flatten().to_numpy().reshape(-1, num_grades)
    return found


def encode(tokenizer: object, left: list[str], right: list[str], spec: ModelSpec, config: TrainTeacherConfig) -> Encoded | EncodedApart:
    """Both texts of each row as the configured network reads them."""
    if config.reading == "separate":
        return EncodedApart.of(tokenizer, left, right, max_tokens=spec.max_tokens)
    return Encoded.of(tokenizer, left, right, max_tokens=spec.max_tokens, decoder=spec.decoder)


@dataclass(frozen=True)
class Examples:
    """Encoded prompts [prompts x pairs]: row `n * pairs + p` is pair p in prompt n, which is shown with probability `shares[n]`.

    `query` is the number of each pair's query, `grades` its grade [pairs], and `targets` what its answer should be [pairs, grades].
    """

    encoded: Encoded | EncodedApart
    query: np.ndarray
    grades: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    shares: np.ndarray

    @staticmethod
    def of(tables: Tables, spec: ModelSpec, tokenizer: object, config: TrainTeacherConfig) -> "Examples":
        shares = prompt_shares(spec, config)
        prompts = replace(spec, stages=list(shares))
        texts = model_texts(prompts, tables.training, tables.queries, tables.items, tables.neighbors)
        left, right = (list(chain.from_iterable(split_stages(side, len(shares)))) for side in texts)
        grades = tables.training["grade"].to_numpy().astype(np.int64)
        weights = targets.grade_weights(grades, len(spec.gains), config.balance)[grades]
        encoded = encode(tokenizer, left, right, spec, config)
        query = np.unique(tables.training["query_id"].to_numpy(), return_inverse=True)[1]
        smoothing = config.smoothing if config.folding == "card" else 0.0
        own = targets.grade_targets(len(spec.gains), smoothing)
        wanted = targets.judged_targets(grades, vote_matrix(tables.training["votes"], len(spec.gains)), own, config.vote_prior)
        return Examples(encoded, query, grades, wanted, weights, np.array(list(shares.values())))

    def batches(self, epoch: int, config: TrainTeacherConfig) -> list[np.ndarray]:
        """Rows of `encoded`: each pair once, in a prompt drawn by `shares`; a function of (seed, epoch).

        Rows of a batch are of like length; where a loss compares the items of a query, they are groups of whole queries instead, and
        the items of one query are shown in the same prompt.
        """
        rng = np.random.default_rng([config.seed, epoch])
        rows = np.arange(len(self.grades))
        grouped = config.compares_items()
        if len(self.shares) > 1:
            draws = rng.random(int(self.query.max()) + 1)[self.query] if grouped else rng.random(len(rows))
            of_later = np.cumsum(self.shares[::-1])[-2::-1]  # share of the prompts after the first, after the second, ...
            rows = rows + len(rows) * (draws[:, None] < of_later).sum(axis=1)
        if grouped:
            rows_each = config.batch_size or config.batch_tokens / float(self.encoded.lengths[rows].mean())
            size = {"queries_per_batch": max(1, int(rows_each / config.items_per_query)), "items_per_query": config.items_per_query}
            chosen = grouped_batches(self.query, np.arange(len(rows)), epoch, seed=config.seed, **size)
        else:
            sizes = {"batch_size": config.batch_size} if config.batch_size else {"batch_tokens": config.batch_tokens}
            chosen = shuffled_batches(self.encoded.lengths[rows], rng, **sizes)
        return [rows[one] for one in chosen]

    def mean_lengths(self) -> np.ndarray:
        """Tokens of each pair [pairs], on average over its prompts."""
        return self.shares @ self.encoded.lengths.reshape(len(self.shares), -1)

    def pairs_of(self, rows: np.ndarray) -> np.ndarray:
        return rows % len(self.grades)


def prompt_shares(spec: ModelSpec, config: TrainTeacherConfig) -> dict[str, float]:
    """Name of each prompt that training shows (in `text.STAGES`) -> share of the pairs that are shown it."""
    if spec.stages:
        return dict.fromkeys(spec.stages, 1 / len(spec.stages))
    if not spec.num_neighbors:
        return {"semantic": 1.0}
    hidden = {"semantic": config.neighbor_dropout} if config.neighbor_dropout else {}
    return {"neighbors": 1 - config.neighbor_dropout, **hidden}


def identity_of(sources: Sources, config: TrainTeacherConfig) -> str:
    """Names the training that a checkpoint belongs to: everything that shapes the loss curve, nothing about where it runs."""
    content = [storage.listing_digest(uri) for uri in vars(sources).values() if uri]
    shaping = {**config.shaping(), "precision": resolve_precision(config.precision)}  # a retry may land on another kind of processor
    return storage.to_json([shaping, content, config.references()]).decode()
