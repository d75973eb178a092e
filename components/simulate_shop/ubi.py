"""Searches and events as User Behavior Insights 1.3 rows (github.com/o19s/ubi)."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.shared.schema import ACTIONS
from components.simulate_shop.behavior import BAD_ACTION, BAD_ORDINAL, EPOCH_TIME, NO_OBJECT_ID, NO_QUERY_ID, Events, Pages
from components.simulate_shop.sessions import ALONE, ENGINES, Searches
from components.simulate_shop.world import World

APPLICATION, OBJECT_ID_FIELD = "simulated-shop", "item_id"
MESSAGE_TYPES = ("IMPRESSION", "CLICK", "CONVERSION", "CONVERSION")
QUERIES = pa.schema(
    {
        "application": pa.string(),
        "query_id": pa.string(),
        "client_id": pa.string(),
        "user_query": pa.string(),
        "query_attributes": pa.struct({"experiment": pa.string()}),
        "object_id_field": pa.string(),
        "timestamp": pa.string(),
        "query_response_id": pa.string(),
        "query_response_hit_ids": pa.list_(pa.string()),
    }
)
_OBJECT = pa.struct({"object_id": pa.string(), "object_id_field": pa.string()})
EVENTS = pa.schema(
    {
        "application": pa.string(),
        "action_name": pa.string(),
        "query_id": pa.string(),
        "session_id": pa.string(),
        "client_id": pa.string(),
        "user_id": pa.string(),
        "timestamp": pa.string(),
        "message_type": pa.string(),
        "message": pa.string(),
        "user_query": pa.string(),
        "event_attributes": pa.struct({"object": _OBJECT, "position": pa.struct({"ordinal": pa.int32()})}),
    }
)
_HEX = np.frombuffer(b"".join(b"%02x" % value for value in range(256)), np.uint8).reshape(256, 2)
_DIGIT_PLACES = np.array([place for place in range(36) if place not in (8, 13, 18, 23)])


def uuids(count: int, rng: np.random.Generator) -> pa.Array:
    """Random version-4 UUIDs as text."""
    raw = rng.integers(256, size=(count, 16), dtype=np.uint8)
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    text = np.full((count, 36), ord("-"), np.uint8)
    text[:, _DIGIT_PLACES] = _HEX[raw].reshape(count, 32)
    offsets = np.arange(count + 1, dtype=np.int32) * 36
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text))


def iso(time_ms: np.ndarray) -> pa.Array:
    """`2026-09-01T12:00:00.000Z`."""
    text = pa.array(time_ms, pa.timestamp("ms")).cast(pa.string())
    return pc.binary_join_element_wise(pc.binary_replace_slice(text, 10, 11, "T"), "Z", "")


def typed_texts(searches: Searches, world: World, rng: np.random.Generator) -> pa.Array:
    """What stood in the search box: the query, sometimes in capitals, sometimes with or only personal data."""
    text = world.text.take(pa.array(searches.query))
    shouted = pc.binary_join_element_wise("", pc.utf8_upper(text), "", " ")
    text = pc.if_else(pa.array(searches.shouted), shouted, text)
    rows = np.flatnonzero(searches.personal)
    own = personal_data(len(rows), rng)
    both = pc.binary_join_element_wise(text.take(pa.array(rows)), own, " ")
    typed = pc.if_else(pa.array(searches.personal[rows] == ALONE), own, both)
    return pc.replace_with_mask(text, pa.array(searches.personal > 0), typed)


def personal_data(count: int, rng: np.random.Generator) -> pa.Array:
    """Made-up e-mail addresses, phone numbers, card numbers (that pass the Luhn check) and street addresses."""
    draw = pa.array(rng.integers(10**6, size=count)).cast(pa.string())
    six = pc.utf8_lpad(draw, 6, "0")
    name = pa.array(["maria", "john", "wei", "aisha"]).take(pa.array(rng.integers(4, size=count)))
    mail = pc.binary_join_element_wise(name, ".", six, "@example.com", "")
    phone = pc.binary_join_element_wise("+1 202 555 ", pc.utf8_slice_codeunits(six, 0, 4), "")
    cards = pa.array(["4111 1111 1111 1111", "5555 5555 5555 4444", "4012 8888 8888 1881"])  # published test numbers
    card = cards.take(pa.array(rng.integers(3, size=count)))
    street = pc.binary_join_element_wise(pc.utf8_slice_codeunits(six, 0, 3), " elm street apt ", pc.utf8_slice_codeunits(six, 3, 5), "")
    return pc.choose(pa.array(rng.integers(4, size=count)), mail, phone, card, street)


def query_rows(searches: Searches, pages: Pages, names: pa.Table, world: World, rng: np.random.Generator) -> pa.Table:
    """One UBI query per search. `names` has query_id, session_id, client_id and user_query of each."""
    count = len(searches)
    width = pages.items.shape[1]
    offsets = np.append(0, np.cumsum(np.where(pages.found, width, 0))).astype(np.int32)
    hits = pa.ListArray.from_arrays(pa.array(offsets), world.item_ids.take(pa.array(pages.items[pages.found].ravel())))
    engine = pa.array(ENGINES).take(pa.array(searches.engine))
    columns = {
        "application": pa.repeat(APPLICATION, count),
        "query_id": names["query_id"],
        "client_id": names["client_id"],
        "user_query": names["user_query"],
        "query_attributes": pa.StructArray.from_arrays([engine], ["experiment"]),
        "object_id_field": pa.repeat(OBJECT_ID_FIELD, count),
        "timestamp": iso(searches.time_ms),
        "query_response_id": uuids(count, rng),
        "query_response_hit_ids": hits,
    }
    return pa.table(columns, schema=QUERIES)


def event_rows(events: Events, names: pa.Table, world: World) -> pa.Table:
    """One UBI event per row, broken where `fault` says so."""
    count = len(events)
    fault, action, search = events.fault, pa.array(events.action), pa.array(events.search)
    item_id = pc.if_else(pa.array(fault == NO_OBJECT_ID), "", world.item_ids.take(pa.array(events.item)))
    ordinal = pa.array(np.where(fault == BAD_ORDINAL, -1, events.position).astype(np.int32))
    thing = pa.StructArray.from_arrays([item_id, pa.repeat(OBJECT_ID_FIELD, count)], ["object_id", "object_id_field"])
    attributes = pa.StructArray.from_arrays([thing, pa.StructArray.from_arrays([ordinal], ["ordinal"])], ["object", "position"])
    epoch = pa.array(events.time_ms).cast(pa.string())
    query_id = pc.if_else(pa.array(fault == NO_QUERY_ID), pa.scalar(None, pa.string()), names["query_id"].take(search))
    columns = {
        "application": pa.repeat(APPLICATION, count),
        "action_name": pc.if_else(pa.array(fault == BAD_ACTION), "clik", pa.array(ACTIONS).take(action)),
        "query_id": query_id,
        "session_id": names["session_id"].take(search),
        "client_id": names["client_id"].take(search),
        "user_id": pa.repeat("", count),
        "timestamp": pc.if_else(pa.array(fault == EPOCH_TIME), epoch, iso(events.time_ms)),
        "message_type": pa.array(MESSAGE_TYPES).take(action),
        "message": pa.nulls(count, pa.string()),
        "user_query": names["user_query"].take(search),
        "event_attributes": attributes,
    }
    return pa.table(columns, schema=EVENTS)
