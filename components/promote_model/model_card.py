"""The README of a model folder in the Hugging Face form: front matter, numbers, the gate's decision."""

from typing import Any

import yaml

from components.promote_model.config import PromoteModelConfig
from components.promote_model.gate import Decision


def write_card(config: PromoteModelConfig, result: dict[str, Any], decision: Decision, *, model: str, digest: str, version: str) -> str:
    """Markdown; values of the outside world stand in YAML or code, where they cannot become markup."""
    return f"---\n{_front_matter(config, result)}---\n\n" + "\n".join(
        [
            f"# {config.model_name or config.system}",
            "",
            "Scores how well an item of a shop fits a query. Distilled from a teacher; meant for ranking items of one query, scores of",
            "different queries are not comparable. Trained on one shop's language and catalogue.",
            "",
            f"- model folder: {_code(model)}",
            f"- digest: {_code(digest)}",
            f"- registered version: {version or 'none'}",
            f"- gate: {decision.outcome}: {_code(decision.reason)}",
            "",
            "## Evaluation",
            "",
            f"Data {_code(result['data']['name'] or 'not named')}, snapshot {_code(result['data']['snapshot'] or 'not named')}: "
            f"{result['data']['num_queries']} queries, {result['data']['num_judgments']} judgments "
            f"of {', '.join(result['data']['splits'])}. Gains {_code(result['gains'])}.",
            "",
            *_table(result),
            "",
            f"Means over queries, {100 * config.level:g} % bootstrap intervals over queries.",
            "",
        ]
    )


def _front_matter(config: PromoteModelConfig, result: dict[str, Any]) -> str:
    front = {
        "license": config.licence,
        "library_name": "transformers",
        "pipeline_tag": "text-ranking",
        "tags": ["relevance", "e-commerce", "distillation"],
        "metrics": result["metrics"],
    }
    if config.base_model:
        front["base_model"] = config.base_model
    if result["data"]["name"]:
        front["datasets"] = [result["data"]["name"]]
    return yaml.safe_dump(front, sort_keys=True, allow_unicode=True)


def _table(result: dict[str, Any]) -> list[str]:
    names = result["metrics"]
    rows = [f"| system | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for system, found in sorted(result["systems"].items()):
        cells = [f"{found[n]['mean']:.4f} [{found[n]['low']:.4f}, {found[n]['high']:.4f}]" if n in found else "-" for n in names]
        rows.append(f"| {_code(system)} | {' | '.join(cells)} |")
    return rows


def _code(text: str) -> str:
    return "`" + " ".join(text.replace("`", "'").replace("|", "/").split()) + "`"
