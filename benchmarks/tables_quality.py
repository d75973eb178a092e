"""Tables of how good models are."""

from page_parts import load, table, with_interval

SYSTEMS = ("bm25", "untrained", "teacher", "cross_encoder", "bi_encoder")

METRICS = ("pairwise_accuracy", "ndcg@10", "auc")


def esci_means() -> str:
    """Every system over train and dev queries, with and without evidence for them."""
    record = load("esci_cross_validation")
    rows = [
        [arm.split("_")[0], system, *(with_interval(scopes["train and dev"]["means"][f"{system}.{metric}"]) for metric in METRICS)]
        for arm, scopes in record["result"]["arms"].items()
        for system in SYSTEMS
    ]
    return table(["evidence for evaluated queries", "system", "pairwise accuracy", "NDCG@10", "AUC"], rows)


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


STAGE_METRICS = {"accuracy": "accuracy", "cross_entropy": "cross-entropy", "pairwise_accuracy": "pairwise accuracy",
                 "mse_over_variance": "squared error over variance", "deviation": "moved by rewording"}  # fmt: skip


def staged_prompts(name: str = "staged_prompts") -> str:
    """Every answer's means over the seeds, then differences with their intervals."""
    record = load(name)
    found: dict[tuple[str, str], dict[str, dict]] = {}
    for one in record["result"]["summary"]:
        if one["slice"] in ("all", "ambiguous"):
            found.setdefault((one["slice"], one["stage"]), {})[one["metric"]] = one
    means = [[*key, *(f"{own[name]['mean']:.3f}" if name in own else "" for name in STAGE_METRICS)]
             for key, own in found.items() if " - " not in key[1]]  # fmt: skip
    shown = ("accuracy", "cross_entropy", "pairwise_accuracy", "deviation")
    differences = [[*key, *(f"{with_interval(own[name], '+')}, {own[name]['better']}" if name in own else "" for name in shown)]
                   for key, own in found.items() if " - " in key[1]]  # fmt: skip
    head = (
        f"{len(record['settings']['seeds'])} shops, means; differences with 95 % t-intervals over the shops, and in how many the first is "
        "better. The best stage is chosen afterwards, anew for each shop and column."
    )
    names = [STAGE_METRICS[name] for name in shown]
    return f"{head}\n\n{table(['test queries', 'answer', *STAGE_METRICS.values()], means)}\n\n" + table(
        ["test queries", "difference", *names], differences
    )


def soft_targets() -> str:
    """NDCG of every folding by both sets of gains, and what the first is ahead of it."""
    record = load("soft_targets")
    found, arms = record["result"]["summary"], record["settings"]["arms"]
    sets = [name for name in found if name != "mse_over_variance"]
    shown = {"": "ndcg@10", "first row - it, ": "first arm minus it"}
    rows = [[arm, *(of_seeds(found[one][arm][key], "+" if label else "") for one in sets for label, key in shown.items())] for arm in arms]
    header = ["trained on", *(f"{label}{one}" for one in sets for label in shown)]
    error = with_interval(found["mse_over_variance"])
    return f"{_seeds(record)} Squared error over variance with all five grades: {error}.\n\n{table(header, rows)}"


def _seeds(record: dict) -> str:
    return f"{len(record['settings']['seeds'])} seeds, 95 % t-intervals."


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


def of_seeds(one: dict, sign: str = "+") -> str:
    """With how many are above 0 where the sign matters."""
    if one["low"] == one["high"]:  # one seed, or all alike
        return f"{one['mean']:{sign}.3f}"
    return with_interval(one, sign) + (f", {one['above_0']} above 0" if sign else "")


def preference_tuning() -> str:
    record = load("preference_tuning")
    rows = []
    for side, of_side in record["result"]["summary"].items():
        for arm, one in of_side.items():
            ratios = [f"{min(one[name]):.2f} to {max(one[name]):.2f}" for name in ("ratio_before", "ratio_after")]
            kept = f"{one['accepted']} of {len(one['ratio_after'])}"
            rows.append([side, arm, *ratios, kept, *(of_seeds(one[name]) for name in ("nearer_to_1", "boundary_precision", "macro_f1"))])
    header = ["biased", "arm", "ratio before", "ratio after", "accepted", "nearer to 1 (log)", "precision at the boundary", "macro F1"]
    settings = record["settings"]
    tuning = f"{settings['biased_share']:.0%} of the grades wrong, {settings['tuning']['preference_epochs']} epochs of tuning"
    return f"{tuning}; {len(settings['seeds'])} seeds, 95 % t-intervals of paired differences.\n\n{table(header, rows)}"


