"""The teacher's card: what it says follows from what was done, and nobody's text becomes markup."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from components.shared.models.folder import ModelSpec
from components.shared.tracking import SpoolTracker
from components.shared.training import Curve
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Sources, Tables, read_tables
from components.train_teacher.model_card import write_card
from components.train_teacher.processes import Outcome
from components.train_teacher.step import run
from components.train_teacher.validation import Validation

METRICS = {
    "validation.pairs": 24.0, "validation.mse_over_variance": 0.4, "validation.calibration_error": 0.05,
    "validation.segment_tail.pairwise_accuracy": 0.75, "validation.segment_tail.pairs": 9.0, "validation.with_evidence.pairs": 3.0,
}  # fmt: skip
SPEC = ModelSpec("teacher", 64, gains=[0.0, 0.4, 1.0], num_neighbors=1, source="org/model`@1")


@pytest.fixture(scope="module")
def tables(shop: dict[str, str]) -> Tables:
    return read_tables(Sources(**shop), TrainTeacherConfig(num_neighbors=1, validation_share=0.2))


def card(tables: Tables, metrics: dict[str, float] = METRICS, **more: Any) -> str:
    config = TrainTeacherConfig.model_validate({"num_neighbors": 1, "learning_rate": 0.002, **more})
    return write_card(config, tables, SPEC, Outcome(Curve([0.5, 0.25], 8, 100, 2.0), Validation(metrics)), ["loss_curve.svg"])


def test_it_says_what_was_done(tables: Tables) -> None:
    text = card(tables)
    front = yaml.safe_load(text.split("---")[1])
    assert (front["datasets"], front["base_model"]) == (["tiny"], "org/model`@1")
    assert "(`bad`, `fair`, `good`)" in text
    assert "- 108 judged pairs of 9 queries of split train; held out: 24 judged pairs of 2 queries" in text
    assert "- 2 steps, 8 pairs, 100 tokens shown; last loss 0.3750" in text  # (0.5 + 0.25) / 2
    assert "neighbors: 1 per side, hidden from 30% of the pairs" in text
    assert yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])["learning_rate"] == 0.002
    assert "num_nodes" not in text  # where it ran says nothing about the model


def test_it_says_how_good_it_is_and_where(tables: Tables) -> None:
    text = card(tables)
    assert "0.40 of the grades' variance: it knows more than the mean grade. Predicted gains are off by 0.050" in text
    assert "| `segment_tail` | 0.75 | 9 |" in text
    assert "| `with_evidence` | - | 3 |" in text
    assert "do not use it" in card(tables, {**METRICS, "validation.mse_over_variance": 1.06})
    assert "No queries were held out" in card(tables, {})


def test_texts_of_the_outside_do_not_become_markup(tables: Tables) -> None:
    assert "- start: `org/model'@1`" in card(tables)


def test_it_lies_beside_the_model_and_is_kept_with_the_run(shop: dict[str, str], random_encoder: str, tmp_path: Path) -> None:
    tracker = SpoolTracker(tmp_path / "spool.jsonl", "teacher")
    config = TrainTeacherConfig(
        num_neighbors=1, max_tokens=64, num_epochs=1, precision="fp32", validation_share=0.2, min_pairwise_accuracy=0
    )
    report = run(config, **{**shop, "encoder": random_encoder}, model=str(tmp_path / "m"), tracker=tracker)
    text = (tmp_path / "m-card.md").read_text()
    assert f"| `accuracy` | {report.metrics['validation.accuracy']:.4g} |" in text
    assert "Beside this card: `calibration.svg`, `confusion.svg`, `loss_curve.svg`." in text
    assert "m-card.md" in (tmp_path / "spool.jsonl").read_text()
    assert np.isfinite(report.metrics["validation.calibration_error"])
