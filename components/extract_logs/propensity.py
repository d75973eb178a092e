"""How likely a shopper looks at a position, relative to position 1, and which clicks the position alone earns.

Corrected for both, the attraction of an item is (clicks - sum of `trusted`) / (sum of `examined`) over its impressions: the affine
correction of Vardasbi, Oosterhuis and de Rijke, "When Inverse Propensity Scoring does not Work" (CIKM 2020). Without trust bias
it is inverse propensity scoring.
"""

from dataclasses import dataclass

import ibis
import numpy as np
import pyarrow as pa

from components.extract_logs.click_model import PlacedCounts, fit_click_model
from components.extract_logs.config import ExtractLogsConfig
from components.shared.columns import _
from components.shared.errors import InputError
from components.shared.warehouse import Warehouse

NUM_POSITIONS = 1000  # deeper positions count as this one
NUM_ESTIMATED = 50


@dataclass(frozen=True)
class Examination:
    """`examined` and `trusted` [NUM_POSITIONS], and `last`, how many positions were estimated; the power law goes on below them."""

    examined: np.ndarray
    trusted: np.ndarray
    last: int


def power_law(exponent: float) -> np.ndarray:
    """position^-exponent [NUM_POSITIONS] (Joachims, Swaminathan, Schnabel 2017, section 6.2)."""
    return np.arange(1, NUM_POSITIONS + 1, dtype=np.float64) ** -exponent


def examine(warehouse: Warehouse, config: ExtractLogsConfig) -> Examination:
    """By the configured method, from table `shown`.

    Raises:
        InputError: for `swap` without a search in `propensity_bucket`.
    """
    if config.propensity == "power":
        return Examination(power_law(config.propensity_exponent), np.zeros(NUM_POSITIONS), 0)
    return estimate(count_placed(warehouse, config), config)


def place_clicks(shown: ibis.Table, config: ExtractLogsConfig) -> ibis.Table:
    """number (of a group), position (from 0), impressions, clicks: pairs, or for `swap` the queries of the shuffled searches, by the
    positions they were shown at; only groups that tell the method something."""
    by_query = config.propensity == "swap"
    shown = shown.filter(_.seen, _.position <= NUM_ESTIMATED, *([_.experiment == config.propensity_bucket] if by_query else []))
    group = ["phrase"] if by_query else ["phrase", "item_id"]
    placed = shown.group_by(*group, "position").agg(impressions=_.count(), clicks=_.clicked.sum())
    one = ibis.window(group_by=group)
    totals = placed.mutate(top=_.position.min().over(one), in_all=_.impressions.sum().over(one), clicked=_.clicks.sum().over(one))
    if config.propensity == "em":
        useful = totals.filter(_.in_all >= config.propensity_min_impressions)
    else:
        useful = totals.filter(_.top == 1, _.clicked > 0)
    number = ibis.dense_rank().over(ibis.window(order_by=group))
    cells = useful.select(number=number, position=_.position - 1, impressions=_.impressions, clicks=_.clicks)
    return cells.order_by("number", "position")


def count_placed(warehouse: Warehouse, config: ExtractLogsConfig) -> PlacedCounts:
    """What the method looks at, from table `shown`.

    Raises:
        InputError: for `swap` without a click in `propensity_bucket`.
    """
    shown = warehouse.table("shown")
    table = warehouse.arrow(place_clicks(shown, config))
    if config.propensity == "swap" and not table.num_rows:
        found = warehouse.rows(shown.filter(_.experiment.notnull()).select("experiment").distinct().order_by("experiment"))
        raise InputError(
            f"recipe section 'logs': propensity 'swap' finds no click in searches of propensity_bucket '{config.propensity_bucket}'; "
            f"experiments of this log: {', '.join(row['experiment'] for row in found[:9]) or 'none'}; name the shuffled one, or use 'em'"
        )
    # an engine may sum into wider numbers than Ibis says
    return PlacedCounts(*(table[name].cast(pa.int64()).to_numpy() for name in ("number", "position", "impressions", "clicks")))


def estimate(counts: PlacedCounts, config: ExtractLogsConfig) -> Examination:
    """Examination of the positions that have enough clicks, and the power law from the first one on that has not.

    Examination never rises, because noise would make a deeper position look better; trust is never negative.
    """
    is_em = config.propensity == "em"
    clicks = np.bincount(counts.position, counts.clicks)
    if not is_em:
        clicks = np.minimum(clicks, np.bincount(counts.position, _at_top(counts, counts.clicks)))
    enough = clicks >= config.propensity_min_clicks
    last = max(len(enough) if enough.all() else int(np.argmin(enough)), 1)
    slope, base = np.ones(1), np.zeros(1)
    if last > 1:
        slope, base = fit_click_model(counts.up_to(last), trust=config.propensity_trust) if is_em else harvest(counts.up_to(last))
    law = power_law(config.propensity_exponent)
    slope = np.minimum.accumulate(np.clip(slope, 0, 1))
    examined = np.concatenate([slope, slope[-1] * law[last:] / law[last - 1]])
    return Examination(examined, np.pad(np.maximum(base, 0), (0, NUM_POSITIONS - last)), last)


def harvest(counts: PlacedCounts) -> tuple[np.ndarray, np.ndarray]:
    """(slope [positions], base [positions], all 0): a group's click rate at a position over its own at position 1, which each has.

    Where a group is a pair, its relevance is the same at both: intervention harvesting (Agarwal et al., WSDM 2019). Where a group is a
    query whose results were shuffled, each position holds the same items on average: the randomised estimate (Joachims, Swaminathan,
    Schnabel, WSDM 2017, section 5). Groups are pooled with the weights of Mantel and Haenszel (1959), which stay unbiased when most
    have few impressions.
    """
    top_shown, top_clicked = _at_top(counts, counts.impressions), _at_top(counts, counts.clicks)
    total = np.maximum(top_shown + counts.impressions, 1)
    here = np.bincount(counts.position, counts.clicks * top_shown / total)
    top = np.bincount(counts.position, top_clicked * counts.impressions / total)
    return here / np.maximum(top, np.finfo(float).tiny), np.zeros(len(here))


def _at_top(counts: PlacedCounts, values: np.ndarray) -> np.ndarray:
    """A group's value at position 1, for each of its cells."""
    at_top = counts.position == 0
    return np.bincount(counts.group[at_top], values[at_top], minlength=counts.group.max(initial=0) + 1)[counts.group]
