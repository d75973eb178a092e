"""What a finished run left in a workspace, for those who look at it: the notebooks read runs by nothing else."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from components.shared import spools, storage
from components.shared.errors import InputError
from components.shared.handover import FINISHED
from components.shared.report import Report
from components.shared.tables import read_table


@dataclass(frozen=True)
class FinishedRun:
    """One run of the pipeline.

    Attributes:
        folders: section -> URI of the folder with its outputs, also of work that an earlier run did.
        settings: section -> the settings of its step, defaults included.
    """

    run_id: str
    folders: dict[str, str]
    settings: dict[str, dict[str, Any]]

    def place(self, section: str, *parts: str) -> str:
        """Address of an output, or of a file in it.

        Raises:
            InputError: when the run has no such section.
        """
        if section not in self.folders:
            raise InputError(f"run '{self.run_id}' has no section '{section}'; it has {', '.join(sorted(self.folders))}")
        return storage.join(self.folders[section], *parts)

    def table(self, section: str, output: str, name: str = "") -> pa.Table:
        """The table of that output; `name` is the table's, where it is not called like the output."""
        return read_table(self.place(section, output), name or output)

    def report(self, section: str) -> Report:
        """The counts and metrics that the step returned."""
        return Report(**storage.read_json(self.place(section, FINISHED))["report"])


def finished_run(workspace: str, run_id: str = "") -> FinishedRun:
    """The newest finished run of a workspace on this machine, or the named one.

    Raises:
        InputError: when there is none, or the workspace is remote.
    """
    if not storage.is_local(workspace):
        raise InputError(f"workspace '{workspace}' is remote; copy it here (`gcloud storage cp -r`) and name the copy")
    for tracking in sorted(spools.fetch(workspace, storage.local_path(workspace)), key=lambda folder: folder.name, reverse=True):
        lines = {spool.stem: spools.read(spool) for spool in spools.spools(tracking)}
        ends = [line["status"] for line in lines.pop(spools.PIPELINE, []) if line["kind"] == "end"]
        if run_id in ("", tracking.name) and ends[-1:] == ["FINISHED"]:
            folders = {section: _folder(workspace, content) for section, content in lines.items()}
            return FinishedRun(tracking.name, folders, {section: _settings(section, content) for section, content in lines.items()})
    raise InputError(
        f"workspace '{workspace}' has no finished run{f' {run_id!r}' if run_id else ''}; `python -m pipelines status` lists them"
    )


def _folder(workspace: str, lines: list[dict[str, Any]]) -> str:
    """Below this workspace, also where it was copied from another place."""
    began = next(line["folder"] for line in reversed(lines) if line["kind"] == "start")
    return storage.join(workspace, *began.rsplit("/", 2)[1:])


def _settings(section: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    given = next((line["values"] for line in reversed(lines) if line["kind"] == "params"), {})
    return {name.removeprefix(f"{section}."): value for name, value in given.items()}
