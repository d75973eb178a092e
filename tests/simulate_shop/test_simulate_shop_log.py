"""The log: UBI rows, arrival days, faults, bots and personal data in the amounts asked for."""

import re
from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.simulate_shop import ubi
from components.simulate_shop.files import DailyLog
from components.simulate_shop.log import sessions_by_day
from components.simulate_shop.sessions import choose_queries, people


def field(events: pa.Table, *path: str) -> pa.ChunkedArray:
    return pc.struct_field(events["event_attributes"], list(path))


def test_rows_are_ubi(shop) -> None:
    assert shop.log("ubi_queries").schema.equals(ubi.QUERIES)
    events = shop.log("ubi_events")
    assert events.schema.equals(ubi.EVENTS)
    assert set(events["action_name"].to_pylist()) == {"impression", "click", "add_to_cart", "purchase", "clik"}
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", events["session_id"][0].as_py())
    assert len(events) == shop.report.metrics["num_events"]


def test_uuids_are_version_4_and_distinct() -> None:
    made = ubi.uuids(1000, np.random.default_rng(0)).to_pylist()
    assert len(set(made)) == 1000
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", one) for one in made)


def test_times_are_iso() -> None:
    # 2026-09-01T00:00:00Z is 1,788,220,800 seconds after 1970
    assert ubi.iso(np.array([1_788_220_800_000 + 42])).to_pylist() == ["2026-09-01T00:00:00.042Z"]


def test_rows_lie_under_the_day_they_arrived(shop) -> None:
    late = 0
    for day, events in shop.days("ubi_events").items():
        written = pc.utf8_slice_codeunits(events["timestamp"], 0, 10)
        happened = written.filter(pc.match_substring(written, "-")).to_pylist()  # epoch milliseconds have no dash
        delays = {(date.fromisoformat(day) - date.fromisoformat(one)).days for one in set(happened)}
        assert delays <= {0, 1, 2, 3}
        late += sum(one != day for one in happened)
    assert late / shop.report.metrics["num_events"] == pytest.approx(0.02, abs=0.004)
    days = [shop.config.start_day + timedelta(days=place) for place in range(6)]
    assert list(shop.days("ubi_events")) == [day.isoformat() for day in days]


def test_faults_are_of_five_kinds(shop) -> None:
    events = shop.log("ubi_events")
    broken = {
        "no query": events["query_id"].null_count,
        "no object": pc.sum(pc.equal(field(events, "object", "object_id"), "")).as_py(),
        "ordinal": pc.sum(pc.equal(field(events, "position", "ordinal"), -1)).as_py(),
        "epoch": pc.sum(pc.match_substring_regex(events["timestamp"], r"^\d{13}$")).as_py(),
        "action": pc.sum(pc.equal(events["action_name"], "clik")).as_py(),
    }
    assert sum(broken.values()) == shop.report.metrics["num_malformed_events"]
    assert all(count == pytest.approx(0.002 * len(events), rel=0.4) for count in broken.values())


def test_duplicates_are_exact(shop) -> None:
    events = shop.log("ubi_events").flatten().flatten()
    events = events.select([name for name in events.column_names if name != "message"])
    distinct = events.group_by(events.column_names).aggregate([])
    assert 1 - len(distinct) / len(events) == pytest.approx(0.01, abs=0.003)
    queries = shop.log("ubi_queries")
    assert len(queries) > pc.count_distinct(queries["query_id"]).as_py() > 0.98 * len(queries)


def test_purchases_follow_carts_follow_clicks(shop) -> None:
    metrics = shop.report.metrics
    assert 0 < metrics["num_purchases"] < metrics["num_add_to_carts"] < metrics["num_clicks"] < metrics["num_impressions"]
    events = shop.log("ubi_events").filter(pc.is_valid(shop.log("ubi_events")["query_id"]))
    clicked = set(events.filter(pc.equal(events["action_name"], "click"))["query_id"].to_pylist())
    carted = set(events.filter(pc.equal(events["action_name"], "add_to_cart"))["query_id"].to_pylist())
    assert len(carted - clicked) < 0.05 * len(carted)  # but for the rows that are broken


def test_impressions_go_as_far_as_scrolled(shop) -> None:
    events = shop.log("ubi_events")
    seen = field(events.filter(pc.equal(events["action_name"], "impression")), "position", "ordinal").to_numpy()
    per_position = np.bincount(seen[seen > 0])[1:]
    assert per_position[0] == pytest.approx(per_position[2], rel=0.02)  # everybody sees three
    assert (np.diff(per_position[2:]) < 0).all()
    assert len(per_position) == shop.config.page_size


def test_bots_search_in_a_row_and_are_known_to_truth(shop) -> None:
    bots = shop.read("truth/bot_sessions.parquet")["session_id"].to_pylist()
    assert len(bots) == 2 * shop.config.days
    events = shop.log("ubi_events")
    mine = events.filter(pc.is_in(events["session_id"], value_set=pa.array(bots)))
    assert pc.count_distinct(mine["client_id"]).as_py() == 2
    share = shop.report.metrics["num_bot_searches"] / shop.report.metrics["num_searches"]
    assert share == pytest.approx(0.04 / 1.04, abs=0.003)
    clicks = mine.filter(pc.equal(mine["action_name"], "click"))
    positions = field(clicks, "position", "ordinal").to_numpy()
    assert set(positions.tolist()) <= {-1, 1, 2, 3}
    assert pc.count_distinct(clicks["client_id"]).as_py() == 1


