"""The teacher's model card: what it was trained on and how, how good it is and where not, and what it must not be used for."""

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from components.shared.model_card import code, front_matter, table
from components.shared.models.folder import ModelSpec
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Tables
from components.train_teacher.processes import Outcome

PREFIX = "validation."
OF_SLICES = ("pairwise_accuracy", "pairs")
LIMITS = (
    "- Its grades are those of one shop's judges, language and catalogue; what they are worth is on the data card.",
    "- It is meant to label pairs for students and to be measured, not to answer shoppers: it is large, and reads evidence of behavior.",
    "- Evidence is what shoppers clicked, so what was never shown has none, and old habits weigh. Compare the slices with and without it.",
    "- The held-out queries are of split train. Dev and test queries were not read; judge it by evaluate_rankings before you believe it.",
    "- Slices of few pairs say little. Item texts come from sellers and may try to steer it.",
)


def write_card(config: TrainTeacherConfig, tables: Tables, spec: ModelSpec, outcome: Outcome, files: list[str]) -> str:
    """Markdown; equal trainings give equal bytes.

    Args:
        files: what else lies beside the model.
    """
    metrics = {name.removeprefix(PREFIX): value for name, value in outcome.validation.metrics.items()}
    whole = {name: value for name, value in metrics.items() if "." not in name}
    front = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["relevance", "e-commerce", "teacher"],
        "datasets": [tables.card.name],
        "base_model": "" if spec.source == "scratch" else spec.source,
    }
    curve, last = outcome.curve, outcome.curve.metrics()["loss.last"]
    lines = [
        "# Relevance teacher",
        "",
        f"Gives a probability to each grade ({', '.join(map(code, tables.card.labels()))}) of an item for a query.",
        "",
        "## Trained on",
        "",
        f"- data {code(tables.card.name)}, snapshot {code(tables.card.snapshot or 'not named')}",
        f"- {_pairs(tables.training)} of split train; held out: {_pairs(tables.validation)}",
        _evidence(config, spec),
        f"- start: {code(spec.source or 'not named')}",
        f"- {len(curve.losses)} steps, {curve.num_pairs} pairs, {curve.num_tokens} tokens shown; last loss {last:.4f}",
        "",
        "## On held-out queries",
        "",
        *(table(["metric", "value"], [[code(name), f"{value:.4g}"] for name, value in sorted(whole.items())]) if whole else []),
        "",
        _verdict(whole),
        "",
        *_slices(metrics),
        f"Beside this card: {', '.join(map(code, files))}.",
        "",
        "## Limits",
        "",
        *LIMITS,
        "",
        "## Settings",
        "",
        "```yaml",
        yaml.safe_dump(config.shaping(), sort_keys=True, allow_unicode=True).replace("`", "'").rstrip(),
        "```",
        "",
    ]
    return front_matter(front) + "\n".join(lines)


def _evidence(config: TrainTeacherConfig, spec: ModelSpec) -> str:
    if not spec.num_neighbors:
        return "- no behavior neighbors"
    if spec.stages:
        return f"- behavior neighbors: {config.num_neighbors} per side; asked in the stages {', '.join(map(code, spec.stages))}"
    return f"- behavior neighbors: {config.num_neighbors} per side, hidden from {config.neighbor_dropout:.0%} of the pairs"


def _pairs(judgments: pa.Table) -> str:
    return f"{len(judgments)} judged pairs of {pc.count_distinct(judgments['query_id']).as_py()} queries"


def _verdict(whole: dict[str, float]) -> str:
    if "mse_over_variance" not in whole:
        return "No queries were held out, so nothing is known of its quality." if not whole else "Its grades were not measured."
    share, error = whole["mse_over_variance"], whole["calibration_error"]
    knows = "knows more than the mean grade" if share < 1 else "knows no more than the mean grade: do not use it"
    return f"Its squared error is {share:.2f} of the grades' variance: it {knows}. Predicted gains are off by {error:.3f} on average."


def _slices(metrics: dict[str, float]) -> list[str]:
    names = sorted(name.removesuffix(".pairs") for name in metrics if name.endswith(".pairs") and name.count(".") == 1)
    rows = [[code(one), *(f"{metrics[key]:.4g}" if (key := f"{one}.{what}") in metrics else "-" for what in OF_SLICES)] for one in names]
    return [*table(["slice", *OF_SLICES], rows), ""] if rows else []
