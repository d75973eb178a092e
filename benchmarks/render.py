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


def score_pairs(name: str = "score_pairs") -> str:
    record = load(name)
    result, threads = record["result"], record["settings"]["threads"]
    rows = [
        [
            way.replace("_", " "),
            f"{rate:.1f}",
            f"{result['times_cross_encoder_predict'][way]:.2f}",
            f"{result['largest_score_difference'][way]:.1e}",
        ]
        for way, rate in result["pairs_per_s"].items()
    ]
    header = ["way", f"pairs/s, {threads} thread{'s' if threads > 1 else ''}", "x CrossEncoder.predict", "largest score difference"]
    return machine_line(record) + "\n\n" + table(header, rows)


def score_decoder() -> str:
    """Every way to score the same pairs, then growth of the packed method."""
    record = load("score_decoder")
    result = record["result"]
    work, peaks = result["work"], result["peak_gflops"]
    rows = [
        [
            way.replace("_", " "),
            f"{one['pairs_per_s']:.1f}",
            f"{one['times_pipeline']:.2f}",
            f"{one['times_vllm']:.2f}" if one["times_vllm"] else "-",
            f"{one['share_of_peak']:.0%} ({one['flops_counted']})",
            f"{one['largest_difference']:.1e}",
            f"{one['same_argmax']:.3f}",
        ]
        for way, one in result["ways"].items()
    ]
    header = [
        "way",
        "pairs/s",
        "x pipeline",
        "x vLLM of its dtype",
        "of GEMM peak (FLOPs counted)",
        "largest logit difference",
        "same argmax",
    ]
    intro = (
        f"{machine_line(record)} {work['pairs']} pairs, {work['mean_prefix_tokens']:.0f} shared and "
        f"{work['mean_item_tokens']:.0f} own tokens, "
        f"{record['settings']['threads']} threads, median of {record['settings']['rounds']} rounds; peak {peaks['fp32']:.0f} (fp32) and "
        f"{peaks['bf16']:.0f} (bf16) GFLOP/s; standard deviation of the logits {result['standard_deviation_of_logits']:.2f}."
    )
    growth = [
        [f"{one['pairs']:,}", f"{one['seconds']:.2f}", f"{one.get('growth_exponent', 1):.2f}", f"{one['peak_rss_mib']:,.0f}"]
        for one in result["growth"]
    ]
    grown = table(["pairs, packed bf16", "seconds", "growth exponent", "peak memory, MiB"], growth)
    return f"{intro}\n\n{table(header, rows)}\n\n{grown}\n\n{_decoder_memory()}"


def _decoder_memory() -> str:
    record = load("score_decoder_memory")
    rows = [[way.replace("_", " "), f"{rise:,.0f}"] for way, rise in record["result"].items()]
    return machine_line(record) + "\n\n" + table(["way, alone in a process", "memory while scoring, above the loaded model, MiB"], rows)


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