def test_personal_data_is_typed_alone_and_after_queries(shop) -> None:
    queries = shop.log("ubi_queries")
    mails = queries.filter(pc.match_substring(queries["user_query"], "@example.com"))
    found = pc.list_value_length(mails["query_response_hit_ids"]).to_numpy()
    assert (found == 0).any()
    assert (found == shop.config.page_size).any()
    assert shop.report.metrics["num_personal_searches"] / len(queries) == pytest.approx(0.02, abs=0.005)
    in_events = shop.log("ubi_events")["user_query"]
    assert pc.any(pc.match_substring(in_events, "@example.com")).as_py()


def test_sessions_have_several_searches(shop) -> None:
    events = shop.log("ubi_events")
    per_session = events.group_by("session_id").aggregate([("query_id", "count_distinct")])
    several = per_session.filter(pc.greater(per_session["query_id_count_distinct"], 1))
    assert 0.3 < len(several) / len(per_session) < 0.6  # 0.45 go on


def test_reformulations_keep_the_need_and_change_the_words() -> None:
    """Queries 0, 2, 4 word one need, 1 and 3 another; 4 is never typed, so no reformulation ends there."""
    world = SimpleNamespace(
        cumulative=np.cumsum([0.4, 0.3, 0.2, 0.1, 0.0]),
        family=np.array([0, 1, 0, 1, 0]),
        members=np.array([0, 2, 1, 3]),
        family_start=np.array([0, 2]),
        family_size=np.array([2, 2]),
    )
    is_first = np.tile([True, False, False, False], 500)
    query = choose_queries(is_first, world, 1 - 1e-9, np.random.default_rng(0)).reshape(500, 4)
    assert (world.family[query] == world.family[query[:, :1]]).all()
    assert set(query.ravel().tolist()) == {0, 1, 2, 3}
    assert np.mean(query[:, 0] == 0) == pytest.approx(0.4, abs=0.07)  # first words by popularity
    assert np.mean(query[:, 1] == query[:, 0]) == pytest.approx(0.5, abs=0.07)  # then any of the need's two
    fresh = choose_queries(is_first, world, 0.0, np.random.default_rng(0)).reshape(500, 4)
    # two needs of 0.6 and 0.4 drawn anew agree in 0.6 x 0.6 + 0.4 x 0.4 = 0.52 of the cases
    assert np.mean(world.family[fresh[:, 1]] == world.family[fresh[:, 0]]) == pytest.approx(0.52, abs=0.07)


def test_cold_queries_are_never_typed(shop) -> None:
    judged = set(shop.read("queries.parquet")["query"].to_pylist())
    typed = set(pc.utf8_trim_whitespace(pc.utf8_lower(shop.log("ubi_queries")["user_query"])).to_pylist())
    assert 8 <= len(judged - typed) <= 16  # 8 of 80 are cold; a few rare ones may be missed as well


def test_rows_wait_for_the_day_they_arrive(tmp_path) -> None:
    log = DailyLog(str(tmp_path), pa.schema({"n": pa.int64()}))
    with log.day(0) as take:
        take({0: pa.table({"n": [1]}), 2: pa.table({"n": [2]})})
        take({0: pa.table({"n": [3]})})
    with log.day(1):
        pass  # no rows: no file
    with log.day(2) as take:
        take({2: pa.table({"n": [4]})})
    found = {one.parent.name: pq.read_table(one, partitioning=None)["n"].to_pylist() for one in sorted(tmp_path.rglob("*.parquet"))}
    assert found == {"dt=1970-01-01": [1, 3], "dt=1970-01-03": [2, 4]}


def test_a_session_has_at_most_twelve_searches_in_order_of_time(shop) -> None:
    starts = np.arange(20_000, dtype=np.int64) * 1000
    world = SimpleNamespace(
        cumulative=np.array([1.0]), family=np.array([0]), members=np.array([0]), family_start=np.array([0]), family_size=np.array([1]),
        num_clients=50,
    )  # fmt: skip
    searches = people(starts, world, shop.config, np.random.default_rng(0))
    lengths = np.bincount(searches.session)
    assert (lengths.min(), lengths.max()) == (1, 12)
    # geometric with 0.55: the mean is 1 / 0.55 = 1.82; cutting at 12 takes less than a thousandth of it
    assert lengths.mean() == pytest.approx(1 / 0.55, rel=0.02)
    first = np.r_[True, np.diff(searches.session) > 0]
    np.testing.assert_array_equal(searches.time_ms[first], starts)
    assert (np.diff(searches.time_ms)[~first[1:]] >= 5000).all()
    assert searches.client.max() < 50


def test_weekends_are_busier_and_days_sum_up(shop) -> None:
    config = shop.config.model_copy(update={"days": 7, "num_sessions": 10_001})
    per_day = sessions_by_day(config, np.random.default_rng(0))  # Tuesday to Monday
    assert per_day.sum() == 10_001
    assert per_day[[4, 5]].min() > per_day[[0, 1, 2, 3, 6]].max()
