"""Make a shop (catalogue, judged queries, UBI log), or point at a given data folder."""

import logging
from collections import Counter
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.shared import storage
from components.shared.errors import InputError
from components.shared.report import Report
from components.shared.tracking import Tracker
from components.simulate_shop import ubi
from components.simulate_shop.catalogue import Catalogue, item_ids, item_rows, make_catalogue
from components.simulate_shop.clicks import examination
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.files import SETTINGS, DailyLog, clear, write_card, write_rows
from components.simulate_shop.given import point_at
from components.simulate_shop.judging import blur_grades, choose_judged, split_queries
from components.simulate_shop.log import LATE_DAYS, day_number, pieces_of_day, sessions_by_day
from components.simulate_shop.queries import KINDS, Queries, make_queries
from components.simulate_shop.relevance import LABELS
from components.simulate_shop.sessions import NUM_BOTS
from components.simulate_shop.world import World, make_world

log = logging.getLogger(__name__)
JUDGED_AFTER_DAYS = 7  # after the last day of the log: late rows have come in, and no evidence is newer than a judgment


def run(config: SimulateShopConfig, *, given: str = "", dataset: str, tracker: Tracker) -> Report:
    """Write a data folder at `dataset`.

    Args:
        given: URI of a user's data folder; empty makes a shop.
        dataset: URI of the folder to write: card, tables, `logs/`, `truth/`; or only `given.json`.

    Raises:
        InputError: for a given folder that is absent, unreadable or empty, an output folder that holds other files, or more queries
            than the vocabulary can make.
    """
    if given:
        num_files = point_at(given, dataset)
        return Report(metrics={"num_files": num_files}, notes={"given": storage.normalise(given)})
    if config.train_share + config.dev_share > 1:
        raise InputError(
            f"recipe section 'shop': train_share + dev_share = {config.train_share + config.dev_share:g} is above 1; lower one of them"
        )
    streams = [np.random.default_rng([config.seed, 2**31 + place]) for place in range(5)]
    catalogue = make_catalogue(config.num_items, streams[0])
    queries = make_queries(config.num_queries, config.num_log_queries, catalogue, streams[1])
    clear(dataset)
    storage.write_json(storage.join(dataset, SETTINGS), config.model_dump(mode="json"))
    write_rows(storage.join(dataset, "items.parquet"), item_rows(catalogue, streams[0]))
    num_judgments = _write_judged(config, catalogue, queries, dataset, streams[2])
    counts = _write_log(config, make_world(config, catalogue, queries, streams[3]), dataset, streams[4])
    write_card(dataset)
    sizes = {"num_items": len(catalogue), "num_queries": config.num_queries, "num_judgments": num_judgments}
    metrics: dict[str, float] = {**sizes, **{f"num_{name}": count for name, count in counts.items()}}
    tracker.dataset("shop", storage.normalise(dataset), storage.content_digest(dataset), counts["events"])
    return Report(metrics=metrics)


def _write_judged(config: SimulateShopConfig, catalogue: Catalogue, queries: Queries, uri: str, rng: np.random.Generator) -> int:
    """Queries, judgments and the truth behind them; returns the number of judgments."""
    judged = queries.needs.take(np.arange(queries.num_judged))
    split = pa.array(split_queries(queries.num_judged, config.train_share, config.dev_share, rng))
    row, item, true_grade = choose_judged(judged, catalogue, config.judgments_per_query, rng)
    grade = blur_grades(true_grade, config.label_noise, rng)
    number = pc.utf8_lpad(pa.array(np.arange(queries.num_judged)).cast(pa.string()), 5, "0")
    query_id = pc.binary_join_element_wise("Q", number, "")
    kind = pa.array(KINDS).take(pa.array(judged.kind))
    text = queries.text.slice(0, queries.num_judged)
    write_rows(storage.join(uri, "queries.parquet"), pa.table({"query_id": query_id, "query": text, "kind": kind, "split": split}))
    pairs = {"query_id": query_id.take(pa.array(row)), "item_id": item_ids(len(catalogue)).take(pa.array(item))}
    judged_at = config.start_day + timedelta(days=config.days - 1 + JUDGED_AFTER_DAYS)
    labels = {"label": pa.array(LABELS).take(pa.array(grade)), "judged_at": pa.repeat(pa.scalar(judged_at, pa.date32()), len(row))}
    write_rows(storage.join(uri, "judgments.parquet"), pa.table({**pairs, **labels, "split": split.take(pa.array(row))}))
    write_rows(storage.join(uri, "truth", "judgments.parquet"), pa.table({**pairs, "grade": true_grade}))
    return len(row)


def _write_log(config: SimulateShopConfig, world: World, uri: str, rng: np.random.Generator) -> Counter[str]:
    """The UBI log day by day, and what is hidden in it; returns counts of searches and events."""
    clients = ubi.uuids(world.num_clients + NUM_BOTS, rng)
    queries = DailyLog(storage.join(uri, "logs", "ubi_queries"), ubi.QUERIES)
    events = DailyLog(storage.join(uri, "logs", "ubi_events"), ubi.EVENTS)
    first = day_number(config.start_day)
    counts: Counter[str] = Counter()
    bot_sessions: list[str] = []
    busy = [int(count) for count in sessions_by_day(config, rng)]
    for day, num_sessions in enumerate(busy + [0] * LATE_DAYS):
        with queries.day(first + day) as write_queries, events.day(first + day) as write_events:
            for piece in pieces_of_day(day, num_sessions, world, clients, config):
                write_queries(piece.queries)
                write_events(piece.events)
                counts.update(piece.counts)
                bot_sessions.extend(piece.bot_sessions)
        log.info("day %d of %d: %d events so far", day + 1, config.days, counts["events"])
    theta = examination(config.page_size, config.eta)
    write_rows(storage.join(uri, "truth", "examination.parquet"), pa.table({"position": np.arange(1, len(theta) + 1), "propensity": theta}))
    write_rows(storage.join(uri, "truth", "bot_sessions.parquet"), pa.table({"session_id": pa.array(bot_sessions, pa.string())}))
    return counts
