"""Tables of what happens to logs and of the pipeline as a whole."""

from machine import RESULTS
from page_parts import load, machine_line, table, with_interval


def run_output() -> str:
    """What `make run` printed, less the lines that only say that a step began."""
    lines = (RESULTS / "run_times_tiny.txt").read_text().rstrip().splitlines()
    return "\n".join(["```", *(line.rstrip() for line in lines if not line.endswith("...")), "```"])


def run_times() -> str:
    record = load("run_times_tiny")
    runs = record["result"]["runs"]
    steps = [[name, *(f"{run['steps'][name]:.1f}" for run in runs)] for name in runs[0]["steps"]]
    whole = ["**all**", *(f"**{run['seconds']:.1f}**" for run in runs)]
    reused = ["steps reused", *(f"{run['num_reused']} of {len(run['steps'])}" for run in runs)]
    memory = ["peak memory of all processes, MiB", *(f"{run['peak_mib']:,}" for run in runs)]
    return machine_line(record) + "\n\n" + table(["step", "first run, s", "second, s", "third, s"], [*steps, whole, reused, memory])


def extract_logs() -> str:
    record = load("extract_logs")
    columns = ("seconds", "cpu_seconds", "peak_rss_mib")
    rows = [
        [f"{run['events']:,}", way, *(f"{one[name]:,}" for name in columns), f"{run['seconds'] / one['seconds']:.2f}"]
        for run in record["result"]
        for way, one in {"extract_logs": run, **run["peers"]}.items()
    ]
    header = ["events", "way", "seconds", "CPU seconds", "peak memory, MiB", "time of extract_logs over its"]
    growth = [f"{run['events']:,}: {run['growth_exponent']}" for run in record["result"] if "growth_exponent" in run]
    return f"{machine_line(record)}\n\n{table(header, rows)}\n\nGrowth exponent from the size before: {', '.join(growth)}."


def bots() -> str:
    record = load("bots")
    rows = [
        [f"{one['bot_share']:.0%}", f"{one['bot_searches']:,}", *(f"{one[name]:.2f}" for name in ("recall", "precision", "people_lost"))]
        for one in record["result"]
    ]
    return table(["bots", "searches of bots", "recall", "precision", "people lost"], rows)


def kfp_overhead() -> str:
    record = load("kfp_overhead")
    return machine_line(record) + "\n\n" + table(["task", "s per task"], [[kind, f"{s:.2f}"] for kind, s in record["result"].items()])


def simulate_shop() -> str:
    record = load("simulate_shop")
    columns = ("events", "seconds", "events_per_s", "peak_mib")
    return machine_line(record) + "\n\n" + table(list(columns), [[f"{record['result'][name]:,}" for name in columns]])


def propensities() -> str:
    """Estimate over truth at some positions, and the worst of the first five and ten."""
    record = load("propensities")
    shown, rows = (2, 3, 5, 10), []
    for model, methods in record["result"].items():
        for method, one in methods.items():
            ratios = [with_interval(one["positions"][at - 1]) for at in shown]
            trust = f"{one['trust_at_1']['mean']:.3f} of {one['trust_at_1']['truth']:.3f}"
            rows.append([model, method, *ratios, f"{one['worst_of_5']:.1%}", f"{one['worst_of_10']:.1%}", trust])
    header = ["clicks have", "method", *(f"estimate / truth at {at}" for at in shown), "worst of 1-5", "worst of 1-10", "trust at 1"]
    given = record["settings"]
    intro = f"{given['sessions']:,} sessions, examination position^-{given['eta']:g}; mean of {given['seeds']} seeds, 95 % t-interval."
    return f"{intro}\n\n{table(header, rows)}"


def neighbors_quality() -> str:
    """Every rule's precision and coverage on every shop."""
    record = load("neighbors")
    rows = [
        [
            shop,
            rule,
            with_interval(one["precision"]),
            with_interval(one["precision_at_equal_count"]),
            f"{one['coverage']:.1%}",
            f"{one['num_neighbors']:,}",
        ]
        for shop, rules in record["result"]["quality"].items()
        for rule, one in rules.items()
    ]
    header = ["shop", "rule", "precision", "precision at as many pairs as published", "coverage", "neighbors"]
    return f"{record['settings']['sessions']:,} sessions.\n\n{table(header, rows)}"


def neighbors_speed() -> str:
    """One run of each way."""
    record = load("neighbors")
    speed = record["result"]["speed"]
    columns = list(next(iter(speed.values())))
    rows = [[way, *(f"{one[name]:,}" for name in columns)] for way, one in speed.items()]
    return machine_line(record) + "\n\n" + table(["way", *columns], rows)
