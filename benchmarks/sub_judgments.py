"""How often the rules' sub-judgments are right: python benchmarks/sub_judgments.py [--seeds 0 1 2 3 4]

Simulates shops and annotates their judged pairs by `shared/rule_annotator.py`, with the words of the catalogue alone and with what the
judgments of other queries say words mean; compares with the shops' hidden attributes, which the rules do not know. One in twelve queries
is misspelt, and titles use shades that shoppers never type. Writes benchmarks/results/sub_judgments.json.
"""

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from machine import describe_machine, save

from components.shared.rule_annotator import RuleAnnotator
from components.shared.schema import ASPECTS, VERDICTS
from components.simulate_shop import catalogue as catalogues
from components.simulate_shop.judging import blur_grades, choose_judged
from components.simulate_shop.queries import Needs, make_queries
from components.simulate_shop.relevance import GAINS
from components.simulate_shop.vocabulary import BRANDS, DEPARTMENTS

NUM_ITEMS, NUM_QUERIES, JUDGED_PER_QUERY, LABEL_NOISE = 1500, 450, 20, 0.05


@dataclass(frozen=True)
class Shop:
    """Tables of a shop, its judged pairs [query_id, item_id, grade, gain], and what is hidden of them: true grades [pairs], and the
    number of the true verdict on every aspect [pairs, aspects]. `query` is the number of each pair's query."""

    items: pa.Table
    queries: pa.Table
    judged: pa.Table
    query: np.ndarray
    true_grades: np.ndarray
    verdicts: np.ndarray


def draw(
    seed: int, num_items: int, num_queries: int, judged_per_query: int, noise: float, departments: tuple[str, ...] = DEPARTMENTS
) -> Shop:
    """A shop cut to some departments; with fewer than all, words of two senses are left out, because one may be of another department."""
    rng = np.random.default_rng(seed)
    whole = catalogues.make_catalogue(num_items, rng)
    asked = make_queries(num_queries, 0, whole, rng)
    kept = [DEPARTMENTS.index(name) for name in departments]
    of_items, of_queries = (np.isin(catalogues.DEPARTMENT_OF[one.category], kept) for one in (whole, asked.needs))
    of_queries &= (asked.needs.word < 0) | (len(departments) == len(DEPARTMENTS))
    shop = catalogues.Catalogue(**{name: values[of_items] for name, values in vars(whole).items()})
    needs, texts = asked.needs.take(np.flatnonzero(of_queries)), asked.text.filter(pa.array(of_queries))
    query, item, true_grades = choose_judged(needs, shop, judged_per_query, rng)
    grades = blur_grades(true_grades, noise, rng)
    names = pa.array([f"Q{number:05d}" for number in range(len(texts))])
    pairs = {"query_id": names.take(pa.array(query)), "item_id": catalogues.item_ids(len(shop)).take(pa.array(item))}
    words = [one.split() for one in texts.take(pa.array(query)).to_pylist()]
    return Shop(
        catalogues.item_rows(shop, rng), pa.table({"query_id": names, "query": texts}),
        pa.table({**pairs, "grade": pa.array(grades.astype(np.int32)), "gain": np.array(GAINS)[grades]}), query, true_grades,
        true_verdicts(needs.take(query), shop, item, words),
    )  # fmt: skip


def true_verdicts(needs: Needs, shop: catalogues.Catalogue, item: np.ndarray, words: list[list[str]]) -> np.ndarray:
    """What the hidden attributes say of each pair on each aspect: number of the verdict [pairs, aspects].

    A material is right where it is called the same, whatever the category; what an item of another category calls its features never is
    what a query excludes.
    """
    has = {name: getattr(shop, name)[item] for name in ("category", "brand", "color", "material", "size", "model")}
    same = has["category"] == needs.category
    is_device, is_accessory = catalogues.HAS_MODELS[needs.category], catalogues.TARGET_OF[needs.category] >= 0
    by_model = is_device & (needs.model >= 0)
    typed = np.array([BRANDS[brand].lower() in row for brand, row in zip(catalogues.model_brand(needs.model), words, strict=True)])
    brand = np.where(needs.brand >= 0, needs.brand, np.where(by_model & typed, catalogues.model_brand(needs.model), -1))
    material = catalogues.category_words("materials", needs.category, np.maximum(needs.material, 0))
    of_item = catalogues.category_words("materials", has["category"], has["material"])
    wrong = (needs.color >= 0) & (has["color"] != needs.color)
    wrong |= (needs.material >= 0) & pc.not_equal(material, of_item).to_numpy(zero_copy_only=False)
    wrong |= ~np.isnan(needs.size) & (~same | (np.abs(has["size"] - needs.size) > 0.01 * needs.size))
    wrong |= by_model & (~same | (has["model"] != needs.model))
    present = same & shop.features[item, np.maximum(needs.excluded, 0)]
    mentioned = np.stack([
        np.full(len(item), True), brand >= 0, (needs.color >= 0) | (needs.material >= 0) | ~np.isnan(needs.size) | by_model,
        needs.excluded >= 0, is_accessory & (needs.model >= 0),
    ], axis=1)  # fmt: skip
    fits = (catalogues.TARGET_OF[has["category"]] >= 0) & (has["model"] == needs.model)
    matches = np.stack([same, has["brand"] == brand, ~wrong, ~present, fits], axis=1)
    return np.where(mentioned, np.where(matches, 0, 1), 2)


def measure(shop: Shop, judged: pa.Table | None) -> dict[str, Any]:
    """By aspect: pairs on which the rules say something, of these how many are right; the same where they say that something was asked."""
    started = time.perf_counter()
    found = RuleAnnotator(shop.queries, shop.items, judged).annotate(shop.judged)
    seconds = time.perf_counter() - started
    keys, all_keys = (pc.binary_join_element_wise(one["query_id"], one["item_id"], " ") for one in (found, shop.judged))
    row, aspect, verdict = (
        pc.index_in(column, value_set=pa.array(values)).to_numpy()
        for column, values in ((keys, all_keys.combine_chunks()), (found["aspect"], ASPECTS), (found["verdict"], VERDICTS))
    )
    right, asked = shop.verdicts[row, aspect] == verdict, verdict < 2
    by_aspect = {
        name: {
            "told": int(of.sum()),
            "right": int(right[of].sum()),
            "asked": int((of & asked).sum()),
            "right_of_asked": int(right[of & asked].sum()),
        }
        for name, of in ((name, aspect == place) for place, name in enumerate(ASPECTS))
    }
    return {"pairs": len(shop.judged), "seconds": round(seconds, 2), "aspects": by_aspect}


def main() -> None:
    """Measure every seed and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4], help="shops")
    given = parser.parse_args()
    machine = describe_machine()
    results = []
    for seed in given.seeds:
        shop = draw(seed, NUM_ITEMS, NUM_QUERIES, JUDGED_PER_QUERY, LABEL_NOISE)
        results.append({"seed": seed, "catalogue alone": measure(shop, None), "and judgments": measure(shop, shop.judged)})
        print(json.dumps(results[-1]))
    settings = {"items": NUM_ITEMS, "queries": NUM_QUERIES, "judged_per_query": JUDGED_PER_QUERY, "label_noise": LABEL_NOISE}
    save("sub_judgments", machine, {**settings, "unit": "pairs"}, results)


if __name__ == "__main__":
    main()
