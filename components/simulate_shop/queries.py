"""What shoppers want (needs) and how they word it (queries)."""

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.shared.errors import InputError
from components.simulate_shop.catalogue import (
    HAS_MODELS,
    TARGET_OF,
    Catalogue,
    category_words,
    maybe,
    model_names,
    numbers,
    phrase,
    words,
)
from components.simulate_shop.vocabulary import AMBIGUOUS, BRANDS, CATEGORIES, COLORS, NAMES

KINDS = ("category", "brand_category", "attribute", "number_unit", "negation", "typo", "ambiguous", "accessory")
KIND_SHARES = (0.12, 0.16, 0.20, 0.14, 0.12, 0.08, 0.08, 0.10)
CATEGORY, BRAND, ATTRIBUTE, NUMBER, NEGATION, TYPO, SENSES, ACCESSORY = range(len(KINDS))
# how often a query of each kind asks for a brand, a color, a material
ASKS = np.array(
    [[0, 0, 0], [1, 0.2, 0], [0.25, 0.6, 0.6], [0.2, 0.2, 0.1], [0.2, 0.2, 0.1], [0.6, 0.4, 0.1], [0.3, 0.6, 0.2], [0, 0.4, 0.1]]
)
SYNONYM_SHARE = 0.65
REWORDINGS = 4  # tried per judged query
FIRST_SENSE = np.array([NAMES.index(first) for _, first, _ in AMBIGUOUS])
SECOND_SENSE = np.array([NAMES.index(second) for _, _, second in AMBIGUOUS])


@dataclass(frozen=True)
class Needs:
    """What is asked for, one row per query; -1 (NaN for size) is not asked. `excluded` is the feature that must be absent."""

    kind: np.ndarray
    category: np.ndarray
    word: np.ndarray  # the ambiguous word that names the category
    brand: np.ndarray
    color: np.ndarray
    material: np.ndarray
    size: np.ndarray
    excluded: np.ndarray
    model: np.ndarray

    def __len__(self) -> int:
        return len(self.category)

    def take(self, rows: np.ndarray) -> "Needs":
        return Needs(**{one.name: getattr(self, one.name)[rows] for one in fields(self)})

    def join(self, other: "Needs") -> "Needs":
        return Needs(**{one.name: np.concatenate([getattr(self, one.name), getattr(other, one.name)]) for one in fields(self)})

    @property
    def second_sense(self) -> np.ndarray:
        """The other category that the typed word names, -1 where there is none."""
        return np.where(self.word >= 0, SECOND_SENSE[np.maximum(self.word, 0)], -1)


@dataclass(frozen=True)
class Queries:
    """Distinct texts; the first `num_judged` are judged. Texts of one `family` word the same need."""

    needs: Needs
    text: pa.Array
    family: np.ndarray
    num_judged: int

    def __len__(self) -> int:
        return len(self.family)


def draw_needs(count: int, catalogue: Catalogue, rng: np.random.Generator) -> Needs:
    """Needs that some item of the catalogue meets in full."""
    kind = rng.choice(len(KINDS), count, p=KIND_SHARES)
    word = np.where(kind == SENSES, rng.integers(len(AMBIGUOUS), size=count), -1)
    item = _item_that_fits(kind, word, catalogue, rng)
    category = catalogue.category[item]
    asks = rng.random((count, 3)) < ASKS[kind]
    asks[:, 1] |= (kind == ATTRIBUTE) & ~asks[:, 2]
    by_model = HAS_MODELS[category] & (kind == BRAND) & (rng.random(count) < 0.6)
    lacks = np.where(catalogue.features[item, 0], 1, 0)
    can_exclude = ~catalogue.features[item, lacks]
    return Needs(
        kind=np.where((kind == NEGATION) & ~can_exclude, CATEGORY, kind),
        category=category,
        word=word,
        brand=np.where(asks[:, 0] & ~by_model, catalogue.brand[item], -1),
        color=np.where(asks[:, 1], catalogue.color[item], -1),
        material=np.where(asks[:, 2], catalogue.material[item], -1),
        size=np.where(kind == NUMBER, catalogue.size[item], np.nan),
        excluded=np.where((kind == NEGATION) & can_exclude, lacks, -1),
        model=np.where(by_model | (TARGET_OF[category] >= 0) & (word < 0), catalogue.model[item], -1),
    )


def _item_that_fits(kind: np.ndarray, word: np.ndarray, catalogue: Catalogue, rng: np.random.Generator) -> np.ndarray:
    is_accessory = TARGET_OF[catalogue.category] >= 0
    draw = rng.random(len(kind))
    plain, accessories = np.flatnonzero(~is_accessory), np.flatnonzero(is_accessory)
    item = np.where(kind == ACCESSORY, accessories[(draw * len(accessories)).astype(int)], plain[(draw * len(plain)).astype(int)])
    for place, category in enumerate(FIRST_SENSE):
        rows = np.flatnonzero(word == place)
        item[rows] = rng.choice(np.flatnonzero(catalogue.category == category), len(rows))
    return item


