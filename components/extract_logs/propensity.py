"""How likely a shopper looks at a position, relative to position 1 (the position-based click model)."""

import duckdb
import numpy as np

from components.extract_logs.config import ExtractLogsConfig

NUM_POSITIONS = 1000  # deeper positions count as this one
NUM_ESTIMATED = 50
_SCALE = 1_000_000  # sums are made of whole millionths, so that they do not depend on the order of addition


def power_law(exponent: float) -> np.ndarray:
    """position^-exponent [NUM_POSITIONS] (Joachims, Swaminathan, Schnabel 2017, section 6.2)."""
    return np.arange(1, NUM_POSITIONS + 1, dtype=np.float64) ** -exponent


def estimate(connection: duckdb.DuckDBPyConnection, config: ExtractLogsConfig) -> tuple[np.ndarray, int]:
    """(propensities [NUM_POSITIONS], last position with enough evidence), from table `shown`.

    Intervention harvesting (Agarwal et al., WSDM 2019): the same (query, item) pair shown at two positions has the same relevance,
    so the ratio of its click rates is the ratio of examination. Ratios of pairs are pooled with the weights of Mantel and
    Haenszel (1959), which stay unbiased when most pairs have few impressions. From the first position without enough clicks on,
    the last estimate goes on with the power law. Never rising, because noise would make a deeper position look better.
    """
    found = connection.execute(
        f"""WITH placed AS (
              SELECT phrase, item_id, position, count(*) AS n, sum(clicked::INTEGER) AS c FROM shown
              WHERE seen AND position <= {NUM_ESTIMATED} GROUP BY phrase, item_id, position)
            SELECT here.position, sum(CAST(round({_SCALE} * (here.c * top.n) / (here.n + top.n)) AS BIGINT)),
                   sum(CAST(round({_SCALE} * (top.c * here.n) / (here.n + top.n)) AS BIGINT)), sum(here.c), sum(top.c)
            FROM placed AS here JOIN placed AS top USING (phrase, item_id)
            WHERE top.position = 1 AND here.position > 1 GROUP BY here.position ORDER BY here.position""",
    ).fetchall()
    ratios, last = [1.0], 1
    for position, numerator, denominator, clicks, top_clicks in found:  # at most NUM_ESTIMATED rows
        if position != last + 1 or min(clicks, top_clicks) < config.propensity_min_clicks:
            break
        ratios.append(min(ratios[-1], float(numerator) / float(denominator)))
        last = position
    law = power_law(config.propensity_exponent)
    return np.concatenate([ratios, ratios[-1] * law[last:] / law[last - 1]]), last
