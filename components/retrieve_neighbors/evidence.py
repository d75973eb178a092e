"""How far the log supports that shoppers accept an item for a query.

The click rate is corrected for position: corrected clicks over corrected impressions (how often the item was looked at, under the
examination of `extract_logs`). Its bounds come from a Beta posterior around the log's own mean rate, so that 20 of 100 counts for
less than 20,000 of 100,000; ProRBP's fixed cut (arXiv 2408.09439: 100 exposures, click rate 0.2) does not see the difference.
"""

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import betaincinv

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.counts import ONE
from components.shared.columns import _
from components.shared.warehouse import Warehouse


def list_known(counts: ibis.Table, texts: ibis.Table) -> ibis.Table:
    """The counts of pairs whose query and item are known, by query and item."""
    items, queries = texts.filter(_.is_item).select(item_id="name"), texts.filter(~_.is_item).select(query="name")
    return counts.semi_join(items, "item_id").semi_join(queries, "query").order_by("query", "item_id")


def collect_evidence(warehouse: Warehouse, config: RetrieveNeighborsConfig) -> pa.Table:
    """Evidence of all known pairs with `rate`, `lower_bound`, `upper_bound` and `strength`, what they are ranked by.

    Args:
        warehouse: has tables `counts` and `texts` (name and is_item of what is known).
    """
    table = warehouse.arrow(list_known(warehouse.table("counts"), warehouse.table("texts")))
    clicks, impressions = (table[name].to_numpy().astype(float) for name in ("clicks", "impressions"))
    looks, credit = (np.maximum(table[name].to_numpy(), 0) / ONE for name in ("looks", "credit"))
    mean = mean_rate(credit, looks)
    lower, upper = (
        np.where(credit > 0, quantile(credit, looks, mean, config.prior_strength, share), 0.0)
        for share in (1 - config.confidence, config.confidence)
    )
    is_bound = config.rule == "lower_bound"
    rate = click_rate(credit, looks) if is_bound else click_rate(clicks, impressions)
    columns = {"rate": rate, "lower_bound": lower, "upper_bound": upper, "strength": lower if is_bound else rate}
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    return table


def click_rate(clicks: np.ndarray, impressions: np.ndarray) -> np.ndarray:
    """Clicks per impression [pairs], at most 1; 0 where there was neither."""
    return clicks / np.maximum(np.maximum(clicks, impressions), np.finfo(float).tiny)


def mean_rate(clicks: np.ndarray, corrected: np.ndarray) -> float:
    """Corrected click rate of the whole log, kept inside (0, 1) because it is a prior's mean."""
    return float(np.clip(clicks.sum() / max(corrected.sum(), 1e-9), 1e-6, 1 - 1e-6))


def quantile(clicks: np.ndarray, corrected: np.ndarray, mean: float, strength: float, share: float) -> np.ndarray:
    """Quantile `share` [pairs] of Beta(strength * mean + clicks, strength * (1 - mean) + misses).

    Misses are corrected impressions without a click; a click implies a look, so they are never negative.
    """
    misses = np.maximum(corrected - clicks, 0.0)
    return betaincinv(strength * mean + clicks, strength * (1 - mean) + misses, share)


def is_accepted(evidence: pa.Table, config: RetrieveNeighborsConfig) -> pa.ChunkedArray:
    """Which rows are evidence enough to be a neighbor, under the configured rule; a pair without a click never is."""
    if config.rule == "published":
        wanted = {"impressions": config.min_exposures, "rate": config.min_rate, "clicks": 1}
    else:
        wanted = {"impressions": config.min_impressions, "lower_bound": config.min_lower_bound, "clicks": 1, "clients": config.min_clients}
    mask = pc.greater_equal(evidence["clicks"], 0)
    for column, least in wanted.items():
        mask = pc.and_(mask, pc.greater_equal(evidence[column], least))
    return mask
