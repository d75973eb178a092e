"""Sessions, chains of rewordings and what is told of them: rows and counts by hand."""

from tiny_ubi import DAY, event, search


def _typed(client, *turns, session=None):
    """(queries, events) of one client: turns are (minute, text, clicked)."""
    queries, events = [], []
    for number, (minute, text, clicked) in enumerate(turns):
        name, time = f"{client}-{number}", f"{DAY}T{10 + minute // 60}:{minute % 60:02d}:00Z"
        queries.append(search(name, text, client, time))
        for action in ("impression", "click") if clicked else ("impression",):
            events.append(event(name, "i1", action, client_id=client, session_id=session and session[number], timestamp=time))
    return queries, events


def _extract(extract, *clients, **settings):
    got = extract([row for one in clients for row in one[1]], [row for one in clients for row in one[0]], **settings)
    counts = tuple(int(got.report.metrics[f"sessions.{name}"]) for name in ("count", "chains", "rewordings"))
    rows = {(row["query"], row["next_query"]): (row["times"], row["clients"], row["satisfied"]) for row in got.table("reformulations")}
    return counts, rows


def test_a_chain_is_searches_of_one_session_that_reword_each_other(extract):
    one = _typed("c1", (0, "red shoos", False), (1, "red shoes", False), (2, "red shoes men", True), (3, "garden hose", False))
    two = _typed("c2", (0, "red shoos", False), (1, "red shoes", True), (2, "red shoes", False), (3, "red shoes men", False))
    counts, rows = _extract(extract, one, two)
    # c1: shoos > shoes > men is one chain of two rewordings; c2: shoos > shoes, the same again, and shoes > men are two chains
    assert counts == (2, 3, 4)
    assert rows == {("red shoos", "red shoes"): (2, 2, 1), ("red shoes", "red shoes men"): (2, 2, 1)}


def test_what_counts_as_a_rewording(extract):
    words = ("usb cable", "usb c cable", "usb c charger", "wireless", "wirelesss", "wir", "w", "hat", "")
    counts, rows = _extract(extract, _typed("c1", *((minute, text, False) for minute, text in enumerate(words))))
    # 2 of 3 words; 2 of 4 words; nothing in common; a typing mistake; a beginning; too short for one; nothing; no query at all
    assert list(rows) == [("usb c cable", "usb c charger"), ("usb cable", "usb c cable"), ("wireless", "wirelesss"), ("wirelesss", "wir")]
    assert counts == (1, 2, 4)


def test_a_pause_ends_a_session_unless_the_log_names_it(extract):
    turns = ((0, "red shoes", False), (30, "red shoes men", False), (61, "red shoes women", False))
    named = ((0, "blue hats", False), (59, "blue hats men", False), (60, "blue hats women", False))
    counts, rows = _extract(extract, _typed("c1", *turns), _typed("c2", *named, session=("s1", "s1", "s2")))
    # c1 pauses 30 minutes (not longer than the gap) and 31; c2 is still in s1 after 59 minutes, and in s2 a minute later
    assert counts == (4, 2, 2)
    assert set(rows) == {("red shoes", "red shoes men"), ("blue hats", "blue hats men")}
    assert _extract(extract, _typed("c1", *turns), session_gap_minutes=31)[0] == (1, 1, 2)
    assert _extract(extract, _typed("c1", *turns), session_gap_minutes=29)[0] == (3, 0, 0)


def test_pairs_of_few_clients_of_bots_and_of_dropped_queries_stay_inside(extract):
    pair = ((0, "red shoes", False), (1, "red shoes men", True))
    secret = ((0, "red shoes", False), (1, "red shoes john", False))
    people = [_typed(f"c{number}", *pair) for number in range(3)]
    assert _extract(extract, *people, min_clients=3)[1] == {("red shoes", "red shoes men"): (3, 3, 3)}
    assert _extract(extract, *people[:2], *(_typed(f"d{n}", (0, "red shoes men", False)) for n in range(3)), min_clients=3)[1] == {}
    assert _extract(extract, *people, _typed("c9", *secret * 3), min_clients=3)[1] == {("red shoes", "red shoes men"): (3, 3, 3)}
    robot = _typed("robot", *((n % 2, one[1], False) for n, one in enumerate(pair * 10)))
    counts, rows = _extract(extract, *people, robot, bot_searches_per_minute=4, bot_burst_minutes=1)
    assert (counts, rows[("red shoes", "red shoes men")]) == ((3, 3, 3), (3, 3, 3))
