"""A relevance filter inside a price sort: what is surely irrelevant is hidden, the rest is sorted by price.

Sorted by price, the cheapest accessory comes first, whatever was asked; there a relevance model gains most (BERM). It needs a student with
a calibration, whose bound for hiding has a stated error.

  python infra/serving/examples/price_sort.py http://127.0.0.1:8080
"""

import sys
from typing import Any

import requests


def by_price(url: str, query: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items that may be shown, the cheapest first. Where the server does not answer in time nothing is hidden."""
    # all that the calibration was fitted on, else its bound for hiding does not hold
    documents = [{name: item[name] for name in ("title", "brand", "color", "category") if item.get(name)} for item in items]
    try:
        answer = requests.post(f"{url}/rerank", json={"query": query, "documents": documents}, timeout=1.0)
        answer.raise_for_status()
        results = answer.json()["results"]
    except requests.RequestException:
        results = []
    if results and "verdict" not in results[0]:
        raise ValueError("the student has no calibration, so nothing says what may be hidden; train with calibration: isotonic")
    hidden = {one["index"] for one in results if one["verdict"] == "hidden"}
    return sorted((item for place, item in enumerate(items) if place not in hidden), key=lambda item: item["price"])


if __name__ == "__main__":
    found = [
        {"title": "running shoes", "color": "red", "price": 59.0},
        {"title": "shoe laces", "category": "accessories", "price": 3.5},
        {"title": "red sneakers", "price": 39.0},
    ]
    print(*(f"{item['price']:8.2f} {item['title']}" for item in by_price(sys.argv[1], "red shoes", found)), sep="\n")
