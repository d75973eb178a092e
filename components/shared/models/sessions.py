"""Networks as files, read by a runtime that needs no torch: ONNX Runtime, or OpenVINO. Fed in batches of similar lengths."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from components.shared.cores import num_cores
from components.shared.errors import InputError
from components.shared.models.batches import token_batches
from components.shared.storage import content_digest_of

FOLDER, REPORT = "onnx", "export.json"  # below a model folder
LENGTHS = 8  # OpenVINO sees lengths that are multiples of it
Columns = dict[str, list[list[int]]]  # of a tokenizer: a list of ids per row


class Session(ABC):
    """Rows in, one output per row; a row's output does not depend on its batch beyond rounding. One call at a time.

    Args:
        file: with free numbers of rows and tokens, and one output.
        pad_token: id that fills short rows up.
        num_threads: of one call; 0 takes all cores.
        max_tokens: that a row has at most; the network need not read a longer one. None: it reads any.

    Attributes:
        name: of the runtime, with its version; inputs: their names; width: of the output.

    Raises:
        InputError: without the runtime, or for a file that it cannot read.
    """

    name: str
    inputs: list[str]
    width: int

    def __init__(self, file: Path, pad_token: int, *, num_threads: int = 0, max_tokens: int | None = None) -> None:
        self.pad_token, self.max_tokens = pad_token, max_tokens
        self._open(file, num_threads or num_cores())

    @abstractmethod
    def _open(self, file: Path, num_threads: int) -> None: ...

    @abstractmethod
    def _run(self, feed: dict[str, np.ndarray]) -> np.ndarray: ...

    def read(self, encoded: Columns, batch_tokens: int) -> np.ndarray:
        """[rows, width of the output], float32; `batch_tokens` as in `token_batches`."""
        rows = encoded["input_ids"]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        out = np.zeros((len(rows), self.width), np.float32)
        for chosen, width in self._batches(lengths, batch_tokens):
            out[chosen] = self._run({name: self._padded(encoded[name], chosen, lengths[chosen], width, name) for name in self.inputs})
        return out

    def _batches(self, lengths: np.ndarray, batch_tokens: int) -> Iterator[tuple[np.ndarray, int]]:
        """(row numbers, tokens that each gets) of each batch."""
        return ((chosen, int(lengths[chosen].max())) for chosen in token_batches(lengths, batch_tokens))

    def _padded(self, column: list[list[int]], chosen: np.ndarray, lengths: np.ndarray, width: int, name: str) -> np.ndarray:
        """[rows, width], int64, filled up on the right."""
        out = np.full((len(chosen), width), self.pad_token if name == "input_ids" else 0, np.int64)
        out[np.arange(width) < lengths[:, None]] = np.concatenate([column[row] for row in chosen])
        return out


class OnnxSession(Session):
    """By ONNX Runtime."""

    def _open(self, file: Path, num_threads: int) -> None:
        try:
            import onnxruntime  # noqa: PLC0415 - an optional runtime
            from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidProtobuf  # noqa: PLC0415
        except ImportError:
            raise InputError(f"'{file.name}' needs onnxruntime, which is not installed; pip install '.[onnx]'") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        # threads that spin when they are done take the cores that a server, or another process, needs then
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(str(file), options, providers=onnxruntime.get_available_providers())
        except (Fail, InvalidProtobuf) as error:
            raise InputError(f"'{file}' is no ONNX file that onnxruntime reads ({str(error).splitlines()[0]}); export it again") from None
        self.name = f"onnxruntime {onnxruntime.__version__}"
        self.inputs = [one.name for one in self._session.get_inputs()]
        self.width = self._session.get_outputs()[0].shape[-1]

    def _run(self, feed: dict[str, np.ndarray]) -> np.ndarray:
        return self._session.run(None, feed)[0]


class OpenvinoSession(Session):
    """By OpenVINO, which reads its own files and those of ONNX.

    It makes kernels for each new shape, which takes as long as the batch itself, and keeps megabytes of each. So there are few: batches of
    1, 2, 4 ... rows, lengths in steps of LENGTHS, and `max_tokens`, where the network's table of positions may end.
    """

    def _open(self, file: Path, num_threads: int) -> None:
        try:
            import openvino  # noqa: PLC0415 - an optional runtime
        except ImportError:
            raise InputError(f"'{file.name}' needs openvino, which is not installed; pip install '.[openvino]'") from None
        settings = {
            "INFERENCE_NUM_THREADS": num_threads,
            "PERFORMANCE_HINT": "LATENCY",
            # where the processor has bf16, OpenVINO would take it for float32, and answer otherwise than where the file was compared
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            compiled = openvino.Core().compile_model(str(file), "CPU", settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise InputError(f"'{file}' is no file that openvino reads ({reason}); export it again") from None
        self._request: Any = compiled.create_infer_request()
        self.name = f"openvino {openvino.__version__.partition('-')[0]}"
        self.inputs = [one.any_name for one in compiled.inputs]
        self.width = compiled.outputs[0].partial_shape[-1].get_length()

    def _batches(self, lengths: np.ndarray, batch_tokens: int) -> Iterator[tuple[np.ndarray, int]]:
        order, widths, at = np.argsort(-lengths, kind="stable"), -(-lengths // LENGTHS) * LENGTHS, 0
        if self.max_tokens is not None:
            widths = np.minimum(widths, self.max_tokens)
        while at < len(order):
            width = int(widths[order[at]])
            most = min(max(1, batch_tokens // width), len(order) - at)
            rows = 1 << (most.bit_length() - 1)
            yield order[at : at + rows], width
            at += rows

    def _run(self, feed: dict[str, np.ndarray]) -> np.ndarray:
        return self._request.infer(feed, share_inputs=True)[0]


RUNTIMES: dict[str, type[Session]] = {"openvino": OpenvinoSession, "onnxruntime": OnnxSession}  # the faster one first


def installed() -> list[str]:
    """Names of the runtimes that are here."""
    return [name for name in RUNTIMES if find_spec(name) is not None]


def digest_of(file: Path) -> str:
    """SHA-256 of an exported network; joined by + where it lies in several files."""
    return "+".join(content_digest_of(str(part)) for part in sorted(file.parent.glob(f"{file.stem}.*")))
