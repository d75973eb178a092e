"""What shoppers see and do on result pages: impressions as far as scrolled, clicks, carts, purchases."""

from dataclasses import dataclass, fields

import numpy as np

from components.simulate_shop.clicks import BUY, cart_probability, click_probability
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.sessions import ALONE, CLICKER, PERSON, Searches
from components.simulate_shop.world import World

ENGINE_NOISE = np.array([0.25, 0.12, 5.0], np.float32)  # spread of scores from search to search, by engine
ENGAGED = 0.7  # share of searches in which a person means to click at all
MIN_DEPTH, STOP_SCROLLING = 3, 0.12
BOT_CLICKS = 3
IMPRESSION, CLICK, ADD_TO_CART, PURCHASE = range(4)
WELL, NO_QUERY_ID, NO_OBJECT_ID, BAD_ORDINAL, EPOCH_TIME, BAD_ACTION = range(6)


@dataclass(frozen=True)
class Pages:
    """Result lists [searches, positions]: item rows, true grades, and whether the row was scrolled into view. `found` per search."""

    items: np.ndarray
    grades: np.ndarray
    shown: np.ndarray
    found: np.ndarray


@dataclass(frozen=True)
class Events:
    """One row per event, in order of time. `position` counts from 1; `fault` says how the row is broken; `delay_days` until arrival."""

    search: np.ndarray
    action: np.ndarray
    item: np.ndarray
    position: np.ndarray
    time_ms: np.ndarray
    fault: np.ndarray
    delay_days: np.ndarray

    def __len__(self) -> int:
        return len(self.search)

    def take(self, rows: np.ndarray) -> "Events":
        return Events(**{one.name: getattr(self, one.name)[rows] for one in fields(self)})


def show_pages(searches: Searches, world: World, page_size: int, rng: np.random.Generator) -> Pages:
    """Rank each search's candidates; personal data on its own finds nothing."""
    appeal = world.appeal[searches.query]
    appeal = appeal + ENGINE_NOISE[searches.engine][:, None] * rng.standard_normal(appeal.shape, np.float32)
    order = np.argsort(-appeal, axis=1)[:, :page_size]
    depth = np.where(searches.actor == PERSON, MIN_DEPTH - 1 + rng.geometric(STOP_SCROLLING, len(searches)), page_size)
    found = searches.personal != ALONE
    return Pages(
        items=np.take_along_axis(world.candidates[searches.query], order, 1),
        grades=np.take_along_axis(world.grades[searches.query], order, 1),
        shown=(np.arange(order.shape[1]) < depth[:, None]) & found[:, None],
        found=found,
    )


def act(searches: Searches, pages: Pages, config: SimulateShopConfig, rng: np.random.Generator) -> Events:
    """Events of all pages, with the log's faults drawn for each row."""
    is_person = searches.actor == PERSON
    engaged = is_person & (rng.random(len(searches)) < ENGAGED)
    chance = click_probability(pages.grades, config.eta, config.trust_bias)
    clicks = rng.random(chance.shape, np.float32) < chance * engaged[:, None]
    clicks[:, :BOT_CLICKS] |= (searches.actor == CLICKER)[:, None]
    search, place = np.nonzero(pages.shown)
    clicked = clicks[search, place]
    carted = clicked & is_person[search] & (rng.random(len(search)) < cart_probability(pages.grades[search, place]))
    bought = carted & (rng.random(len(search)) < BUY)

    seen_ms = searches.time_ms[search] + 120
    click_ms = seen_ms + 1_500 * (place + 1) + rng.exponential(4_000, len(search)).astype(np.int64)
    cart_ms = click_ms + rng.integers(5_000, 60_000, len(search))
    buy_ms = cart_ms + rng.integers(30_000, 900_000, len(search))
    chosen = [np.arange(len(search)), *(np.flatnonzero(mask) for mask in (clicked, carted, bought))]
    rows = np.concatenate(chosen)
    count = len(rows)
    events = Events(
        search=search[rows],
        action=np.repeat(np.arange(4, dtype=np.int8), [len(part) for part in chosen]),
        item=pages.items[search[rows], place[rows]],
        position=(place[rows] + 1).astype(np.int32),
        time_ms=np.concatenate([times[part] for times, part in zip((seen_ms, click_ms, cart_ms, buy_ms), chosen, strict=True)]),
        fault=np.where(rng.random(count) < config.malformed_share, rng.integers(1, 6, count), WELL).astype(np.int8),
        delay_days=np.where(rng.random(count) < config.late_share, rng.integers(1, 4, count), 0).astype(np.int8),
    )
    repeated = np.flatnonzero(rng.random(count) < config.duplicate_share)
    everything = np.concatenate([np.arange(count), repeated])
    return events.take(everything[np.argsort(events.time_ms[everything], kind="stable")])
