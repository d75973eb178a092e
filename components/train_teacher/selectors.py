"""Hard-and-clean selection: three selectors are trained and asked, and each judged pair gets the reason why it is kept or dropped.

Predictions are cross-fitted: queries are dealt into parts, and a part is predicted by selectors that learnt from the other parts. The
paper does not say whether a selector may predict what it was trained on; if it may, CI agrees with every mislabelled pair that it
remembers, and the rule keeps just those.
"""

import hashlib
import io
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.shared import storage
from components.shared.errors import InputError
from components.shared.models.arithmetic import resolve_precision
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.tables import to_parquet
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Sources, Tables, identity_of
from components.train_teacher.selection import KEPT, balanced_rows, likely_mistakes, reasons

logger = logging.getLogger(__name__)

PLAIN = {"selection": "none", "preference_epochs": 0, "validation_share": 0.0, "stages": [], "form": "head", "reasoning": []}
PLAIN |= {"sub_judgments": ""}
Train = Callable[[TrainTeacherConfig, Sources, str], object]
"""Trains a teacher with these settings on these sources and writes its folder at an address."""


@dataclass(frozen=True)
class Selectors:
    """Trains and asks the selectors; what each said is kept below `place` until the teacher stands, so that a killed run goes on.

    Attributes:
        config, sources: of the teacher; selectors read the same way, but learn for `selection_epochs`.
    """

    config: TrainTeacherConfig
    sources: Sources
    tables: Tables
    place: str
    train: Train

    def predictions(self, name: str, grades: np.ndarray, chosen: np.ndarray, part: np.ndarray) -> np.ndarray:
        """Probability of each grade [pairs, grades] by a selector that is trained anew for each part of the queries.

        Args:
            grades: what the selector is told about each training pair [pairs].
            chosen: which pairs it may learn from [pairs] bool.
            part: number of each pair's part [pairs].
        """
        found = np.zeros((len(part), len(self.tables.card.gains())), np.float32)
        for number in np.unique(part):
            here = part == number
            found[here] = self._of_part(f"{name}-{number}", grades, chosen & ~here, here)
        return found

    def _of_part(self, name: str, grades: np.ndarray, learnt: np.ndarray, asked: np.ndarray) -> np.ndarray:
        kept = storage.join(self.place, f"{name}.npy")
        if storage.exists(kept):
            return np.load(io.BytesIO(storage.read_bytes(kept)), allow_pickle=False)
        logger.info("selector %s learns from %d pairs", name, learnt.sum())
        work = storage.join(self.place, name)
        judgments = storage.join(work, "judgments.parquet")
        if not storage.exists(judgments):  # its change time is part of what a checkpoint is known by
            storage.write_bytes(judgments, to_parquet(self._judged(grades).filter(pa.array(learnt))))
        settings = self.config.model_copy(update={**PLAIN, "num_epochs": self.config.selection_epochs})
        self.train(settings, replace(self.sources, judgments=judgments), storage.join(work, "model"))
        scorer = Scorer(storage.join(work, "model"), precision=resolve_precision(self.config.precision))
        tables = self.tables
        texts = model_texts(scorer.spec, tables.training.filter(pa.array(asked)), tables.queries, tables.items, tables.neighbors)
        probabilities = scorer.probabilities(*texts)
        target = io.BytesIO()
        np.save(target, probabilities)
        storage.write_bytes(kept, target.getvalue())
        storage.remove(work)
        return probabilities

    def _judged(self, grades: np.ndarray) -> pa.Table:
        rows = self.tables.training.drop_columns(["votes"])  # a selector learns grades: people's votes would tell MS the right one
        changed = {"grade": pa.array(grades, pa.int32()), "gain": pa.array(np.asarray(self.tables.card.gains())[grades])}
        for name, column in changed.items():
            rows = rows.set_column(rows.column_names.index(name), name, column)
        return rows


def ask_selectors(config: TrainTeacherConfig, selectors: Selectors) -> pa.Table:
    """query_id, item_id, grade, im, ci, ms (the selectors' grades) and reason of each training pair, in the order of `tables.training`."""
    training = selectors.tables.training
    judged = training["grade"].to_numpy().astype(np.int64)
    rng = np.random.default_rng([config.seed, 3])
    names, query = np.unique(training["query_id"].to_numpy(), return_inverse=True)
    part = (rng.permutation(len(names)) % config.selection_folds)[query]
    at_random, balanced = np.zeros((2, len(judged)), bool)
    at_random[rng.permutation(len(judged))[: round(config.selection_random_share * len(judged))]] = True
    balanced[balanced_rows(_segments(selectors.tables), round(config.selection_balanced_share * len(judged)), rng)] = True
    of_im = selectors.predictions("im", judged, at_random, part)
    im, ci = of_im.argmax(axis=1), selectors.predictions("ci", judged, balanced, part).argmax(axis=1)
    ms = selectors.predictions("ms", likely_mistakes(of_im, judged), np.ones(len(judged), bool), part).argmax(axis=1)
    guessed = {name: pa.array(grades, pa.int32()) for name, grades in (("im", im), ("ci", ci), ("ms", ms))}
    columns = {name: training[name] for name in ("query_id", "item_id", "grade")}
    return pa.table({**columns, **guessed, "reason": pa.array(reasons(judged, im, ci, ms))})


def _segments(tables: Tables) -> np.ndarray:
    rows = pc.index_in(tables.training["query_id"], value_set=tables.queries["query_id"].combine_chunks())
    return tables.queries["segment"].take(rows).to_numpy()


def select(config: TrainTeacherConfig, sources: Sources, tables: Tables, model: str, train: Train) -> tuple[Sources, Mapping[str, int]]:
    """Write `<model>-selection.parquet` and return (sources that name it, training pairs dropped by reason).

    Raises:
        InputError: when fewer than `selection_min_pairs` are kept.
    """
    digest = hashlib.sha256(identity_of(sources, config).encode()).hexdigest()[:16]
    found = ask_selectors(config, Selectors(config, sources, tables, storage.join(work_place(model), digest), train))
    counts = Counter(found["reason"].to_pylist())
    logger.info("selection: %s", dict(counts))
    if counts[KEPT] < config.selection_min_pairs:
        raise InputError(
            f"key 'selection': {counts[KEPT]} of {len(found)} pairs are kept ({dict(counts)}), fewer than selection_min_pairs = "
            f"{config.selection_min_pairs}; raise selection_epochs or selection_balanced_share, lower selection_random_share, or set 'none'"
        )
    place, content = f"{storage.normalise(model)}-selection.parquet", to_parquet(found)
    if not storage.exists(place) or storage.read_bytes(place) != content:
        storage.write_bytes(place, content)
    return replace(sources, selection=place), {reason: count for reason, count in counts.items() if reason != KEPT}


def work_place(model: str) -> str:
    return f"{model}-selectors"
