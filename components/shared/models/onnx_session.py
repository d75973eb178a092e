"""A network that ONNX Runtime reads, fed in batches of similar lengths. Needs no torch."""

from pathlib import Path
from typing import Any

import numpy as np

from components.shared.errors import InputError
from components.shared.models.batches import token_batches

FOLDER, REPORT = "onnx", "export.json"  # below a model folder
Columns = dict[str, list[list[int]]]  # of a tokenizer: a list of ids per row


class OnnxSession:
    """Rows in, one output per row; a row's output does not depend on its batch beyond rounding.

    Args:
        file: with free numbers of rows and tokens, and one output.
        pad_token: id that fills short rows up.
        num_threads: of one call; 0 takes all cores.

    Raises:
        InputError: without ONNX Runtime, or for a file that it cannot read.
    """

    def __init__(self, file: Path, pad_token: int, *, num_threads: int = 0) -> None:
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
            self.session: Any = onnxruntime.InferenceSession(str(file), options, providers=onnxruntime.get_available_providers())
        except (Fail, InvalidProtobuf) as error:
            raise InputError(f"'{file}' is no ONNX file that onnxruntime reads ({str(error).splitlines()[0]}); export it again") from None
        self.name = f"onnxruntime {onnxruntime.__version__}"
        self.fill = {one.name: pad_token if one.name == "input_ids" else 0 for one in self.session.get_inputs()}
        (self.output,) = self.session.get_outputs()

    def read(self, encoded: Columns, batch_tokens: int) -> np.ndarray:
        """[rows, width of the output], float32; `batch_tokens` as in `token_batches`."""
        rows = encoded["input_ids"]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        out = np.zeros((len(rows), self.output.shape[-1]), np.float32)
        for chosen in token_batches(lengths, batch_tokens):
            feed = {name: _padded([encoded[name][row] for row in chosen], lengths[chosen], fill) for name, fill in self.fill.items()}
            out[chosen] = self.session.run([self.output.name], feed)[0]
        return out


def _padded(rows: list[list[int]], lengths: np.ndarray, fill: int) -> np.ndarray:
    """[rows, longest], int64, filled up on the right."""
    out = np.full((len(rows), int(lengths.max())), fill, np.int64)
    out[np.arange(out.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return out
