"""When two rows are one event, whose it is, in which order, under which of several faults or reasons it is counted."""

from tiny_ubi import DAY, event, search

from components.extract_logs.privacy import DEVELOPMENT_SALT, hash_client

SALT = DEVELOPMENT_SALT.encode()
BEFORE = "2024-05-01T10:00:00.000Z"  # outside a window of one day
RED = [search("q1", "red shoes")]


def test_rows_are_one_event_only_when_everything_agrees(extract):
    base = event("q1", "a", "click", 1)
    others = [
        event("q2", "a", "click"), event("q1", "b", "click"), event("q1", "a", "purchase"), event("q1", "a", "click", 2),
        event("q1", "a", "click", None), base | {"client_id": "c2"}, base | {"session_id": "s2"},
        base | {"timestamp": f"{DAY}T10:00:01.000001Z"},
        base | {"client_id": "c1s", "session_id": "1"},  # the same letters, cut elsewhere
    ]  # fmt: skip
    rows = [base, *others]
    got = extract(rows * 2, [*RED, search("q2", "red shoes")])
    assert (got.report.kept, got.report.dropped["duplicate"]) == (len(rows), len(rows))
    assert len({row["event_id"] for row in got.table("events")}) == len(rows)


def test_ids_have_one_length_and_change_with_the_salt(extract, monkeypatch):
    zero = next(name for name in map(str, range(1000)) if hash_client(SALT, name).startswith("0"))
    rows = [event("q1", f"i{number}", client_id=zero, session_id=zero) for number in range(64)]
    plain = extract(rows, RED).table("events")
    assert {row["client"] for row in plain} == {row["session_id"] for row in plain} == {hash_client(SALT, zero)}
    assert {len(row["event_id"]) for row in plain} == {32}
    assert any(row["event_id"].startswith("0") for row in plain)  # one of 64 does, or the line above says nothing
    monkeypatch.setenv("LOG_CLIENT_SALT", "pepper")
    salted = {row["event_id"] for row in extract(rows, RED).table("events")}
    assert not salted & {row["event_id"] for row in plain}


def test_events_stand_in_order_of_time_under_our_names_of_actions(extract):
    actions = ("impression", "click", "add_to_cart", "purchase")
    rows = [event("q1", str(second), actions[second % 4], timestamp=f"{DAY}T10:00:{second:02d}Z") for second in range(20)]
    found = [(row["item_id"], row["action"]) for row in extract(rows[::-1], RED).table("events")]
    assert found == [(str(second), actions[second % 4]) for second in range(20)]


def test_an_event_without_client_is_its_search_s_and_the_other_way_round(extract):
    rows = [event("q1", client_id=None, session_id=None), event("q2", client_id="c2"), event("q2", "i2", client_id=None, session_id=None)]
    nobody = {"query_id": "q2", "user_query": "red shoes"}  # neither client nor time: both are taken from its events
    got = extract(rows, [search("q1", "red shoes", "c7"), nobody], window_days=1)
    clients = [(row["query_id"], row["item_id"], row["client"]) for row in got.table("events")]
    assert sorted(clients) == sorted(
        [("j1", "i1", hash_client(SALT, name)) for name in ("c7", "c2")] + [("j1", "i2", hash_client(SALT, "c2"))]
    )
    assert got.table("queries")[0]["frequency"] == 2  # the search without time is inside the window


def test_a_row_with_several_faults_counts_under_the_first(extract):
    steps = [{"query_id": "q1"}, {"action": "click"}, {"item": "a"}, {"position": 1}, {"timestamp": f"{DAY}T10:00:00Z"}]
    given = {"query_id": None, "action": "clik", "item": "", "position": 0, "timestamp": "yesterday"}
    rows = [event(None, "", "search", 0, timestamp="yesterday"), event(**given)]
    for step in steps:
        given |= step
        rows.append(event(**given))
    report = extract(rows, RED).report
    assert {name: count for name, count in report.metrics.items() if name.startswith("malformed.")} == {
        f"malformed.{fault}": 1 for fault in ("no_query_id", "unknown_action", "empty_item", "bad_position", "bad_timestamp")
    }
    assert (report.kept, report.dropped["other_action"]) == (1, 1)


