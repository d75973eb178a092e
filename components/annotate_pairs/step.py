"""Sub-judgments of pairs (category, brand, attribute, negation, accessory), by one annotator or by several that have to agree."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from components.annotate_pairs.agreement import DISAGREE, NOT_TOLD, agreed
from components.annotate_pairs.annotators import Annotator, Shop, open_annotator
from components.annotate_pairs.config import AnnotatePairsConfig
from components.shared import tables
from components.shared.errors import InputError
from components.shared.report import Report
from components.shared.schema import ASPECTS
from components.shared.tables import Manifest, read_table, rows_of
from components.shared.tracking import Tracker


@dataclass
class _Ledger:
    """Counts of (pair, aspect), and of chains by what was wrong with them."""

    kept: int = 0
    told: int = 0
    disagree: int = 0
    by_aspect: Counter[str] = field(default_factory=Counter)
    malformed: Counter[str] = field(default_factory=Counter)


def run(
    config: AnnotatePairsConfig,
    *,
    pairs: str,
    queries: str,
    items: str,
    sub_judgments: str,
    tracker: Tracker,
    judgments: str = "",
    neighbors: str = "",
) -> Report:
    """Write table `sub_judgments`.

    Args:
        pairs: table `pairs` (a pool), or `judgments`, of which `splits` are annotated.
        judgments: table, whose split `train` teaches the rules the words that the catalogue does not know; the annotated judgments where
            `pairs` is of that kind.
        neighbors: table; shown to a teacher that was trained with it.
        sub_judgments: URI of the table to write.

    Raises:
        InputError: for tables that do not fit, unknown ids, an annotator that cannot work, or two that are one.
        TemporaryError: when an endpoint does not answer.
    """
    listed, judged = _listed(pairs, config.splits)
    judged = read_table(judgments, "judgments") if judgments else judged
    shop = Shop(
        read_table(queries, "queries"),
        read_table(items, "items"),
        None if judged is None else judged.filter(pc.equal(judged["split"], "train")),
        read_table(neighbors, "neighbors") if neighbors else None,
    )
    for key, table in (("query_id", shop.queries), ("item_id", shop.items)):
        rows_of(table, key, listed[key], where=f"'{pairs}'")
    annotators = [open_annotator(one, shop) for one in config.annotators]
    _check_distinct(config, annotators)
    ledger = _Ledger()
    manifest = tables.write_table(sub_judgments, "sub_judgments", _annotated(config, listed, annotators, ledger))
    tracker.dataset("sub_judgments", sub_judgments, manifest.digest, manifest.rows)
    return _report(ledger, len(listed), annotators)


def _listed(uri: str, splits: Sequence[str]) -> tuple[pa.Table, pa.Table | None]:
    """(query_id, item_id of the pairs to annotate; the judgments where they are such)."""
    kind = Manifest.read(uri).table
    if kind == "pairs":
        return read_table(uri, "pairs").select(["query_id", "item_id"]), None
    if kind != "judgments":
        raise InputError(f"pairs '{uri}' is a table '{kind}'; give a table 'pairs' or 'judgments'")
    judged = read_table(uri, "judgments")
    chosen = judged.filter(pc.is_in(judged["split"], value_set=pa.array(list(splits), pa.string())))
    if not len(chosen):
        raise InputError(f"'{uri}' has no judgments of splits {', '.join(splits)}; set `splits`")
    return chosen.select(["query_id", "item_id"]), judged


def _check_distinct(config: AnnotatePairsConfig, annotators: list[Annotator]) -> None:
    """Raises InputError for two of one name: counts and verdicts are kept by name, and nobody is asked twice."""
    seen: dict[str, str] = {}
    for number, (told, one) in enumerate(zip(config.annotators, annotators, strict=True), start=1):
        place = f"{number} ('{told.url or told.model or told.kind}')"
        if one.name in seen:
            raise InputError(
                f"key 'annotators': {seen[one.name]} and {place} are both '{one.name}', whose agreement with itself says nothing; "
                "leave one out, or serve one of them by another model name"
            )
        seen[one.name] = place


def _annotated(config: AnnotatePairsConfig, pairs: pa.Table, annotators: list[Annotator], ledger: _Ledger) -> Iterator[pa.Table]:
    for start in range(0, len(pairs), config.batch_pairs):
        some = pairs.slice(start, config.batch_pairs)
        found = {one.name: one.annotate(some) for one in annotators}
        agreement = agreed({name: one.rows for name, one in found.items()})
        for one in found.values():
            ledger.malformed.update(one.dropped)
        ledger.kept += len(agreement.kept)
        ledger.told += agreement.told_by_all
        ledger.disagree += agreement.disagree
        ledger.by_aspect.update(agreement.kept["aspect"].to_pylist())
        yield agreement.kept


def _report(ledger: _Ledger, num_pairs: int, annotators: list[Annotator]) -> Report:
    """Steps are (pair, aspect); `agreement` is of those that every annotator told."""
    steps = num_pairs * len(ASPECTS)
    metrics = {"pairs": float(num_pairs), "share_kept": ledger.kept / max(1, steps)}
    if len(annotators) > 1 and ledger.told:
        metrics["agreement"] = 1 - ledger.disagree / ledger.told
    metrics |= {f"share_kept.{aspect}": ledger.by_aspect[aspect] / max(1, num_pairs) for aspect in ASPECTS}
    metrics |= {f"malformed.{reason}": float(count) for reason, count in sorted(ledger.malformed.items())}
    dropped = {NOT_TOLD: steps - ledger.told, DISAGREE: ledger.disagree}
    return Report(
        read=steps, kept=ledger.kept, dropped=dropped, metrics=metrics, notes={"annotators": " + ".join(a.name for a in annotators)}
    )
