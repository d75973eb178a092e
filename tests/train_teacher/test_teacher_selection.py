"""Which judged pairs are kept: the published rule, who learns what, and that nobody predicts what it has seen."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.tables import read_table
from components.shared.tracking import NullTracker, SpoolTracker
from components.train_teacher import selectors, step
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Sources, read_tables
from components.train_teacher.network import build_network, export, teacher_spec
from components.train_teacher.selection import KEPT, balanced_rows, likely_mistakes, reasons

SETTINGS: dict[str, Any] = {"num_neighbors": 1, "max_tokens": 64, "batch_size": 27, "num_epochs": 1, "learning_rate": 3e-3}
SETTINGS |= {"precision": "fp32", "validation_share": 0.2, "selection": "hard_and_clean", "selection_epochs": 1, "selection_min_pairs": 1}
SETTINGS |= {"min_pairwise_accuracy": 0.0}  # too short to learn much


def test_the_rule_by_hand() -> None:
    judged, im, ci, ms = np.array(
        [
            (3, 1, 3, 1),  # CI agrees, IM and MS do not: learnable, hard, clean
            (3, 3, 3, 1),  # IM knows it
            (3, 3, 1, 3),  # IM knows it, whatever the others say
            (3, 1, 2, 1),  # nobody can learn it
            (3, 1, 3, 3),  # MS expects just this mistake
        ]
    ).T
    expected = ["kept", "already_known", "already_known", "not_learnable", "suspected_label"]
    assert reasons(judged, im, ci, ms).tolist() == expected


def planted_flips(seed: int = 0, num_pairs: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(flipped, judged, im, ci, ms) where a tenth of the grades was moved to the grade that the pair is most easily mistaken for."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, num_pairs)
    mistake = np.where(truth == 4, 3, truth + 1)
    flipped = rng.random(num_pairs) < 0.1
    wrong = [np.where(rng.random(num_pairs) < 0.6, mistake, (truth + rng.integers(1, 5, num_pairs)) % 5) for _ in range(3)]
    im, ci = (np.where(rng.random(num_pairs) < share, truth, one) for share, one in ((0.6, wrong[0]), (0.8, wrong[1])))
    ms = np.where(rng.random(num_pairs) < 0.8, mistake, wrong[2])
    return flipped, np.where(flipped, mistake, truth), im, ci, ms


def test_kept_pairs_hold_a_third_of_the_flips_and_the_inverted_rule_fails_that() -> None:
    flipped, judged, im, ci, ms = planted_flips()
    kept = reasons(judged, im, ci, ms) == KEPT
    inverted = (ci == judged) & (im != judged) & (ms == judged)
    assert kept.sum() > 1000
    assert flipped[kept].mean() <= flipped.mean() / 3
    assert flipped[inverted].mean() > flipped.mean()


def test_the_likeliest_mistake_is_never_the_judged_grade() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    assert likely_mistakes(probabilities, np.array([0, 2, 2])).tolist() == [1, 0, 0]
    assert probabilities[0, 0] == 0.5  # what was given is left alone


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4), share=st.floats(0.05, 1), seed=st.integers(0, 3))
def test_strata_are_drawn_alike_as_far_as_they_last(sizes: list[int], share: float, seed: int) -> None:
    strata = np.repeat(np.arange(len(sizes)), sizes)
    number = max(1, round(share * len(strata)))
    rows = balanced_rows(strata, number, np.random.default_rng(seed))
    assert len(np.unique(rows)) == number
    drawn = np.bincount(strata[rows], minlength=len(sizes))
    for stratum, size in enumerate(sizes):  # a stratum that is not used up has at most one row less than the fullest
        assert drawn[stratum] == size or drawn[stratum] >= drawn.max() - 1


class Recorder:
    """Stands in for training: notes what each selector is told, and leaves a teacher that has learnt nothing; ends at the `last` one."""

    def __init__(self, last: int = 99) -> None:
        self.last = last
        self.told: dict[str, Any] = {}
        self.settings: list[TrainTeacherConfig] = []

    def __call__(self, config: TrainTeacherConfig, sources: Sources, model: str) -> None:
        self.told[model.split("/")[-2]] = read_table(sources.judgments, "judgments")
        self.settings.append(config)
        if len(self.told) == self.last:
            raise KeyboardInterrupt
        path = folder.fetch(sources.encoder)
        spec = teacher_spec(path, config, [0.0, 0.4, 1.0])
        export(model, build_network(path, spec, config), folder.load_tokenizer(path), spec)


@pytest.fixture(scope="module")
def asked(shop: dict[str, str], random_encoder: str, tmp_path_factory: pytest.TempPathFactory):
    """(settings, tables, what the selectors were told, the selection)"""
    config, sources = TrainTeacherConfig(**SETTINGS, selection_random_share=0.5), Sources(**{**shop, "encoder": random_encoder})
    tables, recorder = read_tables(sources, config), Recorder()
    place = str(tmp_path_factory.mktemp("selectors"))
    found = selectors.ask_selectors(config, selectors.Selectors(config, sources, tables, place, recorder))
    return config, tables, recorder, found


def test_no_selector_predicts_a_query_it_has_seen(asked) -> None:
    _, tables, recorder, found = asked
    assert set(recorder.told) == {f"{name}-{part}" for name in ("im", "ci", "ms") for part in (0, 1)}
    everything = set(tables.training["query_id"].to_pylist())
    seen = {name: set(table["query_id"].to_pylist()) for name, table in recorder.told.items()}
    for name in ("im", "ci", "ms"):
        assert not seen[f"{name}-0"] & seen[f"{name}-1"]
    assert seen["ms-0"] | seen["ms-1"] == everything
    assert not everything & set(tables.validation["query_id"].to_pylist())
    assert found["query_id"].to_pylist() == tables.training["query_id"].to_pylist()


def test_ms_learns_a_wrong_grade_of_every_pair_and_the_others_the_judged(asked) -> None:
    config, tables, recorder, _ = asked
    keys = list(zip(tables.training["query_id"].to_pylist(), tables.training["item_id"].to_pylist(), strict=True))
    judged = dict(zip(keys, tables.training["grade"].to_pylist(), strict=True))
    for name, table in recorder.told.items():
        rows = list(zip(table["query_id"].to_pylist(), table["item_id"].to_pylist(), strict=True))
        same = {judged[key] == grade for key, grade in zip(rows, table["grade"].to_pylist(), strict=True)}
        assert same == {not name.startswith("ms")}
    sizes = {name: sum(len(recorder.told[f"{name}-{part}"]) for part in (0, 1)) for name in ("im", "ci", "ms")}
    assert sizes == {"im": 54, "ci": 65, "ms": 108}
    assert {one.num_epochs for one in recorder.settings} == {config.selection_epochs}


def test_the_reported_reasons_are_the_rule_on_the_recorded_grades(asked) -> None:
    found = asked[3]
    columns = [found[name].to_numpy() for name in ("grade", "im", "ci", "ms")]
    assert found["reason"].to_pylist() == reasons(*columns).tolist()


def test_a_killed_selection_goes_on(asked, shop: dict[str, str], tmp_path: Path) -> None:
    config, tables = asked[0], asked[1]
    first, second = Recorder(last=3), Recorder()
    with pytest.raises(KeyboardInterrupt):
        selectors.ask_selectors(config, selectors.Selectors(config, Sources(**shop), tables, str(tmp_path), first))
    selectors.ask_selectors(config, selectors.Selectors(config, Sources(**shop), tables, str(tmp_path), second))
    assert (list(first.told), list(second.told)) == (["im-0", "im-1", "ci-0"], ["ci-0", "ci-1", "ms-0", "ms-1"])


def scripted(self: selectors.Selectors, name: str, grades: np.ndarray, learnt: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """IM answers grade 0, CI what was judged, MS grade 1: of three grades just the best is hard and clean."""
    del self, learnt
    answers = {"im": np.zeros_like(grades), "ci": grades, "ms": np.ones_like(grades)}[name.split("-")[0]]
    return np.eye(3, dtype=np.float32)[answers[asked]]


def test_the_teacher_trains_on_what_is_kept_and_says_why_the_rest_is_not(
    shop: dict[str, str], random_encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selectors.Selectors, "_of_part", scripted)
    tracker = SpoolTracker(tmp_path / "m.jsonl", "teacher")
    given = {**shop, "encoder": random_encoder}
    report = step.run(TrainTeacherConfig(**SETTINGS), **given, model=str(tmp_path / "m"), tracker=tracker)
    # 9 training queries of 12 items: one fits, two are of the kind, nine are neither
    assert report.kept == report.metrics["num_pairs"] == 9
    assert report.dropped == {"held_out_for_validation": 24, "other_split": 12, "already_known": 81, "suspected_label": 18}
    found = pq.read_table(tmp_path / "m-selection.parquet")
    assert set(zip(found["grade"].to_pylist(), found["reason"].to_pylist(), strict=True)) == {
        (0, "already_known"), (1, "suspected_label"), (2, "kept")
    }  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert next(line["uri"] for line in lines if line["kind"] == "artifact").endswith("m-selection.parquet")


def test_too_few_are_refused_with_a_remedy(shop: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors.Selectors, "_of_part", scripted)
    config = TrainTeacherConfig(**{**SETTINGS, "selection_min_pairs": 10})
    with pytest.raises(InputError, match=r"'selection': 9 of 108 pairs are kept .* selection_min_pairs = 10; raise selection_epochs"):
        step.run(config, **shop, model=str(tmp_path / "m"), tracker=NullTracker())
    assert not (tmp_path / "m").exists()


def test_a_selection_of_other_judgments_is_refused(shop: dict[str, str], asked, tmp_path: Path) -> None:
    config, found = asked[0], asked[3]
    pq.write_table(found, tmp_path / "selection.parquet")
    sources = replace(Sources(**shop), selection=str(tmp_path / "selection.parquet"))
    assert len(read_tables(sources, config).training) == found["reason"].to_pylist().count(KEPT)
    with pytest.raises(InputError, match="was made from other judgments, or with another validation_share or seed"):
        read_tables(sources, config.model_copy(update={"validation_share": 0.5}))


@pytest.mark.parametrize("more", [{"reading": "separate"}, {"launcher": "trainjob"}])
def test_selection_is_refused_where_it_was_not_built(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="set reading 'joint' and launcher 'local', or selection 'none'"):
        TrainTeacherConfig(selection="hard_and_clean", **more)
