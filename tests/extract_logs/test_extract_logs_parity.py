"""DuckDB and PySpark give the same tables for the same rows. What this suite covers is what may be said of PySpark."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from spark_warehouse import SparkWarehouse
from tiny_ubi import judged_table, write_lines

from components.extract_logs import chain, codes, phrases, privacy, propensity, readers, sessions, staging
from components.extract_logs.bots import RULES
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.warehouse import LogWarehouse, open_warehouse
from components.extract_logs.window import Window
from components.shared.card import LogSource
from components.shared.schema import TABLES

CONFIG = ExtractLogsConfig(min_clients=2, bot_impressions=12, bot_clicks=6, bot_top_share=0.8, bot_searches_per_minute=1,
                           bot_burst_minutes=3, bot_pace_searches=4, bot_pace_factor=2, propensity_exponent=0.7)  # fmt: skip
WINDOW = Window(date(2024, 3, 30), date(2024, 4, 2))
JUDGED = {"j1": ("red shoes", "train"), "j2": ("RED shoes", "dev"), "j3": ("straße", "test"), "j4": ("never typed", "train")}
TEXTS = (
    "red shoes", "Red  SHOES ", "reds shoes", "İstanbul", "istanbul", "ISTANBUL", "Straße", "STRASSE", "straẞe", "👩‍👩‍👧 shoes",
    "caf\u00e9", "cafe\u0301", "a\tb", "50%_off\\", "it's \"new\"", "\\u0041", "שלום", "mail m@example.com", "m@example.com",
    "0171 1234567", "x" * 300, "", "  ", "\u200b", "\ufffd shoes", "nul\0byte", None,
)  # fmt: skip
NAMES = ("c1", "C1", "c1 ", " c1", "ß", "ss", "İ", "👩‍👩‍👧", "c\\1", "c'1", "c\0", "", None)
ITEMS = (
    "i1",
    "I1",
    "i1 ",
    "ß",
    "SS",
    "i\u0307",
    "İ",
    "👟",
    "\ufffd",
    "i\0",
    "0",
    "",
    None,
)  # U+FFFD is after 👟 in UTF-16, before it in UTF-8
ACTIONS = ("impression",) * 6 + ("click",) * 5 + ("add_to_cart", "purchase", "view", "clik", None)
FAULTS = {"", "unreadable", "other_action", "no_query_id", "unknown_action", "empty_item", "bad_position", "bad_timestamp"}
POSITIONS = (1, 1, 2, 3, 4, 5, 24, 999, 1000, 1001, "7", 0, -1, "x", None)
TIMES = (
    "2024-03-31T00:59:59.999999Z", "2024-03-31T01:59:59.999999+01:00", "2024-03-31T03:00:00+02:00", "2024-03-31T01:00:00Z",
    "2024-03-30T00:00:00Z", "2024-03-29T23:59:59.999999Z", "2024-04-02T23:59:59.999999Z", "2024-04-03T00:00:00Z",
    1_711_846_800_123, "1711846800123", 1_711_846_800_123.456, "1711846800123.4565", 1_711_900_800_000, "2024-02-30", "soon", None,
)  # fmt: skip


def make_log(seed: int, num_rows: int = 1500) -> tuple[list[dict], list[dict]]:
    """Events and queries in which every hard value meets every other, with ties and repetitions."""
    rng = random.Random(seed)
    typed = [
        {"query_id": f"{client}{number}", "client_id": f"{client}{number}", "user_query": words, "timestamp": TIMES[3]}
        for client in ("t", "T")
        for number, words in enumerate(TEXTS)
    ]
    ids = [*(f"q{number}" for number in range(40)), *(row["query_id"] for row in typed), "ß", "Q1", None]

    def search() -> dict[str, Any]:
        return {
            "query_id": rng.choice(ids),
            "client_id": rng.choice((*NAMES, *(f"shopper{number}" for number in range(200)))),
            "user_query": rng.choice(TEXTS),
            "timestamp": rng.choice(TIMES),
        }

    def event() -> dict[str, Any]:
        attributes = {"object": {"object_id": rng.choice(ITEMS)}, "position": {"ordinal": rng.choice(POSITIONS)}}
        return search() | {"session_id": rng.choice(NAMES), "action_name": rng.choice(ACTIONS), "event_attributes": attributes}

    def attributed() -> dict[str, Any]:
        return search() | {"query_attributes": {"experiment": rng.choice([None, "explore", "ranker_b"])}}

    events, queries = [{}, *(event() for _ in range(num_rows))], [{}, *(attributed() for _ in range(80))]
    events += [robot for number in range(150) for robot in _robots(number)]
    queries += typed + [
        {"query_id": f"fast{number}", "client_id": "fast", "user_query": "red shoes", "timestamp": TIMES[3]} for number in range(5)
    ]
    for client, every_s in (("hasty", 1), *((f"slow{number}", 10) for number in range(14))):
        for number, text in enumerate(("blue hats", "red shoes", "cafe", "red shoes", "blue hats")):
            moment = f"2024-03-31T11:00:{number * every_s:02d}Z"
            queries.append({"query_id": f"{client}{number}", "client_id": client, "user_query": text, "timestamp": moment})
    for client in ("s1", "s2", "s3"):
        for minute, text in enumerate(("blue hats", "blue hat", "blue hat", "blue hats")):
            queries.append(
                {"query_id": f"{client}{minute}", "client_id": client, "user_query": text, "timestamp": f"2024-03-31T10:0{minute}:00Z"}
            )
    return events + rng.choices(events, k=num_rows // 5), queries + rng.choices(queries, k=20)


def _robots(number: int) -> Iterator[dict[str, Any]]:
    """One event each of a client that clicks nothing, one that clicks the top, and one that clicks what it was never shown."""
    place = {"object": {"object_id": f"r{number}"}, "position": {"ordinal": 1}}
    row = {"query_id": "robots", "user_query": "red shoes", "timestamp": TIMES[3], "event_attributes": place}
    yield row | {"client_id": "viewer", "action_name": "impression"}
    yield row | {"client_id": "clicker", "action_name": "click"}
    if number >= 14:  # most clicks are on what was shown, or the log says nothing of blind ones
        return
    deep = place | {"object": {"object_id": f"unseen{number}"}, "position": {"ordinal": 9}}
    yield row | {"client_id": "blind", "action_name": "click", "event_attributes": deep}


@contextmanager
def reading(folder: Path, seed: int) -> Iterator[LogWarehouse]:
    """A warehouse that has read the log."""
    events, queries = make_log(seed)
    write_lines(folder / "events.ndjson", events)
    write_lines(folder / "queries.ndjson", queries)
    with open_warehouse(threads=1, memory_limit_mib=256, temp_folder="") as warehouse:
        staging.define_parsers(warehouse.sql)
        privacy.define_scrub(warehouse.sql)
        log = LogSource(events="events.ndjson", queries="queries.ndjson")
        places = ([f"{folder}/{name}"] for name in (log.events, log.queries))
        staging.read_log(warehouse.sql, readers.event_rows(log, next(places)), readers.search_rows(log, next(places)))
        warehouse.put("judged", judged_table(JUDGED))
        yield warehouse


def stage(warehouse: Any) -> dict[str, Any]:
    """Tables `staged` and `searches`, as far as an engine goes before texts are normalised and scrubbed at the rim."""
    staged = warehouse.keep("staged", staging.judge_rows(warehouse.table("read_events"), CONFIG))
    read = warehouse.table("read_queries")
    warehouse.keep("searches", staging.find_searches(read, staged))
    counts = warehouse.rows(staging.count_searches(read))
    return {"faults": warehouse.rows(staging.count_faults(staged)), "searches": counts}


def relate(warehouse: Any) -> dict[str, Any]:
    """All that is counted and published after that."""
    chain.encode_names(warehouse, codes.encoder(b"pepper"))
    dropped = chain.clean_events(warehouse, CONFIG, WINDOW)
    chain.show_items(warehouse)
    chain.count_interactions(warehouse, propensity.examine(warehouse, CONFIG))
    methods = [CONFIG.model_copy(update={"propensity": name, "propensity_min_impressions": 2}) for name in ("estimated", "em", "swap")]
    pairs = warehouse.rows(chain.find_turns(warehouse, CONFIG, WINDOW).order_by("before", "phrase"))
    return {
        "pairs": pairs,
        "placed": [warehouse.rows(propensity.place_clicks(warehouse.table("shown"), method)) for method in methods],
        "dropped": dropped, "bots": sorted(warehouse.rows(warehouse.table("bots")), key=repr),
        "events": whole("events", chain.publish_events(warehouse)),
        "interactions": whole("interactions", chain.publish_interactions(warehouse)),
        "queries": whole("queries", chain.publish_queries(warehouse, CONFIG)),
    }  # fmt: skip


def chain_searches(warehouse: Any) -> dict[str, Any]:
    """Sessions and reformulations, once the pairs of phrases were compared at the rim."""
    counts = chain.count_sessions(warehouse)
    return {"sessions": counts, "reformulations": whole("reformulations", chain.publish_reformulations(warehouse, CONFIG))}


def whole(name: str, pieces: Iterator[pa.Table]) -> pa.Table:
    """A published table in one piece and of its own types."""
    schema = TABLES[name].schema
    return pa.concat_tables(pieces).select(schema.names).cast(schema).combine_chunks()


def share(names: tuple[str, ...], rim: LogWarehouse, others: Sequence[SparkWarehouse]) -> None:
    """What the rim made, to the other engines."""
    for name in names:
        table = rim.sql.execute(f"SELECT * FROM {name}").to_arrow_table()
        for other in others:
            other.put(name, table)


def follow(rim: LogWarehouse, *others: SparkWarehouse) -> list[dict[str, Any]]:
    """What each warehouse counts and publishes, the rim's first; texts are normalised, scrubbed and compared at the rim alone."""
    every: tuple[Any, ...] = (rim, *others)
    share(("read_events", "read_queries", "judged"), rim, others)
    staged = [stage(one) for one in every]
    phrases.name_phrases(rim, rim.table("searches"))
    phrases.find_hidden(rim, hide_evaluated=True)
    share(("phrases", "spellings", "hidden"), rim, others)
    related = [relate(one) for one in every]
    phrases.find_reworded(rim, sessions.pair_phrases(rim.table("turns")))
    share(("reworded",), rim, others)
    return [first | then | chain_searches(one) for first, then, one in zip(staged, related, every, strict=True)]


