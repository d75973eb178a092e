"""The same budget on real judgments: our cross-encoder against sentence-transformers' own trainer. Cross-validation by query.

    python benchmarks/esci_students.py [--data ../shared/data/esci] [--folds 5] [--only 1 2] [--set SECTION.KEY=VALUE]    # extra `bench`

Per fold the steps of the recipe `esci_cpu` up to the teacher's scores of the pool, with the log hidden for the fold's queries. Then four
cross-encoders start from the same encoder and make one pass over equally many pairs, with the same learning rate (the recipe's) and as many
encoded pairs a step: ours on the teacher's scores; ours with people's grades beside them, as in the recipe; `CrossEncoderTrainer` with
`MarginMSELoss` on the same scores of the same pairs, dealt into chains that tie each query's items together; and `CrossEncoderTrainer` with
`BinaryCrossEntropyLoss` on the judged gains, without a teacher. Folds divide train and dev. Fold 0 is the split dev, on which the recipe's
settings were chosen, so the others are summed up apart. Finished folds are reused. Writes `results/esci_students.json` after every fold.
"""

import argparse
import hashlib
import importlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from esci_cross_validation import PLACE, ROOT, fold_data, folds_of, summarise
from machine import describe_machine, save
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, MarginMSELoss

from components.shared import metrics
from components.shared.card import read_card
from components.shared.models.folder import ModelSpec
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.tables import read_table
from components.shared.tracking import NullTracker
from components.train_student.targets import make_lessons
from pipelines import recipe

DONE = "values.parquet"
OURS, WITH_GRADES, MARGINS, DIRECT = "ours", "ours, with grades", "trainer, margins", "trainer, judgments"
SYSTEMS = (OURS, WITH_GRADES, MARGINS, DIRECT, "untrained", "teacher")
COMPARED = [(OURS, MARGINS), (OURS, DIRECT), (WITH_GRADES, MARGINS), (WITH_GRADES, DIRECT), (WITH_GRADES, "untrained")]
FIXED = ["logs.hide_evaluated_queries=true", "cross_encoder.precision=fp32", "scoring.precision=fp32"]
BATCH = 32  # encoded pairs a step, as 2 queries of 16 items are


class Fold:
    """Everything before the students, below one folder."""

    def __init__(self, data: Path, place: Path, changes: list[str]) -> None:
        self.data, self.place = data, place
        self.settings = recipe.load("esci_cpu", [*FIXED, *changes])
        self.at = {name: str(place / name) for name in ("card", "items", "judgments", "judged_queries", "events", "interactions", "queries",
                   "reformulations", "lineage", "neighbors", "encoder", "teacher", "pairs", "soft_targets")}  # fmt: skip

    def step(self, section: str, names: str, **places: str) -> None:
        """Run the room of a recipe's section on the places of `names`."""
        logging.info("%s", section)
        room = importlib.import_module(f"components.{recipe.SECTIONS[section]}.step")
        config = recipe.config_of(section).from_mapping(self.settings[section], section=section)
        room.run(config, **{name: self.at[name] for name in names.split()}, **places, tracker=NullTracker())

    def prepare(self) -> None:
        """Up to the teacher's scores of the pool; what a run that was broken off has left is made anew."""
        self.step("dataset", "card items judgments judged_queries", dataset=str(self.data))
        self.step("logs", "card judged_queries events interactions queries reformulations lineage")
        self.step("neighbors", "interactions judgments neighbors items queries")
        self.step("student_encoder", "encoder items queries")
        self.step("teacher", "card encoder judgments neighbors items queries", model=self.at["teacher"])
        self.step("pool", "judgments interactions pairs items queries")
        self.step("scoring", "pairs neighbors items queries", model=self.at["teacher"], scores=self.at["soft_targets"])

    def train_ours(self, name: str, judgment_weight: float) -> str:
        """The recipe's cross-encoder; returns its folder."""
        self.settings["cross_encoder"]["judgment_weight"] = judgment_weight
        model = str(self.place / name)
        self.step("cross_encoder", "encoder items queries pairs soft_targets judgments", model=model)
        return model

    def tables(self) -> list[pa.Table]:
        return [read_table(self.at[name], name) for name in ("queries", "items")]

    def texts_of(self, pairs: pa.Table) -> tuple[list[str], list[str]]:
        """What a cross-encoder reads [pairs]."""
        return model_texts(ModelSpec("cross_encoder", self.max_tokens), pairs, *self.tables(), None)

    @property
    def max_tokens(self) -> int:
        return int(self.settings["cross_encoder"]["max_tokens"])

    def lesson(self) -> tuple[pa.Table, np.ndarray, np.ndarray]:
        """(pairs that ours learns from, their query's number, the number that a score imitates)."""
        config = recipe.config_of("cross_encoder").from_mapping(self.settings["cross_encoder"], section="cross_encoder")
        given = (read_table(self.at[name], name) for name in ("pairs", "soft_targets", "queries"))
        lessons = make_lessons(config, *given)
        rows = lessons.training()
        return lessons.pairs.take(rows), lessons.query[rows], lessons.targets[rows]

    def judged(self, split: str) -> pa.Table:
        judgments = read_table(self.at["judgments"], "judgments")
        return judgments.filter(pc.equal(judgments["split"], split)).sort_by([("query_id", "ascending"), ("item_id", "ascending")])


