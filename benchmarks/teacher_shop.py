"""A small simulated shop up to what a teacher reads: tables, behavior neighbors and an encoder, for benchmarks that train many teachers."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.step import run as extract_logs
from components.import_dataset.config import ImportDatasetConfig
from components.import_dataset.step import run as import_dataset
from components.prepare_encoder.config import PrepareEncoderConfig
from components.prepare_encoder.step import run as prepare_encoder
from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.step import run as retrieve_neighbors
from components.shared.tracking import NullTracker
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.step import run as simulate_shop

MAX_TOKENS = 128
PLACES = ("shop", "card", "items", "judged", "judgments", "events", "interactions", "queries", "reformulations", "lineage", "neighbors",
          "encoder")  # fmt: skip


def make_shop(
    folder: Path, shop: dict, encoder: dict, split: Callable[[pa.Table], pa.Array] | None = None, *, neighbors: dict | None = None
) -> dict[str, str]:
    """Run every step before the teacher below `folder`; returns what a teacher or a student reads, by name.

    Args:
        shop, encoder, neighbors: settings of simulate_shop, prepare_encoder and retrieve_neighbors.
        split: from the shop's judged queries to another split of each, before anything else reads them.
    """
    tracker = NullTracker()
    place = {name: str(folder / name) for name in PLACES}
    simulate_shop(SimulateShopConfig.from_mapping(shop, section="shop"), dataset=place["shop"], tracker=tracker)
    if split:
        _split_again(Path(place["shop"]), split)
    judged = {"judged_queries": place["judged"]}
    import_dataset(
        ImportDatasetConfig.from_mapping({}, section="dataset"), dataset=place["shop"], tracker=tracker, **judged,
        **{name: place[name] for name in ("card", "items", "judgments")},
    )  # fmt: skip
    extract_logs(
        ExtractLogsConfig.from_mapping({}, section="logs"), tracker=tracker, **judged,
        **{name: place[name] for name in ("card", "events", "interactions", "queries", "reformulations", "lineage")},
    )  # fmt: skip
    shared = {name: place[name] for name in ("items", "queries")}
    retrieve_neighbors(
        RetrieveNeighborsConfig.from_mapping(neighbors or {}, section="neighbors"), tracker=tracker, **shared,
        **{name: place[name] for name in ("interactions", "judgments", "neighbors")},
    )  # fmt: skip
    settings = PrepareEncoderConfig.from_mapping({"max_tokens": MAX_TOKENS, **encoder}, section="encoder")
    prepare_encoder(settings, **shared, encoder=place["encoder"], tracker=tracker)
    return {name: place[name] for name in ("card", "encoder", "items", "queries", "judgments", "neighbors")}


def _split_again(shop: Path, split: Callable[[pa.Table], pa.Array]) -> None:
    queries, judgments = (pq.read_table(shop / f"{name}.parquet") for name in ("queries", "judgments"))
    queries = queries.set_column(queries.column_names.index("split"), "split", split(queries))
    pq.write_table(queries, shop / "queries.parquet")
    pq.write_table(judgments.drop_columns(["split"]), shop / "judgments.parquet")
    card = shop / "dataset.yaml"
    lines = card.read_text().splitlines(keepends=True)
    columns = lines.index("judgments:\n")
    place = next(at for at in range(columns, len(lines)) if lines[at].strip() == "split: split")
    card.write_text("".join(lines[:place] + lines[place + 1 :]))
