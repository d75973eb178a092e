"""One run of the pipeline as a test sees it."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from components.shared import storage
from components.shared.tables import read_table
from pipelines.run_local import Request, run_local


class Night:
    """One run: exit code, what the terminal showed, where things are."""

    def __init__(self, workspace: Path, overrides: Sequence[str], **request: str) -> None:
        out = io.StringIO()
        before = set((workspace / "tracking").glob("*"))
        asked = Request(workspace=str(workspace), overrides=list(overrides), **request)
        self.code = run_local(asked, Console(file=out, width=200))
        self.shown = out.getvalue()
        (self.tracking,) = set((workspace / "tracking").glob("*")) - before
        self.run_id = self.tracking.name
        self.kfp = workspace / "kfp" / self.run_id

    def address(self, task: str, output: str) -> str:
        (file,) = self.kfp.glob(f"*/{task}/{output}")
        return json.loads(file.read_text())["uri"]

    def num_reused(self) -> int:
        return self.shown.count(", reused")

    def rankings(self) -> dict:
        """Rankings table of each system that was ranked."""
        found = {}
        for file in self.kfp.glob("*/score-pairs*/scores"):
            uri = json.loads(file.read_text())["uri"]
            if storage.read_json(storage.join(uri, "manifest.json"))["table"] == "rankings":
                section = uri.split("/")[-3]
                found[section.removeprefix("ranking_")] = read_table(uri, "rankings")
        return found


def overrides_of(settings: dict) -> list[str]:
    """`section.key=value` of nested settings, as the command line takes them."""
    return [f"{section}.{key}={value}" for section, keys in settings.items() for key, value in keys.items()]
