"""Exported networks: they answer like the model for any rows and lengths, and are lean where a family allows it."""

import logging
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from encoder_families import MAX_TOKENS, make_families

from components.shared.models import onnx_export
from components.shared.models.onnx_export import export_onnx
from components.shared.models.sessions import OnnxSession, OpenvinoSession

LEAN = ("bert", "electra", "roberta")  # others attend in their own way, or their head reads more than the first token


@pytest.fixture(scope="module", autouse=True)
def quiet():
    logging.disable(logging.DEBUG)  # pytest would keep every line that torch's exporter traces
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def families():
    return make_families()


@pytest.fixture(scope="module", params=[*LEAN, "deberta", "modernbert_mean"])
def exported(request, families, tmp_path_factory):
    """(family, model, its file)."""
    tokenizer, models = families
    file = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return request.param, models[request.param], export_onnx(models[request.param], tokenizer, file, apart=False)


def rows_of(rng: np.random.Generator, lengths: list[int]) -> dict[str, list[list[int]]]:
    ids = [rng.integers(4, 120, length).tolist() for length in lengths]
    types = [[0] * (len(row) // 2) + [1] * (len(row) - len(row) // 2) for row in ids]
    return {"input_ids": ids, "token_type_ids": types, "attention_mask": [[1] * len(row) for row in ids]}


@pytest.mark.parametrize("runtime", [OnnxSession, OpenvinoSession])
def test_a_file_answers_like_the_model_row_by_row(exported, runtime):
    _, model, file = exported
    encoded = rows_of(np.random.default_rng(0), [1, 2, 7, 7, 19, MAX_TOKENS, 3])
    session = runtime(file, 0, num_threads=1)
    names = [one for one in encoded if one in session.inputs]
    with torch.inference_mode():
        wanted = [model(**{name: torch.tensor([encoded[name][row]]) for name in names}).logits[0].numpy() for row in range(7)]
    for batch_tokens in (1, 64, 4096):  # alone, some together, all together
        np.testing.assert_allclose(session.read(encoded, batch_tokens), np.stack(wanted), atol=2e-5)


def test_where_it_can_be_the_last_layer_reads_keys_of_all_tokens_and_the_rest_of_the_first(exported):
    family, model, file = exported
    counts = Counter(node.op_type for node in onnx.load(file).graph.node)
    assert (counts["IsNaN"] + counts["Where"] == 0) == (family in LEAN)  # a model's own masks; without them runtimes fuse attention
    if family in LEAN:
        seen, inner = [], model.base_model.encoder.layer[-1].intermediate
        hook = inner.register_forward_hook(lambda _, given, out: seen.append(tuple(out.shape)))
        with onnx_export._lean(model, joint=True) as lean, torch.inference_mode():
            lean(torch.full((2, 9), 5), torch.ones(2, 9, dtype=torch.long), torch.zeros(2, 9, dtype=torch.long))
        hook.remove()
        assert seen[-1] == (2, 1, 64)  # the first call's result is read by nobody, so it is in no file
        assert _reads_of_last_feed_forward(file) == 1


def _reads_of_last_feed_forward(file) -> int:
    """How often the last layer's widening weights [32, 64] are used."""
    graph = onnx.load(file).graph
    wide = [node.input[1] for node in graph.node if node.op_type == "MatMul" and _shape(graph, node.input[1]) == (32, 64)]
    return Counter(wide)[wide[-1]]


def _shape(graph, name: str) -> tuple[int, ...]:
    return next((tuple(one.dims) for one in graph.initializer if one.name == name), ())


@pytest.mark.parametrize("family", ["bert", "modernbert_mean"])
@pytest.mark.parametrize("joint", [True, False])
def test_texts_read_alone_are_lean_and_windows_are_not(families, tmp_path, caplog, family, joint):
    tokenizer, models = families
    model = models[family] if joint else models[family].base_model
    monkey = pytest.MonkeyPatch()
    if family != "bert":  # longer than all that the network is tried with, which then could not tell
        monkey.setattr(model.config, "local_attention", 128)
        for layer in model.modules():
            if getattr(layer, "sliding_window", None):
                monkey.setattr(layer, "sliding_window", 64)
    with caplog.at_level("WARNING"):
        file = export_onnx(model, tokenizer, tmp_path / "model.onnx", joint=joint, apart=False)
    monkey.undo()
    counts = Counter(node.op_type for node in onnx.load(file).graph.node)
    is_lean = counts["IsNaN"] + counts["Where"] == 0
    assert (is_lean, "attends otherwise" in caplog.text) == (family == "bert", family != "bert")


def test_a_lean_network_that_errs_is_not_written(families, tmp_path, monkeypatch, caplog):
    tokenizer, models = families
    monkeypatch.setattr(onnx_export, "HIDDEN", 0.0)  # padding is read
    with caplog.at_level("INFO"):
        file = export_onnx(models["bert"], tokenizer, tmp_path / "model.onnx", apart=False)
    assert "exported as it is: its outputs would differ by" in caplog.text
    encoded = rows_of(np.random.default_rng(1), [3, 12])
    session = OnnxSession(file, 0)
    alone = [session.read({name: [rows[row]] for name, rows in encoded.items()}, 64)[0] for row in range(2)]
    np.testing.assert_allclose(session.read(encoded, 64), alone, atol=1e-5)
    assert models["bert"].config._attn_implementation != onnx_export.LEAN