def data_selection() -> str:
    record = load("data_selection")
    result, marker = record["result"]["summary"], "wrong share over base rate, "
    rules = [name.removeprefix(marker) for name in result if name.startswith(marker)]
    shares = [[rule, _pooled(record, rule), _wrong(record, rule), _kept(record, rule)] for rule in rules]
    seeds = record["result"]["runs"]
    gains = [[arm, *(of_seeds(result[metric][arm]) for metric in ("accuracy", "macro_f1"))] for arm in result["accuracy"]]
    told = ", ".join(f"{one['agree_with_truth']['im']:.2f} and {one['agree_with_truth']['ci']:.2f}" for one in seeds)
    intro = f"Seeds run: {len(seeds)}; {record['settings']['noise']:.0%} of the grades one off; IM and CI are right on {told} of the pairs."
    first = table(["rule", "wrong grades over base rate, all seeds' kept pairs together", "of each seed", "kept pairs"], shares)
    return f"{intro}\n\n{first}\n\n{table(['trained on', 'accuracy', 'macro F1'], gains)}"


def _pooled(record: dict, rule: str) -> str:
    runs = record["result"]["runs"]
    wrong = sum(one["rules"][rule]["kept"] * one["rules"][rule]["wrong"] for one in runs)
    expected = sum(one["rules"][rule]["kept"] * one["base_rate"] for one in runs)
    return f"{wrong / expected:.2f}" if expected else "none kept"


def _wrong(record: dict, rule: str) -> str:
    shares = [one["rules"][rule]["wrong"] / one["base_rate"] for one in record["result"]["runs"] if one["rules"][rule]["kept"]]
    return ", ".join(f"{share:.2f}" for share in shares) or "none kept"


def _kept(record: dict, rule: str) -> str:
    return ", ".join(f"{one['rules'][rule]['kept']:,}" for one in record["result"]["runs"])


def reasoning() -> str:
    """Each arm's means, and what its task adds to the arm before it."""
    record = load("reasoning")
    names = ("macro_f1", "accuracy", "at_once.macro_f1", "malformed_share", "reflect.fixed", "reflect.fixed_of_own_errors")
    found = record["result"]["summary"]
    rows = [[arm, *(of_seeds(own[name]["value"], "") if name in own else "-" for name in names)] for arm, own in found.items()]
    added = [[arm, *(of_seeds(own[name]["added"]) for name in names[:3])] for arm, own in found.items() if "added" in own[names[0]]]
    header = [name.replace("_", " ") for name in names]
    return f"{_seeds(record)}\n\n{table(['taught', *header], rows)}\n\n{table(['what it adds', *header[:3]], added)}"


def robustness() -> str:
    """The plain student's means over the seeds, and what the other arms differ from it by, clean and under each edit."""
    record = load("robustness")
    summary = record["result"]["summary"]
    arms = [arm for arm in summary if arm != "plain"]
    shown = [name for name in summary["plain"] if name != "auc"]
    rows = [
        [name.replace("_", " ").replace(".", ": "), f"{summary['plain'][name]['value']['mean']:.3f}",
         *(of_seeds(summary[arm][name]["minus_plain"]) for arm in arms)]
        for name in shown
    ]  # fmt: skip
    seeds = record["settings"]["seeds"]
    intro = (
        f"{len(seeds)} shops, {record['settings']['epochs']} epochs; means, and paired differences with 95 % t-intervals over the shops."
    )
    heads = ", ".join(f"{aspect} {own:.2f} ({major:.2f})" for aspect, own, major in _heads(record["result"]["runs"]))
    return (
        f"{intro}\n\n{table(['measure', 'plain', *(f'{arm} minus it' for arm in arms)], rows)}\n\nHeads right (majority's share): {heads}."
    )


def _heads(runs: list[dict]) -> list[tuple[str, float, float]]:
    """(aspect, share right, share of the more frequent verdict), means over the runs that have the aspect."""
    aspects = dict.fromkeys(name.split(".")[0] for run in runs for name in run["heads"])
    found = []
    for aspect in aspects:
        of = [run["heads"] for run in runs if f"{aspect}.accuracy" in run["heads"]]
        own, major = (sum(one[f"{aspect}.{name}"] for one in of) / len(of) for name in ("accuracy", "majority"))
        found.append((aspect, own, major))
    return found


def multi_task() -> str:
    """What sub-judgments add to each student that starts from MiniLM."""
    record = load("multi_task")
    runs = record["result"]["runs"]
    rows = [
        [kind, metric, f"{one['value']['mean']:.3f}", of_seeds(one["added"])]
        for kind, metrics in record["result"]["summary"].items() for metric, one in metrics.items()
    ]  # fmt: skip
    heads = [
        f"{kind}: "
        + ", ".join(f"{aspect} {own:.2f} ({major:.2f})" for aspect, own, major in _heads([{"heads": run["heads"][kind]} for run in runs]))
        for kind in record["result"]["summary"]
    ]
    count = f"{len(runs)} shops" if len(runs) > 1 else "One shop"
    found = table(["student", "metric", "score alone", "with steps, difference"], rows)
    return f"{count}.\n\n{found}\n\nHeads right (majority's share): {'; '.join(heads)}."


