"""Catalogue and queries: distinct, answerable, worded unlike the titles."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from components.shared.errors import InputError
from components.simulate_shop.catalogue import HAS_MODELS, TARGET_OF, item_rows, make_catalogue, model_brand, model_names, numbers, phrase
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.queries import KINDS, NEGATION, NUMBER, SENSES, draw_needs, make_queries, misspell, word_needs
from components.simulate_shop.relevance import grade_items
from components.simulate_shop.vocabulary import BRANDS, CATEGORIES
from components.simulate_shop.world import popularity


@pytest.fixture(scope="module")
def catalogue():
    return make_catalogue(1500, np.random.default_rng(1))


def test_every_need_is_met_by_some_item(catalogue) -> None:
    needs = draw_needs(500, catalogue, np.random.default_rng(2))
    assert (grade_items(needs, catalogue).max(axis=1) == 4).all()
    assert set(needs.kind.tolist()) == set(range(len(KINDS)))


def test_kinds_ask_for_what_they_are_named_after(catalogue) -> None:
    needs = draw_needs(2000, catalogue, np.random.default_rng(3))
    np.testing.assert_array_equal(~np.isnan(needs.size), needs.kind == NUMBER)
    np.testing.assert_array_equal(needs.excluded >= 0, needs.kind == NEGATION)
    np.testing.assert_array_equal(needs.word >= 0, needs.kind == SENSES)
    assert (needs.model[TARGET_OF[needs.category] >= 0][needs.word[TARGET_OF[needs.category] >= 0] < 0] >= 0).all()


def test_texts_are_distinct_and_reproducible(catalogue) -> None:
    first, again = (make_queries(450, 1500, catalogue, np.random.default_rng(5)) for _ in range(2))
    assert len(first) == 1950
    assert len(set(first.text.to_pylist())) == 1950
    assert first.text.equals(again.text)
    rewordings = first.family[450:] < 450
    assert 0.2 < rewordings.mean() < 0.8


def test_too_many_queries_are_refused_with_the_key(catalogue) -> None:
    with pytest.raises(InputError, match=r"key 'num_queries' = 60000: only \d+ distinct queries can be made; lower it"):
        make_queries(60_000, 0, catalogue, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"key 'num_log_queries' = 40000: only \d+ distinct"):
        make_queries(20, 40_000, catalogue, np.random.default_rng(0))


@pytest.mark.parametrize("key", ["num_queries", "num_log_queries", "num_items"])
def test_sizes_that_fill_the_memory_before_they_fail_are_refused_at_once(key: str) -> None:
    with pytest.raises(InputError, match=f"key '{key}'.*1000000"):
        SimulateShopConfig.from_mapping({key: 100_000_000}, section="shop")


def test_popularity_is_shared_between_judged_and_other_queries(catalogue) -> None:
    queries = make_queries(40, 60, catalogue, np.random.default_rng(5))
    config = SimulateShopConfig(judged_traffic=0.7, cold_share=0.25, zipf=1.0)
    weights = popularity(config, queries, np.random.default_rng(0))
    assert [weights[:40].sum(), weights[40:].sum()] == pytest.approx([0.7, 0.3])
    assert (weights == 0).sum() == 10  # a quarter of the 40 judged ones is cold, no other is
    others = np.sort(weights[40:])[::-1]
    np.testing.assert_allclose(others / others[0], 1 / np.arange(1, 61))  # Zipf with exponent 1
    alone = popularity(config, make_queries(40, 0, catalogue, np.random.default_rng(5)), np.random.default_rng(0))
    assert alone.sum() == pytest.approx(1.0)


def test_titles_never_use_shoppers_synonyms(catalogue) -> None:
    items = item_rows(catalogue, np.random.default_rng(6))
    titles = pc.utf8_lower(items["title"])
    synonyms = [word for category in CATEGORIES for word in category.synonyms]
    assert not any(pc.any(pc.match_substring_regex(titles, rf"\b{word}\b")).as_py() for word in synonyms)
    needs = draw_needs(2000, catalogue, np.random.default_rng(7))
    texts = word_needs(needs, np.random.default_rng(8)).to_pylist()
    assert 0.4 < np.mean([any(word in text for word in synonyms) for text in texts]) < 0.8


def test_titles_say_whom_they_fit(catalogue) -> None:
    items = item_rows(catalogue, np.random.default_rng(6))
    row = int(np.flatnonzero(TARGET_OF[catalogue.category] >= 0)[0])
    name = model_names(catalogue.model[row : row + 1])[0].as_py()
    assert items["title"][row].as_py().endswith(f"for {name}")
    assert f"fits: {name}" in items["attributes"][row].as_py()
    assert name.split()[0] == BRANDS[model_brand(catalogue.model[row : row + 1])[0]]


def test_models_have_names_of_their_own(catalogue) -> None:
    models = np.unique(catalogue.model[HAS_MODELS[catalogue.category]])
    assert len(set(model_names(models).to_pylist())) == len(models)


def test_words_and_numbers() -> None:
    assert numbers(np.array([500.0, 0.5, 25.4])).to_pylist() == ["500", "0.5", "25.4"]
    assert phrase([pa.array(["", "a"]), pa.array(["b", ""]), pa.array(["c", "d"])]).to_pylist() == ["b c", "a d"]


def test_misspelled_texts_are_one_edit_away() -> None:
    texts = pa.array(["running shoes"] * 200)
    wrong = misspell(texts, np.random.default_rng(0)).to_pylist()
    assert {len(one) for one in wrong} <= {12, 13}
    assert all(sorted(one) == sorted("running shoes") for one in wrong if len(one) == 13)
    assert np.mean([one != "running shoes" for one in wrong]) > 0.85  # swapping the two n changes nothing
