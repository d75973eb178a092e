"""Hard pairs by construction: edited copies of relevant training pairs, of which it is certain that they are less relevant.

An asked attribute, number or unit is another one, the query excludes what the item has, an accessory stands in the item's place
(`shared/edits.py`). How much less relevant is not known, so a copy teaches an order and no gain: it belongs below its original.
"""

import logging

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import softplus

from components.shared.edits import LOWERING, Values, edit_pairs
from components.shared.errors import InputError
from components.shared.models.folder import ModelSpec
from components.shared.models.inputs import texts_of_rows
from components.shared.tables import rows_of
from components.train_student.config import TrainStudentConfig
from components.train_student.students import Student
from components.train_student.targets import Lessons

logger = logging.getLogger(__name__)


def make_copies(
    config: TrainStudentConfig, spec: ModelSpec, lessons: Lessons, queries: pa.Table, items: pa.Table, neighbors: pa.Table | None
) -> tuple[np.ndarray, tuple[list[str], list[str]]]:
    """Copies of the pairs that the teacher gives `relevant_gain` or more: their row numbers [pairs, edits], and their texts.

    Row numbers count on from the last pair, -1 where an edit does not apply.

    Raises:
        InputError: when no edit applies to any pair.
    """
    rows = np.flatnonzero(lessons.gains >= config.relevant_gain)
    pairs = lessons.pairs.take(rows)
    query_rows = rows_of(queries, "query_id", pairs["query_id"], where="pairs")
    item_rows = rows_of(items, "item_id", pairs["item_id"], where="pairs")
    values = Values.of(items, query_rows)
    copies = np.full((len(lessons.pairs), len(LOWERING)), -1, np.int64)
    left: list[str] = []
    right: list[str] = []
    for place, kind in enumerate(LOWERING):
        edited = edit_pairs(kind, query_rows, item_rows, values, config.seed)
        copies[rows[edited.rows], place] = len(copies) + len(left) + np.arange(len(edited.rows))
        texts = texts_of_rows(spec, pairs.take(edited.rows), edited.queries, edited.items, neighbors)
        left, right = left + texts[0], right + texts[1]
    if not left:
        raise InputError(
            f"counterfactual_share = {config.counterfactual_share:g}: no edit applies to any of {len(rows)} pairs whose gain is "
            f"{config.relevant_gain:g} or more; lower relevant_gain, or set the share to 0"
        )
    logger.info("counterfactuals: %s", dict(zip(LOWERING, (copies >= 0).sum(0).tolist(), strict=True)))
    return copies, (left, right)


def draw_copies(copies: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(places of rows that stand with a copy, that copy's row number), [drawn] each: with probability `share` one of the row's own.

    Args:
        copies: of the rows of a batch [rows, edits].
    """
    luck = np.where(copies >= 0, rng.random(copies.shape), -1.0)
    best = luck.argmax(axis=1)
    places = np.flatnonzero((luck.max(axis=1) >= 0) & (rng.random(len(copies)) < share))
    return places, copies[places, best[places]]


def order_loss(originals: torch.Tensor, copies: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean of -log sigmoid((s - s') / temperature) over pairs and their copies (RankNet, Burges et al. 2005); 0 without copies."""
    return softplus((copies - originals) / temperature).sum() / max(1, len(copies))


def share_falling(student: Student, scores: np.ndarray, copies: np.ndarray) -> dict[str, float]:
    """By edit: share of rows whose copy scores lower; left out where there is no copy.

    Args:
        scores, copies: of the rows [rows], [rows, edits].
    """
    places, edits = np.nonzero(copies >= 0)
    if not len(places):
        return {}
    is_below = student.predict(copies[places, edits])[:, 0] < scores[places]
    return {kind: float(is_below[edits == place].mean()) for place, kind in enumerate(LOWERING) if (edits == place).any()}
