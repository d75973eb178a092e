"""The two ways to use a student: as a feature of a ranker, and as a filter inside a price sort."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from serving_doors import serving

from components.shared.calibration import Calibration

EXAMPLES = Path(__file__).parents[2] / "infra/serving/examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Counting:
    """Scores an item by the number of words that it shares with the query."""

    calibration = Calibration({"": {"slope": [1.0], "offset": [0.0]}}, hide_below=0.6, sure_above=0.8, error=0.05)

    def __init__(self, runtime):
        self.runtime = runtime

    def __getattr__(self, name):
        return getattr(self.runtime, name)

    def scores(self, left, right):
        return np.array([float(len({*one.split()} & {*other.split()})) for one, other in zip(left, right, strict=True)])


@pytest.fixture(scope="module")
def url(runtimes):
    with serving(Counting(runtimes["cross_encoder"])) as server:
        yield server.url


def test_the_score_is_a_feature_beside_others(url):
    titles = {"blue kettle": 90, "red running shoes": 40, "red shoe polish": 60}
    items = [{"title": title, "popularity": popular, "margin": 0.1} for title, popular in titles.items()]
    module = example("rerank_feature")
    # relevance 0, 2, 1 outweighs popularity: (2 - 1) / 0.816 = 1.22 and 0.3 x (40 - 63.3) / 20.5 = -0.34
    assert [item["title"] for item in module.rerank(url, "red shoes", items)] == ["red running shoes", "red shoe polish", "blue kettle"]
    module.WEIGHTS["popularity"] = 3.0
    assert next(item["title"] for item in module.rerank(url, "red shoes", items)) == "blue kettle"
    assert module.rerank("http://127.0.0.1:9", "red shoes", items) == items


def test_what_is_hidden_is_not_in_the_price_sort(url, runtimes):
    prices = {"red running shoes": 59.0, "laces": 3.5, "red sneakers": 39.0}
    items = [{"title": title, "price": price} for title, price in prices.items()]
    module = example("price_sort")
    fields = {"brand": "red", "color": "red", "category": "shoes"}
    items += [{"title": "stride", name: text, "price": 49.0} for name, text in fields.items()]
    # gain sigmoid(0) = 0.5 < 0.6 is hidden, sigmoid(1) = 0.73 is not
    assert [item["title"] for item in module.by_price(url, "red shoes", items)] == ["red sneakers", *["stride"] * 3, "red running shoes"]
    assert [item["price"] for item in module.by_price("http://127.0.0.1:9", "red shoes", items)] == [3.5, 39.0, 49.0, 49.0, 49.0, 59.0]
    with serving(runtimes["cross_encoder"]) as bare, pytest.raises(ValueError, match="no calibration"):
        module.by_price(bare.url, "red shoes", items)