def results(spark: Any, folder: Path, seed: int) -> list[dict[str, Any]]:
    with reading(folder, seed) as rim:
        return follow(rim, SparkWarehouse(spark))


def test_duckdb_and_pyspark_publish_the_same_rows_in_the_same_order(spark: Any, tmp_path: Path):
    ours, theirs = results(spark, tmp_path, seed=0)
    assert theirs == ours


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@settings(max_examples=12, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(seed=st.integers(1, 10_000))
def test_duckdb_and_pyspark_publish_the_same_rows_of_many_logs(spark: Any, tmp_path_factory: pytest.TempPathFactory, seed: int):
    ours, theirs = results(spark, tmp_path_factory.mktemp("parity"), seed)
    assert theirs == ours


def test_the_log_of_the_comparison_has_what_is_to_be_compared(tmp_path: Path):
    """Every fault, reason and rule of bots, and names that engines treat differently, or the comparison says nothing of them."""
    with reading(tmp_path, seed=0) as rim:
        (ours,) = follow(rim)
    events, queries = ours["events"], ours["queries"]
    assert {row["fault"] for row in ours["faults"]} == FAULTS
    assert {rule for bot in ours["bots"] for rule in RULES if bot[rule]} == set(RULES)
    assert all(ours["dropped"].values()), ours["dropped"]
    assert all(ours["sessions"].values()), ours["sessions"]
    assert min(ours[name].num_rows for name in ("interactions", "reformulations")) > 0
    assert {"ß", "SS", "i\u0307", "İ", "👟", "\ufffd"} <= set(events["item_id"].to_pylist())
    assert events["position"].null_count
    assert {"istanbul", "strasse", "caf\u00e9", "\ufffd shoes", "nul byte"} <= set(queries["query"].to_pylist())
