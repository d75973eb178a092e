"""The data card: which file of a shop's folder is which table, under which column names, with which grades and gains.

A folder brings its own `dataset.yaml`; folders of a published shape that have none get one of the cards in
`components/import_dataset/cards`. Bringing your own data is writing a card, not code.
"""

from datetime import date
from typing import ClassVar

from pydantic import Field

from components.shared import storage
from components.shared.config import StepConfig


class Grade(StepConfig):
    """One value of the relevance scale."""

    grade: int = Field(ge=0, description="Ordinal value, 0 is the worst; consecutive from 0.")
    gain: float = Field(ge=0, le=1, description="What the grade is worth in a metric and as a soft target, 0 to 1.")


class TableSource(StepConfig):
    """Where one table comes from."""

    file: str = Field(description="Path below the data folder: a Parquet, CSV or NDJSON file, or a folder of them.")
    columns: dict[str, str | list[str]] = Field(
        description="Our column name -> theirs; a list of theirs is joined with spaces. Columns left out stay empty."
    )


class LogSource(StepConfig):
    """Where the search log lies and how it is written."""

    format: str = Field("ubi", pattern="^ubi$", description="Layout of the log; `ubi` is User Behavior Insights 1.3.")
    queries: str = Field(description="Path below the data folder of the searches: a file or a folder of day partitions.")
    events: str = Field(description="Path below the data folder of the events: a file or a folder of day partitions.")
    first_position: int = Field(1, ge=0, le=1, description="The ordinal of the first result on a page, 1 or 0.")


class DatasetCard(StepConfig):
    """The whole card. `root` is filled in when the card is resolved."""

    where: ClassVar[str] = "data card"
    name: str = Field(min_length=1, description="Short name of the data set, used in reports and MLflow.")
    licence: str = Field("", description="Under which terms the data may be used.")
    root: str = Field("", description="URI of the data folder; filled in by `import_dataset`.")
    snapshot: str = Field("", description="Digest of the folder's listing, so that changed data is seen; filled in by `import_dataset`.")
    grades: dict[str, Grade] = Field(description="Their label -> our grade and its gain.")
    judged_at: date | None = Field(None, description="Day of all judgments where the table has no such column.")
    items: TableSource = Field(description="The catalogue.")
    queries: TableSource = Field(description="The judged queries.")
    judgments: TableSource = Field(description="Graded (query, item) pairs.")
    log: LogSource = Field(description="The search log.")

    def gains(self) -> list[float]:
        """Gain of each grade, indexed by grade."""
        by_grade = {one.grade: one.gain for one in self.grades.values()}
        return [by_grade[grade] for grade in range(len(by_grade))]

    def labels(self) -> list[str]:
        """Their label of each grade, indexed by grade."""
        by_grade = {one.grade: label for label, one in self.grades.items()}
        return [by_grade[grade] for grade in range(len(by_grade))]


def read_card(uri: str) -> DatasetCard:
    """A resolved card (JSON) as `import_dataset` writes it.

    Raises:
        InputError: when absent or not a card.
    """
    return DatasetCard.from_mapping(storage.read_json(uri), section=uri)
