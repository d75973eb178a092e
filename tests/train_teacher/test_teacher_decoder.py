"""A decoder as teacher: from a bare folder through prepare_encoder and training to scores that know what it was taught."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from decoder_folders import make_decoder

from components.prepare_encoder.config import PrepareEncoderConfig
from components.prepare_encoder.step import run as prepare_encoder
from components.shared.models import folder
from components.shared.models.decoders import METHODS
from components.shared.models.scoring import Scorer
from components.shared.tables import read_table, write_table
from components.shared.tracking import NullTracker
from components.shared.training import Encoded
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.step import run

SHORT = {"num_neighbors": 1, "max_tokens": 96, "batch_size": 27, "learning_rate": 3e-3, "precision": "fp32", "validation_share": 0.0}
LEFT = ["query: red shoes"] * 2
RIGHT = [f"title: {one} | color: {one.split()[0]} | description: a {one.split()[1]}" for one in ("red shoes", "green cup")]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A decoder's folder as a hub gives it: no padding token, no spec."""
    base = str(tmp_path_factory.mktemp("decoder"))
    make_decoder(base, "qwen3")
    return f"{base}/bare"


def test_a_decoder_learns_what_items_tell(shop: dict[str, str], decoder: str, tmp_path: Path) -> None:
    judgments = read_table(shop["judgments"], "judgments")
    good = pc.is_in(judgments["item_id"], value_set=pa.array(["i0", "i1", "i2"]))  # the shoes
    grades = pc.if_else(good, pa.scalar(2, pa.int32()), pa.scalar(0, pa.int32()))
    write_table(str(tmp_path / "j"), "judgments", judgments.set_column(judgments.column_names.index("grade"), "grade", grades))
    config = PrepareEncoderConfig.model_validate({"source": decoder, "max_tokens": 96, "keep_layers": 2})
    prepare_encoder(config, items=shop["items"], queries=shop["queries"], encoder=str(tmp_path / "e"), tracker=NullTracker())
    shown = TrainTeacherConfig.model_validate({**SHORT, "num_epochs": 5, "smoothing": 0.0})
    run(
        shown,
        **{**shop, "encoder": str(tmp_path / "e"), "judgments": str(tmp_path / "j")},
        model=str(tmp_path / "m"),
        tracker=NullTracker(),
    )
    spec = folder.read_spec(tmp_path / "m")
    assert (spec.kind, spec.decoder, spec.max_tokens) == ("teacher", True, 96)
    by_method = {name: Scorer(str(tmp_path / "m"), method=name) for name in METHODS}
    scores = {name: scorer.scores(LEFT, RIGHT) for name, scorer in by_method.items()}
    assert scores["plain"][0] > scores["plain"][1] + 0.3
    for name in METHODS:
        np.testing.assert_allclose(scores[name], scores["plain"], atol=1e-5)


def test_training_reads_what_scoring_reads(decoder: str, tmp_path: Path) -> None:
    scorer = Scorer(make_decoder(str(tmp_path), "qwen3"))
    rows = Encoded.of(scorer.tokenizer, LEFT, RIGHT, max_tokens=24, decoder=True)
    with torch.inference_mode():
        trained = scorer.model(**rows.batch([0, 1])).logits.numpy()
    scorer.spec = replace(scorer.spec, max_tokens=24)
    np.testing.assert_allclose(scorer.logits(LEFT, RIGHT), trained, atol=1e-5)
    assert rows.lengths.max() == 24


def test_separate_reading_of_a_decoder_joins_nothing(shop: dict[str, str], decoder: str, tmp_path: Path) -> None:
    config = TrainTeacherConfig.model_validate({**SHORT, "num_epochs": 1, "reading": "separate"})
    run(config, **{**shop, "encoder": decoder}, model=str(tmp_path / "m"), tracker=NullTracker())
    assert not folder.read_spec(tmp_path / "m").decoder
    assert np.isfinite(Scorer(str(tmp_path / "m")).scores(LEFT, RIGHT)).all()
