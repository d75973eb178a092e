"""Bots, personal data, rewordings, interactions, segments: hand-made rows and values computed by hand."""

import string

import duckdb
import pytest
from tiny_ubi import DAY, event, search

from components.extract_logs import privacy


@pytest.fixture
def sql():
    connection = duckdb.connect()
    privacy.define_scrub(connection)
    yield lambda text, *values: connection.execute(text, values).fetchall()[0][0]
    connection.close()


@pytest.mark.parametrize(
    ("typed", "clean"),
    [
        ("mail to maria.42+x@shop.example.com please", "mail to <email> please"),
        ("+1 202 555 0123", "<phone>"),
        ("(202) 555-0123", "<phone>"),
        ("0171 1234567", "<phone>"),
        ("4111 1111 1111 1111", "<card>"),
        ("4111 1111 1111 1112", "<card>"),  # fails Luhn, but nothing else is written in four groups of four
        ("pay 378282246310005 now", "pay <card> now"),  # American Express test number, Luhn holds
        ("378282246310006", "378282246310006"),  # Luhn fails: some other number
        ("3782 822463 10005", "<card>"),  # as it is embossed
        ("3782 822463 10006", "3782 822463 10006"),
        ("114-1234567-7654321", "<order>"),
        ("order no. 114-1234567-7654321", "<order>"),
        ("where is order #98765432", "where is <order>"),
        ("order no 4711-22 late", "<order> late"),
        ("order 12345678", "<order>"),
        ("order 5000 pieces", "order 5000 pieces"),  # too short for anybody's order
        ("border 12345678", "border 12345678"),
        ("4111111111111111 and 5500005555555559", "<card> and <card>"),
        ("4006381333931", "4006381333931"),  # a barcode (EAN-13)
        ("pay de89 3704 0044 0532 0130 00 today", "pay <iban> today"),  # the published examples of ISO 13616's registry
        ("gb29nwbk60161331926819", "<iban>"),
        ("gb29 nwbk 6016 1331 9268 18", "gb29 nwbk 6016 1331 9268 18"),  # wrong check digits
        ("as12 mini usb 5000", "as12 mini usb 5000"),
        ("router 192.168.178.254 login", "router <ip> login"),
        ("firmware 1.2.30.4", "firmware 1.2.30.4"),
        ("300.168.178.254", "300.168.178.254"),  # 300 is above 255
        ("ssn 078-05-1120", "ssn <ssn>"),
        ("bolt 10-24-2020", "bolt 10-24-2020"),
        ("iphone 13 pro max 128gb", "iphone 13 pro max 128gb"),
        ("2x4x8 1/2-13 bolt 0.5", "2x4x8 1/2-13 bolt 0.5"),
        ("5w-30 5 qt", "5w-30 5 qt"),
    ],
)
def test_scrub(sql, typed, clean):
    assert sql("SELECT scrub(?)", typed) == clean


@pytest.mark.parametrize(("query", "only"), [("<email>", True), ("<order>, <phone>!", True), ("gift <email>", False), ("?!", False)])
def test_only_placeholders(sql, query, only):
    assert sql("SELECT only_placeholders(?)", query) is only


def test_iban_check_digits(sql):
    # be68 539007547034 -> 539007547034 b=11 e=14 68 -> 539007547034111468 mod 97 = 1 (the registry's example for Belgium)
    assert 539007547034111468 % 97 == 1
    assert sql("SELECT iban_holds('be68539007547034')") is True
    assert sql("SELECT iban_holds('be68539007547043')") is False  # two digits swapped


@pytest.mark.parametrize(("digits", "valid"), [("79927398713", True), ("79927398710", False), ("4111111111111111", True)])
def test_luhn(sql, digits, valid):
    # 79927398713 from the right, every second doubled: 3+2+7+16->7+9+6+7+4+9+18->9+7 = 70, a multiple of ten
    assert sql("SELECT luhn(?)", digits) is valid


def test_a_judged_query_keeps_its_numbers_however_rare(extract):
    got = extract([event("q1"), event("q2", "i2")], [search("q1", "0171 1234567"), search("q2", "0172 1234567")], min_clients=3,
                  judged={"j1": ("0171 1234567", "train")})  # fmt: skip
    assert [(row["query_id"], row["query"]) for row in got.table("events")] == [("j1", "0171 1234567")]
    assert (got.report.metrics["scrubbed.phone"], got.report.dropped["personal_data_only"]) == (1, 1)


def _searches(client, count, *, every_s=1.0, query="red shoes"):
    ids = [f"{client}-{n}" for n in range(count)]
    times = [1_715_335_200_000 + int(1000 * every_s * n) for n in range(count)]
    return [search(query_id, query, client, time) for query_id, time in zip(ids, times, strict=True)]


