"""The score as one feature among others: a search engine's candidates, re-ranked by what the shop knows and what the student says.

python infra/serving/examples/rerank_feature.py http://127.0.0.1:8080
"""

import sys
from typing import Any

import numpy as np
import requests

WEIGHTS = {"relevance": 1.0, "popularity": 0.3, "margin": 0.1}  # of a shop's own ranker; a learnt one takes the same columns


def relevance_of(url: str, query: str, items: list[dict[str, Any]]) -> np.ndarray:
    """The student's score of each item [items]."""
    documents = [{name: item[name] for name in ("title", "brand", "color", "category") if item.get(name)} for item in items]
    answer = requests.post(f"{url}/rerank", json={"query": query, "documents": documents}, timeout=1.0)
    answer.raise_for_status()
    scores = np.empty(len(items))
    for one in answer.json()["results"]:
        scores[one["index"]] = one["relevance_score"]
    return scores


def rerank(url: str, query: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items from the best down. Where the server does not answer in time they keep the engine's order."""
    try:
        columns = {"relevance": relevance_of(url, query, items)}
    except requests.RequestException:
        return items
    columns |= {name: np.array([item[name] for item in items], float) for name in WEIGHTS if name != "relevance"}
    # within a query, so that a feature's unit does not weigh
    whole = sum(WEIGHTS[name] * (values - values.mean()) / (values.std() or 1.0) for name, values in columns.items())
    return [items[place] for place in np.argsort(-np.asarray(whole), kind="stable")]


if __name__ == "__main__":
    found = [
        {"title": "blue kettle", "popularity": 90, "margin": 0.2},
        {"title": "red running shoes", "popularity": 40, "margin": 0.3},
        {"title": "red shoe polish", "popularity": 60, "margin": 0.5},
    ]
    print(*(item["title"] for item in rerank(sys.argv[1], "red shoes", found)), sep="\n")
