"""The relations in their order: which are computed once and kept, what is counted on the way, what is published."""

from collections.abc import Callable, Iterator

import ibis
import pyarrow as pa

from components.extract_logs import cleaning, frequencies, interactions, sessions
from components.extract_logs.bots import find_bots
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.propensity import Examination
from components.extract_logs.warehouse import LogWarehouse
from components.extract_logs.window import Window
from components.shared.columns import _
from components.shared.warehouse import Warehouse


def encode_names(warehouse: LogWarehouse, encode: Callable[[pa.ChunkedArray], pa.Array]) -> None:
    """Tables (name, code): `ids` of searches, `people` of clients and sessions, `things` of items."""
    sound, searches = warehouse.table("staged").filter(_.fault.isnull()), warehouse.table("searches")
    people = sound.select(name="client").union(sound.select(name="session"), searches.select(name="client"))
    warehouse.encode("ids", searches.select(name="query_id"), encode)
    warehouse.encode("people", people.filter(_.name != ""), encode)
    warehouse.encode("things", sound.select(name="item_id"), encode)


def clean_events(warehouse: Warehouse, config: ExtractLogsConfig, window: Window) -> dict[str, int]:
    """Tables `typed`, `known`, `suspects`, `bots`, `counted` and views `events`, `kept`; returns the dropped rows by reason."""
    staged, searches, spellings, ids, people, things, phrases, hidden = (
        warehouse.table(name) for name in ("staged", "searches", "spellings", "ids", "people", "things", "phrases", "hidden")
    )
    typed = warehouse.keep("typed", cleaning.type_searches(searches, spellings, ids, people))
    known = warehouse.keep("known", cleaning.know_events(staged, typed, people, things))
    num_sound, num_known = warehouse.number(staged.filter(_.fault.isnull()).count()), warehouse.number(known.count())
    warehouse.drop("staged", "searches", "spellings", "ids")
    events = warehouse.view("events", cleaning.deduplicate(known, warehouse.keep("suspects", cleaning.find_suspects(known))))
    bots = warehouse.keep("bots", find_bots(typed, phrases, events, config, window))
    counted = warehouse.keep("counted", frequencies.count_queries(phrases, typed, bots, hidden, config, window))
    judged = warehouse.view("judged_events", cleaning.judge_events(events, counted, bots, window))
    warehouse.view("kept", cleaning.keep_events(judged))
    fates = {row["fate"]: row["rows"] for row in warehouse.rows(judged.group_by("fate").agg(rows=_.count()))}
    dropped = {"unknown_query": num_sound - num_known, "duplicate": num_known - sum(fates.values())}
    return dict.fromkeys(cleaning.REASONS, 0) | dropped | {fate: count for fate, count in fates.items() if fate}


def show_items(warehouse: Warehouse) -> None:
    """Table `shown`."""
    warehouse.keep("shown", interactions.show_items(warehouse.table("kept"), warehouse.table("typed")))


def count_interactions(warehouse: Warehouse, examination: Examination) -> None:
    """Table `counts`, corrected by `examination`."""
    weights = warehouse.put("weights", interactions.weigh_positions(examination))
    warehouse.keep("counts", interactions.count_interactions(warehouse.table("shown"), weights))


def find_turns(warehouse: Warehouse, config: ExtractLogsConfig, window: Window) -> ibis.Table:
    """Table `turns`; returns the pairs of phrases in it, which are compared at the rim (table `reworded`)."""
    typed, events, bots = warehouse.table("typed"), warehouse.table("events"), warehouse.table("bots")
    return sessions.pair_phrases(warehouse.keep("turns", sessions.find_turns(typed, events, bots, config, window)))


def count_sessions(warehouse: Warehouse) -> dict[str, int]:
    """View `chains`; returns counts `sessions.*`."""
    chains = warehouse.view("chains", sessions.find_chains(warehouse.table("turns"), warehouse.table("reworded")))
    return warehouse.rows(sessions.count_chains(chains))[0]


def publish(warehouse: Warehouse, config: ExtractLogsConfig) -> dict[str, Iterator[pa.Table]]:
    """Table name -> its rows, in pieces."""
    return {
        "events": publish_events(warehouse),
        "interactions": publish_interactions(warehouse),
        "queries": publish_queries(warehouse, config),
        "reformulations": publish_reformulations(warehouse, config),
    }


def publish_events(warehouse: Warehouse) -> Iterator[pa.Table]:
    """The rows of table `events`."""
    rows = cleaning.list_events(warehouse.table("kept"), warehouse.table("phrases"), warehouse.table("things"))
    return map(cleaning.publish_events, warehouse.stream(rows))


def publish_interactions(warehouse: Warehouse) -> Iterator[pa.Table]:
    """The rows of table `interactions`."""
    rows = interactions.list_interactions(warehouse.table("counts"), warehouse.table("phrases"), warehouse.table("things"))
    return map(interactions.publish_interactions, warehouse.stream(rows))


def publish_reformulations(warehouse: Warehouse, config: ExtractLogsConfig) -> Iterator[pa.Table]:
    """The rows of table `reformulations`."""
    return warehouse.stream(sessions.count_reformulations(warehouse.table("chains"), warehouse.table("counted"), config))


def publish_queries(warehouse: Warehouse, config: ExtractLogsConfig) -> Iterator[pa.Table]:
    """The rows of table `queries`."""
    ranked = frequencies.rank_queries(warehouse.table("counted"), config)
    return warehouse.stream(frequencies.list_queries(ranked, warehouse.table("judged")))
