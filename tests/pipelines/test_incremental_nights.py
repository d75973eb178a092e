"""Behavior neighbors from night to night, through the rooms' kfp doors: log of a day, evidence of the night before, equal tables."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.extract_logs.component import extract_logs
from components.import_dataset.component import import_dataset
from components.retrieve_neighbors.component import retrieve_neighbors
from components.simulate_shop.component import simulate_shop

# whoever typed a query, it is kept: then a later day changes nothing about an earlier one
LOGS = {"min_clients": 1, "window_days": 9}
NEIGHBORS = {"history": "nights", "half_life_days": 3, "order": 2, "min_impressions": 2, "min_clients": 1, "min_lower_bound": 0.01}
SHOP = {"num_items": 150, "num_queries": 40, "num_log_queries": 20, "judgments_per_query": 10, "num_sessions": 400, "days": 4}


class Rooms:
    """The first four rooms on one made-up shop, each through its door, as kfp calls it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._calls = 0
        data = self.call("shop", simulate_shop, SHOP, ["dataset"], given="", workspace=str(folder / "shop"))["dataset"]
        outputs = ["card", "items", "judged_queries", "judgments"]
        self.known = self.call("dataset", import_dataset, {}, outputs, dataset=data, workspace=str(folder / "shop"))

    def call(self, section: str, door: Any, config: dict, outputs: list[str], **given: Any) -> dict[str, Any]:
        self._calls += 1
        made = {name: SimpleNamespace(path=str(self.folder / f"kfp{self._calls}" / name), metadata={}) for name in (*outputs, "summary")}
        door.python_func(config=config, section=section, run_id=f"run{self._calls}", **given, **made)
        return made

    def night(self, date: str, workspace: Path, **settings: Any) -> dict[str, Any]:
        """neighbors, evidence and summary of one night."""
        outputs = ["events", "interactions", "queries", "reformulations", "lineage"]
        given = {name: self.known[name] for name in ("card", "judged_queries")}
        log = self.call("logs", extract_logs, LOGS, outputs, date=date, workspace=str(workspace), **given)
        given = {name: log[name] for name in ("interactions", "queries", "lineage")}
        given |= {name: self.known[name] for name in ("items", "judgments")}
        outputs = ["neighbors", "evidence", "page"]
        return self.call("neighbors", retrieve_neighbors, NEIGHBORS | settings, outputs, workspace=str(workspace), **given)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Rooms:
    return Rooms(tmp_path_factory.mktemp("rooms"))


@pytest.fixture(scope="module")
def nights(rooms: Rooms) -> list[dict[str, Any]]:
    """Three nights of one workspace."""
    return [rooms.night(f"2026-09-0{day}", rooms.folder / "nights") for day in (2, 3, 4)]


def counted(night: dict[str, Any]) -> str:
    """What the report says was counted."""
    (line,) = [line for line in Path(night["summary"].path).read_text().splitlines() if line.startswith("| counted |")]
    return line.split("|")[2].strip()


def tables_of(night: dict[str, Any]) -> list[str]:
    return [night[name].metadata["digest"] for name in ("neighbors", "evidence")]


def test_night_by_night_equals_a_full_rebuild_byte_by_byte(rooms: Rooms, nights: list[dict[str, Any]]):
    whole = rooms.night("2026-09-04", rooms.folder / "whole")
    assert tables_of(nights[2]) == tables_of(whole)
    assert nights[2]["neighbors"].metadata["rows"] > 100
    before = nights[1]["neighbors"].metadata["uri"].rpartition("/")[0]
    assert counted(nights[2]) == f"days after 2026-09-03, added to '{before}'"
    assert [counted(night) for night in (whole, nights[0])] == ["all days of the log"] * 2


def test_the_same_night_again_is_the_same_folder(rooms: Rooms, nights: list[dict[str, Any]]):
    again = rooms.night("2026-09-03", rooms.folder / "nights")
    assert again["neighbors"].metadata == nights[1]["neighbors"].metadata


@pytest.mark.parametrize("settings", [{"num_neighbors": 2}, {"half_life_days": 5}])
def test_other_settings_are_a_chain_of_their_own(rooms: Rooms, nights: list[dict[str, Any]], settings: dict, caplog: Any):
    with caplog.at_level(logging.WARNING):
        other = rooms.night("2026-09-04", rooms.folder / "nights", **settings)
    assert counted(other) == "all days of the log"
    assert "has no night from 2026-08-26 to 2026-09-03" in caplog.text


def test_without_history_no_night_is_gone_on_from(rooms: Rooms, nights: list[dict[str, Any]]):
    alone = rooms.night("2026-09-04", rooms.folder / "nights", history="window")
    assert counted(alone) == "all days of the log"
    assert tables_of(alone) == tables_of(nights[2])
