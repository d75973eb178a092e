"""The hidden rules, on needs and items made by hand."""

from dataclasses import replace

import numpy as np
import pytest

from components.simulate_shop.catalogue import MAX_MODELS, NUM_FEATURES, Catalogue
from components.simulate_shop.judging import blur_grades, choose_judged, split_queries
from components.simulate_shop.queries import ATTRIBUTE, Needs
from components.simulate_shop.relevance import GAINS, LABELS, count_wrongs, grade_items
from components.simulate_shop.vocabulary import AMBIGUOUS, NAMES

PAN, POT, PHONE, CASE = (NAMES.index(name) for name in ("Frying Pans", "Saucepans", "Smartphones", "Phone Cases"))
NOVA, OTHER = PHONE * MAX_MODELS, PHONE * MAX_MODELS + 1


def items(*rows: dict) -> Catalogue:
    blank = {"category": PAN, "brand": 0, "color": 0, "material": 0, "size": 10.0, "features": [False] * NUM_FEATURES, "model": -1}
    whole = [{**blank, **row} for row in rows]
    return Catalogue(**{name: np.array([row[name] for row in whole]) for name in blank})


def need(**asked: object) -> Needs:
    blank = {
        "kind": ATTRIBUTE, "category": PAN, "word": -1, "brand": -1, "color": -1, "material": -1, "size": np.nan, "excluded": -1,
        "model": -1,
    }  # fmt: skip
    return Needs(**{name: np.array([value]) for name, value in {**blank, **asked}.items()})


def grades(wanted: Needs, *rows: dict) -> list[int]:
    return grade_items(wanted, items(*rows))[0].tolist()


def test_each_wrong_attribute_costs_one_grade_down_to_one() -> None:
    wanted = need(brand=0, color=0, material=0, size=10.0)
    rows = [
        {},
        {"brand": 1},
        {"brand": 1, "color": 1},
        {"brand": 1, "color": 1, "material": 1},
        {"brand": 1, "color": 1, "material": 1, "size": 8.0},
    ]
    assert grades(wanted, *rows) == [4, 3, 2, 1, 1]


def test_a_size_far_off_counts_twice() -> None:
    # 12 of 10 is 20 % off: one wrong; 16 is 60 % off: two
    assert grades(need(size=10.0), {"size": 10.0}, {"size": 12.0}, {"size": 16.0}) == [4, 3, 2]


def test_what_is_not_asked_is_not_wrong() -> None:
    assert count_wrongs(need(), items({"brand": 3, "color": 4, "material": 2, "size": 99.0})).tolist() == [[0]]


def test_an_excluded_feature_leaves_grade_one_at_most() -> None:
    rows = [{"features": [False, True]}, {"features": [True, False]}, {"features": [True, False], "color": 1}]
    assert grades(need(excluded=0, color=0), *rows) == [4, 1, 1]


def test_a_sibling_category_is_related_only_with_all_else_right() -> None:
    assert grades(need(color=0), {"category": POT}, {"category": POT, "color": 1}, {"category": PHONE}) == [1, 0, 0]
    assert grades(need(material=0), {"category": POT}) == [0]  # material codes of two categories do not compare


def test_an_accessory_must_fit_and_goes_with_its_device() -> None:
    case = {"category": CASE, "model": NOVA}
    assert grades(need(category=CASE, model=NOVA), case, {**case, "model": OTHER}, {"category": PHONE, "model": NOVA}) == [4, 1, 1]
    phone = {"category": PHONE, "model": NOVA}
    assert grades(need(category=PHONE, model=NOVA), phone, {**phone, "model": OTHER}, case, {**case, "model": OTHER}) == [4, 3, 1, 0]


def test_the_rarer_sense_of_a_word_is_partial() -> None:
    first, second = (NAMES.index(name) for name in AMBIGUOUS[0][1:])
    wanted = need(category=first, word=0, color=0)
    assert grades(wanted, {"category": first}, {"category": second}, {"category": second, "color": 1}) == [4, 2, 1]


def test_five_labels_have_rising_gains() -> None:
    assert len(LABELS) == len(GAINS) == 5
    assert GAINS == (0.0, 0.1, 0.3, 0.6, 1.0)


def test_blurred_grades_are_one_off_and_stay_in_range() -> None:
    true = np.repeat(np.arange(5), 4000)
    blurred = blur_grades(true, 0.1, np.random.default_rng(0))
    assert set(np.abs(blurred - true).tolist()) == {0, 1}
    assert blurred.min() == 0
    assert blurred.max() == 4
    assert np.mean(blurred != true) == pytest.approx(0.1, abs=0.01)
    np.testing.assert_array_equal(blur_grades(true, 0.0, np.random.default_rng(0)), true)


def test_judged_items_mix_matching_near_and_random() -> None:
    matching, near, far = [{}] * 20, [{"category": POT, "color": 1}] * 20, [{"category": PHONE}] * 60
    catalogue = items(*matching, *near, *far)
    row, item, grade = choose_judged(need(color=0), catalogue, 20, np.random.default_rng(3))
    assert row.tolist() == [0] * 20
    assert len(set(item.tolist())) == 20
    # 20 x 0.35 = 7 matching, 20 x 0.45 = 9 near, the other 4 random
    assert [(item < 20).sum(), ((item >= 20) & (item < 40)).sum(), (item >= 40).sum()] == [7, 9, 4]
    np.testing.assert_array_equal(grade, np.where(item < 20, 4, 0))


def test_judged_items_fill_up_where_nothing_matches() -> None:
    catalogue = items(*[{"category": PHONE}] * 30)
    row, item, _ = choose_judged(need(), catalogue, 20, np.random.default_rng(3))
    assert len(row) == len(set(item.tolist())) == 20


def test_split_shares_are_exact() -> None:
    split = split_queries(40, 0.6, 0.15, np.random.default_rng(0))
    assert [int((split == name).sum()) for name in ("train", "dev", "test")] == [24, 6, 10]


def test_grades_do_not_depend_on_the_batch() -> None:
    catalogue = items({}, {"brand": 1}, {"category": POT})
    one, two = need(brand=0), replace(need(brand=1), color=np.array([0]))
    both = grade_items(one.join(two), catalogue)
    np.testing.assert_array_equal(both, np.vstack([grade_items(one, catalogue), grade_items(two, catalogue)]))
