"""Extract a tiny UBI log."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_ubi import Extracted, write_inputs, write_lines

from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.step import run
from components.shared.tracking import NullTracker


@pytest.fixture
def extract(tmp_path: Path) -> Callable[..., Extracted]:
    """Write rows as NDJSON (or take a folder) and extract them; settings are those of the config, min_clients 1 unless given."""
    runs = [0]

    def _extract(
        events: list[Any] | None = None,
        queries: list[Any] | None = None,
        *,
        judged: dict[str, tuple[str, str]] | None = None,
        root: Path | None = None,
        log: dict[str, Any] | None = None,
        date: str = "",
        suffix: str = ".ndjson",
        **settings: Any,
    ) -> Extracted:
        runs[0] += 1
        folder = tmp_path / f"run{runs[0]}"
        if root is None:
            root = folder / "shop"
            write_lines(root / f"ubi_events/part-0{suffix}", events or [])
            write_lines(root / f"ubi_queries/part-0{suffix}", queries or [])
        places = write_inputs(folder, root, judged or {"j1": ("red shoes", "train")}, **(log or {}))
        config = ExtractLogsConfig.from_mapping({"min_clients": 1, "max_malformed_share": 1.0, **settings}, section="logs")
        return Extracted(run(config, date=date, tracker=NullTracker(), **places), folder)

    return _extract
