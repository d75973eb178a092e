"""Markdown tables from the result files: `python benchmarks/render.py` rewrites the marked parts of benchmarks/README.md and README.md."""

import json
import re
from pathlib import Path

from machine import RESULTS

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "benchmarks/README.md")
SYSTEMS = ("bm25", "untrained", "teacher", "cross_encoder", "bi_encoder")
METRICS = ("pairwise_accuracy", "ndcg@10", "auc")


def load(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine_line(record: dict) -> str:
    machine = record["machine"]
    return f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_before']} before it began."


def with_interval(one: dict, sign: str = "") -> str:
    return f"{one['mean']:{sign}.3f} [{one['low']:{sign}.3f}, {one['high']:{sign}.3f}]"


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
    return machine_line(record) + "\n\n" + table(["step", "first run, s", "second, s", "third, s"], [*steps, whole, reused])


def extract_logs() -> str:
    record = load("extract_logs")
    columns = ("events", "seconds", "cpu_seconds", "events_per_second", "peak_rss_mib")
    return machine_line(record) + "\n\n" + table(list(columns), [[f"{run[name]:,}" for name in columns] for run in record["result"]])


def score_pairs() -> str:
    record = load("score_pairs")
    result = record["result"]
    rows = [
        [
            way.replace("_", " "),
            f"{rate:.1f}",
            f"{result['times_padded_to_max'][way]:.2f}",
            f"{result['largest_score_difference'][way]:.1e}",
        ]
        for way, rate in result["pairs_per_s"].items()
    ]
    return machine_line(record) + "\n\n" + table(["way", "pairs/s, one thread", "x padded to max", "largest score difference"], rows)


def kfp_overhead() -> str:
    record = load("kfp_overhead")
    return machine_line(record) + "\n\n" + table(["task", "s per task"], [[kind, f"{s:.2f}"] for kind, s in record["result"].items()])


def simulate_shop() -> str:
    record = load("simulate_shop")
    columns = ("events", "seconds", "events_per_s", "peak_mib")
    return machine_line(record) + "\n\n" + table(list(columns), [[f"{record['result'][name]:,}" for name in columns]])


def esci_cross_validation() -> str:
    record = load("esci_cross_validation")
    means, differences = [], []
    for arm, scopes in record["result"]["arms"].items():
        evidence = arm.split("_")[0]
        for system in SYSTEMS:
            means.append([evidence, system, *(with_interval(scopes["all"]["means"][f"{system}.{metric}"]) for metric in METRICS)])
        for scope, summary in scopes.items():
            for pair, one in summary["differences"].items():
                if pair.endswith(".pairwise_accuracy"):
                    names = pair.rsplit(".", 1)[0].replace("-", " - ")
                    differences.append([evidence, names, scope, str(one["num_queries"]), with_interval(one, "+"), f"{one['p']:.4f}"])
    first = table(["evidence for evaluated queries", "system", "pairwise accuracy", "NDCG@10", "AUC"], means)
    second = table(["evidence", "paired difference of pairwise accuracy", "queries", "number", "mean [interval]", "p"], differences)
    explained = "Means over all queries with 95 % bootstrap intervals, and paired differences query by query (p: sign flips)."
    minutes = [round(one / 60, 1) for one in record["result"]["seconds"].values()]
    timing = f"A whole run took {min(minutes)} to {max(minutes)} minutes. {machine_line(record)}"
    return f"{timing} {explained}\n\n{first}\n\n{second}"


PARTS = {
    "run-output": run_output,
    "run-times": run_times,
    "extract-logs": extract_logs,
    "score-pairs": score_pairs,
    "kfp-overhead": kfp_overhead,
    "simulate-shop": simulate_shop,
    "esci-cross-validation": esci_cross_validation,
}


def render(page: str) -> str:
    """The page with every marked part made afresh: from `<!-- name -->` to `<!-- /name -->`."""
    return re.sub(
        r"<!-- (?P<name>[a-z0-9-]+) -->\n.*?<!-- /(?P=name) -->",
        lambda part: f"<!-- {part['name']} -->\n{PARTS[part['name']]()}\n<!-- /{part['name']} -->",
        page,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(render(page.read_text()))
