"""A trained student as the files that serving reads, each held against the student before it is kept."""

import logging
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from components.shared import storage
from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.onnx_export import export_onnx
from components.shared.models.quantise import quantise_onnx, quantise_openvino
from components.shared.models.scoring import Scorer
from components.shared.models.sessions import FOLDER, REPORT, RUNTIMES, Columns, digest_of, installed
from components.shared.models.tokens import encode_rows
from components.train_student.agreement import spearman_within
from components.train_student.config import TrainStudentConfig
from components.train_student.targets import Lessons

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Format:
    """One way to write a student: which file, which runtimes read it, and what must be installed (`extras` names it for pip)."""

    name: str
    file: str
    runtimes: tuple[str, ...]
    extras: str
    packages: tuple[str, ...]


WRITER = ("onnx", "onnxscript")
FLOAT = Format("fp32", "model.onnx", ("onnxruntime", "openvino"), "onnx", (*WRITER, "onnxruntime"))
FORMATS = {
    "onnx": FLOAT,
    "onnx_int8": Format("int8", "model_int8.onnx", ("onnxruntime",), "onnx", FLOAT.packages),
    "openvino_int8": Format("openvino_int8", "model_openvino_int8.xml", ("openvino",), "onnx,openvino", (*WRITER, "openvino", "nncf")),
}
LARGEST_DIFFERENCE = 1e-4  # of a score, in float32; rounding errs by a hundredth of it
MIN_PAIRS, MAX_PAIRS = 200, 2000  # that are compared
NUM_RANGES, BATCH_TOKENS = 300, 4096  # NUM_RANGES: pairs that show 8 bits which values are to come
Texts = tuple[list[str], list[str]]


def check_exporter(config: TrainStudentConfig) -> None:
    """Raises InputError when an export is wished for and cannot be made, before anything is trained."""
    for wanted in (FORMATS[name] for name in config.export):
        for absent in (name for name in wanted.packages if find_spec(name) is None):
            raise InputError(
                f"key 'export' = {config.export}: {absent} is not installed; pip install '.[{wanted.extras}]', or set export: []"
            )


def export(config: TrainStudentConfig, model: str, texts: Texts, lessons: Lessons) -> dict[str, float]:
    """Write `onnx/` below the model folder, `export.json` last; metrics under `export.`.

    `export.json` has the files with digest and quality, and why others were refused.

    Args:
        texts: of all rows of `lessons`; the held-out ones are compared, with others where they are fewer than `MIN_PAIRS`; some of the
            others show the ranges of 8 bits.
    """
    place = storage.join(model, FOLDER)
    storage.remove(place)
    if not config.export:
        return {}
    scorer, rows = Scorer(model), _compared(lessons)
    pairs, learnt = _taken(texts, rows), _taken(texts, _some(lessons.training(), config.seed))
    wanted = [one for given, one in FORMATS.items() if given in config.export]
    with tempfile.TemporaryDirectory(prefix="onnx-") as scratch:
        scores = scorer.scores(*pairs)
        made = _exported(scorer, Path(scratch), wanted, learnt)
        quality = {one.name: _quality(one, file, scorer, pairs, scores, lessons.query[rows]) for one, file in made.items()}
        refused = {name: reason for name, one in quality.items() if (reason := _fault(config, name, one))}
        for one in [one for one in made if one.name in refused]:
            logger.warning("export in %s refused: %s", one.name, refused[one.name])
            _remove(made.pop(one))
        if FLOAT not in wanted:
            _remove(Path(scratch) / FLOAT.file)
        files = {one.name: {"file": file.name, "digest": digest_of(file), **quality[one.name]} for one, file in made.items()}
        folder.publish(Path(scratch), place)
    report = {"files": files, "refused": refused, "num_pairs": len(rows), "max_tokens": scorer.spec.max_tokens}
    storage.write_json(storage.join(place, REPORT), report)
    metrics = {f"export.{name}.{key}": value for name, one in quality.items() for key, value in one.items()}
    return metrics | {f"export.{one.name}.kept": float(one.name in files) for one in wanted}


def _exported(scorer: Scorer, place: Path, wanted: list[Format], learnt: Texts) -> dict[Format, Path]:
    source = place / FLOAT.file
    export_onnx(scorer.model.cpu(), scorer.tokenizer, source, joint=scorer.spec.reads_jointly(), apart=False)
    for one in wanted:
        if one.name == "int8":
            quantise_onnx(source, place / one.file)
        elif one.name == "openvino_int8":
            quantise_openvino(source, place / one.file, _encoded(scorer, learnt))
    return {one: place / one.file for one in wanted}


def _quality(one: Format, file: Path, scorer: Scorer, pairs: Texts, wanted: np.ndarray, query: np.ndarray) -> dict[str, float]:
    """The worse one of `compare` where several runtimes are here that would read the file."""
    found = []
    for runtime in (name for name in one.runtimes if name in installed()):
        session = RUNTIMES[runtime](file, scorer.tokenizer.pad_token_id, max_tokens=scorer.spec.max_tokens)
        read = session.read(_encoded(scorer, pairs), BATCH_TOKENS)
        scores = read[:, 0] if scorer.spec.reads_jointly() else np.einsum("nd,nd->n", *np.split(read, 2))
        found.append(compare(wanted, scores, query))
    return max(found, key=lambda quality: np.nan_to_num(quality["largest_difference"], nan=np.inf))


def _encoded(scorer: Scorer, texts: Texts) -> Columns:
    """What the network reads: pairs, or the left texts and then the right ones."""
    read = texts if scorer.spec.reads_jointly() else (texts[0] + texts[1],)
    return encode_rows(scorer.tokenizer, *read, max_tokens=scorer.spec.max_tokens)


def _compared(lessons: Lessons) -> np.ndarray:
    """Rows of the held-out pairs, and of learnt ones where those say too little of an order."""
    rows = lessons.validation()[:MAX_PAIRS]
    return np.concatenate([rows, lessons.training()[: max(0, MIN_PAIRS - len(rows))]])


def _taken(texts: Texts, rows: np.ndarray) -> Texts:
    left, right = ([column[row] for row in rows] for column in texts)
    return left, right


def _some(rows: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(rows)[:NUM_RANGES]


def _remove(file: Path) -> None:
    for part in file.parent.glob(f"{file.stem}.*"):
        part.unlink()


def compare(wanted: np.ndarray, found: np.ndarray, query: np.ndarray) -> dict[str, float]:
    """How scores [rows] differ from those wanted: Spearman within queries (their mean) and across them, and the largest difference.

    Args:
        query: number of each row's query [rows].
    """
    within = spearman_within(found, wanted, query)
    return {
        "spearman_within": float(within[np.isfinite(within)].mean()) if np.isfinite(within).any() else 1.0,
        "spearman_across": float(spearman_within(found, wanted, np.zeros_like(query))[0]),
        "largest_difference": float(np.abs(found - wanted).max()),
    }


def _fault(config: TrainStudentConfig, name: str, quality: dict[str, float]) -> str:
    """Why a file is refused; empty where it is not."""
    error = quality["largest_difference"]
    if not np.isfinite(error):
        return "it gives infinity or NaN"
    if name == "fp32":
        return "" if error <= LARGEST_DIFFERENCE else f"it changes a score by {error:.2g}; at most {LARGEST_DIFFERENCE:g}"
    worst = min(quality["spearman_within"], quality["spearman_across"])
    return "" if worst >= config.min_spearman else f"its Spearman to fp32 is {worst:.4f}; min_spearman is {config.min_spearman:g}"
