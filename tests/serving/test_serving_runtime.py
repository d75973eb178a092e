"""What is served scores like the model that was trained."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from serving_texts import QUERIES, TITLES

from components.serving.runtime import model_items, model_query, open_runtime
from components.shared.errors import InputError
from components.shared.models import sessions
from components.shared.models.scoring import Scorer
from components.shared.models.sessions import RUNTIMES, OnnxSession, OpenvinoSession


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("kind", ["cross_encoder", "bi_encoder"])
def test_a_runtime_scores_like_the_model_it_came_from(exported, kind, runtime):
    wanted = Scorer(exported[kind]).scores(QUERIES, TITLES)
    served = open_runtime(exported[kind], precision="fp32", runtime=runtime)
    np.testing.assert_allclose(served.scores(QUERIES, TITLES), wanted, atol=1e-5)
    assert np.std(wanted) > 1e-3


def test_without_openvino_onnx_runtime_computes(exported, monkeypatch):
    monkeypatch.setattr(sessions, "find_spec", lambda name: None if name == "openvino" else object())
    assert open_runtime(exported["cross_encoder"]).engine.startswith("onnxruntime")


def test_a_file_that_no_runtime_reads_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no network")
    for runtime, message in ((OnnxSession, "is no ONNX file that onnxruntime reads"), (OpenvinoSession, "is no file that openvino reads")):
        with pytest.raises(InputError, match=message):
            runtime(tmp_path / "model.onnx", 0)


def test_scores_do_not_depend_on_the_batch(students, runtimes):
    runtime = runtimes["cross_encoder"]
    alone = [runtime.scores([query], [title])[0] for query, title in zip(QUERIES, TITLES, strict=True)]
    np.testing.assert_allclose(runtime.scores(QUERIES, TITLES), alone, atol=1e-5)


def test_texts_are_cut_where_training_cuts_them(students, runtimes):
    long = "red running shoes " * 60  # 64 tokens are read
    np.testing.assert_allclose(
        runtimes["cross_encoder"].scores([long], [long]), Scorer(students["cross_encoder"]).scores([long], [long]), atol=1e-5
    )


@pytest.mark.parametrize("name", RUNTIMES)
def test_no_row_is_wider_than_the_model_reads(exported, tmp_path, monkeypatch, name):
    place = str(copied(exported["cross_encoder"], tmp_path, max_tokens=20))  # no multiple of what OpenVINO rounds lengths up to
    widths, inner = [], RUNTIMES[name]._run
    monkeypatch.setattr(RUNTIMES[name], "_run", lambda self, feed: widths.append(feed["input_ids"].shape[1]) or inner(self, feed))
    served = open_runtime(place, precision="fp32", runtime=name)
    texts = ["red shoes"] * 3, ["red " * number + "shoes" for number in (1, 13, 40)]
    np.testing.assert_allclose(served.scores(*texts), Scorer(place).scores(*texts), atol=1e-4)
    assert max(widths) == 20


@pytest.mark.parametrize("kind", ["cross_encoder", "bi_encoder"])
def test_special_tokens_in_a_text_are_letters_as_for_the_model(students, runtimes, kind):
    texts = ["red shoes"] * 3, ["blue [SEP] red shoes [PAD]", "red shoes [PAD][CLS]", "red shoes"]
    np.testing.assert_allclose(runtimes[kind].scores(*texts), Scorer(students[kind]).scores(*texts), atol=1e-5)
    ids = [row.ids for row in runtimes[kind].tokenizer.encode_batch(texts[1])]
    assert [row.count(ids[2][-1]) for row in ids] == [1, 1, 1]


def test_a_bi_encoder_reads_a_text_once_as_long_as_it_is_kept(runtimes, monkeypatch):
    runtime = runtimes["bi_encoder"]  # keeps 8 vectors
    runtime.vectors.clear()
    read, inner = [], runtime._read
    monkeypatch.setattr(runtime, "_read", lambda texts: read.append(list(texts)) or inner(texts))
    first = runtime.scores(QUERIES, TITLES)
    np.testing.assert_array_equal(runtime.scores(QUERIES, TITLES), first)
    assert read == [["red shoes", "kettle", "garden hose", *TITLES]]
    runtime.scores(["hose"] * 7, [f"{'red ' * number}hose" for number in range(1, 8)])
    assert len(runtime.vectors) == 8
    runtime.scores(["kettle"], ["hose"])
    assert read[-1] == ["kettle"]  # was thrown out; "hose" was used since


def test_queries_and_items_are_written_as_for_training():
    assert model_query(["  Red   SHOES|"]) == ["red shoes/"]
    fields = {"title": ["Shoe | 42", "Kettle"], "brand": ["Acme", None], "category": [None, "Kitchen > Kettles"]}
    assert model_items(fields) == ["Shoe / 42 | brand: Acme", "Kettle | category: Kitchen > Kettles"]


def copied(folder, tmp_path, **changes):
    place = Path(shutil.copytree(folder, tmp_path / "copy"))
    spec = json.loads((place / "relevance.json").read_text())
    (place / "relevance.json").write_text(json.dumps({**spec, **changes}))
    return place


def test_what_cannot_be_served_is_refused(students, tmp_path):
    with pytest.raises(InputError, match="is a teacher; what is served is an encoder student"):
        open_runtime(students["teacher"])
    with pytest.raises(InputError, match="is a decoder; what is served"):
        open_runtime(str(copied(students["cross_encoder"], tmp_path, decoder=True)))
    with pytest.raises(InputError, match="does not exist"):
        open_runtime(str(tmp_path / "nothing"))


def test_the_best_file_is_read_and_others_on_demand(exported, tmp_path):
    place = copied(exported["cross_encoder"], tmp_path)
    report = json.loads((place / "onnx/export.json").read_text())
    asked = [(one, runtime) for one in ("auto", "int8", "fp32") for runtime in ("auto", "openvino", "onnxruntime")]
    engines = [open_runtime(str(place), precision=one, runtime=runtime).engine for one, runtime in asked]
    found = [f"{engine.split()[0]} {engine.rpartition(', ')[2]}" for engine in engines]
    assert found[:6] == ["openvino int8", "openvino int8", "onnxruntime int8"] * 2
    assert found[6:] == ["openvino fp32", "openvino fp32", "onnxruntime fp32"]
    report["files"].pop("openvino_int8")
    report["refused"] = {"openvino_int8": "its Spearman to fp32 is 0.5"}
    (place / "onnx/export.json").write_text(json.dumps(report))
    assert open_runtime(str(place)).engine.startswith("onnxruntime")  # in 8 bits before another runtime's float32
    with pytest.raises(InputError, match=r"has no such file \(openvino_int8: its Spearman to fp32 is 0.5\); set both to auto"):
        open_runtime(str(place), precision="int8", runtime="openvino")
    int8, fp32 = report["files"].pop("int8"), report["files"]["fp32"]
    (place / "onnx/export.json").write_text(json.dumps(report))
    assert open_runtime(str(place)).engine.endswith("fp32")
    (place / "onnx" / fp32["file"]).write_bytes((place / "onnx" / int8["file"]).read_bytes())
    with pytest.raises(InputError, match=r"is not the file that was exported"):
        open_runtime(str(place))
    shutil.rmtree(place / "onnx")
    with pytest.raises(InputError, match=r"'int8': model folder .* has no onnx/export.json; train with export"):
        open_runtime(str(place), precision="int8")


def test_a_folder_whose_files_nothing_here_reads_says_what_to_train(exported, tmp_path, monkeypatch):
    place = copied(exported["cross_encoder"], tmp_path)
    report = json.loads((place / "onnx/export.json").read_text())
    report["files"] = {"openvino_int8": report["files"]["openvino_int8"]}
    (place / "onnx/export.json").write_text(json.dumps(report))
    assert open_runtime(str(place)).engine.endswith("int8")
    monkeypatch.setattr(sessions, "find_spec", lambda name: None if name == "openvino" else object())
    with pytest.raises(InputError, match=r"\(int8: it was not asked for; fp32: it was not .*\); train with export: \[onnx\]"):
        open_runtime(str(place))


@pytest.mark.parametrize("kind", ["cross_encoder", "bi_encoder"])
def test_threads_get_their_own_scores(exported, kind):
    runtime = open_runtime(exported[kind], precision="fp32", num_cached_vectors=2)
    asked = [(QUERIES[:number], TITLES[:number]) for number in (1, 2, 3, 4)] * 8
    wanted = [runtime.scores(*one) for one in asked]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: runtime.scores(*one), asked))
    for one, two in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_a_folder_without_a_fast_tokenizer_is_refused(students, tmp_path):
    place = copied(students["cross_encoder"], tmp_path)
    (place / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"has no tokenizer.json"):
        open_runtime(str(place))
