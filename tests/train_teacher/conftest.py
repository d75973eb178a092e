"""A tiny shop: items of two colors and three kinds, queries that ask for both."""

import json
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from components.prepare_encoder.config import PrepareEncoderConfig
from components.prepare_encoder.step import run as prepare_encoder
from components.shared import storage
from components.shared.schema import TABLES
from components.shared.tables import write_table
from components.shared.tracking import NullTracker

KINDS = ("shoes", "lamp", "chair", "cup")
COLORS = ("red", "blue", "green")
CARD = {
    "name": "tiny",
    "grades": {"bad": {"grade": 0, "gain": 0.0}, "fair": {"grade": 1, "gain": 0.4}, "good": {"grade": 2, "gain": 1.0}},
    "items": {"file": "i", "columns": {}},
    "queries": {"file": "q", "columns": {}},
    "judgments": {"file": "j", "columns": {}},
    "log": {"queries": "l", "events": "e"},
}


def write(folder: Path, name: str, rows: list[dict]) -> str:
    schema = TABLES[name].schema
    whole = [{column: row.get(column) for column in schema.names} for row in rows]
    uri = str(folder / name)
    write_table(uri, name, pa.Table.from_pylist(whole, schema=schema))
    return uri


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Arguments of train_teacher's `run`, without `model`: grade 2 = kind and color fit, 1 = the kind fits, 0 = neither."""
    folder = tmp_path_factory.mktemp("shop")
    names = [(color, kind) for kind in KINDS for color in COLORS]
    items = [{"item_id": f"i{n}", "title": f"{c} {k}", "color": c, "description": f"a {k}"} for n, (c, k) in enumerate(names)]
    queries = [
        {"query_id": f"q{n}", "query_text": f"{c} {k}", "query": f"{c} {k}", "frequency": 5, "segment": "head"}
        for n, (c, k) in enumerate(names)
    ]
    judgments = []
    for q, (color, kind) in enumerate(names):
        for i, (other_color, other_kind) in enumerate(names):
            grade = 0 if kind != other_kind else 2 if color == other_color else 1
            row = {"query_id": f"q{q}", "item_id": f"i{i}", "grade": grade, "gain": (0.0, 0.4, 1.0)[grade]}
            judgments.append({**row, "judged_at": date(2026, 1, 9), "split": "test" if q == 11 else "train"})
    neighbors = [
        {"snapshot": date(2026, 1, 5), "side": "query", "key": "red shoes", "left_out": "", "rank": 1, "neighbor": "i1",
         "text": "blue shoes", "lower_bound": 0.5}
    ]  # fmt: skip
    card = str(folder / "card.json")
    storage.write_json(card, CARD)
    places = {name: write(folder, name, rows) for name, rows in
              {"items": items, "queries": queries, "judgments": judgments, "neighbors": neighbors}.items()}  # fmt: skip
    return {"card": card, "encoder": make_encoder(folder / "encoder", places, warm_start=True), **places}


@pytest.fixture(scope="session")
def random_encoder(shop: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tells texts apart; to the shop's own encoder, which starts from co-occurrence, all words of this even catalogue are alike."""
    return make_encoder(tmp_path_factory.mktemp("random") / "encoder", shop, warm_start=False)


@pytest.fixture
def still_shop(shop: dict[str, str], random_encoder: str, tmp_path: Path) -> dict[str, str]:
    """The shop with an encoder that tells texts apart, without dropout: two processes draw other masks than one."""
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    for file in Path(random_encoder).iterdir():
        (encoder / file.name).write_bytes(file.read_bytes())
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}))
    return {**shop, "encoder": str(encoder)}


def make_encoder(folder: Path, places: dict[str, str], *, warm_start: bool) -> str:
    sizes = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "vocab_size": 200, "max_tokens": 64}
    config = PrepareEncoderConfig.model_validate({**sizes, "warm_start": warm_start})
    prepare_encoder(config, items=places["items"], queries=places["queries"], encoder=str(folder), tracker=NullTracker())
    return str(folder)
