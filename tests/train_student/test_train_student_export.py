"""The files that serving reads: what they score, when they are refused, and that the folder stays what it was."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import write_encoder

from components.shared import storage
from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.scoring import Scorer
from components.shared.models.sessions import OnnxSession, OpenvinoSession, digest_of
from components.shared.models.tokens import encode_rows
from components.train_student import exporting
from components.train_student.config import TrainStudentConfig
from components.train_student.exporting import check_exporter, compare, export
from components.train_student.students import BiEncoder, save_student

LEFT, RIGHT = ["w1 w2", "w1 w2", "w3 w4", "w3 w4"], ["w1 w5", "w9 w2 w7", "w3", "w8 w8"]
LESSONS = SimpleNamespace(validation=lambda: np.arange(2), training=lambda: np.arange(2, 4), query=np.array([0, 0, 1, 1]))


def exported(model: str, **settings) -> tuple[dict[str, float], dict]:
    config = TrainStudentConfig.from_mapping({"export": ["onnx", "onnx_int8", "openvino_int8"], **settings}, section="cross_encoder")
    logging.disable(logging.DEBUG)  # pytest would keep every line that torch's exporter traces
    metrics = export(config, model, (LEFT, RIGHT), LESSONS)
    logging.disable(logging.NOTSET)
    return metrics, json.loads(storage.read_bytes(f"{model}/onnx/export.json"))


def make_student(place: Path, outlier: float = 0.0) -> str:
    """A random student; sentence-transformers opens it. `outlier` is added to one unit of all tokens."""
    spec = folder.ModelSpec("bi_encoder", 24)
    write_encoder(str(place / "encoder"))
    network, tokenizer = folder.load_model(place / "encoder", spec), folder.load_tokenizer(place / "encoder")
    network.embeddings.LayerNorm.bias.data[0] += outlier
    made = BiEncoder(network, tokenizer, (LEFT, RIGHT), max_tokens=24, batch_tokens=512, scale=1.0)
    save_student(str(place / "student"), made, tokenizer, spec)
    return str(place / "student")


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> str:
    return make_student(tmp_path_factory.mktemp("student"))


def test_files_score_like_the_student_whose_folder_stays_what_it_was(student: str) -> None:
    before = Scorer(student).scores(LEFT, RIGHT)
    metrics, report = exported(student, min_spearman=0.01)
    assert (list(report["files"]), report["refused"], report["num_pairs"]) == (["fp32", "int8", "openvino_int8"], {}, 4)
    assert metrics["export.fp32.kept"] == metrics["export.int8.kept"] == metrics["export.openvino_int8.kept"] == 1.0
    assert 0 < metrics["export.fp32.largest_difference"] < 1e-5
    for one in ("int8", "openvino_int8"):
        assert 1e-5 < metrics[f"export.{one}.largest_difference"] < 0.1
    place = storage.local_path(student) / "onnx"
    assert {name: digest_of(place / one["file"]) for name, one in report["files"].items()} == {
        name: one["digest"] for name, one in report["files"].items()
    }
    assert report["files"]["openvino_int8"]["digest"] == "+".join(
        storage.content_digest_of(f"{place}/model_openvino_int8.{part}") for part in ("bin", "xml")
    )
    tokenizer = folder.load_tokenizer(storage.local_path(student))
    for kind in (OnnxSession, OpenvinoSession):
        session = kind(place / "model.onnx", 0)
        left, right = (session.read(encode_rows(tokenizer, side, max_tokens=24), 64) for side in (LEFT, RIGHT))
        np.testing.assert_allclose((left * right).sum(1), before, atol=1e-5)
    np.testing.assert_array_equal(Scorer(student).scores(LEFT, RIGHT), before)
    towers = pytest.importorskip("sentence_transformers").SentenceTransformer(student, device="cpu")
    cosine = (towers.encode(LEFT, show_progress_bar=False) * towers.encode(RIGHT, show_progress_bar=False)).sum(1)
    np.testing.assert_allclose(cosine, before, atol=1e-5)
    # a worse file takes its place, and none where none is asked for
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exporting, "compare", lambda *_: {"spearman_within": 1.0, "spearman_across": 0.5, "largest_difference": 0.0})
        assert exported(student)[1]["refused"] == dict.fromkeys(
            ("int8", "openvino_int8"), "its Spearman to fp32 is 0.5000; min_spearman is 0.99"
        )
    export(TrainStudentConfig(), student, (LEFT, RIGHT), LESSONS)
    assert not storage.exists(f"{student}/onnx")


def test_eight_bits_that_order_otherwise_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    """One unit that is far larger than the others leaves one range for all of them few steps for the rest."""
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(24)]
    left = [text for text in (" ".join(rng.choice(words, 3)) for _ in range(4)) for _ in range(6)]
    right = [" ".join(rng.choice(words, 5)) for _ in left]
    lessons = SimpleNamespace(validation=lambda: np.arange(18), training=lambda: np.arange(18, 24), query=np.repeat(np.arange(4), 6))
    config = TrainStudentConfig.from_mapping({"export": ["onnx", "onnx_int8"]}, section="cross_encoder")
    place = make_student(tmp_path, 300.0)
    metrics = export(config, place, (left, right), lessons)
    assert (metrics["export.fp32.kept"], metrics["export.int8.kept"]) == (1.0, 0.0)
    assert metrics["export.int8.spearman_within"] < 0.9
    assert sorted(one.name for one in (storage.local_path(place) / "onnx").iterdir()) == ["export.json", "model.onnx"]


def test_a_float32_file_that_errs_is_refused() -> None:
    config = TrainStudentConfig()
    quality = {"spearman_within": 1.0, "spearman_across": 1.0, "largest_difference": 2e-4}
    assert exporting._fault(config, "fp32", quality) == "it changes a score by 0.0002; at most 0.0001"
    assert exporting._fault(config, "int8", quality) == ""
    broken = compare(np.arange(4.0), np.full(4, np.nan), np.zeros(4, int))
    assert [exporting._fault(config, name, broken) for name in ("fp32", "int8")] == ["it gives infinity or NaN"] * 2


def test_a_file_counts_as_its_worst_runtime_reads_it(student: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = OpenvinoSession._run
    monkeypatch.setattr(OpenvinoSession, "_run", lambda self, feed: inner(self, feed) * 1.5)
    metrics, report = exported(student, export=["onnx"])
    assert metrics["export.fp32.largest_difference"] > 0.1
    assert report["refused"]["fp32"].startswith("it changes a score by")


@pytest.mark.parametrize(("held_out", "learnt_too"), [(2500, 0), (150, 50), (0, 200)])
def test_few_held_out_pairs_are_not_all_that_a_file_is_judged_on(held_out: int, learnt_too: int) -> None:
    validation, training = np.arange(held_out), np.arange(held_out, held_out + 400)
    rows = exporting._compared(SimpleNamespace(validation=lambda: validation, training=lambda: training))
    assert rows.tolist() == [*validation[:2000], *training[:learnt_too]]


def test_quality_by_hand() -> None:
    # query 0 in the same order (1), query 1 turned round (-1): 0 on average; over all four ranks 1 2 3 4 and 1 2 4 3: 1 - 6 x 2 / (4 x 15)
    found = compare(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 4.5, 3.0]), np.array([0, 0, 1, 1]))
    assert found["spearman_within"] == pytest.approx(0.0)
    assert found["spearman_across"] == pytest.approx(0.8)
    assert found["largest_difference"] == pytest.approx(1.5)


def test_an_export_that_cannot_be_made_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxscript" else object())
    check_exporter(TrainStudentConfig())
    with pytest.raises(InputError, match=r"'export' = \['onnx'\]: onnxscript is not installed; pip install '\.\[onnx\]'"):
        check_exporter(TrainStudentConfig(export=["onnx"]))
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "nncf" else object())
    check_exporter(TrainStudentConfig(export=["onnx", "onnx_int8"]))
    with pytest.raises(InputError, match=r"nncf is not installed; pip install '\.\[onnx,openvino\]'"):
        check_exporter(TrainStudentConfig(export=["onnx", "openvino_int8"]))
    with pytest.raises(InputError, match="a graph student reads neighbors, which no server has"):
        TrainStudentConfig.from_mapping({"export": ["onnx"], "architecture": "graph"}, section="cross_encoder")