def chains(query: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the two items of each triple: every query's items in random order, each with the next."""
    order = rng.permutation(len(query))
    order = order[np.argsort(query[order], kind="stable")]
    same = query[order[1:]] == query[order[:-1]]
    return order[:-1][same], order[1:][same]


def peer(fold: Fold, columns: dict[str, Any], loss: Any, batch: int, seed: int) -> CrossEncoder:
    """A cross-encoder that sentence-transformers trained on `columns`, in one pass."""
    torch.manual_seed(seed)
    activation = {"activation_fn": torch.nn.Identity()} if loss is MarginMSELoss else {}
    model = CrossEncoder(fold.at["encoder"], num_labels=1, max_length=fold.max_tokens, device="cpu", **activation)
    settings = CrossEncoderTrainingArguments(
        output_dir=str(fold.place / "trainer"), num_train_epochs=1, per_device_train_batch_size=batch, warmup_steps=0.1, save_strategy="no",
        learning_rate=fold.settings["cross_encoder"]["learning_rate"], report_to="none", use_cpu=True, disable_tqdm=True, seed=seed,
    )  # fmt: skip
    CrossEncoderTrainer(model, settings, Dataset.from_dict(columns), loss=loss(model)).train()
    return model


def by_margins(fold: Fold, seed: int) -> CrossEncoder:
    """From the teacher's scores of the pairs that ours learns from."""
    pairs, query, targets = fold.lesson()
    left, right = fold.texts_of(pairs)
    first, second = chains(query, np.random.default_rng(seed))
    columns = {"query": [left[row] for row in first], "one": [right[row] for row in first], "other": [right[row] for row in second]}
    return peer(fold, {**columns, "label": (targets[first] - targets[second]).tolist()}, MarginMSELoss, BATCH // 2, seed)


def by_judgments(fold: Fold, num_pairs: int, seed: int) -> CrossEncoder:
    """From as many judged pairs of train queries, in random order."""
    judged = fold.judged("train")
    judged = judged.take(np.random.default_rng(seed).permutation(len(judged))[:num_pairs])
    left, right = fold.texts_of(judged)
    return peer(fold, {"query": left, "item": right, "label": judged["gain"].to_pylist()}, BinaryCrossEntropyLoss, BATCH, seed)


def measure(fold: Fold, seed: int) -> pa.Table:
    """Per-query metrics of every system on the fold's judged pairs."""
    fold.prepare()
    pairs = fold.judged("dev")
    left, right = fold.texts_of(pairs)
    num_pairs = len(fold.lesson()[0])
    folders = {OURS: fold.train_ours("ours", 0.0), WITH_GRADES: fold.train_ours("with_grades", 1.0), "untrained": fold.at["encoder"]}
    scores = {name: Scorer(folder).scores(left, right) for name, folder in folders.items()}
    scores["teacher"] = teacher_scores(fold, pairs)
    for name, model in ((MARGINS, by_margins(fold, seed)), (DIRECT, by_judgments(fold, num_pairs, seed))):
        scores[name] = model.predict(list(zip(left, right, strict=True)), batch_size=BATCH, show_progress_bar=False).astype(np.float64)
    ranked = pa.concat_tables(
        pa.table({"system": [name] * len(pairs), "query_id": pairs["query_id"], "item_id": pairs["item_id"], "score": scores[name]})
        for name in SYSTEMS
    )
    return metrics.per_query(pairs, ranked, gains=read_card(fold.at["card"]).gains())


def teacher_scores(fold: Fold, pairs: pa.Table) -> np.ndarray:
    scorer = Scorer(fold.at["teacher"])
    return scorer.scores(*model_texts(scorer.spec, pairs, *fold.tables(), read_table(fold.at["neighbors"], "neighbors")))


def main() -> None:
    """Measure the folds and write the results file after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/esci")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", default=[], metavar="FOLD", help="these folds; default: all")
    parser.add_argument("--set", nargs="+", default=[], metavar="SECTION.KEY=VALUE", help="changes to the recipe")
    parser.add_argument("--seed", type=int, default=13)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    folds, machine, found = folds_of(given.data, given.folds), describe_machine(), {}
    asked = hashlib.sha256(json.dumps([given.set, given.seed]).encode()).hexdigest()[:8]
    for number in given.only or [*range(1, given.folds), 0]:
        place = PLACE / f"students-{given.folds}-{number}-{asked}"
        if not (place / DONE).is_file():
            shutil.rmtree(place, ignore_errors=True)
            data = fold_data(given.data, PLACE / f"data-{given.folds}-{number}", number, folds)
            pq.write_table(measure(Fold(data, place, given.set), given.seed), place / DONE)
        found[number] = pq.read_table(place / DONE)
        untouched = [values for fold, values in found.items() if fold]
        result = {
            "by_fold": {fold: summarise(values, SYSTEMS, COMPARED)["means"] for fold, values in found.items()},
            "all": summarise(pa.concat_tables(found.values()), SYSTEMS, COMPARED),
            "without_fold_0": summarise(pa.concat_tables(untouched), SYSTEMS, COMPARED) if untouched else {},
        }
        settings = {"folds": given.folds, "done": list(found), "set": given.set, "seed": given.seed, "batch": BATCH}
        save("esci_students", machine, settings, result)


if __name__ == "__main__":
    main()
