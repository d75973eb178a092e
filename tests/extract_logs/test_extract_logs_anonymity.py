"""What a stricter k would cost, against shares counted by hand."""

import pyarrow as pa

from components.extract_logs.anonymity import loss_by_k

EVENTS = pa.table({
    "query": ["red", "red", "red", "blue", "blue", "green", "rare"],
    "client": ["a", "b", "b", "a", None, "c", "d"],
})  # fmt: skip


def test_a_query_is_lost_once_too_few_clients_asked_it_and_a_judged_one_never():
    lost = loss_by_k(EVENTS, ["green"], [1, 2, 3])
    # clients: red 2, blue 1 (a row without one counts for nobody), green judged, rare 1; events: red 3, blue 2, green 1, rare 1
    assert lost.to_pydict() == {"k": [1, 2, 3], "queries": [0, 2 / 4, 3 / 4], "events": [0, 3 / 7, 6 / 7]}


def test_an_empty_log_loses_nothing():
    assert loss_by_k(EVENTS.slice(0, 0), ["green"], [5]).to_pydict() == {"k": [5], "queries": [0], "events": [0]}
