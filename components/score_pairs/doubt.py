"""Where a soft target is doubtful: the teacher is unsure, or shoppers' clicks order the query's items otherwise."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.score_pairs.work import Work
from components.shared import tables

_RATES = """
SELECT wanted.query_id, item_id, sum(coalesce(corrected_clicks, clicks)) / sum(coalesce(corrected_impressions, impressions)) AS rate
FROM interactions JOIN wanted USING (query, item_id) GROUP BY ALL
HAVING sum(impressions) >= $min_impressions AND sum(coalesce(corrected_impressions, impressions)) > 0 ORDER BY ALL
"""


def click_rates(interactions: str, work: Work, min_impressions: int) -> pa.Table:
    """query_id, item_id and position-corrected click rate of the pairs that were shown often enough."""
    texts = work.queries["query"].take(pc.index_in(work.pairs["query_id"], value_set=work.queries["query_id"].combine_chunks()))
    with duckdb.connect() as connection:
        connection.register("wanted", work.pairs.select(["query_id", "item_id"]).append_column("query", texts))
        connection.register("interactions", tables.dataset(interactions, "interactions"))
        return connection.sql(_RATES, params={"min_impressions": min_impressions}).to_arrow_table()


def with_doubt(rows: pa.Table, clicks: pa.Table | None) -> pa.Table:
    """Rows of `soft_targets` with `entropy` and `disagreement`, both 0 to 1; null where no clicks can disagree."""
    flat = rows["probabilities"].combine_chunks()
    probabilities = flat.flatten().to_numpy().reshape(len(rows), -1) if len(rows) else np.zeros((0, 2))
    table = rows.append_column("entropy", pa.array(entropies(probabilities), pa.float32()))
    found = disagreements(rows, clicks) if clicks is not None else np.full(len(rows), np.nan)
    return table.append_column("disagreement", pa.array(found, pa.float32(), mask=np.isnan(found)))


def entropies(probabilities: np.ndarray) -> np.ndarray:
    """Shannon entropy of each row [rows, grades] over that of an even distribution: 0 is sure of one grade, 1 knows nothing."""
    safe = np.where(probabilities > 0, probabilities, 1.0).astype(np.float64)
    return np.clip(-(safe * np.log(safe)).sum(1) / np.log(max(probabilities.shape[1], 2)), 0.0, 1.0)


def disagreements(rows: pa.Table, clicks: pa.Table) -> np.ndarray:
    """How far apart teacher and shoppers place an item among the query's items that shoppers saw [rows].

    0: the same place; 1: best by one and worst by the other; NaN: too few clicks, or nothing to compare with. Places and not values are
    compared, because a click rate and an expected gain have different scales.
    """
    keys = [pc.binary_join_element_wise(table["query_id"], table["item_id"], "\x1f") for table in (rows, clicks)]
    index = pc.index_in(keys[0], value_set=keys[1].combine_chunks())
    rates = clicks["rate"].take(index).cast(pa.float64()).fill_null(np.nan).to_numpy()
    seen = np.flatnonzero(~np.isnan(rates))
    found = np.full(len(rows), np.nan)
    if len(seen):
        group = np.unique(rows["query_id"].take(pa.array(seen)).to_pylist(), return_inverse=True)[1]
        found[seen] = np.abs(places(rows["score"].to_numpy()[seen], group) - places(rates[seen], group))
    return found


def places(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Place of each value in its group [rows], 0 lowest to 1 highest, equal values share their mean place; NaN in groups of one.

    Args:
        group: number of each row's group, from 0.
    """
    order = np.lexsort((values, group))
    ordered, sizes = group[order], np.bincount(group)
    place = np.arange(len(values)) - (np.cumsum(sizes) - sizes)[ordered]
    fresh = np.r_[True, (np.diff(ordered) != 0) | (np.diff(values[order]) != 0)]
    tie = np.cumsum(fresh) - 1
    mean = (np.bincount(tie, place) / np.bincount(tie))[tie]
    out = np.full(len(values), np.nan)
    several = sizes[ordered] > 1
    out[order[several]] = mean[several] / (sizes[ordered[several]] - 1)
    return out
