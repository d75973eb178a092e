"""Which dates a workspace has a finished run for, by the decision that the last step of every run leaves there."""

from components.shared import storage
from components.shared.handover import FINISHED

MISSING = "missing"


def finished(workspace: str) -> dict[str, str]:
    """Date of a finished run -> status of its log's last day (complete, partial, empty or alone).

    A run counts by the date that it was asked for; of several runs of one date, one with a complete day.
    """
    found: dict[str, str] = {}
    for file in storage.list_files(storage.join(workspace, "promotion")):
        if file.endswith(f"/{FINISHED}"):
            notes = storage.read_json(file)["report"]["notes"]
            if "date" in notes and found.get(notes["date"]) != "complete":
                found[notes["date"]] = notes["last_day.status"]
    return found


def line_of(day: str, nights: dict[str, str]) -> str:
    """What a listing says about a date."""
    return f"{day} finished, its last day is {nights[day]}" if day in nights else f"{day} {MISSING}"
