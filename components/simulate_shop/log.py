"""The log, piece by piece: a day is simulated in batches of sessions, so memory is bounded however busy the day is."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from components.simulate_shop.behavior import ADD_TO_CART, CLICK, IMPRESSION, PURCHASE, WELL, act, show_pages
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.sessions import DAY_MS, NUM_BOTS, PERSON, bots, people, session_starts
from components.simulate_shop.ubi import event_rows, query_rows, typed_texts, uuids
from components.simulate_shop.world import World

BATCH_SESSIONS = 10_000
LATE_DAYS = 3
WEEKEND = 1.25


@dataclass
class Piece:
    """A batch as UBI tables; rows that arrive on a later day lie under that day (days since 1970)."""

    queries: dict[int, pa.Table]
    events: dict[int, pa.Table]
    bot_sessions: list[str]
    counts: dict[str, int] = field(default_factory=dict)


def day_number(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def sessions_by_day(config: SimulateShopConfig, rng: np.random.Generator) -> np.ndarray:
    """Sessions of each day; weekends are busier. They sum to `num_sessions`."""
    weekday = np.array([(config.start_day + timedelta(days=day)).weekday() for day in range(config.days)])
    share = np.where(weekday >= 5, WEEKEND, 1.0) * rng.uniform(0.92, 1.08, config.days)
    edges = np.round(np.cumsum(share) / share.sum() * config.num_sessions).astype(int)
    return np.diff(edges, prepend=0)


def pieces_of_day(day: int, num_sessions: int, world: World, clients: pa.Array, config: SimulateShopConfig) -> Iterator[Piece]:
    """The day's batches in order of time; the bots of the day come with the first."""
    number = day_number(config.start_day) + day
    starts = session_starts(num_sessions, number, np.random.default_rng([config.seed, day]))
    for batch, begin in enumerate(range(0, num_sessions, BATCH_SESSIONS)):
        rng = np.random.default_rng([config.seed, day, batch])
        yield _piece(starts[begin : begin + BATCH_SESSIONS], number, num_sessions if batch == 0 else 0, world, clients, config, rng)


def _piece(
    starts: np.ndarray, number: int, for_bots: int, world: World, clients: pa.Array, config: SimulateShopConfig, rng: np.random.Generator
) -> Piece:
    searches = people(starts, world, config, rng)
    num_people = len(searches)
    if for_bots:
        machine = bots(round(for_bots * num_people / max(len(starts), 1)), number, world, config, rng)
        searches = searches.join(type(machine)(**{**vars(machine), "session": machine.session + len(starts)}))
    session_id = uuids(len(starts) + (NUM_BOTS if for_bots else 0), rng)
    names = pa.table(
        {
            "query_id": uuids(len(searches), rng),
            "session_id": session_id.take(pa.array(searches.session)),
            "client_id": clients.take(pa.array(searches.client)),
            "user_query": typed_texts(searches, world, rng),
        }
    )
    pages = show_pages(searches, world, config.page_size, rng)
    events = act(searches, pages, config, rng)
    rows = query_rows(searches, pages, names, world, rng)
    order = np.argsort(searches.time_ms, kind="stable")
    order = np.repeat(order, 1 + (rng.random(len(order)) < config.duplicate_share))
    last = day_number(config.start_day) + config.days - 1 + LATE_DAYS
    asked = np.clip(searches.time_ms[order] // DAY_MS, number, last)
    arrived = np.clip(events.time_ms // DAY_MS + events.delay_days, number, last)
    return Piece(
        queries={int(one): rows.take(pa.array(order[asked == one])) for one in np.unique(asked)},
        events={int(one): event_rows(events.take(np.flatnonzero(arrived == one)), names, world) for one in np.unique(arrived)},
        bot_sessions=session_id.slice(len(starts)).to_pylist(),
        counts={
            "searches": len(searches),
            "bot_searches": int((searches.actor != PERSON).sum()),
            "personal_searches": int((searches.personal > 0).sum()),
            "events": len(events),
            "late_events": int((events.delay_days > 0).sum()),
            "malformed_events": int((events.fault != WELL).sum()),
            **{
                name: int((events.action == code).sum())
                for name, code in (("impressions", IMPRESSION), ("clicks", CLICK), ("add_to_carts", ADD_TO_CART), ("purchases", PURCHASE))
            },
        },
    )
