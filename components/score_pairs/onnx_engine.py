"""Encoders that read jointly by ONNX Runtime or OpenVINO, held against the network they came from."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.shared.errors import InputError
from components.shared.models.onnx_export import PROBES, export_onnx
from components.shared.models.scoring import PairScorer, Scorer
from components.shared.models.sessions import RUNTIMES
from components.shared.models.tokens import encode_rows

LARGEST_DIFFERENCE = 1e-4
ENGINES = {"onnx": "onnxruntime", "openvino": "openvino"}


class OnnxScorer(PairScorer):
    """A cross-encoder or encoder teacher in float32.

    Raises:
        InputError: without the runtime, for other kinds of model, or when the exported network answers otherwise than the original.
    """

    def __init__(self, uri: str, *, engine: str = "onnx", batch_tokens: int = 8192, num_threads: int = 0) -> None:
        reference = Scorer(uri)
        self.spec, self.digest, self.tokenizer, self.batch_tokens = reference.spec, reference.digest, reference.tokenizer, batch_tokens
        if self.spec.decoder or not self.spec.reads_jointly():
            raise InputError(f"key 'engine' = '{engine}': model '{uri}' is no encoder that reads jointly; set transformers")
        wanted = reference.logits(*PROBES)  # before the model leaves its device
        with tempfile.TemporaryDirectory(prefix="onnx-") as scratch:
            file = export_onnx(reference.model.cpu(), self.tokenizer, Path(scratch) / "model.onnx")
            self.session = RUNTIMES[ENGINES[engine]](
                file, self.tokenizer.pad_token_id, num_threads=num_threads, max_tokens=self.spec.max_tokens
            )
        self.engine = f"{self.session.name}, fp32, texts {self.spec.text_version}"
        difference = float(np.abs(self.logits(*PROBES) - wanted).max())
        if difference > LARGEST_DIFFERENCE:
            raise InputError(f"key 'engine' = '{engine}': '{uri}' exported to ONNX changes a logit by {difference:.2g}; set transformers")

    def logits(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        if not len(left):
            return np.zeros((0, self.spec.num_labels()), np.float32)
        return self.session.read(encode_rows(self.tokenizer, left, right, max_tokens=self.spec.max_tokens), self.batch_tokens)
