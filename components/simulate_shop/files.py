"""The folder that a shop hands over: tables, the log by day of arrival, and the card that describes them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from components.shared import storage
from components.shared.card import DatasetCard
from components.shared.errors import InputError
from components.simulate_shop.relevance import GAINS, LABELS

CARD = "dataset.yaml"
SETTINGS = "truth/settings.json"


def clear(uri: str) -> None:
    """Make room for a new shop where an earlier or killed one lies.

    Raises:
        InputError: when the folder holds anything else, so that nobody's data is deleted.
    """
    if not storage.list_files(uri):
        return
    if not storage.exists(storage.join(uri, SETTINGS)):
        raise InputError(f"output 'dataset' = '{uri}' holds files that are not a simulated shop; give an empty folder")
    storage.remove(uri)


@contextmanager
def parquet_writer(uri: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    if storage.is_local(uri):
        storage.local_path(uri).parent.mkdir(parents=True, exist_ok=True)
    fs, path = storage.arrow_filesystem(uri)
    with pq.ParquetWriter(path, schema, filesystem=fs, compression="zstd") as writer:
        yield writer


def write_rows(uri: str, rows: pa.Table) -> None:
    with parquet_writer(uri, rows.schema) as writer:
        writer.write_table(rows)


class DailyLog:
    """One folder of `dt=DAY` partitions; rows that arrive later wait in memory for their day."""

    def __init__(self, uri: str, schema: pa.Schema) -> None:
        self.uri, self.schema = uri, schema
        self.waiting: dict[int, list[pa.Table]] = {}

    @contextmanager
    def day(self, day: int) -> Iterator[Callable[[dict[int, pa.Table]], None]]:
        """A function that takes pieces (day of arrival, counted since 1970 -> rows): rows of this `day` are written, later ones wait.

        Rows that waited for the day come first; a day without rows gets no file.
        """
        name = (date(1970, 1, 1) + timedelta(days=day)).isoformat()
        with ExitStack() as stack:
            writers: list[pq.ParquetWriter] = []

            def take(piece: dict[int, pa.Table]) -> None:
                for arrival, rows in sorted(piece.items()):
                    if arrival != day:
                        self.waiting.setdefault(arrival, []).append(rows)
                        continue
                    if not writers:
                        place = storage.join(self.uri, f"dt={name}", "part-0.parquet")
                        writers.append(stack.enter_context(parquet_writer(place, self.schema)))
                    writers[0].write_table(rows)

            for rows in self.waiting.pop(day, []):
                take({day: rows})
            yield take


def write_card(uri: str) -> None:
    """The card, written last: without it the folder is no data set."""
    items = {name: name for name in ("item_id", "title", "brand", "category", "color", "attributes", "description")}
    card = DatasetCard.from_mapping(
        {
            "name": "simulated-shop",
            "licence": "made up, free to use",
            "grades": {label: {"grade": grade, "gain": GAINS[grade]} for grade, label in enumerate(LABELS)},
            "items": {"file": "items.parquet", "columns": items},
            "queries": {
                "file": "queries.parquet",
                "columns": {"query_id": "query_id", "query_text": "query", "kind": "kind", "split": "split"},
            },
            "judgments": {
                "file": "judgments.parquet",
                "columns": {"query_id": "query_id", "item_id": "item_id", "grade": "label", "judged_at": "judged_at", "split": "split"},
            },
            "log": {"format": "ubi", "queries": "logs/ubi_queries", "events": "logs/ubi_events", "first_position": 1},
        },
        section=CARD,
    )
    content = card.model_dump(mode="json", exclude={"root", "snapshot", "judged_at"})
    storage.write_bytes(storage.join(uri, CARD), yaml.safe_dump(content, sort_keys=False).encode())
