"""A model folder's exported network as a function from texts to scores. Needs ONNX Runtime or OpenVINO and a tokenizer, no torch."""

import logging
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from cachetools import LRUCache
from tokenizers import Tokenizer

from components.shared import registry, storage, text
from components.shared.calibration import Calibration
from components.shared.errors import InputError
from components.shared.models.sessions import FOLDER, REPORT, RUNTIMES, Columns, Session, digest_of, installed
from components.shared.models.spec import ModelSpec, fetch, read_written_spec

logger = logging.getLogger(__name__)

ITEM_FIELDS = ("title", *text.SHORT_FIELDS)

FILES = {"openvino": {"int8": "openvino_int8", "fp32": "fp32"}, "onnxruntime": {"int8": "int8", "fp32": "fp32"}}  # names in the report


def open_runtime(
    address: str,
    *,
    precision: str = "auto",
    runtime: str = "auto",
    num_threads: int = 0,
    batch_tokens: int = 1024,
    num_cached_vectors: int = 100_000,
) -> "Runtime":
    """The network behind a model folder's address, or `models:/name@champion`.

    Args:
        precision, runtime: auto takes what is fastest among the files that there are and the runtimes that are installed.

    Raises:
        InputError: for what is no student's folder, or a file that was not exported or was changed since.
    """
    uri = registry.resolve(address)
    if not uri:
        raise InputError(f"'{address}': nobody has set this alias yet; promote a model, or give a model folder")
    path = fetch(uri)
    spec = read_written_spec(path)
    if spec.kind not in ("cross_encoder", "bi_encoder", "encoder") or spec.decoder:
        raise InputError(f"model '{address}' is a {'decoder' if spec.decoder else spec.kind}; what is served is an encoder student")
    tokenizer = _tokenizer(path, spec.max_tokens)
    file, reader, found = _exported(path, precision, runtime)
    config = storage.read_json(str(path / "config.json"))
    session = RUNTIMES[reader](file, int(config.get("pad_token_id") or 0), num_threads=num_threads, max_tokens=spec.max_tokens)
    given: dict[str, Any] = {"engine": f"{session.name}, {found}", "batch_tokens": batch_tokens}
    digest = storage.content_digest(str(path))
    if spec.reads_jointly():
        return PairRuntime(spec, digest, session, tokenizer, **given)
    return VectorRuntime(spec, digest, session, tokenizer, **given, num_cached=num_cached_vectors)


def _tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    """As `tokens.encode_rows` tokenises, without transformers."""
    file = path / "tokenizer.json"
    if not file.is_file():
        raise InputError(f"model folder '{path}' has no tokenizer.json; save it with a fast tokenizer of transformers")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.encode_special_tokens = True  # as letters
    tokenizer.enable_truncation(max_tokens, strategy="longest_first")
    tokenizer.no_padding()
    return tokenizer


def _exported(path: Path, precision: str, runtime: str) -> tuple[Path, str, str]:
    """(exported file, the runtime that reads it, its number format)."""
    place = path / FOLDER / REPORT
    runtimes = [runtime] if runtime != "auto" else installed() or ["onnxruntime"]
    if not place.is_file():
        return _export_now(path, precision), runtimes[0], "fp32"
    report = storage.read_json(str(place))
    wanted = [precision] if precision != "auto" else ["int8", "fp32"]
    ways = [(reader, one, FILES[reader][one]) for one in wanted for reader in runtimes]
    for reader, one, name in ways:
        if name in report["files"]:
            return _unchanged(path / FOLDER, report["files"][name]), reader, one
    reasons = {name: report["refused"].get(name, "it was not asked for") for *_, name in ways}
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    others = any(name in report["files"] for reader in installed() for name in FILES[reader].values())
    remedy = "set both to auto" if others else "train with export: [onnx]"
    raise InputError(f"keys 'precision' = '{precision}', 'runtime' = '{runtime}': '{place}' has no such file ({listed}); {remedy}")


def _unchanged(place: Path, one: Mapping[str, Any]) -> Path:
    file = place / one["file"]
    if digest_of(file) != one["digest"]:
        raise InputError(f"'{file}' is not the file that was exported (its digest differs from {REPORT}); copy the folder again")
    return file


