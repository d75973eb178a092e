"""How far the log supports that shoppers accept an item for a query.

The click rate is corrected for position: clicks over corrected impressions (how often the item was looked at, under the position
model of `extract_logs`). Its lower bound comes from a Beta posterior around the log's own mean rate, so that 20 of 100 counts for
less than 20,000 of 100,000; ProRBP's fixed cut (arXiv 2408.09439: 100 exposures, click rate 0.2) does not see the difference.
"""

from datetime import date

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import betaincinv

from components.retrieve_neighbors.config import RetrieveNeighborsConfig

# decimals are summed exactly, in any order of threads; doubles are not, and a rebuild must be equal bit by bit.
# The busiest day's clients are surely distinct; a sum over days would count a returning shopper again.
_EVIDENCE = """
SELECT query, item_id, sum(coalesce(impressions, 0))::BIGINT AS impressions, sum(coalesce(clicks, 0))::BIGINT AS clicks,
    max(coalesce(clients, 0))::BIGINT AS clients,
    sum(coalesce(corrected_impressions, impressions, 0)::DECIMAL(38, 9))::DOUBLE AS corrected_impressions
FROM interactions WHERE day < $snapshot GROUP BY query, item_id ORDER BY query, item_id
"""


def collect_evidence(connection: duckdb.DuckDBPyConnection, snapshot: date, config: RetrieveNeighborsConfig) -> pa.Table:
    """Evidence of all pairs from days before `snapshot`, with `rate`, `lower_bound` and `strength`, what they are ranked by.

    Args:
        connection: has a table `interactions`.
    """
    table = connection.sql(_EVIDENCE, params={"snapshot": snapshot}).to_arrow_table()
    clicks, impressions, corrected = (table[name].to_numpy().astype(float) for name in ("clicks", "impressions", "corrected_impressions"))
    bound = lower_bound(clicks, corrected, mean_rate(clicks, corrected), config.prior_strength, config.confidence)
    rate = click_rate(clicks, corrected if config.rule == "lower_bound" else impressions)
    table = table.append_column("rate", pa.array(rate)).append_column("lower_bound", pa.array(bound))
    return table.append_column("strength", pa.array(bound if config.rule == "lower_bound" else rate))


def click_rate(clicks: np.ndarray, impressions: np.ndarray) -> np.ndarray:
    """Clicks per impression [pairs], at most 1; 0 where there was neither."""
    return clicks / np.maximum(np.maximum(clicks, impressions), np.finfo(float).tiny)


def mean_rate(clicks: np.ndarray, corrected: np.ndarray) -> float:
    """Corrected click rate of the whole log, kept inside (0, 1) because it is a prior's mean."""
    return float(np.clip(clicks.sum() / max(corrected.sum(), 1e-9), 1e-6, 1 - 1e-6))


def lower_bound(clicks: np.ndarray, corrected: np.ndarray, mean: float, strength: float, confidence: float) -> np.ndarray:
    """Quantile `1 - confidence` [pairs] of Beta(strength * mean + clicks, strength * (1 - mean) + misses).

    Misses are corrected impressions without a click; a click implies a look, so they are never negative. 0 where nobody clicked.
    """
    misses = np.maximum(corrected - clicks, 0.0)
    bound = betaincinv(strength * mean + clicks, strength * (1 - mean) + misses, 1 - confidence)
    return np.where(clicks > 0, bound, 0.0)


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
