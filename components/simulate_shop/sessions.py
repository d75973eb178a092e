"""Who searches what, and when: sessions of people with reformulations, and bots."""

from dataclasses import dataclass, fields

import numpy as np

from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.world import World

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
# searches by hour of the day, relative
HOURS = np.array([8, 5, 3, 2, 2, 4, 9, 16, 24, 32, 37, 40, 41, 40, 39, 39, 41, 44, 49, 55, 58, 52, 36, 19])
GO_ON = 0.45  # probability of one more search in the session
MAX_SEARCHES = 12
PERSON, SCRAPER, CLICKER = 0, 1, 2
NUM_BOTS = 2
CLICKER_QUERIES = 20  # a click bot comes back to these
ENGINES = ("engine_a", "engine_b", "explore")
ENGINE_SHARES = (0.49, 0.49, 0.02)
SHOUT_SHARE = 0.02
ALONE, APPENDED = 1, 2  # personal data is all that was typed, or follows a query


@dataclass(frozen=True)
class Searches:
    """One row per search. `session` counts within this piece of the log; clients from `num_clients` on are bots."""

    session: np.ndarray
    client: np.ndarray
    query: np.ndarray
    time_ms: np.ndarray
    engine: np.ndarray
    actor: np.ndarray
    personal: np.ndarray
    shouted: np.ndarray

    def __len__(self) -> int:
        return len(self.query)

    def join(self, other: "Searches") -> "Searches":
        return Searches(**{one.name: np.concatenate([getattr(self, one.name), getattr(other, one.name)]) for one in fields(self)})


def session_starts(count: int, day: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted epoch milliseconds at which the sessions of a day (days since 1970) begin."""
    hours = rng.choice(24, count, p=HOURS / HOURS.sum())
    return np.sort(day * DAY_MS + hours * HOUR_MS + rng.integers(HOUR_MS, size=count))


def people(starts: np.ndarray, world: World, config: SimulateShopConfig, rng: np.random.Generator) -> Searches:
    """The searches of the sessions that begin at `starts`."""
    lengths = np.minimum(rng.geometric(1 - GO_ON, len(starts)), MAX_SEARCHES)
    session = np.repeat(np.arange(len(starts)), lengths)
    first = np.cumsum(lengths) - lengths
    is_first = np.zeros(len(session), bool)
    is_first[first] = True
    query = choose_queries(is_first, world, config.reformulation_share, rng)
    pause = np.cumsum(np.where(is_first, 0, 5_000 + rng.exponential(60_000, len(session)))).astype(np.int64)
    personal = np.where(rng.random(len(session)) < config.personal_share, rng.integers(ALONE, APPENDED + 1, len(session)), 0)
    client = (world.num_clients * rng.random(len(starts)) ** 1.5).astype(np.int64)  # some come back more often than others
    return Searches(
        session=session,
        client=client[session],
        query=query,
        time_ms=starts[session] + pause - pause[first][session],
        engine=rng.choice(len(ENGINES), len(starts), p=ENGINE_SHARES)[session],
        actor=np.full(len(session), PERSON, np.int8),
        personal=personal.astype(np.int8),
        shouted=rng.random(len(session)) < SHOUT_SHARE,
    )


def choose_queries(is_first: np.ndarray, world: World, reformulation_share: float, rng: np.random.Generator) -> np.ndarray:
    """A query per search: a new need by popularity, or another wording of the session's standing need."""
    count = len(is_first)
    drawn = np.minimum(np.searchsorted(world.cumulative, rng.random(count), side="right"), len(world.cumulative) - 1)
    is_new = is_first | (rng.random(count) >= reformulation_share)
    family = world.family[drawn[np.maximum.accumulate(np.where(is_new, np.arange(count), 0))]]
    place = (rng.random(count) * world.family_size[family]).astype(np.int64)
    return np.where(is_new, drawn, world.members[world.family_start[family] + place])


def bots(num_searches: int, day: int, world: World, config: SimulateShopConfig, rng: np.random.Generator) -> Searches:
    """One session of each bot on a day, at about a search a second; scrapers click nothing, click bots the top three."""
    each = round(config.bot_share * num_searches / NUM_BOTS)
    bot = np.repeat(np.arange(NUM_BOTS), each)
    starts = day * DAY_MS + rng.integers(20 * HOUR_MS, size=NUM_BOTS)
    steps = rng.integers(400, 1_600, (NUM_BOTS, each)).cumsum(axis=1).ravel()
    actor = np.where(bot % 2 == 0, SCRAPER, CLICKER).astype(np.int8)
    pool = np.where(actor == SCRAPER, len(world.members), min(CLICKER_QUERIES, len(world.members)))
    return Searches(
        session=bot,
        client=world.num_clients + bot,
        query=world.members[(rng.random(len(bot)) * pool).astype(np.int64)],
        time_ms=starts[bot] + steps,
        engine=np.zeros(len(bot), np.int64),
        actor=actor,
        personal=np.zeros(len(bot), np.int8),
        shouted=np.zeros(len(bot), bool),
    )
