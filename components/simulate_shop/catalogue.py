"""The items: hidden attributes first, then the texts that show only some of them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.simulate_shop.vocabulary import (
    BRANDS,
    BRANDS_PER_DEPARTMENT,
    CATEGORIES,
    COLORS,
    DEPARTMENTS,
    MODEL_WORDS,
    NAMES,
    USES,
)

NUM_FEATURES = 2
DEPARTMENT_OF = np.array([DEPARTMENTS.index(category.department) for category in CATEGORIES])
TARGET_OF = np.array([NAMES.index(category.target) if category.target else -1 for category in CATEGORIES])
HAS_MODELS = np.array([category.has_models for category in CATEGORIES])
MAX_MODELS = 12  # per category


@dataclass(frozen=True)
class Catalogue:
    """Hidden attributes, one row per item. Codes index `vocabulary`; -1 is none.

    `model` is what a device is, or what an accessory fits. `features` [items, 2] says which of the category's features it has.
    """

    category: np.ndarray
    brand: np.ndarray
    color: np.ndarray
    material: np.ndarray
    size: np.ndarray
    features: np.ndarray
    model: np.ndarray

    def __len__(self) -> int:
        return len(self.category)


def make_catalogue(num_items: int, rng: np.random.Generator) -> Catalogue:
    """Draw the hidden attributes; categories are equally large."""
    category = rng.permutation(np.arange(num_items) % len(CATEGORIES))
    num_models = int(np.clip(num_items // len(CATEGORIES) // 8, 2, MAX_MODELS))
    model_category = np.where(HAS_MODELS[category], category, TARGET_OF[category])
    model = np.where(model_category >= 0, model_category * MAX_MODELS + rng.integers(num_models, size=num_items), -1)
    brand = _brand_of(DEPARTMENT_OF[category], rng.integers(BRANDS_PER_DEPARTMENT, size=num_items))
    brand = np.where(HAS_MODELS[category], model_brand(model), brand)
    materials = np.array([len(one.materials) for one in CATEGORIES])[category]
    sizes = _padded([one.sizes for one in CATEGORIES])
    widths = np.array([len(one.sizes) for one in CATEGORIES])[category]
    return Catalogue(
        category=category,
        brand=brand,
        color=rng.integers(len(COLORS), size=num_items),
        material=rng.integers(materials),
        size=sizes[category, rng.integers(widths)],
        features=rng.random((num_items, NUM_FEATURES)) < 0.5,
        model=model,
    )


def _brand_of(department: np.ndarray, place: np.ndarray) -> np.ndarray:
    return (department * BRANDS_PER_DEPARTMENT + place) % len(BRANDS)


def model_brand(model: np.ndarray) -> np.ndarray:
    """The brand that makes a model."""
    return _brand_of(DEPARTMENT_OF[model // MAX_MODELS], model % BRANDS_PER_DEPARTMENT)


def model_names(model: np.ndarray) -> pa.Array:
    """Brand and name of each model ('Solvei Nova 7'); empty for -1."""
    number = 3 + model % MAX_MODELS + MAX_MODELS * (model // MAX_MODELS % 3)
    parts = [words(BRANDS, model_brand(model)), words(MODEL_WORDS, model % len(MODEL_WORDS)), numbers(number)]
    return pc.if_else(pa.array(model >= 0), pc.binary_join_element_wise(*parts, " "), "")


def words(names: tuple[str, ...] | list[str], codes: np.ndarray) -> pa.Array:
    """The name of each code; codes below 0 give the empty string."""
    return pc.if_else(pa.array(codes >= 0), pa.array(names).take(pa.array(np.maximum(codes, 0))), "")


def category_words(field: str, category: np.ndarray, place: np.ndarray) -> pa.Array:
    """Element `place` (modulo their number) of the tuple `field` of each row's category."""
    lists = [getattr(one, field) for one in CATEGORIES]
    starts = np.cumsum([0, *(len(one) for one in lists)])
    lengths = np.diff(starts)
    return pa.array([word for one in lists for word in one]).take(pa.array(starts[category] + place % lengths[category]))


def numbers(values: np.ndarray) -> pa.Array:
    """Numbers as people write them: '500', '0.5'."""
    return pc.replace_substring_regex(pa.array(np.round(values, 2).astype(np.float64)).cast(pa.string()), r"\.0$", "")