def test_bots_by_rate_by_impressions_without_clicks_and_by_top_clicks(extract):
    rate = _searches("fast", 121)  # 121 searches in 121 seconds: more than 20 a minute for five minutes
    slow = _searches("slow", 90, every_s=4)  # 15 a minute
    viewer, clicker, shopper = (_searches(name, 60, every_s=90) for name in ("viewer", "clicker", "shopper"))
    rows = [event(one["query_id"], client_id=one["client_id"]) for one in (*rate, *slow, *viewer, *clicker, *shopper)]
    rows += [event(one["query_id"], "i2", position=2, client_id="viewer") for one in viewer]  # 120 impressions, no click
    rows += [event(one["query_id"], action="click", position=1 + n % 2, client_id="clicker") for n, one in enumerate(clicker)]
    rows += [event(one["query_id"], action="click", position=1 + n % 9, client_id="shopper") for n, one in enumerate(shopper)]
    got = extract(rows, [*rate, *slow, *viewer, *clicker, *shopper], bot_impressions=110)
    assert {name: got.report.metrics[f"bots.{name}"] for name in ("rate", "no_click", "top_click")} == {
        "rate": 1.0, "no_click": 2.0, "top_click": 1.0  # the fast one also looks at 121 items without a click
    }  # fmt: skip
    assert got.report.dropped["bot"] == 121 + 120 + 120
    assert got.table("queries")[0]["frequency"] == 90 + 60  # searches of bots do not make a query frequent


def test_a_pace_that_no_shopper_of_the_log_has_makes_a_bot(extract):
    def searches(client, every_s, texts):
        return [one | {"user_query": text} for one, text in zip(_searches(client, len(texts), every_s=every_s), texts, strict=True)]

    texts = [f"{letter} shoes" for letter in string.ascii_lowercase]
    people = [one for n in range(9) for one in searches(f"shopper{n}", 60, texts[:3])]
    suspects = {
        "robot": searches("robot", 5, texts[:21]),  # 20 pauses of a twelfth of the usual minute
        "quick": searches("quick", 7, texts[:21]),  # more than a tenth
        "short": searches("short", 1, texts[:20]),  # 19 pauses
        "typist": searches("typist", 0.3, ["red shoes men"[:n] for n in (*range(2, 14), *range(12, 1, -1))]),
        "reload": searches("reload", 1, ["red shoes"] * 30),
        "returner": [row for day in range(25) for row in searches(f"returner{day}", 1, texts[:1])],
    }
    for row in suspects["returner"]:  # one search a day: no pause within a session
        row["client_id"], row["timestamp"] = "returner", row["timestamp"] + 86_400_000 * int(row["query_id"][8:-2])
    queries = [*people, *(row for rows in suspects.values() for row in rows)]
    rows = [event(one["query_id"], client_id=one["client_id"]) for one in queries]
    got = extract(rows, queries, window_days=60)
    assert (got.report.metrics["bots.pace"], got.report.dropped["bot"]) == (1, 21)
    assert extract(rows, queries, window_days=60, bot_pace_factor=8).report.dropped["bot"] == 42
    assert extract(rows, queries, window_days=60, bot_pace_searches=19).report.dropped["bot"] == 41
    # where everybody is that fast, nobody is a bot
    fast = [one for n in range(30) for one in searches(f"fast{n}", 5, texts[:3])]
    hasty = extract([*rows, *(event(one["query_id"], client_id=one["client_id"]) for one in fast)], [*queries, *fast], window_days=60)
    assert hasty.report.metrics["bots.pace"] == 0


def test_clicks_on_what_was_never_shown_make_a_bot_unless_the_log_shows_nothing(extract):
    def clicks(client, shown, blind):
        rows = [event("q1", f"{client}{n}", client_id=client) for n in range(shown)]
        return rows + [event("q1", f"{client}{n}", "click", 1 + n % 9, client_id=client) for n in range(shown + blind)]

    rows = [*clicks("blind", 1, 9), *clicks("some", 2, 8), *clicks("few", 0, 9), *clicks("shopper", 40, 0)]
    settings = {"bot_clicks": 10, "bot_blind_share": 0.9}
    got = extract(rows, [search("q1", "red shoes")], **settings)
    # of 10 clicks each, 9 and 8 were blind; `few` has 9 only, all of them blind: 26 of 69 in all
    assert (got.report.metrics["bots.blind_click"], got.report.dropped["bot"]) == (1, 11)
    silent = [row for row in rows if row["action_name"] == "click"]
    assert extract(silent, [search("q1", "red shoes")], **settings).report.metrics["bots.blind_click"] == 0


def test_interactions_by_hand(extract):
    second = f"{DAY}T10:00:09.000Z"
    rows = [
        event("q1", "a", position=1), event("q1", "b", position=4), event("q1", "b", "click", 4, timestamp=second),
        event("q1", "b", "click", 4, timestamp=f"{DAY}T10:01:00Z"),  # a second click on the same result
        event("q2", "b", position=2, client_id="c2"), event("q2", "b", "click", 2, client_id="c2"),
        event("q2", "b", "add_to_cart", None, client_id="c2"), event("q2", "b", "purchase", None, client_id="c2"),
        event("q2", "c", "click", 5, client_id="c2"),  # no impression recorded
    ]  # fmt: skip
    got = extract(rows, [search("q1", "red shoes"), search("q2", "RED shoes", "c2")]).table("interactions")
    names = ("impressions", "clicks", "add_to_carts", "purchases", "clients", "corrected_impressions")
    # propensity is 1/position: a 1/1; b 1/4 + 1/2; c 1/5
    assert {row["item_id"]: tuple(row[name] for name in names) for row in got} == {
        "a": (1, 0, 0, 0, 1, 1.0), "b": (2, 2, 1, 1, 2, 0.75), "c": (1, 1, 0, 0, 1, 0.2)
    }  # fmt: skip
    assert {(row["query"], str(row["day"])) for row in got} == {("red shoes", DAY)}


