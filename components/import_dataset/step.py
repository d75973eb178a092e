"""Read a data folder through its card into items, judged queries and judgments."""

import pyarrow as pa
import pyarrow.compute as pc

from components.import_dataset.cards import follow, resolve_card
from components.import_dataset.config import ImportDatasetConfig
from components.import_dataset.judged import days, drop_repeated, grade_labels, refuse_unknown, split_of_queries, vote_counts
from components.import_dataset.sheets import NOT_TAKEN_IN, add_sheets
from components.import_dataset.sources import read_source
from components.shared import storage, text
from components.shared.card import DatasetCard
from components.shared.errors import InputError
from components.shared.report import Report
from components.shared.tables import write_table
from components.shared.tracking import Tracker

HTML_TAG = r"</?[a-zA-Z][^<>]*>"


def run(
    config: ImportDatasetConfig, *, dataset: str, card: str, items: str, judged_queries: str, judgments: str, tracker: Tracker
) -> Report:
    """Write the resolved card and three tables.

    Args:
        dataset: URI of the data folder, or of a folder whose `given.json` points at it.
        card: URI of the JSON file to write: the card with root, snapshot and full file names.
        items: URI of the table `items`.
        judged_queries: URI of the table `queries`: frequency 0, segment unseen.
        judgments: URI of the table `judgments`.

    Raises:
        InputError: for anything in folder, card or tables that a user must mend.
    """
    if config.train_share + config.dev_share > 1:
        total = config.train_share + config.dev_share
        raise InputError(f"recipe section 'dataset': train_share + dev_share = {total:g} is above 1; lower one of them")
    resolved = resolve_card(follow(dataset), config.shape)
    raw = {name: read_source(resolved.root, getattr(resolved, name), name) for name in ("items", "queries", "judgments")}
    left_out = add_sheets(raw, resolved)
    catalogue = read_items(raw["items"])
    asked = read_queries(raw["queries"])
    graded, dropped = read_judgments(raw, resolved, catalogue, asked)
    said = _cleaned(raw["judgments"].select(["query_id", "split"]))
    splits = split_of_queries(asked, said, config.train_share, config.dev_share)
    asked = _set(asked, "split", pa.array([splits[one] for one in asked["query_id"].to_pylist()], pa.string()))
    graded = _set(graded, "split", asked["split"].take(pc.index_in(graded["query_id"], value_set=asked["query_id"].combine_chunks())))

    tables = {
        "items": (items, "items", catalogue),
        "queries": (judged_queries, "queries", asked),
        "judgments": (judgments, "judgments", graded),
    }
    for name, (uri, schema, rows) in tables.items():
        manifest = write_table(uri, schema, rows)
        tracker.dataset(name, uri, manifest.digest, manifest.rows)
    storage.write_json(card, resolved.model_dump(mode="json"))
    tracker.tags({"data.name": resolved.name, "data.snapshot": resolved.snapshot})
    dropped |= {"items.no_id_or_title": len(raw["items"]) - len(catalogue), "queries.no_id_or_text": len(raw["queries"]) - len(asked)}
    return _report(resolved, raw, catalogue, asked, graded, dropped | left_out)


def read_items(raw: pa.Table) -> pa.Table:
    """Table `items`: clean text, sorted by id; rows without id or title are left out.

    Raises:
        InputError: for a repeated id.
    """
    rows = _cleaned(_set(raw, "description", pc.replace_substring_regex(raw["description"], HTML_TAG, " ")))
    rows = rows.filter(pc.and_(pc.is_valid(rows["item_id"]), pc.is_valid(rows["title"])))
    _refuse_repeated(rows, "item_id", "items")
    return rows.sort_by("item_id")


