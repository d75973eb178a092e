"""The simulation of preemptible workers against closed forms, conservation of shards, and the same result for the same seed."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

BENCHMARKS = str(Path(__file__).resolve().parents[2] / "benchmarks")


@pytest.fixture(scope="module", autouse=True)
def simulator():
    sys.path.insert(0, BENCHMARKS)
    try:
        import sharded_work
        import simulate_workers
        import worker_simulation

        yield {"work": sharded_work, "simulate": worker_simulation.simulate, "command": simulate_workers}
    finally:
        sys.path.remove(BENCHMARKS)


@pytest.fixture(scope="module")
def run(simulator):
    def run_one(**keys):
        return simulator["simulate"](simulator["work"].Setting(**keys))

    return run_one


@pytest.mark.parametrize(
    ("shards", "workers", "makespan"),
    [
        (10, 3, 4 * 12.0),  # ceil(10 / 3) = 4 rounds of 100 pairs / 10 pairs/s + 2 s for the commit
        (9, 3, 3 * 12.0),
        (2, 5, 12.0),  # three workers find nothing to do
    ],
)
def test_without_preemption_the_makespan_is_rounds_times_shard_time(run, shards, workers, makespan):
    outcome = run(pairs=100 * shards, shards=shards, workers=workers, pairs_per_s=10, commit_s=2)
    assert outcome.makespan_s == pytest.approx(makespan)
    assert outcome.ideal_s == pytest.approx(100 * shards / (10 * workers))
    assert outcome.rework_share == 0
    assert (outcome.attempts, outcome.losing_commits) == (shards, 0)


def test_a_worker_that_always_dies_before_its_shard_is_done_never_finishes(run, simulator):
    # a shard takes 100 / 10 + 1 = 11 s and every life lasts exactly 10 s
    keys = {"pairs": 300, "shards": 3, "workers": 1, "pairs_per_s": 10, "commit_s": 1, "fixed_life": True}
    doomed = run(**keys, mean_life_s=10, max_attempts_per_shard=20)
    assert not doomed.finished
    assert doomed.makespan_s == math.inf
    assert doomed.winning_commits == 0
    assert doomed.rework_share == 1
    shown = simulator["command"].summarise(simulator["work"].Setting(**keys, mean_life_s=10), [doomed], 0.0)
    assert shown["finished"] is False
    assert "makespan_s" not in shown
    # a life of 11 s is just long enough: three lives and two restarts of 5 s between them, each life one shard
    assert run(**keys, mean_life_s=11, restart_s=5, notice_s=0).makespan_s == pytest.approx(11 + (5 + 11) + (5 + 11))


def test_a_worker_that_comes_back_has_its_lease_at_once(run):
    # as below, but the shard that was lost is leased for hours yet
    outcome = run(
        pairs=400, shards=4, workers=1, pairs_per_s=10, mean_life_s=25, fixed_life=True, restart_s=7, policy="leased", lease_s=9999
    )
    assert np.sort(outcome.committed_at).tolist() == pytest.approx([10, 20, 42, 52])


def test_the_shard_of_a_dead_worker_is_anybodys_after_its_lease(simulator):
    setting = simulator["work"].Setting(pairs=200, shards=2, workers=2, pairs_per_s=10, policy="leased", lease_s=30.0)
    leases, absent = simulator["work"].Leases(setting), {0, 1}
    assert [leases.take(worker, worker, 0.0, absent.__contains__) for worker in (0, 1)] == [0, 1]
    absent.remove(1)
    assert [leases.take(1, 1, now, absent.__contains__) for now in (10.0, 29.9)] == [None, None]
    assert leases.next_end(absent.__contains__) == 30
    assert leases.take(1, 1, 30.0, absent.__contains__) == 0
    assert leases.take(0, 0, 31.0, absent.__contains__) is None  # it comes back too late: the lease is another's now
    assert leases.next_end(absent.__contains__) == 60


def test_a_shard_that_takes_longer_than_its_lease_is_scored_twice_and_kept_once(run):
    outcome = run(pairs=100, shards=1, workers=2, pairs_per_s=10, policy="leased", lease_s=4.0)
    assert (outcome.makespan_s, outcome.attempts, outcome.losing_commits, outcome.duplicates) == (10, 2, 1, 0)


def test_a_life_ends_in_the_middle_of_its_next_shard(run):
    # life 25 s, shard 10 s: two shards, 5 s lost, 7 s restart, two more: the fourth commit at 25 + 7 + 20
    outcome = run(pairs=400, shards=4, workers=1, pairs_per_s=10, mean_life_s=25, fixed_life=True, restart_s=7)
    assert outcome.committed_at[np.argsort(outcome.committed_at)].tolist() == pytest.approx([10, 20, 42, 52])
    assert (outcome.preempted_attempts, outcome.lost_work_s) == (1, pytest.approx(5))


def test_time_under_exponential_preemption_is_that_of_the_formula(run, simulator):
    # one worker, shard T = 100 s, mean life 1 / lambda = 100 s, restart R = 10 s: E = (e^(lambda T) - 1)(1 / lambda + R) = 1.71828 x 110
    num = 20_000
    outcome = run(pairs=num * 1000, shards=num, workers=1, pairs_per_s=10, mean_life_s=100, restart_s=10, seed=3)
    assert simulator["command"].expected_shard_s(100, 100, 10) == pytest.approx(189.011, abs=1e-3)
    assert outcome.makespan_s / num == pytest.approx(189.011, rel=0.02)
    # work of one shard is (e^(lambda T) - 1) / lambda = 171.828 s, of which 100 s are useful
    assert outcome.rework_share == pytest.approx(1 - 100 / 171.828, abs=0.01)


def test_rework_of_many_workers_is_that_of_one_until_the_tail(run):
    outcome = run(pairs=2_000_000, shards=20_000, workers=20, pairs_per_s=10, mean_life_s=50, seed=1)
    # T = 10 s, lambda = 1 / 50: work of a shard is 50 (e^0.2 - 1) = 11.070 s
    assert outcome.rework_share == pytest.approx(1 - 10 / 11.070, abs=0.01)


def test_workers_in_the_same_order_are_as_fast_as_one(run):
    alone = run(pairs=1000, shards=10, workers=1, pairs_per_s=10)
    crowd = run(pairs=1000, shards=10, workers=8, pairs_per_s=10, policy="in_order")
    assert crowd.committed_at.tolist() == pytest.approx([10.0 * (shard + 1) for shard in range(10)])
    assert crowd.makespan_s == pytest.approx(alone.makespan_s)
    assert crowd.losing_commits == 70  # each shard is scored by all eight and one of them wins
    assert crowd.rework_share == pytest.approx(7 / 8)


def test_own_slices_meet_only_at_the_end_where_all_workers_are_alike(run):
    outcome = run(pairs=1200, shards=12, workers=4, pairs_per_s=10, policy="own_slice")
    assert outcome.makespan_s == pytest.approx(30)  # three shards of 10 s each
    # the first three that are through with their slices take, unknowing, a shard that another is about to commit
    assert outcome.losing_commits == 3
    assert outcome.lost_work_s == pytest.approx(30)


@pytest.mark.parametrize(
    ("life", "makespan"),
    [
        # both commit at 10 and 20 s; one begins the fifth shard and dies at 25 s, as does the other, which has nothing to do;
        # the shard is handed out again at 55 s, but the next worker is there at 125 s only
        (25, 135),
        # one shard each and 2 s of a second; handed out again at 12 + 30 s, taken at 112 s by the next two workers; so again at 224 s
        (12, 234),
    ],
)
def test_a_lost_shard_waits_for_a_worker_that_lives(run, life, makespan):
    keys = {"pairs": 500, "shards": 5, "workers": 2, "pairs_per_s": 10, "mean_life_s": life, "fixed_life": True}
    outcome = run(**keys, restart_s=100, notice_s=30)
    assert outcome.makespan_s == pytest.approx(makespan)
    assert outcome.useful_work_s == pytest.approx(50)
    assert outcome.lost_work_s == pytest.approx({25: 5, 12: 2 + 2 + 2}[life])
    assert outcome.preempted_attempts == {25: 1, 12: 3}[life]


def test_a_worker_that_waits_takes_a_lost_shard_as_soon_as_it_is_noticed(run):
    # two shards are committed at 10 s; whoever took the third dies at 15 s, is replaced at once and waits until the loss is noticed at 17 s
    keys = {"pairs": 300, "shards": 3, "workers": 2, "pairs_per_s": 10, "mean_life_s": 15, "fixed_life": True}
    assert run(**keys, notice_s=2).makespan_s == pytest.approx(17 + 10)


def test_mean_speed_is_the_given_one_and_the_spread_is_too(run):
    outcome = run(pairs=10**6, shards=1, workers=40_000, pairs_per_s=10, speed_spread=0.5, policy="handed_out")
    assert outcome.ideal_s == pytest.approx(10**6 / (10 * 40_000), rel=0.02)


@pytest.mark.parametrize(
    "wrong", [{"shards": 0}, {"workers": -1}, {"pairs_per_s": 0}, {"mean_life_s": 0}, {"restart_s": -1}, {"policy": "?"}]
)
def test_senseless_settings_are_refused(run, wrong):
    with pytest.raises(ValueError, match="must"):
        run(**{"pairs": 10, "shards": 2, "workers": 2, "pairs_per_s": 1.0, **wrong})


@settings(max_examples=60, deadline=None)
@given(
    policy=st.sampled_from(["handed_out", "own_slice", "random", "in_order"]),
    shards=st.integers(1, 60),
    workers=st.integers(1, 15),
    life=st.sampled_from([math.inf, 400.0, 60.0]),
    spread=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 2**31),
)
def test_every_shard_is_committed_once_and_every_attempt_ends_once(run, policy, shards, workers, life, spread, seed):
    keys = {"pairs": 100 * shards, "shards": shards, "workers": workers, "pairs_per_s": 10, "commit_s": 1, "restart_s": 9, "notice_s": 4}
    keys |= {"policy": policy, "mean_life_s": life, "speed_spread": spread, "seed": seed, "max_attempts_per_shard": 1000}
    outcome = run(**keys)
    assert outcome.finished
    assert outcome.winning_commits == shards
    assert outcome.duplicates == 0
    assert not np.isnan(outcome.committed_at).any()
    assert outcome.attempts == outcome.winning_commits + outcome.losing_commits + outcome.preempted_attempts
    assert policy != "handed_out" or outcome.losing_commits == 0
    assert outcome.makespan_s >= outcome.ideal_s * (1 - 1e-9)
    assert outcome.seconds_until(0.5) <= outcome.seconds_until(0.99) <= outcome.makespan_s
    again = run(**keys)
    assert again.committed_at.tolist() == outcome.committed_at.tolist()
    assert again.lost_work_s == outcome.lost_work_s


def test_seeds_differ_and_throughput_adds_up_to_all_pairs(run, simulator):
    keys = {"pairs": 10_000, "shards": 100, "workers": 5, "pairs_per_s": 10, "speed_spread": 0.2, "mean_life_s": 100, "restart_s": 10}
    one, other = run(**keys, seed=1), run(**keys, seed=2)
    assert one.makespan_s != other.makespan_s
    command = simulator["command"]
    bins = command.throughput(one, 100)
    assert sum(bins) * one.makespan_s / command.BINS == pytest.approx(10_000, rel=0.03)  # each bin is rounded to whole pairs/s
