"""Students, their runtimes, and a server."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from encoder_folders import make_model
from serving_doors import serving
from serving_texts import QUERIES, TITLES

from components.serving.runtime import open_runtime
from components.train_student.config import TrainStudentConfig
from components.train_student.exporting import export


@pytest.fixture(scope="session")
def students(tmp_path_factory):
    """Folders of a cross-encoder and a bi-encoder, as train_student writes them."""
    base = tmp_path_factory.mktemp("students")
    return {kind: make_model(str(base / kind), kind) for kind in ("cross_encoder", "bi_encoder", "teacher")}


@pytest.fixture(scope="session")
def exported(students):
    """The students with what train_student exports, compared on the pairs of `serving_texts`."""
    lessons = SimpleNamespace(validation=lambda: np.arange(4), training=lambda: np.arange(4), query=np.array([0, 1, 0, 2]))
    config = TrainStudentConfig(export=["onnx", "onnx_int8", "openvino_int8"], min_spearman=0.01)
    logging.disable(logging.DEBUG)  # pytest would keep every line that torch's exporter traces
    for kind in ("cross_encoder", "bi_encoder"):
        export(config, students[kind], (QUERIES, TITLES), lessons)
    logging.disable(logging.NOTSET)
    return students


@pytest.fixture(scope="session")
def runtimes(exported):
    settings = {"precision": "fp32", "num_threads": 1, "num_cached_vectors": 8}
    return {kind: open_runtime(exported[kind], **settings) for kind in ("cross_encoder", "bi_encoder")}


@pytest.fixture(scope="module")
def server(runtimes):
    with serving(runtimes["cross_encoder"], max_items=8, max_text_chars=100, max_body_bytes=2000) as running:
        yield running
