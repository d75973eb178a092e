"""Judgment sheets that people filled in, beside the folder's own judgments."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.import_dataset.judged import PAIR, days
from components.shared import storage
from components.shared.card import DatasetCard
from components.shared.errors import InputError
from components.shared.judgment_sheet import Sheet, read_sheet

NO_GRADE, SAME_PAIR = NOT_TAKEN_IN = ("judgment_sheets.no_grade", "judgment_sheets.joined_as_votes")


def add_sheets(raw: dict[str, pa.Table], card: DatasetCard) -> dict[str, int]:
    """Append the sheets' judgments, and queries that are not there yet, to `raw`; returns rows that became no judgment, by reason.

    Every row about a pair is somebody's vote, in whichever sheet it stands: a pair with several becomes one judgment. New queries go to
    split train: their pairs were chosen for being disputed, so they say nothing about an average query.

    Raises:
        InputError: naming file and line.
    """
    if not card.judgment_sheets:
        return dict.fromkeys(NOT_TAKEN_IN, 0)
    sheets = _read(storage.join(card.root, card.judgment_sheets), card.labels())
    rows = pa.concat_tables(sheet.rows for sheet in sheets)
    judged = raw["judgments"]
    judged = judged.set_column(judged.column_names.index("judged_at"), "judged_at", days(judged["judged_at"], card.judged_at))
    dated = rows.set_column(rows.column_names.index("judged_at"), "judged_at", days(rows["judged_at"], card.judged_at))
    more = joined_votes(dated, card.labels())
    none = pa.nulls(len(more), pa.string())
    raw["judgments"] = pa.concat_tables([judged, more.append_column("split", none).select(judged.column_names)])
    fresh = rows.filter(pc.invert(pc.is_in(rows["query_id"], value_set=raw["queries"]["query_id"].combine_chunks())))
    fresh = fresh.group_by("query_id", use_threads=False).aggregate([("query", "first")])
    given = {"kind": pa.nulls(len(fresh), pa.string()), "split": pa.array(["train"] * len(fresh), pa.string())}
    whole = pa.table({"query_id": fresh["query_id"], "query_text": fresh["query_first"], **given})
    raw["queries"] = pa.concat_tables([raw["queries"], whole.select(raw["queries"].column_names)])
    return {NO_GRADE: sum(sheet.num_empty for sheet in sheets), SAME_PAIR: len(rows) - len(more)}


def joined_votes(rows: pa.Table, labels: list[str]) -> pa.Table:
    """One row per pair: query_id, item_id, grade (label), judged_at (the last), votes (counts by grade as text; null from one person).

    The grade is the median vote, of two in the middle the worse.
    """
    pairs = rows.group_by(PAIR, use_threads=False).aggregate([("judged_at", "max"), ("grade", "list")])
    given = pairs["grade_list"].combine_chunks()
    counts = np.zeros((len(pairs), len(labels)), int)
    np.add.at(counts, (pc.list_parent_indices(given), pc.index_in(given.flatten(), value_set=pa.array(labels))), 1)
    totals = counts.sum(axis=1)
    median = (2 * counts.cumsum(axis=1) >= totals[:, None]).argmax(axis=1)
    votes = [" ".join(map(str, row)) if total > 1 else None for row, total in zip(counts.tolist(), totals.tolist(), strict=True)]
    made = {"grade": pa.array(labels).take(pa.array(median)), "judged_at": pairs["judged_at_max"], "votes": pa.array(votes, pa.string())}
    return pa.table({**{name: pairs[name] for name in PAIR}, **made})


def _read(place: str, labels: list[str]) -> list[Sheet]:
    files = [file for file in storage.list_files(place) if file.lower().endswith(".csv")]
    if not files:
        raise InputError(f"'{place}': no judgment sheet is there; name a .csv file, or a folder of them, as 'judgment_sheets'")
    return [read_sheet(file, labels) for file in files]
