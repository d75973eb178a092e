"""Parts of a model card, the README of a model in the Hugging Face form. Values of the outside world stand in YAML or code, where they
cannot become markup."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml


def front_matter(values: Mapping[str, Any]) -> str:
    """The YAML block at the top; empty values are left out."""
    kept = {name: value for name, value in values.items() if value}
    return f"---\n{yaml.safe_dump(kept, sort_keys=True, allow_unicode=True)}---\n\n"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a Markdown table."""
    names = list(header)
    return [_row(names), "|---" * len(names) + "|", *map(_row, rows)]


def code(text: str) -> str:
    return "`" + " ".join(text.replace("`", "'").replace("|", "/").split()) + "`"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
