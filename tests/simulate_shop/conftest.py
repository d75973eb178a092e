"""One small shop for all tests of the room."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.shared.report import Report
from components.shared.tracking import NullTracker
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.step import run

SMALL = {
    "num_items": 600, "num_queries": 80, "num_log_queries": 160, "num_sessions": 4000, "days": 3,
    "late_share": 0.02, "malformed_share": 0.01, "duplicate_share": 0.01, "personal_share": 0.02,
}  # fmt: skip


@dataclass(frozen=True)
class Shop:
    folder: Path
    config: SimulateShopConfig
    report: Report

    def read(self, place: str) -> pa.Table:
        return pq.read_table(self.folder / place, partitioning=None)

    def days(self, name: str) -> dict[str, pa.Table]:
        """Day of arrival -> rows of `ubi_queries` or `ubi_events`."""
        folders = sorted((self.folder / "logs" / name).iterdir())
        return {one.name.removeprefix("dt="): pq.read_table(one / "part-0.parquet", partitioning=None) for one in folders}

    def log(self, name: str) -> pa.Table:
        return pa.concat_tables(list(self.days(name).values()))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop") / "dataset"
    config = SimulateShopConfig(**SMALL)
    return Shop(folder, config, run(config, dataset=str(folder), tracker=NullTracker()))
