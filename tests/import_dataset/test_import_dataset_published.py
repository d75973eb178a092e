"""Folders of published shapes: the ESCI subset, a UBI-shaped folder, and our own simulated shop."""

from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from components.import_dataset.config import ImportDatasetConfig
from components.import_dataset.step import run
from components.shared.card import read_card
from components.shared.tables import read_table
from components.shared.tracking import NullTracker
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.step import run as simulate

ESCI = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "esci"


@pytest.mark.esci
@pytest.mark.skipif(not ESCI.is_dir(), reason=f"the ESCI subset is not at {ESCI}")
def test_esci_is_read_whole_with_its_own_gains(tmp_path: Path) -> None:
    places = {name: str(tmp_path / name) for name in ("card", "items", "judged_queries", "judgments")}
    report = run(ImportDatasetConfig(), dataset=str(ESCI), tracker=NullTracker(), **places)
    assert report.metrics["num_items"] == 6764
    assert report.metrics["num_queries"] == 112
    assert report.metrics["num_judgments"] == 4938
    assert report.dropped == {}
    judgments = read_table(places["judgments"], "judgments").to_pylist()
    # counts of E, S, C, I over train and dev as the subset's README has them; S is worth 0.1, C 0.01
    assert Counter((row["grade"], row["gain"]) for row in judgments) == {
        (3, 1.0): 1986 + 496, (2, 0.1): 1191 + 253, (1, 0.01): 154 + 38, (0, 0.0): 655 + 165,
    }  # fmt: skip
    assert Counter(row["split"] for row in judgments) == {"train": 3986, "dev": 952}
    assert {row["judged_at"] for row in judgments} == {date(2026, 9, 30)}
    queries = {row["query_id"]: row for row in read_table(places["judged_queries"], "queries").to_pylist()}
    assert (queries["111"]["query"], queries["111"]["kind"], queries["111"]["split"]) == ("%100 silicone not clear", "negations", "train")
    items = {row["item_id"]: row for row in read_table(places["items"], "items").to_pylist()}
    assert items["006287716X"]["category"] == "Books > Literature & Fiction > Short Stories & Anthologies"
    assert items["006287716X"]["attributes"] is None
    assert read_card(places["card"]).log.events == "logs/ubi_events"


def test_a_ubi_folder_needs_no_card(folder) -> None:
    data = folder(
        ".ndjson.gz", card=None,
        items=[{"item_id": "a", "title": "boot"}, {"item_id": "b", "title": "sock"}],
        queries=[{"query_id": 1, "query": "boots"}],
        judgments=[{"query_id": 1, "item_id": "a", "grade": 3}, {"query_id": 1, "item_id": "b", "grade": 1}],
        ubi_queries=[{"query_id": "s"}], ubi_events=[{"query_id": "s"}],
    )  # fmt: skip
    data.run()
    card = read_card(str(data.out / "card"))
    assert (card.name, card.items.file, card.log.queries) == ("ubi", "items.ndjson.gz", "ubi_queries.ndjson.gz")
    assert data.rows("judgments", "item_id", "grade", "gain", "judged_at") == [("a", 3, 1.0, None), ("b", 1, 0.1429, None)]


def test_a_ga4_folder_needs_no_card_and_no_file_of_searches(folder) -> None:
    tables = {
        "items": [{"item_id": "a", "title": "boot"}, {"item_id": "b", "title": "sock"}], "queries": [{"query_id": 1, "query": "boots"}],
        "judgments": [{"query_id": 1, "item_id": "a", "grade": 3}, {"query_id": 1, "item_id": "b", "grade": 1}],
    }  # fmt: skip
    data = folder(".ndjson", card=None, **{"ga4/events_20240510": [{"event_name": "page_view"}], **tables})
    data.run()
    log = read_card(str(data.out / "card")).log
    assert (log.format, log.events, log.queries) == ("ga4", "ga4", "")


def test_a_simulated_shop_is_read_through_its_card(tmp_path: Path) -> None:
    config = SimulateShopConfig(num_items=120, num_queries=20, num_log_queries=10, num_sessions=20, days=1)
    simulate(config, dataset=str(tmp_path / "shop"), tracker=NullTracker())
    places = {name: str(tmp_path / name) for name in ("card", "items", "judged_queries", "judgments")}
    report = run(ImportDatasetConfig(), dataset=str(tmp_path / "shop"), tracker=NullTracker(), **places)
    assert (report.metrics["num_items"], report.metrics["num_queries"], report.metrics["num_judgments"]) == (120, 20, 600)
    assert report.dropped == {}
    judgments = read_table(places["judgments"], "judgments")
    assert set(zip(judgments["grade"].to_pylist(), judgments["gain"].to_pylist(), strict=True)) <= {
        (0, 0.0), (1, 0.1), (2, 0.3), (3, 0.6), (4, 1.0),
    }  # fmt: skip
    assert read_card(places["card"]).gains() == [0.0, 0.1, 0.3, 0.6, 1.0]
