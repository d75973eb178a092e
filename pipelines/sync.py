"""Sends the tracking spools of workspaces to MLflow: once for what waits, or following a run while it goes on."""

import tempfile
import threading
from pathlib import Path
from typing import TextIO

from components.shared import spools, storage
from components.shared.errors import InputError
from components.shared.tracking_mlflow import Outcome, Sender

ROUND_S = 0.5
BUDGET_S = 20.0
LAST_ROUNDS = 3


def run_folders(workspace: str, run_id: str = "", into: Path | None = None) -> list[Path]:
    """Spool folders of a workspace, or of all workspaces in a folder; those of remote ones are copied below `into`."""
    places = [workspace]
    if storage.is_local(workspace):
        root = storage.local_path(workspace)
        places += [str(path) for path in sorted(root.glob("*")) if (path / "tracking").is_dir()]
    elif into is None:
        raise InputError(f"workspace '{workspace}' is remote; only `sync` reads spools there")
    found = [folder for place in places for folder in spools.fetch(place, into or Path())]
    return [folder for folder in found if run_id in ("", folder.name)]


def send_all(workspace: str, run_id: str = "") -> Outcome:
    """Send whatever waits. Lines of a run whose sender still works may be sent by both; MLflow then holds them once."""
    done = []
    with tempfile.TemporaryDirectory() as place:
        for folder in run_folders(workspace, run_id, Path(place)):
            if spools.num_unread(folder):
                done.append(Sender(folder, budget_s=BUDGET_S).send())
                if not done[-1].unsent:
                    spools.forget(workspace, folder)
    trouble = next((one.trouble for one in done if one.trouble), "")
    return Outcome(sum(one.sent for one in done), sum(one.unsent for one in done), trouble)


def follow(workspace: str, run_id: str, until_end_of: TextIO) -> Outcome:
    """Send lines of one run as they come, until a stream ends (its writer stopped, however it stopped)."""
    over = threading.Event()
    threading.Thread(target=lambda: (until_end_of.read(), over.set()), daemon=True).start()
    sender = Sender(storage.local_path(workspace) / "tracking" / run_id, budget_s=BUDGET_S)
    sent, rounds_left = 0, LAST_ROUNDS
    while True:
        last = over.wait(ROUND_S)
        done = sender.send()
        sent += done.sent
        rounds_left -= last
        if last and (not done.unsent or not rounds_left):
            return Outcome(sent, done.unsent, done.trouble, done.parent)
