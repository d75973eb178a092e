"""Scores of (left text, right text) pairs by a model of any kind."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
import transformers

from components.shared import storage
from components.shared.models import folder
from components.shared.models.arithmetic import fast_float32, pick_device, resolve_precision, spread
from components.shared.models.batches import token_batches
from components.shared.models.decoders import DecoderClassifier
from components.shared.models.encoders import EncoderClassifier
from components.shared.models.generative import GenerativeGrader
from components.shared.models.graph import GraphReader, load_head
from components.shared.models.pooling import mean_pool
from components.shared.models.stages import combined_logits
from components.shared.models.tokens import encode_rows, join_pairs
from components.shared.text import split_stages

logger = logging.getLogger(__name__)

STUDENT_GAINS = (0.0, 1.0)  # of the two grades that a student's logit stands between


def grade_logits(cosines: np.ndarray, slope: float, offsets: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjacent-category logits [rows, grades], float32, from cosines [rows, 1]: grade g has slope x g x cosine + offset g.

    With a slope above 0 the expected gain rises with the cosine whenever gains rise with grades, so the order is the cosine's own
    (Agresti, Analysis of Ordinal Categorical Data, section 4.1).
    """
    return (slope * np.arange(len(offsets)) * cosines + np.asarray(offsets)).astype(np.float32)


class PairScorer(ABC):
    """Whatever gives logits to pairs of texts.

    Attributes:
        spec, digest: of the model folder.
        engine: what computes the scores, for the rows: library, method, number format, version of the texts.
        model: the network, where transformers runs it.
        charged: what an endpoint has charged so far.
    """

    spec: folder.ModelSpec
    digest: str
    engine: str
    model: Any = None

    @property
    def charged(self) -> float:
        return 0.0

    @abstractmethod
    def logits(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        """Raw output [rows, labels], float32; the cosine of the two texts [rows, 1] for models that read them separately, grades apart."""
        ...

    def probabilities(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        """Teacher: probability of each grade [rows, grades], float32. A student has two, of gain 0 and 1, by what its score imitates.

        A student distils again through the second: score_pairs takes one for a teacher (BERM, arXiv 2210.01701, calls the result BERM-O).
        """
        logits = torch.from_numpy(self.logits(left, right))
        if self.spec.kind != "teacher":
            logits = self.spec.temperature * logits
            if self.spec.target == "probability":
                gains = logits.clamp(0.0, 1.0)
                return torch.cat([1.0 - gains, gains], dim=-1).numpy()
            logits = torch.cat([torch.zeros_like(logits), logits], dim=-1)
        return torch.softmax(logits, dim=-1).numpy()

    def scores(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        """One number per pair [rows], float64: expected gain (teacher), logit (cross-encoder, graph) or cosine (bi-encoder, encoder)."""
        if self.spec.kind == "teacher":
            return self.probabilities(left, right).astype(np.float64) @ np.asarray(self.spec.gains)
        return self.logits(left, right)[:, 0].astype(np.float64)


class Scorer(PairScorer):
    """A model loaded by transformers. A pair's score does not depend on its neighbors in a batch beyond rounding.

    Args:
        method: how a decoder reads pairs, one of `decoders.METHODS`; other models know one way.
        steps: whether a generative teacher writes its steps before the grade; without, it gives the grade at once.
    """

    def __init__(self, uri: str, *, batch_tokens: int = 8192, precision: str = "fp32", method: str = "plain", steps: bool = True) -> None:
        path = folder.fetch(uri)
        self.spec = folder.read_spec(path)
        self.digest = storage.content_digest(str(path))
        self.device = pick_device()
        self.model = folder.load_model(path, self.spec).to(self.device).eval()
        self.tokenizer = folder.load_tokenizer(path)
        self.batch_tokens, self.precision, self.method = batch_tokens, resolve_precision(precision), method
        settings: dict[str, Any] = {"precision": self.precision, "batch_tokens": batch_tokens}
        self.decoder: DecoderClassifier | None = None
        self.encoder: EncoderClassifier | None = None
        if self.spec.classifies_as_decoder():
            self.decoder = DecoderClassifier(self.model, self.tokenizer, **settings)
        elif self.spec.reads_jointly() and not self.spec.replies:
            self.encoder = EncoderClassifier(self.model, self.tokenizer, max_tokens=self.spec.max_tokens, **settings)
        self.graph: GraphReader | None = None
        if self.spec.kind == "graph":
            limits = {"num_neighbors": self.spec.num_neighbors, "max_tokens": self.spec.max_tokens}
            self.graph = GraphReader(self.model, load_head(path, self.spec.graph_order), self.tokenizer, **limits, **settings)
        self.writer = GenerativeGrader(self.model, self.tokenizer, self.spec, steps=steps, **settings) if self.spec.replies else None
        way = f"writes {self.writer.task}" if self.writer else method
        self.engine = f"transformers {transformers.__version__}, {way}, {self.precision}, texts {self.spec.text_version}"

    def logits(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        if self.spec.stages:
            return combined_logits(self.stage_logits(left, right), np.asarray(self.spec.stage_weights), np.asarray(self.spec.stage_offsets))
        return self._logits(left, right)

    def stage_logits(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        """What a teacher says in each of its stages [stages, rows, grades], float32; stages that read the same cost one."""
        num_stages = len(self.spec.stages)
        sides = [list(chain.from_iterable(split_stages(texts, num_stages))) for texts in (left, right)]
        number: dict[tuple[str, str], int] = {}
        rows = [number.setdefault(pair, len(number)) for pair in zip(*sides, strict=True)]
        distinct = [[pair[side] for pair in number] for side in (0, 1)]
        return self._logits(*distinct)[rows].reshape(num_stages, len(left), self.spec.num_labels())

    def _logits(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        if self.decoder:
            return self.decoder.logits(join_pairs(self.tokenizer, left, right, self.spec.max_tokens), self.method)
        if self.writer:
            return self.writer.write(left, right).logits
        if self.encoder:
            return self.encoder.logits(encode_rows(self.tokenizer, left, right, max_tokens=self.spec.max_tokens))
        if self.graph:
            return self.graph.logits(left, right)
        cosines = self.cosines(left, right)
        return grade_logits(cosines, self.spec.slope, self.spec.offsets) if self.spec.offsets else cosines

    def cosines(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        """[rows, 1], float32, of a model that reads the two texts separately."""
        return np.einsum("nd,nd->n", self._embed(left), self._embed(right))[:, None]

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        distinct, back = np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)
        return self._vectors(distinct.tolist())[back]

    @torch.inference_mode()
    def _vectors(self, texts: list[str]) -> np.ndarray:
        out = np.zeros((len(texts), int(self.model.config.hidden_size)), np.float32)
        encoded = encode_rows(self.tokenizer, texts, max_tokens=self.spec.max_tokens)
        lengths = np.fromiter(map(len, encoded["input_ids"]), np.int64, len(texts))

        def read(chosen: np.ndarray) -> None:
            piece = {name: [column[row] for row in chosen] for name, column in encoded.items()}
            batch = self.tokenizer.pad(piece, return_tensors="pt").to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                hidden = self.model(**batch).last_hidden_state
                out[chosen] = mean_pool(hidden, batch["attention_mask"]).float().cpu().numpy()

        with fast_float32():
            spread(read, token_batches(lengths, self.batch_tokens), self.device)
        return out

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit-length vectors [texts, width], float32, of a model that reads texts separately; equal texts are read once."""
        return self._embed(texts)
