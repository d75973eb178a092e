"""Snapshots: what was known on a morning. The snapshot of a day is made from the days before it, never from that day."""

import logging
from collections.abc import Sequence
from datetime import date

import pyarrow as pa

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.counts import ONE_DAY, Span, advance
from components.retrieve_neighbors.evidence import collect_evidence, is_accepted
from components.retrieve_neighbors.ranking import rank_neighbors
from components.shared.errors import InputError
from components.shared.schema import NEIGHBORS
from components.shared.warehouse import Warehouse

logger = logging.getLogger(__name__)


def snapshot_days(judged: Sequence[date | None], span: Span, last_day: date, max_snapshots: int) -> list[date]:
    """The day after the log's last, and each day of judgment with log days before it; ascending.

    Raises:
        InputError: for more than `max_snapshots` days after the span, for which snapshots have to be made.
    """
    days = [*sorted({day for day in judged if day is not None and span.first_day < day <= last_day}), last_day + ONE_DAY]
    num_new = sum(day > span.last_day for day in days)
    if num_new > max_snapshots:
        raise InputError(
            f"recipe section 'neighbors': key 'max_snapshots' = {max_snapshots}, but {num_new} snapshots are needed: "
            f"judgments were made on {num_new - 1} days inside the log; raise it, or round column 'judged_at' of the judgments to weeks"
        )
    return days


def make_snapshots(
    warehouse: Warehouse, span: Span, days: Sequence[date], config: RetrieveNeighborsConfig
) -> tuple[Span, list[pa.Table], pa.Table]:
    """The span counted in the end, the rows of table `neighbors` of each day, and the evidence that the last were chosen from.

    Args:
        warehouse: has tables `interactions`, `counts` and `texts` (name, is_item, text).
        days: ascending, all after the span, at least one.
    """
    snapshots, evidence = [], pa.table({})
    for day in days:
        span = advance(warehouse, span, day)
        evidence = collect_evidence(warehouse, config)
        warehouse.put("accepted", evidence.filter(is_accepted(evidence, config)))
        ranked = rank_neighbors(warehouse, config)
        logger.info("snapshot %s: %d neighbors out of %d pairs", day, ranked.num_rows, evidence.num_rows)
        dated = ranked.add_column(0, "snapshot", pa.repeat(pa.scalar(day, pa.date32()), ranked.num_rows))
        snapshots.append(dated.cast(NEIGHBORS.schema))
    return span, snapshots, evidence
