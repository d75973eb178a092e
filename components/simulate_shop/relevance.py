"""The hidden rules: how well an item meets a need. No other room may know them.

Grade 4: all that was asked. 3, 2, 1: one, two, more of brand, color, material, size or model are wrong. At most 1 where a feature
that was excluded is present, or an accessory does not fit. At most 2 in the rarer sense of an ambiguous word. 1 for accessories of what was
asked, for the device of an asked accessory, and for a sibling category where no more than brand and color is asked, and right. 0 otherwise.
"""

import numpy as np

from components.simulate_shop.catalogue import DEPARTMENT_OF, TARGET_OF, Catalogue
from components.simulate_shop.queries import Needs

LABELS = ("Irrelevant", "Related", "Partial", "Close", "Exact")
GAINS = (0.0, 0.1, 0.3, 0.6, 1.0)
NEAR_SIZE = 0.35  # a size that is further off, as a share of the asked one, counts as two wrongs


def grade_items(needs: Needs, catalogue: Catalogue) -> np.ndarray:
    """True grades [needs, items], int8."""
    category = needs.category[:, None]
    same = catalogue.category == category
    other = catalogue.category == needs.second_sense[:, None]
    wrongs = count_wrongs(needs, catalogue)
    has_excluded = np.where(needs.excluded[:, None] >= 0, catalogue.features.T[np.maximum(needs.excluded, 0)], False)
    wrong_model = (needs.model[:, None] >= 0) & (catalogue.model != needs.model[:, None])
    misfit = wrong_model & (TARGET_OF[category] >= 0)
    grade = np.where(same, np.maximum(4 - wrongs - wrong_model, 1), 0)
    grade = np.where(other, np.maximum(2 - wrongs, 1), grade)
    grade = np.where((same | other) & (has_excluded | misfit), np.minimum(grade, 1), grade)
    general = (np.isnan(needs.size) & (needs.material < 0) & (needs.model < 0) & (needs.word < 0))[:, None]
    related = _goes_with(needs, catalogue) & ~wrong_model | _is_sibling(needs, catalogue) & general & (wrongs == 0)
    return np.where(related & ~same & ~other, 1, grade).astype(np.int8)


def count_wrongs(needs: Needs, catalogue: Catalogue) -> np.ndarray:
    """How many of the asked brand, color, material and size an item lacks [needs, items]."""
    wrongs = np.zeros((len(needs), len(catalogue)), np.int8)
    for name in ("brand", "color", "material"):
        asked = getattr(needs, name)[:, None]
        wrongs += (asked >= 0) & (getattr(catalogue, name) != asked)
    size = needs.size[:, None]
    off = np.abs(catalogue.size - size) / size  # NaN where no size is asked compares as false
    return wrongs + (off > 0.01).astype(np.int8) + (off > NEAR_SIZE).astype(np.int8)


def _goes_with(needs: Needs, catalogue: Catalogue) -> np.ndarray:
    """The item is an accessory of what is asked, or the device that the asked accessory is for."""
    asked, given = needs.category[:, None], catalogue.category
    return (TARGET_OF[given] == asked) | (TARGET_OF[asked] == given)


def _is_sibling(needs: Needs, catalogue: Catalogue) -> np.ndarray:
    return DEPARTMENT_OF[catalogue.category] == DEPARTMENT_OF[needs.category][:, None]
