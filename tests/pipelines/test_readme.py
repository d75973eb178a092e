"""What the README shows to those who bring their own data: its card imports what it describes, its recipe loads."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from components.import_dataset.config import ImportDatasetConfig
from components.import_dataset.step import run
from components.shared.tables import read_table
from components.shared.tracking import NullTracker
from pipelines import recipe

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = dict(zip(("card", "recipe"), re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL), strict=True))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "dataset.yaml").write_text(BLOCKS["card"])
    items = {"sku": ["1", "2"], "name": ["red shoe", "kettle"], "brand": ["acme", ""], "text": ["canvas", "steel"]}
    pd.DataFrame(items).to_parquet(tmp_path / "products.parquet")
    pd.DataFrame({"id": ["q1"], "query": ["red shoes"]}).to_csv(tmp_path / "queries.csv", index=False)
    judged = {"id": ["q1", "q1"], "sku": ["1", "2"], "label": ["relevant", "wrong"], "day": ["2026-09-01", "2026-09-02"]}
    pd.DataFrame(judged).to_csv(tmp_path / "judgments.csv", index=False)
    for name in ("ubi_queries", "ubi_events"):
        pd.DataFrame({"query_id": ["s1"]}).to_parquet(tmp_path / f"{name}.parquet")
    return tmp_path


def test_the_card_imports_the_tables_that_it_describes(shop: Path, tmp_path: Path) -> None:
    out = {name: str(tmp_path / "out" / name) for name in ("card", "items", "judged_queries", "judgments")}
    run(ImportDatasetConfig(), dataset=str(shop), **out, tracker=NullTracker())
    assert read_table(out["items"], "items")["description"].to_pylist() == ["canvas", "steel"]
    judgments = read_table(out["judgments"], "judgments").to_pylist()
    assert [(one["item_id"], one["grade"], one["gain"], one["judged_at"].day) for one in judgments] == [("1", 2, 1.0, 1), ("2", 0, 0.0, 2)]


def test_the_recipe_names_a_model_of_its_own_and_asks_for_the_queries_that_the_text_says(tmp_path: Path) -> None:
    own = tmp_path / "my-shop.yaml"
    own.write_text(BLOCKS["recipe"])
    settings = recipe.load(str(own))
    assert settings["ranking"]["model"] == "models:/my-shop-student@champion"
    fewest = settings["promotion"]["min_queries"]
    assert f"A student is promoted on {fewest} or more judged dev and test queries" in README
    judged = fewest / (1 - settings["dataset"]["train_share"])
    assert f"have {judged:.0f} queries" in " ".join(README.split())


def test_the_recipes_that_the_readme_lists_are_those_that_there_are() -> None:
    table = README[README.index("| recipe | what it is for |") :].split("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == recipe.names()


def test_blocks_are_yaml() -> None:
    assert [sorted(yaml.safe_load(block)) for block in BLOCKS.values()] == [
        ["grades", "items", "judgments", "log", "name", "queries"],
        ["extends", "neighbors", "promotion"],
    ]