def test_position_and_day_of_a_shown_item(extract):
    late = {"timestamp": "2024-05-11T00:00:01Z"}
    rows = [
        event("q1", "click above", position=4), event("q1", "click above", "click", 2),  # the impression's position: 1/4
        event("q1", "twice", position=5), event("q1", "twice", position=3),  # shown once, at the higher one: 1/3
        event("q1", "nowhere", "click", None),  # corrects nothing
        event("q1", "deep", position=5000),  # as position 1000
        event("q1", "midnight", timestamp=f"{DAY}T23:59:59Z"), event("q1", "midnight", "click", 1, **late),
    ]  # fmt: skip
    got = extract(rows, [search("q1", "red shoes")]).table("interactions")
    names = ("impressions", "clicks", "corrected_impressions")
    assert {row["item_id"]: tuple(row[name] for name in names) for row in got} == {
        "click above": (1, 1, 0.25), "twice": (1, 0, 0.333333333), "nowhere": (1, 1, 1.0), "deep": (1, 0, 0.001), "midnight": (1, 1, 1.0)
    }  # fmt: skip
    assert {str(row["day"]) for row in got} == {DAY}


def test_exponent_changes_the_correction(extract):
    rows, queries = [event("q1", "a", position=4)], [search("q1", "red shoes")]
    got = [extract(rows, queries, propensity_exponent=eta).table("interactions")[0]["corrected_impressions"] for eta in (0, 0.5, 2)]
    assert got == [1.0, 0.5, 0.0625]  # 4^0, 4^-1/2, 4^-2


def test_segments_by_share_of_traffic(extract):
    # 10 searches: x 5, y 2, z 2, w 1. More frequent ones carry 0 | 5 | 5 | 9 of 10; head below 5, torso below 8
    counts = {"x": 5, "y": 2, "z": 2, "w": 1}
    queries = [search(f"{query}{n}", query) for query, count in counts.items() for n in range(count)]
    judged = {"j1": ("X", "train"), "j2": ("x", "dev"), "j3": ("never", "test")}
    extracted = extract([event(one["query_id"]) for one in queries], queries, judged=judged)
    got = extracted.table("queries")
    assert {(row["query_id"] if row["split"] else row["query"]): (row["frequency"], row["segment"]) for row in got} == {
        "j1": (5, "head"), "j2": (5, "head"), "j3": (0, "unseen"), "y": (2, "torso"), "z": (2, "torso"), "w": (1, "tail")
    }  # fmt: skip
    assert {row["query_id"] for row in extracted.table("events") if row["query"] == "x"} == {"j1"}  # the first of two with this text
    # sha256("w") = 50e721e49c013f00...
    assert next(row["query_id"] for row in got if row["query"] == "w") == "q50e721e49c013f00"


def test_evaluated_queries_and_their_rewordings_are_hidden_on_demand(extract):
    texts = {
        "same": "Wireless  Earbuds", "typo": "wireles earbuds", "half": "wirel", "half_words": "wireless earbuds black case",
        "third": "wireless phone charger", "other": "red shoes",
    }  # fmt: skip
    queries = [search(query_id, query) for query_id, query in texts.items()]
    judged = {"j1": ("red shoes", "train"), "j2": ("wireless earbuds", "test")}
    rows = [event(query_id) for query_id in texts]
    hidden = extract(rows, queries, judged=judged, hide_evaluated_queries=True)
    assert {row["query"] for row in hidden.table("events")} == {"wireless phone charger", "red shoes"}
    assert hidden.report.dropped["evaluated_query"] == 4
    assert {row["query_id"]: row["segment"] for row in hidden.table("queries") if row["split"]} == {"j1": "head", "j2": "unseen"}
    assert len(extract(rows, queries, judged=judged).table("events")) == 6


def test_which_queries_count_as_rewordings(extract):
    texts = {
        "dev": "leather wallet", "two letters": "wi", "three letters": "wir", "other first letter": "vireless earbuds",
        "train": "reds shoes", "one word of three": "wireless earphones cheap",
    }  # fmt: skip
    judged = {"j1": ("red shoes", "train"), "j2": ("wireless earbuds", "test"), "j3": ("leather wallet", "dev")}
    queries = [search(query_id, query) for query_id, query in texts.items()]
    got = extract([event(query_id) for query_id in texts], queries, judged=judged, hide_evaluated_queries=True)
    assert {row["query"] for row in got.table("events")} == {"wi", "vireless earbuds", "reds shoes", "wireless earphones cheap"}