def read_queries(raw: pa.Table) -> pa.Table:
    """Table `queries` with no log behind it, sorted by id; rows without id or text are left out.

    Raises:
        InputError: for a repeated id.
    """
    rows = _cleaned(raw)
    rows = rows.append_column("query", text.normalise_query(rows["query_text"]))
    rows = rows.filter(pc.and_(pc.is_valid(rows["query_id"]), pc.greater(pc.utf8_length(pc.fill_null(rows["query"], "")), 0)))
    _refuse_repeated(rows, "query_id", "queries")
    rows = rows.append_column("frequency", pa.array([0] * len(rows), pa.int64()))
    return rows.append_column("segment", pa.array(["unseen"] * len(rows), pa.string())).sort_by("query_id")


def read_judgments(raw: dict[str, pa.Table], card: DatasetCard, items: pa.Table, queries: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """Table `judgments` sorted by key, and rows dropped by reason.

    Judgments of items or queries that were left out go with them; of ones that never were there, they are an error.
    """
    rows = _cleaned(raw["judgments"], but="judged_at")
    rows = _set(rows, "judged_at", days(rows["judged_at"], card.judged_at))
    complete = rows.filter(pc.and_(pc.is_valid(rows["query_id"]), pc.is_valid(rows["item_id"])))
    refuse_unknown(complete, "item_id", _ids(raw["items"]["item_id"]), "items")
    refuse_unknown(complete, "query_id", _ids(raw["queries"]["query_id"]), "queries")
    grade_labels(complete["grade"], card)
    distinct = drop_repeated(complete)
    there = [
        pc.is_in(distinct[name], value_set=table[name].combine_chunks()) for name, table in (("item_id", items), ("query_id", queries))
    ]
    kept = distinct.filter(pc.and_(*there))
    grade, gain = grade_labels(kept["grade"], card)
    kept = _set(kept, "votes", vote_counts(kept["votes"], len(card.grades)))
    kept = _set(kept, "grade", grade).append_column("gain", gain).sort_by([("query_id", "ascending"), ("item_id", "ascending")])
    if kept.num_rows == 0:
        raise InputError(f"'{card.root}': no judgment is left; every one lacks an id, or is about an item or query without text")
    return kept, {
        "judgments.no_id": len(rows) - len(complete),
        "judgments.repeated": len(complete) - len(distinct),
        "judgments.item_or_query_left_out": len(distinct) - len(kept),
    }


def _cleaned(rows: pa.Table, but: str = "") -> pa.Table:
    """All columns but one cleaned; empty text becomes null."""
    for name in rows.column_names:
        if name != but:
            column = text.clean(rows[name])
            rows = _set(rows, name, pc.if_else(pc.equal(pc.utf8_length(column), 0), pa.scalar(None, pa.string()), column))
    return rows


def _ids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return text.clean(column)


def _set(rows: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, column)


def _refuse_repeated(rows: pa.Table, key: str, table: str) -> None:
    counts = rows.group_by(key, use_threads=False).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1))[key]
    if len(repeated):
        first = sorted(repeated.to_pylist())[0]
        raise InputError(f"table '{table}': {len(repeated)} values of {key} are on several rows, first '{first}'; keep one row for each")


def _report(
    card: DatasetCard, raw: dict[str, pa.Table], items: pa.Table, queries: pa.Table, judgments: pa.Table, dropped: dict[str, int]
) -> Report:
    kept = len(items) + len(queries) + len(judgments)
    shares = {
        f"grade_{grade}_share": pc.mean(pc.equal(judgments["grade"], grade).cast(pa.int8())).as_py() for grade in range(len(card.grades))
    }
    sizes = {"num_items": len(items), "num_queries": len(queries), "num_judgments": len(judgments)}
    return Report(
        read=sum(len(table) for table in raw.values()) + sum(dropped[name] for name in NOT_TAKEN_IN),
        kept=kept,
        dropped={reason: count for reason, count in dropped.items() if count},
        metrics={**sizes, **shares},
        notes={"name": card.name, "root": card.root, "snapshot": card.snapshot},
    )