def test_an_event_with_several_reasons_counts_under_the_first(extract):
    seen = iter(range(100))

    def shown(query_id, **more):
        return event(query_id, f"i{next(seen)}", **more)

    old = shown("red", timestamp=BEFORE)
    rows = [
        event("nowhere"), event("nowhere"),  # unknown before duplicate
        old, old,  # duplicate before outside_window
        shown("test", client_id="robot", timestamp=BEFORE),  # outside_window before bot
        *(shown("test", client_id="robot") for _ in range(3)),  # bot before evaluated_query
        shown("typo", client_id="c2"),  # evaluated_query before too_rare_query
        shown("mail", client_id="c3"),  # personal_data_only before too_rare_query
        shown("rare", client_id="c4"), shown("red", client_id="c5"),
    ]  # fmt: skip
    texts = {"red": "red shoes", "test": "wireless earbuds", "typo": "wireles earbuds", "mail": "m@example.com", "rare": "hat"}
    judged = {"j1": ("red shoes", "train"), "j2": ("wireless earbuds", "test")}
    settings = {"hide_evaluated_queries": True, "min_clients": 3, "bot_impressions": 3, "window_days": 1}
    report = extract(rows, [search(query_id, query) for query_id, query in texts.items()], judged=judged, date=DAY, **settings).report
    assert report.kept == 1
    assert {reason: count for reason, count in report.dropped.items() if count} == {
        "unknown_query": 2, "duplicate": 1, "outside_window": 2, "bot": 3,
        "evaluated_query": 1, "personal_data_only": 1, "too_rare_query": 1,
    }  # fmt: skip


def test_what_happened_outside_the_window_makes_no_bot_and_no_frequency(extract):
    hats = [search(f"h{number}", "blue hat", f"c{number}", BEFORE if number == 2 else f"{DAY}T10:00:00Z") for number in range(3)]
    burst = [search(f"b{number}", "red shoes", "fast", f"2024-05-01T10:00:0{number}Z") for number in range(9)]
    rows = [event("h0", f"i{number}", timestamp=BEFORE if number == 2 else f"{DAY}T10:00:01Z") for number in range(3)]
    settings = {"bot_searches_per_minute": 1, "bot_burst_minutes": 5, "bot_impressions": 3, "window_days": 1}
    got = extract(rows, [*hats, *burst], min_clients=2, **settings)
    assert {rule: got.report.metrics[f"bots.{rule}"] for rule in ("rate", "no_click", "top_click")} == dict.fromkeys(
        ("rate", "no_click", "top_click"), 0.0
    )
    assert {row["query"]: row["frequency"] for row in got.table("queries")} == {"blue hat": 2, "red shoes": 0}
    assert extract(rows, hats, min_clients=3, **settings).report.dropped["too_rare_query"] == 2


def test_bots_at_the_bounds_of_each_rule(extract):
    def asked(client, count):
        return [search(f"{client}{number}", "blue hat", client, f"{DAY}T10:00:{number:02d}Z") for number in range(count)]

    def clicks(client, *positions):
        return [event("q1", f"{client}{n}", "click", position, client_id=client) for n, position in enumerate(positions)]

    def impressions(client, count):
        return [event("q1", f"{client}{n}", client_id=client, session_id=client) for n in range(count)]

    rows = [
        *clicks("few", 1, 1, 1), *clicks("enough", 1, 2, 2, 3), *clicks("spread", 1, 2, 3, 3),  # 3 of 4 is the share, 2 of 4 is not
        *impressions("two", 2), *impressions("three", 3), *impressions("engaged", 3), event("q1", "x", "click", 9, client_id="engaged"),
        *impressions(None, 5),
    ]  # fmt: skip
    settings = {"bot_searches_per_minute": 2, "bot_burst_minutes": 5, "bot_impressions": 3}  # 2 x 5 = 10 searches are not more than 10
    settings |= {"bot_clicks": 4, "bot_top_positions": 2, "bot_top_share": 0.75}
    typed = [{"query_id": "q1", "user_query": "red shoes", "timestamp": f"{DAY}T10:00:00Z"}, *asked("ten", 10), *asked("eleven", 11)]
    got = extract(rows, typed, **settings)
    assert [got.report.metrics[f"bots.{rule}"] for rule in ("rate", "no_click", "top_click")] == [1, 1, 1]
    names = ("few", "enough", "spread", "two", "three", "engaged")
    kept = {row["client"] for row in got.table("events")}
    assert [name for name in names if hash_client(SALT, name) not in kept] == ["enough", "three"]
    assert {row["query"]: row["frequency"] for row in got.table("queries")} == {"blue hat": 10, "red shoes": 1}
