"""Which night is gone on from: the latest whole one of the same shop and settings, without a gap, in whatever order nights are run."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from neighbor_shop import FIRST_DAY, arrow

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.nights import Nights
from components.shared import storage
from components.shared.errors import InputError
from components.shared.tables import write_table

CONFIG = RetrieveNeighborsConfig.from_mapping({"history": "nights"}, section="neighbors")


def day(number: int) -> date:
    return FIRST_DAY + timedelta(days=number)


@pytest.fixture
def night(tmp_path: Path) -> Callable[..., Nights]:
    """The night after day `last`, with a log of `days` days."""

    def _night(
        last: int, *, days: int = 3, status: str = "complete", root: str = "file:///shop", settings: str = "s", **keys: Any
    ) -> Nights:
        place = tmp_path / f"lineage-{last}-{status}"
        notes = {
            "window": {"first": str(day(last - days + 1)), "last": str(day(last))}, "last_day": {"status": status},
            "source": {"root": root}, "settings": settings,
        }  # fmt: skip
        storage.write_json(str(place / "lineage.json"), notes)
        return Nights(CONFIG.model_copy(update=keys), str(tmp_path / "neighbors"), str(place))

    return _night


@pytest.fixture
def tables(tmp_path: Path) -> Callable[[str], str]:
    """A folder of finished tables below the section's."""

    def _tables(name: str) -> str:
        folder = storage.join(str(tmp_path), "neighbors", name)
        for table in ("evidence", "neighbors"):
            write_table(storage.join(folder, table), table, arrow(table, []))
        return folder

    return _tables


def test_the_latest_earlier_night_is_gone_on_from_whatever_was_run_last(night: Callable, tables: Callable):
    folders = {number: tables(f"run{number}") for number in (5, 3, 4)}
    for number, folder in folders.items():
        night(number).record(f"{folder}/neighbors")
    assert night(6).previous() == folders[5]
    assert night(5).previous() == folders[4]
    assert night(4).previous() == folders[3]
    assert night(3).previous() == ""  # a night never goes on from itself


def test_a_night_that_is_run_again_replaces_itself(night: Callable, tables: Callable):
    for name in ("first", "again"):
        night(3).record(f"{tables(name)}/neighbors")
    assert night(4).previous() == tables("again")


def test_days_between_the_night_before_and_the_log_are_not_lost(night: Callable, tables: Callable):
    folder = tables("run")
    night(3).record(f"{folder}/neighbors")
    assert night(6, days=3).previous() == folder  # the log begins on day 4
    assert night(7, days=3).previous() == ""  # it begins on day 5, and nobody counted day 4


@pytest.mark.parametrize("status", ["partial", "empty"])
def test_a_day_that_may_still_grow_is_no_link_and_goes_on_from_none(night: Callable, tables: Callable, status: str):
    whole, growing = tables("whole"), tables("growing")
    night(2, status="alone").record(f"{whole}/neighbors")
    night(3, status=status).record(f"{growing}/neighbors")
    assert night(4).previous() == whole
    assert night(4, status=status).previous() == ""


@pytest.mark.parametrize("other", [{"root": "file:///other"}, {"settings": "k is 5"}, {"num_neighbors": 2}, {"history": "window"}])
def test_another_shop_or_other_settings_are_another_chain(night: Callable, tables: Callable, other: dict[str, Any]):
    night(3).record(f"{tables('run')}/neighbors")
    assert night(4, **other).previous() == ""


@pytest.mark.parametrize("gone", ["evidence", "neighbors"])
def test_a_night_whose_tables_were_deleted_is_passed_over(night: Callable, tables: Callable, gone: str):
    kept, deleted = tables("kept"), tables("deleted")
    night(2).record(f"{kept}/neighbors")
    night(3).record(f"{deleted}/neighbors")
    storage.remove(storage.join(deleted, gone))
    assert night(4).previous() == kept


def test_a_lineage_that_says_too_little_is_refused(tmp_path: Path):
    storage.write_json(str(tmp_path / "lineage.json"), {"window": {"first": "2026-09-01"}})
    with pytest.raises(InputError, match=r"lineage\.json' lacks source, settings, window or last_day; run extract_logs again"):
        Nights(CONFIG, str(tmp_path / "neighbors"), str(tmp_path))
