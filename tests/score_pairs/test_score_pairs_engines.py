"""Other engines behind the same door: they read the same ids, answer like the reference, and how far they drift is measured."""

import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from decoder_folders import make_decoder, make_writer

from components.score_pairs import onnx_engine
from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.drift import drift
from components.score_pairs.engines import open_scorer
from components.score_pairs.onnx_engine import OnnxScorer
from components.score_pairs.step import run
from components.score_pairs.vllm_engine import VllmScorer
from components.shared import tables
from components.shared.errors import InputError
from components.shared.models.scoring import Scorer
from components.shared.text import TEXT_VERSION
from components.shared.tracking import NullTracker

ENGINE = f"vllm 0.32.0, prefix caching, fp32, texts {TEXT_VERSION}"
LEFT = ["query: red shoes", "query: kettle", "query: red shoes", "query: garden hose"]
RIGHT = ["title: blue sneakers", "title: red kettle", "title: red running shoes shoes shoes", "title: hose"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return make_decoder(str(tmp_path_factory.mktemp("decoder")), "qwen3")


class FakeLlm:
    """vLLM 0.32's offline door as it was seen: a pooling `LLM`, `encode` with task `classify`, an output with `outputs.data` per prompt."""

    calls: ClassVar[list] = []

    def __init__(self, model, *, runner, dtype, max_model_len, enable_prefix_caching, block_size):
        assert (runner, enable_prefix_caching, block_size) == ("pooling", True, 32)
        self.scorer, self.dtype, self.max_model_len = Scorer(model), dtype, max_model_len

    def encode(self, prompts, *, pooling_params, pooling_task, use_tqdm):
        assert pooling_params == {"use_activation": False}  # probabilities would come back otherwise
        assert (pooling_task, use_tqdm) == ("classify", False)
        ids = [prompt["prompt_token_ids"] for prompt in prompts]
        FakeLlm.calls.append(ids)
        with torch.inference_mode():
            logits = [self.scorer.model(torch.tensor([one])).logits[0] for one in ids]
        return [SimpleNamespace(outputs=SimpleNamespace(data=one)) for one in logits]


@pytest.fixture
def vllm(monkeypatch):
    FakeLlm.calls = []
    module = SimpleNamespace(LLM=FakeLlm, PoolingParams=dict, TokensPrompt=dict, __version__="0.32.0")
    monkeypatch.setitem(sys.modules, "vllm", module)
    return FakeLlm.calls


def test_vllm_reads_our_ids_prefix_by_prefix_and_rows_keep_their_order(teacher, vllm):
    scorer = VllmScorer(teacher)
    np.testing.assert_allclose(scorer.logits(LEFT, RIGHT), Scorer(teacher).logits(LEFT, RIGHT), atol=1e-5)
    # rows 0 and 2 have one query and stand side by side
    query = scorer.tokenizer("query: red shoes", add_special_tokens=False)["input_ids"]
    with_query = [number for number, ids in enumerate(vllm[0]) if str(query)[1:-1] in str(ids)]
    assert len(with_query) == 2
    assert with_query[1] == with_query[0] + 1
    assert scorer.engine == "vllm 0.32.0, prefix caching, fp32, texts 2"
    assert (scorer.llm.dtype, scorer.llm.max_model_len, VllmScorer(teacher, precision="bf16").llm.dtype) == (
        "float32",
        96,
        "bfloat16",
    )


def test_vllm_labels_and_its_drift_is_reported(shop, teacher, vllm, tmp_path):
    config = ScorePairsConfig(output="soft_targets", engine="vllm", drift_pairs=8)
    given = {"pairs": shop.pairs, "queries": shop.queries, "items": shop.items, "model": teacher, "tracker": NullTracker()}
    report = run(config, **given, scores=str(tmp_path / "out"))
    assert set(tables.read_table(str(tmp_path / "out"), "soft_targets")["engine"].to_pylist()) == {
        "vllm 0.32.0, prefix caching, fp32, texts 2"
    }
    assert report.metrics["drift.pairs"] == 8
    assert 0 <= report.metrics["drift.logit_p99"] <= report.metrics["drift.logit_max"] < 1e-5
    with pytest.raises(InputError, match="was begun with engine = 'vllm', now it is 'transformers'"):
        run(config.model_copy(update={"engine": "transformers", "method": "plain"}), **given, scores=str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("engine", "kind", "message"),
    [
        ("vllm", "teacher", "'vllm': model '.*' is no decoder"),
        ("vllm", "decoder", "vllm is not installed here"),
        ("onnx", "bi_encoder", "'onnx': model '.*' is no encoder that reads jointly"),
        ("onnx", "decoder", "'onnx': model '.*' is no encoder that reads jointly"),
    ],
)
def test_engines_refuse_what_they_cannot_run(model_folders, teacher, monkeypatch, engine, kind, message):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(InputError, match=message):
        (VllmScorer if engine == "vllm" else OnnxScorer)({**model_folders, "decoder": teacher}[kind])


def test_a_teacher_that_writes_may_skip_its_steps_and_needs_transformers(tmp_path):
    writer = make_writer(str(tmp_path), "llama")
    engines = {steps: open_scorer(ScorePairsConfig(steps=steps), writer).engine for steps in (True, False)}
    assert ["writes explain" in engines[True], "writes grade" in engines[False]] == [True, True]
    for refusing in (VllmScorer, OnnxScorer):
        with pytest.raises(InputError, match=r"is no (decoder with a head|encoder that reads jointly)"):
            refusing(writer)


@pytest.mark.parametrize(("engine", "runtime"), [("onnx", "onnxruntime "), ("openvino", "openvino ")])
def test_an_exported_network_answers_like_the_one_it_came_from(model_folders, engine, runtime):
    scorer = open_scorer(ScorePairsConfig(engine=engine, batch_tokens=20, num_threads=1), model_folders["teacher"])
    assert scorer.engine.startswith(runtime)
    np.testing.assert_allclose(scorer.logits(LEFT, RIGHT), Scorer(model_folders["teacher"]).logits(LEFT, RIGHT), atol=1e-5)
    assert scorer.logits([], []).shape == (0, 3)


def test_an_export_that_errs_is_refused(model_folders, monkeypatch):
    monkeypatch.setattr(onnx_engine, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(InputError, match="exported to ONNX changes a logit by"):
        OnnxScorer(model_folders["teacher"])


def test_drift_by_hand():
    # |differences| 0, 0, 1, 0: the 99th percentile lies at 2.97 of 0..3 in order, so 0 + 0.97 x 1
    found = drift(np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([[0.0, 0.0], [1.0, 0.0]]), [0.0, 1.0])
    assert (found["drift.logit_max"], found["drift.same_argmax"]) == (1.0, 1.0)
    assert found["drift.logit_p99"] == pytest.approx(0.97)
    # expected gain of the second pair: 1 / (1 + e^2) = 0.1192 against 1 / (1 + e) = 0.2689
    assert found["drift.gain_max"] == pytest.approx(0.1497, abs=1e-4)
    assert "drift.gain_max" not in drift(np.zeros((2, 1)), np.ones((2, 1)), [])
