"""Items whose vectors are nearest to a query's: what a bi-encoder would show and nobody has looked at yet."""

import logging

import numpy as np
import pyarrow as pa

from components.build_pool.candidates import pairs_of
from components.build_pool.config import BuildPoolConfig
from components.shared import storage
from components.shared.errors import InputError
from components.shared.registry import resolve
from components.shared.text import item_text, query_text

logger = logging.getLogger(__name__)

BLOCK_CELLS = 1 << 24  # cosines held at once, 64 MiB


def near_pairs(config: BuildPoolConfig, address: str, queries: pa.Table, items: pa.Table) -> pa.Table | None:
    """The `num_nearest` items of every query by cosine; None while the registry has no such model, or none that can be read.

    Raises:
        InputError: for a model that reads query and item jointly.
    """
    from components.shared.models import folder  # noqa: PLC0415 - torch takes seconds to load, and most pools need none
    from components.shared.models.scoring import Scorer  # noqa: PLC0415

    place = resolve(address)
    if not place or not storage.exists(place):
        logger.warning("no nearest items: '%s' is not there yet, or no more", address)
        return None
    try:
        scorer = Scorer(place)
    except folder.OutdatedModelError as error:
        logger.warning("no nearest items: %s", error)
        return None
    if scorer.spec.kind not in ("encoder", "bi_encoder"):
        raise InputError(
            f"recipe section 'pool': key 'bi_encoder' = '{address}' is a {scorer.spec.kind}, which has no vectors; name an encoder"
        )
    asked, offered = (scorer.embed(column.to_pylist()) for column in (query_text(queries["query"]), item_text(items)))
    positions = top_cosines(asked, offered, config.num_nearest)
    return pairs_of(queries, items, np.ones_like(positions, bool), positions)


def top_cosines(queries: np.ndarray, items: np.ndarray, most: int) -> np.ndarray:
    """Positions of the `most` items with the largest cosine [queries, most], best first; of equal cosines the earlier item.

    Args:
        queries, items: unit-length vectors [n, width].
    """
    most = min(most, len(items))
    rows = max(1, BLOCK_CELLS // max(1, len(items)))
    found = [_top_of(queries[start : start + rows] @ items.T, most) for start in range(0, len(queries), rows)]
    return np.concatenate(found) if found else np.zeros((0, most), np.int64)


def _top_of(cosines: np.ndarray, most: int) -> np.ndarray:
    last = -np.partition(-cosines, most - 1, axis=1)[:, most - 1 : most]
    above, equal = cosines > last, cosines == last
    taken = above | (equal & (np.cumsum(equal, axis=1) <= most - above.sum(axis=1, keepdims=True)))
    chosen = np.nonzero(taken)[1].reshape(len(cosines), most)
    order = np.argsort(-np.take_along_axis(cosines, chosen, axis=1), axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1)
