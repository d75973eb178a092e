"""The README of a model folder in the Hugging Face form: front matter, numbers, the gate's decision."""

from typing import Any

from components.promote_model.config import PromoteModelConfig
from components.promote_model.gate import Decision
from components.shared.model_card import code, front_matter, table


def write_card(config: PromoteModelConfig, result: dict[str, Any], decision: Decision, *, model: str, digest: str, version: str) -> str:
    """Markdown."""
    return _front_matter(config, result) + "\n".join(
        [
            f"# {config.model_name or config.system}",
            "",
            "Scores how well an item of a shop fits a query. Distilled from a teacher; meant for ranking items of one query, scores of",
            "different queries are not comparable. Trained on one shop's language and catalogue.",
            "",
            f"- model folder: {code(model)}",
            f"- digest: {code(digest)}",
            f"- registered version: {version or 'none'}",
            f"- gate: {decision.outcome}: {code(decision.reason)}",
            "",
            "## Evaluation",
            "",
            f"Data {code(result['data']['name'] or 'not named')}, snapshot {code(result['data']['snapshot'] or 'not named')}: "
            f"{result['data']['num_queries']} queries, {result['data']['num_judgments']} judgments "
            f"of {', '.join(result['data']['splits'])}. Gains {code(result['gains'])}.",
            "",
            *_table(result),
            "",
            f"Means over queries, {100 * config.level:g} % bootstrap intervals over queries.",
            "",
        ]
    )


def _front_matter(config: PromoteModelConfig, result: dict[str, Any]) -> str:
    return front_matter(
        {
            "license": config.licence,
            "library_name": "transformers",
            "pipeline_tag": "text-ranking",
            "tags": ["relevance", "e-commerce", "distillation"],
            "metrics": result["metrics"],
            "base_model": config.base_model,
            "datasets": [result["data"]["name"]] if result["data"]["name"] else [],
        }
    )


def _table(result: dict[str, Any]) -> list[str]:
    names = result["metrics"]
    rows = []
    for system, found in sorted(result["systems"].items()):
        cells = [f"{found[n]['mean']:.4f} [{found[n]['low']:.4f}, {found[n]['high']:.4f}]" if n in found else "-" for n in names]
        rows.append([code(system), *cells])
    return table(["system", *names], rows)