def vocabulary() -> str:
    """Tokens of a pair by number of words; of the shops also the students' quality, a row each."""
    record = load("vocabulary")
    real = record["result"]["real"]
    whole = next(iter(real.values()))["pair"]
    rows = [
        [f"{one['words']:,}", f"{one['item']:.1f}", f"{one['query']:.1f}", f"{one['pair']:.1f}", f"{one['pair'] / whole - 1:+.1%}"]
        for one in real.values()
    ]  # fmt: skip
    first = table(["words added", "tokens of an item", "of a query", "of both", "change"], rows)
    shops, summary = record["result"]["simulated"], record["result"]["summary"]
    lengths = [
        [str(one["seed"]), *(f"{one['tokens'][key]:.0f}" for key in ("added_words", "marked_tokens")), f"{before:.1f}", f"{after:.1f}",
         f"{after / before - 1:+.1%}"]
        for one in shops
        for before, after in [(one["tokens"]["tokens_per_pair.before"], one["tokens"]["tokens_per_pair"])]
    ]  # fmt: skip
    second = table(["shop", "words added", "tokens with a mark", "tokens of both before", "after", "change"], lengths)
    told = [
        [name, *(with_interval(summary[metric][name], "+") + f", {summary[metric][name]['above_0']} up" for metric in METRICS)]
        if " - " in name
        else [name, *(with_interval(summary[metric][name]) for metric in METRICS)]
        for name in summary[METRICS[0]]
    ]
    return f"{first}\n\n{second}\n\n{table(['student', *METRICS], told)}"


def graph_student() -> str:
    """Every model's means over the shops, then the differences that the checks are about."""
    record = load("graph_student")
    found: dict[str, dict[str, dict]] = {}
    for one in record["result"]["summary"]:
        found.setdefault(one["what"], {})[one["metric"]] = one
    models = list(record["result"]["runs"][0]["models"])
    metrics = [name for name in found[models[0]] if name.startswith(("ndcg", "auc"))]
    means = [[name, *(f"{found[name][metric]['mean']:.3f}" for metric in metrics)] for name in models]
    apart = [[name, *(with_interval(own[metric], "+") for metric in metrics)] for name, own in found.items() if " - " in name]
    light = [[name, with_interval(next(iter(own.values())))] for name, own in found.items() if ": " in name]
    head = f"{len(record['settings']['seeds'])} shops, test queries, means; differences with 95 % t-intervals over the shops."
    tables = table(["model", *metrics], means), table(["difference", *metrics], apart), table(["light model", "value"], light)
    return "\n\n".join([head, *tables])


def pool_sizes() -> str:
    """The student of each size beside its teacher."""
    record = load("pool_sizes")
    found, settings = record["result"]["summary"], record["settings"]
    smallest = settings["smallest"] * settings["shop"]["judged_per_query"]
    rows = [
        [f"{int(name[1:]) * smallest:,}", name[1:], with_interval(own), with_interval(found["student - teacher"][name], "+")]
        for name, own in found["students"].items()
    ]
    head = (
        f"{len(settings['seeds'])} shops. Teacher: NDCG@10 {with_interval(found['teacher'])}. Rank correlation of NDCG with the pool's "
        f"size: {with_interval(found['rank_correlation'])}."
    )
    return f"{head}\n\n{table(['pairs', 'times', 'NDCG@10 of the student', 'student - teacher'], rows)}"


PRICE_SORT = {"unfiltered": "mean gain of the first ten by price", "filtered": "the same with the filter",
              "filtered - unfiltered": "what the filter adds", "hidden_share": "share of items hidden",
              "relevant_hidden": "share of a query's relevant items hidden"}  # fmt: skip


def price_sort() -> str:
    """What the filter gives and what it costs."""
    record = load("price_sort")
    rows = [[what, with_interval(record["result"]["summary"][name])] for name, what in PRICE_SORT.items()]
    head = f"{len(record['settings']['seeds'])} shops; the stated bound of the last row is {record['settings']['bound']}."
    return f"{head}\n\n{table(['', 'mean over the shops'], rows)}"


def esci_students() -> str:
    """Every way to teach at the same budget: means, then paired differences, over all queries and over those no setting was chosen on."""
    record = load("esci_students")
    result, done, folds = record["result"], record["settings"]["done"], record["settings"]["folds"]
    metrics = ("pairwise_accuracy", "ndcg@10")
    systems = dict.fromkeys(name.rpartition(".")[0] for name in result["all"]["means"])
    means = [[one, *(with_interval(result["all"]["means"][f"{one}.{metric}"]) for metric in metrics)] for one in systems]
    differences = [
        [
            name.rpartition(".")[0].replace("-", " - "),
            *(with_interval(result[scope]["differences"][name], "+") for scope in ("all", "without_fold_0")),
        ]
        for name in result["all"]["differences"]
        if name.endswith(metrics[0])
    ]
    count = next(iter(result["all"]["differences"].values()))["num_queries"]
    first = table(["cross-encoder", "pairwise accuracy", "NDCG@10"], means)
    second = table(["difference of pairwise accuracy", f"all {count} queries", "without the dev queries"], differences)
    return f"Folds {', '.join(map(str, sorted(done)))} of 0 to {folds - 1}.\n\n{first}\n\n{second}"
