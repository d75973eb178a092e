"""Markdown tables from the result files: `python benchmarks/render.py` rewrites the marked parts of benchmarks/README.md and README.md."""

import re
from pathlib import Path

import tables_data
import tables_quality
import tables_serving
import tables_speed

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "benchmarks/README.md")

PARTS = {
    "reasoning": tables_quality.reasoning,
    "sub-judgments": tables_quality.sub_judgments,
    "run-output": tables_data.run_output,
    "run-times": tables_data.run_times,
    "bots": tables_data.bots,
    "extract-logs": tables_data.extract_logs,
    "faults": tables_speed.faults,
    "score-pairs": tables_speed.score_pairs,
    "score-pairs-intel": lambda: tables_speed.score_pairs("score_pairs_intel"),
    "score-decoder": tables_speed.score_decoder,
    "kfp-overhead": tables_data.kfp_overhead,
    "preference-tuning": tables_quality.preference_tuning,
    "data-selection": tables_quality.data_selection,
    "simulate-shop": tables_data.simulate_shop,
    "propensities": tables_data.propensities,
    "neighbors-quality": tables_data.neighbors_quality,
    "neighbors-speed": tables_data.neighbors_speed,
    "simulate-workers": tables_speed.simulate_workers,
    "score-decoder-gpu": tables_speed.score_decoder_gpu,
    "latency": tables_serving.latency,
    "latency-pair": tables_serving.per_pair,
    "latency-export": tables_serving.int8_export,
    "serving": tables_serving.serving,
    "train-student": tables_speed.train_student,
    "train-teacher": tables_speed.train_teacher,
    "train-teacher-gpu": tables_speed.train_teacher_gpu,
    "staged-prompts": tables_quality.staged_prompts,
    "staged-prompts-pretrained": lambda: tables_quality.staged_prompts("staged_prompts_pretrained"),
    "robustness": tables_quality.robustness,
    "multi-task": tables_quality.multi_task,
    "vocabulary": tables_quality.vocabulary,
    "pool-sizes": tables_quality.pool_sizes,
    "price-sort": tables_quality.price_sort,
    "graph-student": tables_quality.graph_student,
    "soft-targets": tables_quality.soft_targets,
    "esci-means": tables_quality.esci_means,
    "esci-differences": tables_quality.esci_differences,
    "esci-students": tables_quality.esci_students,
    "esci-bi-encoder": lambda: tables_quality.esci_differences(("bi_encoder",)),
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
