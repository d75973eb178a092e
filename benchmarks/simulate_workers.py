"""A billion pairs on a thousand preemptible workers, simulated: what a shard's size is worth. `python benchmarks/simulate_workers.py`

No pair is scored. `worker_simulation.py` follows every worker by the rules of `components/shared/shards.py` and, as policy `leased`, of
`components/shared/leases.py`; each combination of policy, mean life of a worker and number of shards runs once per seed. Every default
below is an assumption except the speed, which is `pairs_per_s.bucketed_bf16` of `results/score_pairs.json` (MiniLM, one CPU thread); all
are written into `results/simulate_workers.json`. `finish` is arithmetic: `shards.finish` reads every commit and every part,
`shards.READERS` at a time.
"""

import argparse
import dataclasses
import json
import math
import statistics

import numpy as np
from machine import RESULTS, describe_machine, save
from sharded_work import POLICIES, Outcome, Setting
from worker_simulation import simulate

from components.shared.shards import READERS

BINS = 20
REQUESTS_PER_SHARD = 5  # in shards.finish: read the commit, ask for the part, read it, ask for it again to remove it, remove it
ASSUMPTIONS = [
    "a worker is one process with the model loaded; its speed does not change while it lives, and speeds are log-normal over workers",
    "all workers are there at second 0; preemptions are independent, lives exponential; whoever is preempted is replaced after restart_s",
    "all shards hold equally many pairs (the pool cuts by query, so real shards differ by a few queries)",
    "a commit takes commit_s, whatever the shard's size, and storage does not slow down with the number of workers",
    "a worker looks only whether a shard is committed before it begins, as score_pairs does, and never while it scores",
    "leased: a lease begins with the shard and ends after lease_s; who has nothing to do looks again when a lease ends; no clock differs",
    "handed_out has a coordinator that never fails and learns of a preemption after notice_s; the other policies have none",
    "finish_s: five requests a shard of request_s each, 32 at a time, and all bytes twice (read, written joined) at read_bytes_per_s",
    "in_order is run at the fewest shards and the longest life only: every shard costs as many attempts as there are workers",
]


def measured_speed() -> float:
    return json.loads((RESULTS / "score_pairs.json").read_text())["result"]["pairs_per_s"]["bucketed_bf16"]


def expected_shard_s(shard_s: float, mean_life_s: float, restart_s: float) -> float:
    """Expected time until one worker has committed one shard that takes `shard_s`, with exponential lives of that mean."""
    if math.isinf(mean_life_s):
        return shard_s
    return math.expm1(shard_s / mean_life_s) * (mean_life_s + restart_s)


def throughput(outcome: Outcome, pairs_per_shard: float) -> list[int]:
    """Pairs per second in equal parts of the makespan."""
    counts, edges = np.histogram(outcome.committed_at, bins=BINS, range=(0, outcome.makespan_s))
    return [round(float(one)) for one in counts * pairs_per_shard / np.diff(edges)]


def summarise(setting: Setting, outcomes: list[Outcome], finish_s: float) -> dict:
    """Means over seeds; times are absent where a seed's table was never finished."""
    count = {
        name: round(statistics.mean(getattr(one, name) for one in outcomes), 1)
        for name in ("attempts", "preempted_attempts", "winning_commits", "losing_commits", "duplicates")
    }
    named = {"policy": setting.policy, "mean_life_s": setting.mean_life_s, "shards": setting.shards}
    size = setting.pairs / setting.shards
    expected = expected_shard_s(size / setting.pairs_per_s + setting.commit_s, setting.mean_life_s, setting.restart_s)
    common = {**named, "pairs_per_shard": round(size), "finished": all(one.finished for one in outcomes), **count}
    common |= {"rework_share": round(statistics.mean(one.rework_share for one in outcomes), 4), "expected_shard_s": round(expected, 1)}
    if not common["finished"]:
        return common
    spans = [one.makespan_s for one in outcomes]
    mean = statistics.mean(spans)
    return common | {
        "ideal_s": round(statistics.mean(one.ideal_s for one in outcomes), 1),
        "makespan_s": round(mean, 1),
        "makespan_s_range": [round(min(spans), 1), round(max(spans), 1)],
        "makespan_over_ideal": round(statistics.mean(one.makespan_s / one.ideal_s for one in outcomes), 3),
        "tail_s": round(statistics.mean(one.makespan_s - one.seconds_until(0.99) for one in outcomes), 1),
        "finish_s": round(finish_s, 1),
        "total_s": round(mean + finish_s, 1),
        "pairs_per_s_over_time": throughput(outcomes[0], size),
    }


def combinations(given: argparse.Namespace) -> list[Setting]:
    """Every policy, mean life and number of shards, with seed 0."""
    found = []
    for policy in given.policies:
        slow = policy == "in_order"
        same = {
            name: getattr(given, name) for name in ("pairs", "workers", "pairs_per_s", "speed_spread", "restart_s", "commit_s", "lease_s")
        }
        same |= {"notice_s": given.notice_s, "max_attempts_per_shard": 4 * given.workers if slow else given.max_attempts_per_shard}
        for life in [max(given.mean_life_s)] if slow else given.mean_life_s:
            for shards in [min(given.shards)] if slow else given.shards:
                found.append(Setting(policy=policy, mean_life_s=life, shards=shards, **same))
    return found


def run_all(given: argparse.Namespace) -> list[dict]:
    found = []
    for setting in combinations(given):
        outcomes = [simulate(dataclasses.replace(setting, seed=seed)) for seed in range(given.seeds)]
        moving_s = 2 * given.pairs * given.bytes_per_pair / given.read_bytes_per_s
        found.append(summarise(setting, outcomes, setting.shards * REQUESTS_PER_SHARD * given.request_s / READERS + moving_s))
    return found


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10**9)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--shards", type=int, nargs="+", default=[1_000, 3_000, 10_000, 30_000, 100_000])
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--pairs-per-s", type=float, default=measured_speed(), help="of one worker; default: results/score_pairs.json")
    parser.add_argument("--speed-spread", type=float, default=0.1, help="standard deviation of the workers' speeds over their mean")
    parser.add_argument("--mean-life-s", type=float, nargs="+", default=[4 * 3600.0, 1800.0], help="mean time to a worker's preemption")
    parser.add_argument("--restart-s", type=float, default=180.0, help="from a preemption until the next worker has loaded the model")
    parser.add_argument("--commit-s", type=float, default=1.0, help="writing a part and its commit")
    parser.add_argument("--lease-s", type=float, default=1800.0, help="length of a lease, as scoring.lease_s")
    parser.add_argument("--notice-s", type=float, default=30.0, help="until a coordinator hands a lost shard out again")
    parser.add_argument("--max-attempts-per-shard", type=int, default=100, help="on average; beyond it a table never finishes")
    parser.add_argument("--request-s", type=float, default=0.05, help="one small request to object storage, in finish")
    parser.add_argument("--bytes-per-pair", type=float, default=60.0, help="a row of soft_targets in Parquet")
    parser.add_argument("--read-bytes-per-s", type=float, default=200e6, help="of one process reading object storage, in finish")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each combination, with seeds 0, 1, ...")
    return parser.parse_args(given)


def main() -> None:
    given, machine = arguments(), describe_machine()
    runs = run_all(given)
    save("simulate_workers", machine, vars(given), {"assumptions": ASSUMPTIONS, "runs": runs})
    for one in runs:
        print({name: value for name, value in one.items() if name != "pairs_per_s_over_time"})


if __name__ == "__main__":
    main()
