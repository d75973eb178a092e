"""What all tables on our pages are made with."""

import json

from machine import RESULTS


def load(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine_line(record: dict) -> str:
    machine = record["machine"]
    return f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_before']} before it began."


def with_interval(one: dict, sign: str = "") -> str:
    return f"{one['mean']:{sign}.3f} [{one['low']:{sign}.3f}, {one['high']:{sign}.3f}]"