def word_needs(needs: Needs, rng: np.random.Generator, typo_share: float = 0.0) -> pa.Array:
    """A wording of each need; queries of kind typo, and `typo_share` of the others, are misspelled."""
    count = len(needs)
    place = np.where(rng.random(count) < SYNONYM_SHARE, 1 + rng.integers(2, size=count), 0)
    noun = category_words("shopper_words", needs.category, place)
    noun = pc.if_else(pa.array(needs.word >= 0), words([word for word, _, _ in AMBIGUOUS], needs.word), noun)
    color = words([names[0] for names in COLORS], needs.color)
    material = maybe(category_words("materials", needs.category, np.maximum(needs.material, 0)), needs.material >= 0)
    model = model_names(needs.model)
    model = pc.if_else(pa.array(rng.random(count) < 0.5), model, pc.replace_substring_regex(model, r"^\w+ ", ""))
    is_device = HAS_MODELS[needs.category]
    fits = pc.if_else(pa.array((needs.model >= 0) & ~is_device), pc.binary_join_element_wise("for", model, " "), "")
    link = pc.if_else(pa.array(rng.random(count) < 0.6), "without", "no")
    unwanted = pc.binary_join_element_wise(link, category_words("features", needs.category, np.maximum(needs.excluded, 0)), " ")
    unwanted = maybe(unwanted, needs.excluded >= 0)
    size, size_first = _size_words(needs, rng), rng.random(count) < 0.5
    parts = [maybe(size, size_first), words(BRANDS, needs.brand), maybe(model, is_device), color, material, noun, maybe(size, ~size_first)]
    text = pc.utf8_lower(phrase([*parts, unwanted, fits]))
    wrong = (needs.kind == TYPO) | (rng.random(count) < typo_share)
    return pc.if_else(pa.array(wrong), misspell(text, rng), text)


def _size_words(needs: Needs, rng: np.random.Generator) -> pa.Array:
    """The asked size, sometimes in another unit than the catalogue's, sometimes without the space."""
    asked = ~np.isnan(needs.size)
    other = np.array([bool(one.other_unit[0]) for one in CATEGORIES])[needs.category] & (rng.random(len(needs)) < 0.3)
    factor = np.where(other, np.array([one.other_unit[1] for one in CATEGORIES])[needs.category], 1.0)
    unit = pc.if_else(
        pa.array(other),
        words([one.other_unit[0] for one in CATEGORIES], needs.category),
        words([one.unit for one in CATEGORIES], needs.category),
    )
    spaced = pc.if_else(pa.array(rng.random(len(needs)) < 0.7), " ", "")
    return maybe(pc.binary_join_element_wise(numbers(np.where(asked, needs.size, 0) * factor), spaced, unit, ""), asked)


def misspell(text: pa.Array, rng: np.random.Generator) -> pa.Array:
    """Each text with one letter dropped or two neighbors swapped."""
    lengths = pc.utf8_length(text).to_numpy(zero_copy_only=False)
    spots = 1 + (rng.random(len(text)) * np.maximum(lengths - 2, 1)).astype(int)
    drops = rng.random(len(text)) < 0.5
    out = [
        one[:spot] + one[spot + 1 :] if drop else one[:spot] + one[spot : spot + 2][::-1] + one[spot + 2 :]
        for one, spot, drop in zip(text.to_pylist(), spots.tolist(), drops.tolist(), strict=True)
    ]
    return phrase([pa.array(out, pa.string())])


def make_queries(num_judged: int, num_log: int, catalogue: Catalogue, rng: np.random.Generator) -> Queries:
    """Judged queries, then log-only ones: rewordings of judged needs and needs of their own.

    Raises:
        InputError: when the vocabulary cannot make so many distinct queries.
    """
    judged = draw_needs(3 * num_judged + 100, catalogue, rng)
    text = word_needs(judged, rng)
    rows = _distinct(text, pa.array([], pa.string()), num_judged, "num_queries")
    judged, text = judged.take(rows), text.take(pa.array(rows))

    parents = np.repeat(np.arange(num_judged), REWORDINGS)
    own = draw_needs(2 * num_log, catalogue, rng)
    needs = judged.take(parents).join(own)
    plain = Needs(**{**vars(needs), "word": np.full(len(needs), -1)})  # the other words for a need tell its sense
    family = np.concatenate([parents, num_judged + np.arange(len(own))])
    order = rng.permutation(len(needs))
    needs, plain, family = needs.take(order), plain.take(order), family[order]
    others = word_needs(plain, rng, typo_share=0.1)
    rows = _distinct(others, text, num_log, "num_log_queries")
    texts = pa.concat_arrays([text, others.take(pa.array(rows))])
    return Queries(judged.join(plain.take(rows)), texts, np.concatenate([np.arange(num_judged), family[rows]]), num_judged)


def _distinct(text: pa.Array, taken: pa.Array, count: int, key: str) -> np.ndarray:
    """Rows of the first `count` texts that repeat no other."""
    fresh = np.flatnonzero(pc.invert(pc.is_in(text, value_set=taken)).to_numpy(zero_copy_only=False))
    codes = pc.dictionary_encode(text.take(pa.array(fresh))).indices.to_numpy(zero_copy_only=False)
    _, first = np.unique(codes, return_index=True)
    if len(first) < count:
        raise InputError(f"recipe section 'shop': key '{key}' = {count}: only {len(first)} distinct queries can be made; lower it")
    return fresh[np.sort(first)[:count]]
