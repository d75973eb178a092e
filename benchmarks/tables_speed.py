"""Tables of scoring and training: how fast, how lean, how safe."""

from page_parts import load, machine_line, table


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


def faults() -> str:
    record = load("faults")
    names = ("kills", "shards_scored_again", "dead_workers", "races", "jobs", "requests", "tables_equal")
    rows = [[test.removeprefix("test_").replace("_", " "), *(f"{one[name]:,}" if name in one else "-" for name in names)]
            for test, one in record["result"]["tests"].items()]  # fmt: skip
    return machine_line(record) + "\n\n" + table(["test", *(name.replace("_", " ") for name in names)], rows)


def simulate_workers() -> str:
    """What a shard's size is worth with leases, and all policies at one size and one mean life."""
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
        if one["policy"] == "leased":
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


def train_student() -> str:
    record = load("train_student")
    result, given = record["result"], record["settings"]
    rows = [
        [way.replace("_", " "), f"{rate:.1f}", f"{result['times_apart'][way]:.2f}", f"{result['times_chained'][way]:.2f}"]
        for way, rate in result["pairs_per_s"].items()
    ]
    intro = f"{machine_line(record)} {result['pairs']} pairs, {given['threads']} threads, median of {given['rounds']} rounds."
    return f"{intro}\n\n" + table(["way", "items/s", "x the trainer, apart", "x the trainer, chained"], rows)


def train_teacher() -> str:
    record = load("train_teacher")
    cases = {name: one for name, one in record["result"].items() if "tokens_per_s" in one}
    sides = {"ours": "", "trainer": "_trainer", "grouped_trainer": "_grouped_trainer"}
    rows = [
        [
            name,
            side.replace("_", " "),
            f"{rate:,.0f}",
            f"{one[f'padding_share{sides[side]}']:.0%}",
            f"{one['utilisation'][side]:.0%}",
            "" if side == "ours" else f"{one[f'times_{side}']:.2f}",
        ]
        for name, one in cases.items()
        for side, rate in one["tokens_per_s"].items()
    ]
    header = ["case", "by", "tokens/s", "padding", "of the peak", "ours are as fast x"]
    stages = [
        [stage, *(f"{one[key] / 2**20:,.0f}" for key in ("state_bytes", "peak_bytes", "estimated_bytes"))]
        for stage, one in record["result"]["memory by ZeRO stage"].items()
    ]
    memory = table(["ZeRO stage", "tensors between steps, MiB", "peak over the imports, MiB", "estimated, MiB"], stages)
    return f"{machine_line(record)}\n\n{table(header, rows)}\n\nEach of two processes:\n\n{memory}"


def train_teacher_gpu() -> str:
    """Rounds differed twofold, so what they gave stands with its range."""
    record = load("train_teacher_h100")
    rows = [
        [
            name,
            *(_with_range(one["tokens_per_s"][side], one["rounds"][side], ",.0f") for side in ("ours", "trainer")),
            _with_range(one["times_trainer"], [a / b for a, b in zip(one["rounds"]["ours"], one["rounds"]["trainer"], strict=True)], ".2f"),
            *(f"{one[key]:.0%}" for key in ("padding_share", "padding_share_trainer")),
            *(f"{one['utilisation'][side]:.1%}" for side in ("ours", "trainer")),
            *(f"{one['memory'][key] / 2**30:.1f}" for key in ("measured_bytes", "estimated_bytes")),
        ]
        for name, one in record["result"].items()
    ]
    header = ["case", "ours, tokens/s", "Trainer, tokens/s", "ratio", "padding, ours", "padding, Trainer", "of the peak, ours",
              "of the peak, Trainer", "peak memory, GiB", "estimated, GiB"]  # fmt: skip
    rounds = max(len(one["rounds"]["ours"]) for one in record["result"].values())
    return f"{record['machine']['gpu']}. Median of {rounds} rounds, in brackets the least and the most.\n\n{table(header, rows)}"


def _with_range(middle: float, values: list[float], form: str) -> str:
    return f"{middle:{form}} ({min(values):{form}} to {max(values):{form}})"