def simulate_workers() -> str:
    """What a shard's size is worth with a coordinator, and the other policies at one size and one mean life."""
    record = load("simulate_workers")
    given, runs = record["settings"], record["result"]["runs"]
    longest, middle = max(given["mean_life_s"]), sorted(given["shards"])[len(given["shards"]) // 2]
    sizes, lines = [], []
    for one in runs:
        row = [f"{one['mean_life_s'] / 3600:g} h", f"{one['shards']:,}", f"{one['pairs_per_shard']:,}"]
        if one["finished"]:
            row += [f"{one['makespan_s'] / 3600:.2f}", f"{one['makespan_over_ideal']:.2f}", f"{one['rework_share']:.1%}"]
            row += [f"{one['tail_s'] / 60:.1f}", f"{one['losing_commits']:,.0f}", str(one["duplicates"])]
            row += [f"{one['finish_s'] / 3600:.2f}", f"{one['total_s'] / 3600:.2f}"]
        else:
            row += ["never", *["-"] * 7]
        if one["policy"] == "handed_out":
            sizes.append(row)
        if one["mean_life_s"] == longest and (one["shards"] == middle or one["policy"] == "in_order"):
            lines.append([one["policy"], *row[1:]])
    columns = ["shards", "pairs a shard", "makespan, h", "x ideal", "rework", "99 to 100 %, min"]
    columns += ["losing commits", "duplicates", "finish, h", "all, h"]
    intro = (
        f"{given['pairs']:,} pairs, {given['workers']:,} workers of {given['pairs_per_s']:g} pairs/s (spread {given['speed_spread']:.0%}), "
        f"{given['restart_s']:g} s to restart, {given['commit_s']:g} s to commit; means of {given['seeds']} seeds."
    )
    return f"{intro}\n\n{table(['mean life', *columns], sizes)}\n\nMean life {longest / 3600:g} h:\n\n{table(['policy', *columns], lines)}"


def esci_means() -> str:
    """Every system over train and dev queries, with and without evidence for them."""
    record = load("esci_cross_validation")
    rows = [
        [arm.split("_")[0], system, *(with_interval(scopes["train and dev"]["means"][f"{system}.{metric}"]) for metric in METRICS)]
        for arm, scopes in record["result"]["arms"].items()
        for system in SYSTEMS
    ]
    return table(["evidence for evaluated queries", "system", "pairwise accuracy", "NDCG@10", "AUC"], rows)


def score_decoder_gpu() -> str:
    record = load("score_decoder_gpu")
    rows = []
    for size, ways in record["result"].items():
        first = ways["hugging_face_32"]["pairs_per_s"]
        for way, one in ways.items():
            if "pairs_per_s" not in one:
                continue
            name, _, budget = way.rpartition("_")
            shown = f"{name.replace('_', ' ')} ({budget}{'' if name == 'hugging_face' else ' tokens'})"
            numbers = [f"{one['pairs_per_s']:,.0f}", f"{one['pairs_per_s'] / first:.2f}", f"{one['read_tokens_per_s']:,.0f}"]
            rows.append([size, shown, *numbers, f"{one['share_of_peak']:.0%}", f"{one['same_argmax']:.3f}", f"{one['peak_gib']:.1f}"])
    peak = f"{record['machine']['device']}, {record['machine']['bf16_peak_tflops']:.0f} TFLOP/s in an 8192 x 8192 x 8192 bf16 product."
    header = ["weights", "way", "pairs/s", "times batches of 32", "tokens/s, prefixes counted each time", "useful FLOPs of the peak",
              "same argmax as batches of 32", "memory, GiB"]  # fmt: skip
    return f"{peak}\n\n{table(header, rows)}"


def train_teacher() -> str:
    record = load("train_teacher")
    cases = {name: one for name, one in record["result"].items() if "tokens_per_s" in one}
    rows = [
        [
            name,
            *(f"{one['tokens_per_s'][side]:,.0f}" for side in ("ours", "trainer")),
            f"{one['times_trainer']:.2f}",
            *(f"{one[key]:.0%}" for key in ("padding_share", "padding_share_trainer")),
            *(f"{one['utilisation'][side]:.0%}" for side in ("ours", "trainer")),
        ]
        for name, one in cases.items()
    ]
    header = ["case", "ours, tokens/s", "Trainer, tokens/s", "ratio", "padding, ours", "padding, Trainer", "of the peak, ours",
              "of the peak, Trainer"]  # fmt: skip
    stages = [
        [stage, *(f"{one[key] / 2**20:,.0f}" for key in ("state_bytes", "peak_bytes", "estimated_bytes"))]
        for stage, one in record["result"]["memory by ZeRO stage"].items()
    ]
    memory = table(["ZeRO stage", "tensors between steps, MiB", "peak over the imports, MiB", "estimated, MiB"], stages)
    return f"{machine_line(record)}\n\n{table(header, rows)}\n\nEach of two processes:\n\n{memory}"


def train_teacher_gpu() -> str:
    record = load("train_teacher_h100")
    rows = [
        [
            name,
            *(f"{one['tokens_per_s'][side]:,.0f}" for side in ("ours", "trainer")),
            f"{one['times_trainer']:.2f}",
            *(f"{one[key]:.0%}" for key in ("padding_share", "padding_share_trainer")),
            *(f"{one['utilisation'][side]:.1%}" for side in ("ours", "trainer")),
            *(f"{one['memory'][key] / 2**30:.1f}" for key in ("measured_bytes", "estimated_bytes")),
        ]
        for name, one in record["result"].items()
    ]
    header = ["case", "ours, tokens/s", "Trainer, tokens/s", "ratio", "padding, ours", "padding, Trainer", "of the peak, ours",
              "of the peak, Trainer", "peak memory, GiB", "estimated, GiB"]  # fmt: skip
    return f"{record['machine']['gpu']}.\n\n{table(header, rows)}"


def esci_differences(systems: tuple[str, ...] = ("cross_encoder", "bi_encoder")) -> str:
    """Paired differences of pairwise accuracy, over the queries that no setting was chosen on and, where measured, the dev queries."""
    record = load("esci_cross_validation")
    rows = []
    for arm, scopes in record["result"]["arms"].items():
        for scope, summary in scopes.items():
            for pair, one in summary["differences"].items():
                names, metric = pair.rsplit(".", 1)
                if metric == "pairwise_accuracy" and names.split("-")[0] in systems:
                    shown = [names.replace("-", " - "), f"{scope} ({one['num_queries']})", with_interval(one, "+"), f"{one['p']:.4f}"]
                    rows.append([arm.split("_")[0], *shown])
    return table(["evidence", "paired difference", "queries", "pairwise accuracy", "p"], rows)


def faults() -> str:
    record = load("faults")
    names = ("kills", "shards_scored_again", "dead_workers", "races", "jobs", "requests", "tables_equal")
    rows = [[test.removeprefix("test_").replace("_", " "), *(f"{one[name]:,}" if name in one else "-" for name in names)]
            for test, one in record["result"]["tests"].items()]  # fmt: skip
    return machine_line(record) + "\n\n" + table(["test", *(name.replace("_", " ") for name in names)], rows)


STAGE_METRICS = {"accuracy": "accuracy", "cross_entropy": "cross-entropy", "pairwise_accuracy": "pairwise accuracy",
                 "mse_over_variance": "squared error over variance", "deviation": "moved by rewording"}  # fmt: skip


def staged_prompts() -> str:
    """Every answer's means over the seeds, then differences with their intervals."""
    record = load("staged_prompts")
    found: dict[tuple[str, str], dict[str, dict]] = {}
    for one in record["result"]["summary"]:
        if one["slice"] in ("all", "ambiguous"):
            found.setdefault((one["slice"], one["stage"]), {})[one["metric"]] = one
    means = [[*key, *(f"{own[name]['mean']:.3f}" if name in own else "" for name in STAGE_METRICS)]
             for key, own in found.items() if " - " not in key[1]]  # fmt: skip
    shown = ("cross_entropy", "pairwise_accuracy", "deviation")
    differences = [[*key, *(with_interval(own[name], "+") if name in own else "" for name in shown)]
                   for key, own in found.items() if " - " in key[1]]  # fmt: skip
    head = f"{len(record['settings']['seeds'])} shops, means; differences with 95 % t-intervals over the shops."
    names = [STAGE_METRICS[name] for name in shown]
    return f"{head}\n\n{table(['test queries', 'answer', *STAGE_METRICS.values()], means)}\n\n" + table(
        ["test queries", "difference", *names], differences
    )


def soft_targets() -> str:
    record = load("soft_targets")
    rows = [
        [one["arm"], str(one["queries"]), with_interval(one["ndcg@10"]),
         with_interval(one["first arm minus it"], "+") if "first arm minus it" in one else "",
         ", ".join(f"{value:.2f}" for value in one.get("mse_over_variance", []))]
        for one in record["result"]
    ]  # fmt: skip
    shops = f"{len(record['settings']['seeds'])} shops" if len(record["settings"]["seeds"]) > 1 else "One shop"
    header = ["trained on", "test queries", "ndcg@10", "first row minus it", "squared error over variance"]
    return f"{shops}; bootstrap over queries.\n\n{table(header, rows)}"


def sub_judgments() -> str:
    """Sums over the shops; a share by aspect and source of words."""
    record = load("sub_judgments")
    rows = []
    for way in ("catalogue alone", "and judgments"):
        shops = [one[way] for one in record["result"]]
        pairs = sum(one["pairs"] for one in shops)
        for aspect in shops[0]["aspects"]:
            told, right, asked, of_asked = (
                sum(one["aspects"][aspect][name] for one in shops) for name in ("told", "right", "asked", "right_of_asked")
            )
            rows.append([way, aspect, f"{told / pairs:.1%}", f"{right / told:.1%}", f"{asked / pairs:.1%}", f"{of_asked / asked:.1%}"])
    header = ["words from", "aspect", "pairs told", "right", "told to be asked for", "right of these"]
    return f"{len(record['result'])} shops of {record['result'][0][way]['pairs']:,} pairs.\n\n{table(header, rows)}"


def of_seeds(one: dict) -> str:
    return f"{one['mean']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}], {one['above_0']} above 0"


def preference_tuning(name: str = "preference_tuning") -> str:
    record = load(name)
    rows = []
    for side, of_side in record["result"].items():
        for arm, one in of_side["arms"].items():
            ratios = [f"{min(one[name]):.2f} to {max(one[name]):.2f}" for name in ("ratio_before", "ratio_after")]
            kept = f"{one['accepted']} of {len(one['ratio_after'])}"
            rows.append([side, arm, *ratios, kept, *(of_seeds(one[name]) for name in ("nearer_to_1", "boundary_precision", "macro_f1"))])
    header = ["biased", "arm", "ratio before", "ratio after", "accepted", "nearer to 1 (log)", "precision at the boundary", "macro F1"]
    settings = record["settings"]
    tuning = f"{settings['biased_share']:.0%} of the grades wrong, {settings['tuning']['preference_epochs']} epochs of tuning"
    return f"{tuning}; {record['settings']['seeds']} seeds, 95 % t-intervals of paired differences.\n\n{table(header, rows)}"


def data_selection() -> str:
    record = load("data_selection")
    result, marker = record["result"], "wrong share over base rate, "
    rules = [name.removeprefix(marker) for name in result if name.startswith(marker)]
    shares = [[rule, _wrong(record, rule), _kept(record, rule)] for rule in rules]
    gains = [[arm, *(f"{result[metric][arm]['mean']:+.3f}" for metric in ("accuracy", "macro_f1"))] for arm in result["accuracy"]]
    intro = f"Seeds run: {record['settings']['seeds']}; {record['settings']['noise']:.0%} of the grades one off."
    first = table(["rule", "wrong grades, as a share of the base rate", "kept pairs"], shares)
    return f"{intro}\n\n{first}\n\n{table(['trained on', 'accuracy', 'macro F1'], gains)}"


def _wrong(record: dict, rule: str) -> str:
    shares = [one["rules"][rule]["wrong"] / one["base_rate"] for one in record["result"]["seeds"] if one["rules"][rule]["kept"]]
    return ", ".join(f"{share:.2f}" for share in shares) or "none kept"


def _kept(record: dict, rule: str) -> str:
    return ", ".join(f"{one['rules'][rule]['kept']:,}" for one in record["result"]["seeds"])


def reasoning() -> str:
    """A row per seed and arm, as measured."""
    record = load("reasoning")
    names = ("steps", "macro_f1", "accuracy", "at_once.macro_f1", "at_once.accuracy", "malformed_share", "reflect.fixed",
             "reflect.fixed_of_own_errors")  # fmt: skip
    rows = [
        [str(one["seed"]), arm, *(_plain(one[arm].get(name)) for name in names)]
        for one in record["result"] for arm in record["settings"]["arms"] if arm in one
    ]  # fmt: skip
    return machine_line(record) + "\n\n" + table(["seed", "taught", *(name.replace("_", " ") for name in names)], rows)


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


PARTS = {
    "reasoning": reasoning,
    "sub-judgments": sub_judgments,
    "run-output": run_output,
    "run-times": run_times,
    "bots": bots,
    "extract-logs": extract_logs,
    "faults": faults,
    "score-pairs": score_pairs,
    "score-pairs-intel": lambda: score_pairs("score_pairs_intel"),
    "score-decoder": score_decoder,
    "kfp-overhead": kfp_overhead,
    "preference-tuning": preference_tuning,
    "preference-tuning-short": lambda: preference_tuning("preference_tuning_short"),
    "data-selection": data_selection,
    "simulate-shop": simulate_shop,
    "propensities": propensities,
    "neighbors-quality": neighbors_quality,
    "neighbors-speed": neighbors_speed,
    "simulate-workers": simulate_workers,
    "score-decoder-gpu": score_decoder_gpu,
    "train-teacher": train_teacher,
    "train-teacher-gpu": train_teacher_gpu,
    "staged-prompts": staged_prompts,
    "soft-targets": soft_targets,
    "esci-means": esci_means,
    "esci-differences": esci_differences,
    "esci-bi-encoder": lambda: esci_differences(("bi_encoder",)),
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
