"""Judgment sheets that people filled in, beside the folder's own judgments."""

import pyarrow as pa
import pyarrow.compute as pc

from components.import_dataset.judged import days
from components.shared import storage
from components.shared.card import DatasetCard
from components.shared.errors import InputError
from components.shared.judgment_sheet import Sheet, read_sheet


def add_sheets(raw: dict[str, pa.Table], card: DatasetCard) -> int:
    """Append the sheets' judgments, and queries that are not there yet, to `raw`; returns how many rows have no grade.

    Such queries go to split train: their pairs were chosen for being disputed, so they say nothing about an average query.

    Raises:
        InputError: naming file and line.
    """
    if not card.judgment_sheets:
        return 0
    sheets = _read(storage.join(card.root, card.judgment_sheets), card.labels())
    rows = pa.concat_tables(sheet.rows for sheet in sheets)
    judged = raw["judgments"]
    judged = judged.set_column(judged.column_names.index("judged_at"), "judged_at", days(judged["judged_at"], card.judged_at))
    none = pa.nulls(len(rows), pa.string())
    more = rows.set_column(rows.column_names.index("judged_at"), "judged_at", days(rows["judged_at"], card.judged_at))
    raw["judgments"] = pa.concat_tables([judged, more.append_column("split", none).select(judged.column_names)])
    fresh = rows.filter(pc.invert(pc.is_in(rows["query_id"], value_set=raw["queries"]["query_id"].combine_chunks())))
    fresh = fresh.group_by("query_id", use_threads=False).aggregate([("query", "first")])
    given = {"kind": pa.nulls(len(fresh), pa.string()), "split": pa.array(["train"] * len(fresh), pa.string())}
    whole = pa.table({"query_id": fresh["query_id"], "query_text": fresh["query_first"], **given})
    raw["queries"] = pa.concat_tables([raw["queries"], whole.select(raw["queries"].column_names)])
    return sum(sheet.num_empty for sheet in sheets)


def _read(place: str, labels: list[str]) -> list[Sheet]:
    files = [file for file in storage.list_files(place) if file.lower().endswith(".csv")]
    if not files:
        raise InputError(f"'{place}': no judgment sheet is there; name a .csv file, or a folder of them, as 'judgment_sheets'")
    return [read_sheet(file, labels) for file in files]
