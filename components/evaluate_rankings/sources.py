"""What is evaluated: judgments of the chosen splits, and the rankings of all systems over the same queries."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.evaluate_rankings import trec
from components.shared import tables, text
from components.shared.card import DatasetCard
from components.shared.errors import InputError
from components.shared.lexical import LexicalIndex
from components.shared.schema import RANKINGS

LEXICAL_SYSTEM = "bm25"


@dataclass(frozen=True)
class Scale:
    """Gain and label of each grade."""

    gains: list[float]
    labels: list[str]

    def describe(self) -> str:
        """`E=1, S=0.1, C=0.01, I=0`: the best grade first."""
        return ", ".join(f"{label}={gain:g}" for label, gain in reversed(list(zip(self.labels, self.gains, strict=True))))


def read_judgments(uri: str, splits: Sequence[str], card: DatasetCard | None) -> tuple[pa.Table, Scale]:
    """Judgments of the splits and what a grade is worth.

    Raises:
        InputError: when nothing is left, or the gains differ from the card's.
    """
    gains = card.gains() if card else None
    rows = trec.read_qrels(uri, gains) if trec.is_trec(uri) else tables.read_table(uri, "judgments")
    scale = _scale(rows, uri, card)
    chosen = rows.filter(pc.is_in(rows["split"], value_set=pa.array(splits, pa.string())))
    if chosen.num_rows == 0:
        raise InputError(f"'{uri}': no judgment is in split {', '.join(splits)}; set key 'splits' of section 'evaluation'")
    return chosen, scale


def _scale(judgments: pa.Table, uri: str, card: DatasetCard | None) -> Scale:
    worth = judgments.group_by("grade").aggregate([("gain", "min"), ("gain", "max")]).sort_by("grade")
    seen = {row["grade"]: (row["gain_min"], row["gain_max"]) for row in worth.to_pylist()}
    for grade, (low, high) in seen.items():
        if low != high:
            raise InputError(f"'{uri}': column 'gain' has {low:g} and {high:g} for grade {grade}; one grade has one gain")
    if card is None:
        num_grades = max(seen, default=0) + 1
        return Scale([seen.get(grade, (0.0, 0.0))[0] for grade in range(num_grades)], [f"grade {grade}" for grade in range(num_grades)])
    gains = card.gains()
    for grade, (gain, _) in seen.items():
        if grade >= len(gains) or gain != gains[grade]:
            raise InputError(
                f"'{uri}': grade {grade} has gain {gain:g}, but card '{card.name}' says {dict(enumerate(gains))}; import again"
            )
    return Scale(gains, card.labels())


def read_rankings(uris: list[str]) -> tuple[pa.Table, dict[str, str]]:
    """All rankings in one table, and a note for each empty one that was skipped.

    Raises:
        InputError: when a system comes twice.
    """
    parts, notes, home = [RANKINGS.schema.empty_table()], {}, {}
    for uri in uris:
        part = trec.read_run(uri) if trec.is_trec(uri) else tables.read_table(uri, "rankings")
        if part.num_rows == 0:
            notes[f"skipped {uri}"] = "no rows"
        for system in pc.unique(part["system"]).to_pylist():
            if system in home:
                raise InputError(f"system '{system}' stands in '{home[system]}' and in '{uri}'; give each system one table (or run tag)")
            home[system] = uri
        parts.append(part)
    return pa.concat_tables(parts), notes


def rank_lexically(judgments: pa.Table, queries: pa.Table, items: pa.Table) -> pa.Table:
    """The system `bm25`: scores of all judged pairs; the statistics are those of the whole catalogue."""
    index = LexicalIndex(items["item_id"].to_pylist(), text.item_text(items).to_pylist())
    query_at = pc.index_in(judgments["query_id"], value_set=queries["query_id"].combine_chunks())
    item_at = pc.index_in(judgments["item_id"], value_set=items["item_id"].combine_chunks())
    known = pc.and_(pc.is_valid(query_at), pc.is_valid(item_at))
    pairs = judgments.select(["query_id", "item_id"]).filter(known)
    scores = index.scores_of(queries["query"].take(query_at.filter(known)).to_pylist(), item_at.filter(known).to_numpy())
    return with_ranks(pairs.append_column("score", pa.array(np.asarray(scores, np.float64))), LEXICAL_SYSTEM)


def with_ranks(scored: pa.Table, system: str) -> pa.Table:
    """Table `rankings` from (query_id, item_id, score): best first within a query, ties by item id."""
    ordered = scored.sort_by([("query_id", "ascending"), ("score", "descending"), ("item_id", "ascending")])
    query = ordered["query_id"].to_numpy()
    starts = np.flatnonzero(np.r_[True, query[1:] != query[:-1]]) if len(query) else np.zeros(0, np.int64)
    sizes = np.diff(np.r_[starts, len(query)])
    rank = np.arange(len(query)) - np.repeat(starts, sizes) + 1
    columns = [("rank", pa.array(rank, pa.int32())), ("system", pa.repeat(pa.scalar(system), len(query)))]
    for name, column in columns:
        ordered = ordered.append_column(name, column)
    return RANKINGS.check(ordered, where=f"ranking of '{system}'")
