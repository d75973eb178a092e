"""The step through its doors: files, card, determinism, BM25 that can be beaten, given folders."""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.compute as pc
import pytest
import yaml
from bm25s import BM25, tokenize

from components.shared import storage
from components.shared.errors import InputError
from components.shared.tracking import NullTracker
from components.simulate_shop.component import simulate_shop
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.relevance import GAINS, LABELS
from components.simulate_shop.step import run

TINY = {"num_items": 120, "num_queries": 20, "num_log_queries": 20, "num_sessions": 60, "days": 2}


def make(folder: Path, **changes: object) -> str:
    run(SimulateShopConfig(**{**TINY, **changes}), dataset=str(folder), tracker=NullTracker())
    return storage.content_digest(str(folder))


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    assert make(tmp_path / "a") == make(tmp_path / "b")
    assert make(tmp_path / "c", seed=2) != make(tmp_path / "a")


def test_a_half_written_shop_is_replaced(tmp_path: Path) -> None:
    digest = make(tmp_path / "a", days=3)
    (tmp_path / "a" / "dataset.yaml").unlink()
    assert make(tmp_path / "a") != digest
    assert make(tmp_path / "a") == make(tmp_path / "b")


def test_foreign_files_are_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("precious")
    with pytest.raises(InputError, match="holds files that are not a simulated shop; give an empty folder"):
        make(tmp_path)
    assert (tmp_path / "mine.csv").read_text() == "precious"


def test_the_card_lists_five_grades(shop) -> None:
    card = yaml.safe_load((shop.folder / "dataset.yaml").read_text())
    assert {label: one["gain"] for label, one in card["grades"].items()} == dict(zip(LABELS, GAINS, strict=True))
    assert card["log"]["first_position"] == 1


def test_judgments_are_later_than_the_log_and_split_by_query(shop) -> None:
    judgments = shop.read("judgments.parquet")
    assert len(judgments) == 80 * 30 == shop.report.metrics["num_judgments"]
    # three days from 1 September end on the 3rd; a week later
    assert judgments["judged_at"].unique().to_pylist() == [date(2026, 9, 10)]
    per_query = judgments.group_by("query_id").aggregate([("split", "count_distinct")])
    assert pc.max(per_query["split_count_distinct"]).as_py() == 1
    splits = shop.read("queries.parquet")["split"].value_counts().to_pylist()
    assert {one["values"]: one["counts"] for one in splits} == {"train": 48, "dev": 12, "test": 20}


def test_noise_moves_the_asked_share_of_grades(shop) -> None:
    codes = np.array([LABELS.index(label) for label in shop.read("judgments.parquet")["label"].to_pylist()])
    true = shop.read("truth/judgments.parquet")["grade"].to_numpy()
    assert np.mean(codes != true) == pytest.approx(0.05, abs=0.015)
    assert np.abs(codes - true).max() == 1


def test_bm25_is_decent_but_beatable(shop) -> None:
    """NDCG@10 of BM25 over title and category lies well between random order and the ideal."""
    items, queries, judgments = (shop.read(f"{name}.parquet") for name in ("items", "queries", "judgments"))
    split_words = {"show_progress": False, "stopwords": []}
    index = BM25()
    index.index(
        tokenize([f"{t} {c}" for t, c in zip(items["title"].to_pylist(), items["category"].to_pylist(), strict=True)], **split_words),
        show_progress=False,
    )
    place = {item_id: row for row, item_id in enumerate(items["item_id"].to_pylist())}
    pairs: dict[str, list[tuple[int, float]]] = {}
    for row in judgments.to_pylist():
        pairs.setdefault(row["query_id"], []).append((place[row["item_id"]], GAINS[LABELS.index(row["label"])]))
    rng, by_words, by_chance = np.random.default_rng(0), [], []
    for row in queries.to_pylist():
        rows, gains = (np.array(column) for column in zip(*pairs[row["query_id"]], strict=True))
        scores = index.get_scores(tokenize(row["query"], return_ids=False, **split_words)[0])[rows.astype(int)]
        by_words.append(ndcg(gains, -scores + 1e-6 * rng.random(len(rows))))
        by_chance.append(ndcg(gains, rng.random(len(rows))))
    assert np.mean(by_chance) + 0.15 < np.mean(by_words) < 0.85


def ndcg(gains: np.ndarray, order_by: np.ndarray) -> float:
    discount = 1 / np.log2(np.arange(10) + 2)
    return float((gains[np.argsort(order_by)][:10] * discount).sum() / max((np.sort(gains)[::-1][:10] * discount).sum(), 1e-9))


def test_a_given_folder_is_only_pointed_at(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "items.csv").write_text("item_id,title\n1,shoe\n")
    report = run(SimulateShopConfig(), given=str(data), dataset=str(tmp_path / "out"), tracker=NullTracker())
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["given.json"]
    pointer = json.loads((tmp_path / "out" / "given.json").read_text())
    assert pointer == {"uri": f"file://{data}", "snapshot": storage.listing_digest(str(data))}
    assert report.metrics == {"num_files": 1}


@pytest.mark.parametrize(("name", "message"), [("absent", "does not exist"), ("file", "is a file"), ("empty", "is empty")])
def test_a_given_folder_must_hold_data(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"data folder '.*/{name}' {message}; give a folder with dataset.yaml"):
        run(SimulateShopConfig(), given=str(tmp_path / name), dataset=str(tmp_path / "out"), tracker=NullTracker())
    assert not (tmp_path / "out").exists()


def test_a_given_folder_must_be_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "items.csv").write_text("item_id,title\n1,shoe\n")
    monkeypatch.setattr("components.simulate_shop.given.os.access", lambda place, mode: False)  # root may read everything
    with pytest.raises(InputError, match=r"/data' is not readable by this user; change its permissions or give a folder with dataset"):
        run(SimulateShopConfig(), given=str(tmp_path / "data"), dataset=str(tmp_path / "out"), tracker=NullTracker())
    assert not (tmp_path / "out").exists()


def test_shares_above_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train_share \+ dev_share = 1.3 is above 1"):
        make(tmp_path / "a", train_share=0.8, dev_share=0.5)


def test_command_line_makes_the_same_shop_and_refuses_bad_input(tmp_path: Path) -> None:
    flags = [part for key, value in TINY.items() for part in ("--" + key.replace("_", "-"), str(value))]
    call = [sys.executable, "-m", "components.simulate_shop", "--dataset"]
    good = subprocess.run([*call, str(tmp_path / "a"), *flags], capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stderr
    assert storage.content_digest(str(tmp_path / "a")) == make(tmp_path / "b")
    bad = subprocess.run([*call, str(tmp_path / "c"), "--given", str(tmp_path / "none")], capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    remedy = "give a folder with dataset.yaml or of a known shape (see components/import_dataset/README.md)"
    assert bad.stderr == f"error: data folder '{tmp_path / 'none'}' does not exist; {remedy}\n"
    assert not (tmp_path / "c").exists()


def test_component_hands_over_the_folder(tmp_path: Path) -> None:
    dataset, summary = (SimpleNamespace(path=str(tmp_path / name), metadata={}) for name in ("dataset", "summary.md"))
    config = {key: float(value) for key, value in TINY.items()}  # kfp makes floats of integers
    simulate_shop.python_func(
        config=config, section="shop", workspace=str(tmp_path / "work"), run_id="r1", given="", dataset=dataset, summary=summary
    )
    address = json.loads(Path(dataset.path).read_text())
    assert address["digest"] == make(tmp_path / "b")
    assert "num_events" in Path(summary.path).read_text()
