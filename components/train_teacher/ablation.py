"""What each stage of the prompt is worth by itself, averaged and combined, on the held-out queries."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from scipy.special import softmax

from components.shared.cross_fitting import cross_fitted
from components.train_teacher.combiner import Combiner, fit_combiner
from components.train_teacher.grading import grade_metrics, order_metrics

MEAN, LEARNED = "mean", "learned"


def stage_answers(names: list[str], stage_logits: np.ndarray, grades: np.ndarray, query_ids: np.ndarray) -> dict[str, np.ndarray]:
    """Probabilities [pairs, grades] by each stage alone, the plain average, and the learned combiner where there are queries to fit it to.

    The learned one is cross-fitted: it answers about queries that it was not fitted to.

    Args:
        stage_logits: [stages, pairs, grades]; grades, query_ids: [pairs].
    """

    def combined(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
        return fit_combiner(stage_logits[:, known], grades[known]).probabilities(stage_logits[:, asked])

    found = {name: softmax(logits.astype(np.float64), axis=1) for name, logits in zip(names, stage_logits, strict=True)}
    found[MEAN] = Combiner.mean(len(names), stage_logits.shape[2]).probabilities(stage_logits)
    learned = cross_fitted(query_ids, combined)
    return found | ({LEARNED: learned} if len(learned) else {})


def ablation_rows(
    answers: dict[str, np.ndarray], grades: np.ndarray, query_ids: np.ndarray, gains: np.ndarray, slices: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """One per answer and slice: `stage`, `slice`, `pairs`, accuracy, cross_entropy, macro_f1, mse, mse_over_variance, pairwise_accuracy.

    Args:
        answers: name -> [pairs, grades]; grades, query_ids: [pairs]; gains: [grades]; slices: name -> which pairs [pairs], not empty.
    """
    rows = []
    for name, probabilities in answers.items():
        for part, chosen in {"all": np.ones(len(grades), bool), **slices}.items():
            found = grade_metrics(probabilities[chosen], grades[chosen], gains)
            found |= order_metrics(probabilities[chosen] @ gains, gains[grades[chosen]], query_ids[chosen])
            rows.append({"stage": name, "slice": part, "pairs": int(chosen.sum()), **found})
    return rows


def ablation_metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    """`stage_<name>.<metric>` of each answer about all pairs."""
    whole = [row for row in rows if row["slice"] == "all"]
    return {f"stage_{row['stage']}.{name}": value for row in whole for name, value in row.items() if isinstance(value, float)}


def to_csv(rows: list[dict[str, Any]]) -> bytes:
    columns = dict.fromkeys(name for row in rows for name in row)
    target = io.BytesIO()
    pacsv.write_csv(pa.table({column: [row.get(column) for row in rows] for column in columns}), target)
    return target.getvalue()
