"""Sub-judgments as tasks beside the score, so that a student learns why a pair matches and not only how well (MKD, arXiv 2411.13045).

The paper gives neither losses nor settings. Here a student has one small linear head for each aspect (category, brand, attribute,
negation, accessory), which says whether the item meets it and is left out where the query does not ask for the aspect. The heads are of the
training alone: what is saved is the network that sentence-transformers opens.
"""

import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from components.shared.aspects import verdict_numbers
from components.shared.errors import InputError
from components.shared.rule_annotator import RuleAnnotator
from components.shared.schema import ASPECTS, VERDICTS
from components.shared.tables import read_table
from components.train_student.config import TrainStudentConfig

logger = logging.getLogger(__name__)

MATCH, MISMATCH = VERDICTS.index("match"), VERDICTS.index("mismatch")


def sub_judgments_of(
    config: TrainStudentConfig, pairs: pa.Table, queries: pa.Table, items: pa.Table, judgments: pa.Table | None
) -> np.ndarray:
    """1 where the item meets the aspect, 0 where it does not, NaN where the query asks for nothing there or nobody tells [pairs, aspects].

    They come from the table that `config.sub_judgments` names, or from rules where it is empty.

    Args:
        judgments: those of split train teach the rules the words that the catalogue does not know.

    Raises:
        InputError: when no pair has one.
    """
    if config.sub_judgments:
        found = read_table(config.sub_judgments, "sub_judgments")
    else:
        known = None if judgments is None else judgments.filter(pc.equal(judgments["split"], "train"))
        found = RuleAnnotator(queries, items, known).annotate(pairs)
    numbers = verdict_numbers(found, pairs)
    met = np.where(numbers == MATCH, 1.0, np.where(numbers == MISMATCH, 0.0, np.nan)).astype(np.float32)
    if np.isnan(met).all():
        source = f"'{config.sub_judgments}'" if config.sub_judgments else "the rules"
        raise InputError(
            f"sub_judgment_weight = {config.sub_judgment_weight:g}: {source} tell no verdict on these pairs; annotate the pool "
            "(room annotate_pairs) and name the table in sub_judgments, or set the weight to 0"
        )
    logger.info("sub-judgments of %d pairs: %s", len(met), dict(zip(ASPECTS, np.isfinite(met).sum(0).tolist(), strict=True)))
    return met


def sub_judgment_loss(logits: torch.Tensor, met: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of each told aspect, summed over aspects and averaged over all rows, told or not.

    Args:
        logits, met: [rows, aspects]; `met` is 0, 1 or NaN, which counts nothing.
    """
    told = torch.isfinite(met)
    costs = binary_cross_entropy_with_logits(logits, met.masked_fill(~told, 0.0), reduction="none")
    return costs.masked_fill(~told, 0.0).sum(1).mean()


def head_accuracy(logits: np.ndarray, met: np.ndarray) -> dict[str, float]:
    """By aspect: share of told rows that its head gets right, and the share that the more frequent verdict would; none where none is told.

    Args:
        logits, met: [rows, aspects].
    """
    found: dict[str, Any] = {}
    for place, aspect in enumerate(ASPECTS):
        told = np.isfinite(met[:, place])
        if told.any():
            truth = met[told, place] == 1.0
            found[f"{aspect}.accuracy"] = float(((logits[told, place] > 0) == truth).mean())
            found[f"{aspect}.majority"] = float(max(truth.mean(), 1.0 - truth.mean()))
    return found
