"""A trained student as the files that serving reads, each held against the student on pairs that it has not learnt from."""

import logging
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from components.shared import storage
from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.onnx_export import export_onnx, quantise
from components.shared.models.onnx_session import FOLDER, REPORT, OnnxSession
from components.shared.models.scoring import Scorer
from components.shared.models.tokens import encode_rows
from components.train_student.agreement import spearman_within
from components.train_student.config import TrainStudentConfig
from components.train_student.targets import Lessons

logger = logging.getLogger(__name__)

FORMATS = {"onnx": "fp32", "onnx_int8": "int8"}
FILES = {"fp32": "model.onnx", "int8": "model_int8.onnx"}
LARGEST_DIFFERENCE = 1e-4  # of a score, in float32; rounding errs by a hundredth of it
MAX_PAIRS, BATCH_TOKENS = 2000, 4096
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_exporter(config: TrainStudentConfig) -> None:
    """Raises InputError when an export is wished for and cannot be made, before anything is trained."""
    absent = [name for name in PACKAGES if config.export and find_spec(name) is None]
    if absent:
        raise InputError(f"key 'export' = {config.export}: {absent[0]} is not installed; pip install '.[onnx]', or set export: []")


def export(config: TrainStudentConfig, model: str, texts: tuple[list[str], list[str]], lessons: Lessons) -> dict[str, float]:
    """Write `onnx/` below the model folder, `export.json` last; metrics under `export.`.

    `export.json` has the files with digest and quality, which of them is best, and why others were refused.

    Args:
        texts: of all rows of `lessons`; the held-out ones are compared.
    """
    place = storage.join(model, FOLDER)
    storage.remove(place)
    if not config.export:
        return {}
    scorer, rows = Scorer(model), lessons.validation()[:MAX_PAIRS]
    pairs = tuple([column[row] for row in rows] for column in texts)
    wanted = {name: FILES[name] for given, name in FORMATS.items() if given in config.export}
    with tempfile.TemporaryDirectory(prefix="onnx-") as scratch:
        scores = scorer.scores(*pairs)
        made = _exported(scorer, Path(scratch), wanted)
        quality = {name: compare(scores, _scores(file, scorer, pairs), lessons.query[rows]) for name, file in made.items()}
        refused = {name: reason for name, one in quality.items() if (reason := _fault(config, name, one))}
        for name in refused:
            logger.warning("export in %s refused: %s", name, refused[name])
            made[name].unlink()
        kept = {name: file for name, file in made.items() if name not in refused}
        if "fp32" not in wanted:
            (Path(scratch) / FILES["fp32"]).unlink()
        files = {name: {"file": file.name, "digest": storage.content_digest_of(str(file)), **quality[name]} for name, file in kept.items()}
        folder.publish(Path(scratch), place)
    best = next((name for name in ("int8", "fp32") if name in kept), "")
    report = {"files": files, "refused": refused, "best": best, "num_pairs": len(rows), "max_tokens": scorer.spec.max_tokens}
    storage.write_json(storage.join(place, REPORT), report)
    metrics = {f"export.{name}.{key}": value for name, one in quality.items() for key, value in one.items()}
    return metrics | {f"export.{name}.kept": float(name in kept) for name in wanted}


def _exported(scorer: Scorer, place: Path, wanted: dict[str, str]) -> dict[str, Path]:
    file = place / FILES["fp32"]
    export_onnx(scorer.model.cpu(), scorer.tokenizer, file, joint=scorer.spec.reads_jointly(), apart=False)
    made = {"fp32": file} if "fp32" in wanted else {}
    return made | ({"int8": quantise(file, place / FILES["int8"])} if "int8" in wanted else {})


def _scores(file: Path, scorer: Scorer, pairs: tuple[list[str], ...]) -> np.ndarray:
    """What the exported network gives for left and right texts [rows]."""
    session = OnnxSession(file, scorer.tokenizer.pad_token_id)
    sides = [pairs] if scorer.spec.reads_jointly() else [(side,) for side in pairs]
    read = [session.read(encode_rows(scorer.tokenizer, *side, max_tokens=scorer.spec.max_tokens), BATCH_TOKENS) for side in sides]
    return read[0][:, 0] if len(read) == 1 else np.einsum("nd,nd->n", *read)


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
    if name == "fp32":
        error = quality["largest_difference"]
        return "" if error <= LARGEST_DIFFERENCE else f"it changes a score by {error:.2g}; at most {LARGEST_DIFFERENCE:g}"
    worst = min(quality["spearman_within"], quality["spearman_across"])
    return "" if worst >= config.min_spearman else f"its Spearman to fp32 is {worst:.4f}; min_spearman is {config.min_spearman:g}"
