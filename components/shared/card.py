"""The data card: which file of a shop's folder is which table, under which column names, with which grades and gains.

A folder brings its own `dataset.yaml`; folders of a published shape that have none get one of the cards in
`components/import_dataset/cards`. Bringing your own data is writing a card, not code.
"""

from datetime import date
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

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


LogColumn = Literal["query_id", "query", "client", "session_id", "timestamp", "action", "item_id", "position", "experiment"]
Ordinal = Annotated[int, Field(ge=0, le=1)]
NEEDED_COLUMNS = ("query_id", "timestamp", "action", "item_id")


class LogSource(StepConfig):
    """Where the search log lies and how it is written."""

    format: Literal["ubi", "ga4", "columns"] = Field(
        "ubi", description="Layout of the log: User Behavior Insights 1.3, the BigQuery export of Google Analytics 4, or `columns`."
    )
    queries: str = Field("", description="Path below the data folder of the searches; may stay empty where events carry the query's text.")
    events: str = Field(description="Path below the data folder of the events: a file or a folder of day partitions.")
    first_position: Ordinal | dict[str, Ordinal] = Field(
        1, description="The ordinal of the first result on a page, 1 or 0; in a UBI log also by `application`, others count from 1."
    )
    search_actions: tuple[str, ...] = Field(
        ("search", "on_search"), description="UBI: actions whose `message` is the typed text where the row has no `user_query`."
    )
    search_lists: tuple[str, ...] = Field((), description="GA4: names or ids of the item lists that show search results; empty for all.")
    event_columns: dict[LogColumn, str] = Field({}, description="`columns`: our column -> dotted path of theirs in the events.")
    query_columns: dict[LogColumn, str] = Field({}, description="`columns`: our column -> dotted path of theirs in the searches.")
    time_unit: Literal["s", "ms", "us"] = Field("ms", description="`columns`: unit of timestamps that are numbers since 1970.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.format == "columns":
            absent = [name for name in NEEDED_COLUMNS if name not in self.event_columns]
            if absent:
                raise ValueError(f"event_columns lacks {', '.join(absent)}; name their dotted paths in your events")
            if self.queries and not {"query_id", "query"} <= set(self.query_columns):
                raise ValueError("query_columns needs query_id and query where `queries` is given")
        elif self.event_columns or self.query_columns:
            raise ValueError(f"event_columns and query_columns are for format 'columns', not '{self.format}'")
        if self.format == "ubi" and not self.queries:
            raise ValueError("format 'ubi' needs `queries`, the path of the searches")
        if self.format != "ubi" and isinstance(self.first_position, dict):
            raise ValueError("first_position by application is for format 'ubi'; give 0 or 1")
        return self


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
    judgment_sheets: str = Field(
        "", description="Path below the data folder of a filled-in judgment sheet (CSV, see `sample_judgments`), or of a folder of them."
    )
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
