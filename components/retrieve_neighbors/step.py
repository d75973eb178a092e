"""Find behavior neighbors: what shoppers accepted for a query, which queries an item satisfied, and what these have in common."""

from datetime import date

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.retrieve_neighbors import coverage, page
from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.counts import ONE_DAY, Span, begin, count_fates, resume, stored_counts
from components.retrieve_neighbors.snapshots import make_snapshots, snapshot_days
from components.shared import storage
from components.shared.columns import _
from components.shared.errors import InputError
from components.shared.report import Report
from components.shared.schema import SIDES
from components.shared.tables import read_table, write_table
from components.shared.tracking import Tracker
from components.shared.warehouse import Warehouse


def run(
    config: RetrieveNeighborsConfig,
    *,
    interactions: str,
    items: str,
    queries: str,
    judgments: str,
    neighbors: str,
    evidence: str = "",
    previous: str = "",
    tracker: Tracker,
) -> Report:
    """Write table `neighbors`: one snapshot after the log's last day, and one per day of judgment inside the log; and beside it the page
    `neighbors.html` of the newest.

    Args:
        evidence: URI of the table to write that the next run can go on from; empty writes none.
        previous: URI of the folder with `evidence` and `neighbors` of an earlier run. Only later days of the log are then counted, and
            snapshots of days before are taken over. Empty counts the whole log.

    Raises:
        InputError: for tables that do not fit, a log without a known query and item after the days of `previous`, or too many days of
            judgment.
    """
    catalogue, asked = read_table(items, "items"), read_table(queries, "queries")
    with duckdb.connect() as connection:
        warehouse = Warehouse(connection)
        warehouse.put("interactions", read_table(interactions, "interactions"))
        warehouse.put("texts", _texts(catalogue, asked))
        span = _begin(warehouse, config, previous)
        counted_days = f"days after {span.last_day}, added to '{previous}'" if previous else "all days of the log"
        fates = warehouse.rows(count_fates(warehouse.table("interactions"), warehouse.table("texts"), span.last_day))[0]
        kept, last_day = fates.pop("kept"), fates.pop("last_day")
        if not kept:
            after = f"after {span.last_day} (the last day of '{previous}') " if previous else ""
            raise InputError(
                f"'{interactions}': none of {sum(fates.values())} interactions {after}has a query of '{queries}' and "
                f"an item of '{items}'; give the tables of one shop, and a window in which it has traffic"
            )
        judged = pc.unique(read_table(judgments, "judgments", ["judged_at"])["judged_at"]).to_pylist()
        days = snapshot_days(judged, span, last_day, config.max_snapshots)
        earlier = _earlier(previous, [day for day in days if day <= span.last_day])
        span, made, pairs = make_snapshots(warehouse, span, [day for day in days if day > span.last_day], config)
        stored = stored_counts(warehouse, span)
    manifest = write_table(neighbors, "neighbors", pa.concat_tables([*earlier, *made]).combine_chunks())
    tracker.dataset("neighbors", neighbors, manifest.digest, manifest.rows)
    if evidence:
        write_table(evidence, "evidence", stored)
    reach = coverage.measure(made[-1], pairs, asked, catalogue, config)
    tracker.artifact(_publish(neighbors, page.render(reach, days[-1], config)))
    num_snapshots = len(earlier) + len(made)
    metrics = {"snapshots": num_snapshots, "snapshots.absent": len(days) - num_snapshots, "rows": manifest.rows, "pairs": pairs.num_rows}
    return Report(
        read=kept + sum(fates.values()),
        kept=kept,
        dropped=fates,
        metrics={name: float(value) for name, value in metrics.items()} | describe(made[-1]) | reach.metrics(),
        notes={"newest snapshot": str(days[-1]), "rule": config.rule, "counted": counted_days},
    )


def describe(newest: pa.Table) -> dict[str, float]:
    """Numbers of one snapshot: per side, keys with a neighbor and mean neighbors of those; quantiles of the lower bound, 0 if empty."""
    metrics = {}
    whole = newest.filter(pc.equal(newest["left_out"], ""))
    for side in SIDES:
        rows = whole.filter(pc.equal(whole["side"], side))
        keys = pc.count_distinct(rows["key"]).as_py()
        metrics |= {f"{side}.keys": float(keys), f"{side}.mean_neighbors": len(rows) / max(keys, 1)}
    bounds = whole.filter(pc.is_in(whole["side"], pa.array(SIDES[:2])))["lower_bound"].to_numpy()
    return metrics | {f"lower_bound.p{share}": float(np.percentile(bounds, share)) if len(bounds) else 0.0 for share in (10, 50, 90)}


def _publish(neighbors: str, content: bytes) -> str:
    """Write the page beside the table; returns its address."""
    address = storage.join(storage.normalise(neighbors).rpartition("/")[0], page.PAGE)
    storage.write_bytes(address, content)
    return address


def _begin(warehouse: Warehouse, config: RetrieveNeighborsConfig, previous: str) -> Span:
    if previous:
        where = storage.join(previous, "evidence")
        return resume(warehouse, read_table(where, "evidence"), config.half_life_days, where)
    first_day = warehouse.rows(warehouse.table("interactions").agg(day=_.day.min()))[0]["day"]
    return begin(warehouse, first_day or date.min + ONE_DAY, config.half_life_days)


def _earlier(previous: str, days: list[date]) -> list[pa.Table]:
    """Snapshots of `days` as an earlier run published them; one that it did not make is absent."""
    if not days:
        return []
    published = read_table(storage.join(previous, "neighbors"), "neighbors")
    found = [published.filter(pc.equal(published["snapshot"], pa.scalar(day))) for day in days]
    return [rows for rows in found if rows.num_rows]


def _texts(items: pa.Table, queries: pa.Table) -> pa.Table:
    """What a neighbor reads like: the title of an item, or the query itself."""
    known = pc.unique(queries["query"])
    titles = pa.table({"is_item": pa.repeat(True, len(items)), "name": items["item_id"], "text": items["title"]})
    return pa.concat_tables([titles, pa.table({"is_item": pa.repeat(False, len(known)), "name": known, "text": known})])