def _padded(lists: list[tuple[float, ...]]) -> np.ndarray:
    out = np.zeros((len(lists), max(map(len, lists))))
    for row, values in enumerate(lists):
        out[row, : len(values)] = values
    return out


def phrase(parts: list[pa.Array]) -> pa.Array:
    """Words joined with single spaces; empty parts leave no gap."""
    joined = pc.binary_join_element_wise(*parts, " ")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(joined, " +", " "))


def maybe(column: pa.Array, keep: np.ndarray) -> pa.Array:
    """The word where `keep`, else nothing."""
    return pc.if_else(pa.array(keep), column, "")


def size_words(catalogue: Catalogue) -> pa.Array:
    units = [one.unit for one in CATEGORIES]
    return pc.binary_join_element_wise(numbers(catalogue.size), words(units, catalogue.category), " ")


def item_ids(num_items: int) -> pa.Array:
    return pc.binary_join_element_wise("P", pc.utf8_lpad(pa.array(np.arange(num_items)).cast(pa.string()), 6, "0"), "")


def item_rows(catalogue: Catalogue, rng: np.random.Generator) -> pa.Table:
    """The catalogue as the shop publishes it: titles name most attributes, `attributes` all of them."""
    num = len(catalogue)
    brand = words(BRANDS, catalogue.brand)
    shade = pa.array([name for color in COLORS for name in color[1:]]).take(pa.array(catalogue.color * 2 + rng.integers(2, size=num)))
    noun = category_words("nouns", catalogue.category, rng.integers(6, size=num))
    use = pa.array(USES).take(pa.array(rng.integers(len(USES), size=num)))
    path = [words(DEPARTMENTS, DEPARTMENT_OF[catalogue.category]), words(NAMES, catalogue.category)]
    return pa.table(
        {
            "item_id": item_ids(num),
            "title": _titles(catalogue, brand, shade, noun, rng),
            "brand": brand,
            "category": pc.binary_join_element_wise(*path, " > "),
            "color": shade,
            "attributes": _attributes(catalogue),
            "description": phrase([pa.array(["Made for"] * num), use, pa.array(["by"] * num), brand]),
        }
    )


def _titles(catalogue: Catalogue, brand: pa.Array, shade: pa.Array, noun: pa.Array, rng: np.random.Generator) -> pa.Array:
    num = len(catalogue)
    is_device = HAS_MODELS[catalogue.category]
    material = category_words("materials", catalogue.category, catalogue.material)
    names = model_names(catalogue.model)
    fits = pc.binary_join_element_wise("for", names, " ")
    told = rng.integers(NUM_FEATURES, size=num)
    has = catalogue.features[np.arange(num), told]
    link = pc.if_else(pa.array(has), "with", "without")
    feature = pc.binary_join_element_wise(link, category_words("features", catalogue.category, told), " ")
    parts = [
        maybe(brand, ~is_device),
        maybe(names, is_device),
        maybe(shade, rng.random(num) < 0.85),
        maybe(material, rng.random(num) < 0.8),
        noun,
        maybe(size_words(catalogue), rng.random(num) < 0.85),
        maybe(feature, rng.random(num) < np.where(has, 0.7, 0.4)),
        maybe(fits, TARGET_OF[catalogue.category] >= 0),
    ]
    return phrase(parts)


def _attributes(catalogue: Catalogue) -> pa.Array:
    material = category_words("materials", catalogue.category, catalogue.material)
    parts = [pc.binary_join_element_wise("material:", material, " "), pc.binary_join_element_wise("size:", size_words(catalogue), " ")]
    for place in range(NUM_FEATURES):
        name = category_words("features", catalogue.category, np.full(len(catalogue), place))
        parts.append(pc.binary_join_element_wise(name, words(["no", "yes"], catalogue.features[:, place].astype(int)), ": "))
    listed = pc.binary_join_element_wise(*parts, "; ")
    fits = pc.binary_join_element_wise("; fits:", model_names(catalogue.model), " ")
    return phrase([pc.binary_join_element_wise(listed, maybe(fits, TARGET_OF[catalogue.category] >= 0), "")])
