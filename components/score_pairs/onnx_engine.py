"""Encoders that read jointly by ONNX Runtime, exported by torch itself and held against the network they came from."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.shared.errors import InputError
from components.shared.models.batches import token_batches
from components.shared.models.scoring import PairScorer, Scorer
from components.shared.models.tokens import encode_rows

LARGEST_DIFFERENCE = 1e-4
PROBES = ["red shoes", "a kettle"], ["blue running shoes for small gardens", "kettle"]


class OnnxScorer(PairScorer):
    """A cross-encoder or encoder teacher in float32.

    Raises:
        InputError: without the runtime, for other kinds of model, or when the exported network answers otherwise than the original.
    """

    def __init__(self, uri: str, *, batch_tokens: int = 8192, num_threads: int = 0) -> None:
        try:
            import onnxruntime  # noqa: PLC0415 - an optional runtime
        except ImportError:
            raise InputError("key 'engine' = 'onnx': onnxruntime is not installed; pip install '.[onnx]', or set transformers") from None
        reference = Scorer(uri)
        self.spec, self.digest, self.tokenizer, self.batch_tokens = reference.spec, reference.digest, reference.tokenizer, batch_tokens
        if self.spec.decoder or not self.spec.reads_jointly():
            raise InputError(f"key 'engine' = 'onnx': model '{uri}' is no encoder that reads jointly; set transformers")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        with tempfile.TemporaryDirectory(prefix="onnx-") as scratch:
            file = export_onnx(reference.model.cpu(), self.tokenizer, Path(scratch) / "model.onnx")
            self.session: Any = onnxruntime.InferenceSession(str(file), options, providers=onnxruntime.get_available_providers())
        self.engine = f"onnxruntime {onnxruntime.__version__}, fp32, texts {self.spec.text_version}"
        difference = float(np.abs(self.logits(*PROBES) - reference.logits(*PROBES)).max())
        if difference > LARGEST_DIFFERENCE:
            raise InputError(f"key 'engine' = 'onnx': '{uri}' exported to ONNX changes a logit by {difference:.2g}; set transformers")

    def logits(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        out = np.zeros((len(left), self.spec.num_labels()), np.float32)
        if not len(left):
            return out
        encoded = encode_rows(self.tokenizer, left, right, max_tokens=self.spec.max_tokens)
        wanted = {one.name for one in self.session.get_inputs()}
        lengths = np.fromiter(map(len, encoded["input_ids"]), np.int64, len(left))
        for chosen in token_batches(lengths, self.batch_tokens):
            piece = {name: [column[row] for row in chosen] for name, column in encoded.items() if name in wanted}
            batch = self.tokenizer.pad(piece, return_tensors="np")
            out[chosen] = self.session.run(["logits"], {name: column.astype(np.int64) for name, column in batch.items()})[0]
        return out


def export_onnx(model: Any, tokenizer: Any, file: Path) -> Path:
    """The network as an ONNX file whose rows and tokens are free, with its weights beside it."""
    batch = dict(tokenizer(*PROBES, padding=True, return_tensors="pt"))
    free = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in batch}
    names = {"input_names": list(batch), "output_names": ["logits"]}
    torch.onnx.export(model, kwargs=batch, f=str(file), dynamic_shapes=free, dynamo=True, verbose=False, **names)
    return file