def _export_now(path: Path, precision: str) -> Path:
    if precision == "int8":
        raise InputError(f"key 'precision' = 'int8': model folder '{path}' has no {FOLDER}/{REPORT}; train with export: [onnx, onnx_int8]")
    try:
        from components.shared.models import folder  # noqa: PLC0415 - the serving image has no torch
        from components.shared.models.onnx_export import export_onnx  # noqa: PLC0415
    except ImportError:
        raise InputError(
            f"model folder '{path}' has no {FOLDER}/{REPORT} and torch is not here to make it; train with export: [onnx]"
        ) from None
    spec = read_written_spec(path)
    logger.warning("'%s' has no %s/%s: exporting it now", path, FOLDER, REPORT)
    file = Path(tempfile.mkdtemp(prefix="onnx-")) / "model.onnx"
    return export_onnx(folder.load_model(path, spec).eval(), folder.load_tokenizer(path), file, joint=spec.reads_jointly())


def model_query(queries: Sequence[str]) -> list[str]:
    """The text of queries that a student reads."""
    return text.query_text(pa.array(queries, pa.string())).to_pylist()


def model_items(fields: Mapping[str, Sequence[str | None]]) -> list[str]:
    """The text of items that a student reads; `fields` has `title` and may have the others of ITEM_FIELDS."""
    none = pa.nulls(len(fields["title"]), pa.string())
    columns = {name: pa.array(fields[name], pa.string()) if name in fields else none for name in ITEM_FIELDS}
    return text.item_text(pa.table(columns)).to_pylist()


class Runtime(ABC):
    """Scores of texts made by `model_query` and `model_items`.

    Attributes:
        spec, digest: of the model folder; engine: what computes, for logs and metrics; calibration: None where there is none.
    """

    def __init__(self, spec: ModelSpec, digest: str, session: Session, tokenizer: Tokenizer, *, engine: str, batch_tokens: int) -> None:
        self.spec, self.digest, self.engine, self.batch_tokens = spec, digest, engine, batch_tokens
        self.session, self.tokenizer, self._one_at_a_time = session, tokenizer, threading.Lock()
        self.calibration = Calibration.from_json(spec.calibration) if spec.calibration else None

    def scores(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        """One number per pair [rows], float64: logit (cross-encoder) or cosine (bi-encoder). Threads wait for one another."""
        with self._one_at_a_time:
            return self._scores(left, right)

    @abstractmethod
    def _scores(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray: ...

    def _read(self, texts: list[Any]) -> np.ndarray:
        rows = self.tokenizer.encode_batch_fast(texts)
        encoded: Columns = {
            "input_ids": [row.ids for row in rows],
            "attention_mask": [row.attention_mask for row in rows],
            "token_type_ids": [row.type_ids for row in rows],
        }
        return self.session.read(encoded, self.batch_tokens)


class PairRuntime(Runtime):
    """A cross-encoder."""

    def _scores(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        return self._read(list(zip(left, right, strict=True)))[:, 0].astype(np.float64)


class VectorRuntime(Runtime):
    """A bi-encoder, which reads a text once as long as its vector is kept.

    Args:
        num_cached: vectors kept, the last used; of 384 numbers they take 1.5 KB each.
    """

    def __init__(self, *given: Any, num_cached: int, **more: Any) -> None:
        super().__init__(*given, **more)
        self.vectors: LRUCache[str, np.ndarray] = LRUCache(num_cached)

    def _scores(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        asked = dict.fromkeys([*left, *right])
        known = {one: vector for one in asked if (vector := self.vectors.get(one)) is not None}
        if absent := [one for one in asked if one not in known]:
            fresh = dict(zip(absent, self._read(absent), strict=True))
            known |= fresh
            if self.vectors.maxsize:
                self.vectors.update(list(fresh.items())[-int(self.vectors.maxsize) :])
        sides = (np.stack([known[one] for one in side]) for side in (left, right))
        return np.einsum("nd,nd->n", *sides).astype(np.float64)
