"""What a model folder is: `relevance.json`. Needs neither torch nor transformers, so that serving a model loads none of them.

Pickle weights and repositories that bring their own code are refused: a model folder must never be able to run anything.
"""

import tempfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.errors import InputError
from components.shared.text import STAGES, TEXT_VERSION, Stage

SPEC = "relevance.json"
KINDS = ("encoder", "teacher", "cross_encoder", "bi_encoder", "graph")
JOINT_KINDS = ("teacher", "cross_encoder")
LOGIT_KINDS = ("cross_encoder", "graph")  # students whose score is a gain or its logit, so that another can learn from them


class OutdatedModelError(InputError):
    """A model that reads texts of another version than this code writes."""


@dataclass(frozen=True)
class ModelSpec:
    """What a model is. `gains` is the gain of each grade that a teacher predicts; other kinds have none.

    `decoder` says that a joint reader looks only backwards: query and item are tokenised apart (`tokens.join_pairs`) and its head reads
    the last token. A teacher with `offsets` (one per grade) reads query and item separately: the logit of grade g is `slope` x g x
    cosine + offset g. A teacher with `stages` (names in `text.STAGES`) is asked once for each of them, and `stages.combined_logits` makes
    one answer by `stage_weights` [stages] and `stage_offsets` [grades]. A teacher with `replies` writes (`generative.py`): these are the
    tasks of `text.TASKS` that it was taught, it scores by the first, with at most `step_tokens` tokens before the grade. A teacher with a
    `grader` has no weights here, it is asked over HTTP (`score_pairs/endpoint_engine.py`). A student whose scores were calibrated has the
    map from them to gains in `calibration` (`shared/calibration.py`). A student of kind graph reads `num_neighbors` texts of each list
    up to `graph_order` steps away (`graph.py`). The score of one of LOGIT_KINDS, times `temperature`, imitates the `target`: a gain
    (`probability`) or its logit.
    """

    kind: str
    max_tokens: int
    text_version: str = TEXT_VERSION
    gains: list[float] = field(default_factory=list)
    num_neighbors: int = 0
    graph_order: int = 0
    source: str = ""
    slope: float = 0.0
    offsets: list[float] = field(default_factory=list)
    decoder: bool = False
    grader: dict[str, Any] = field(default_factory=dict)
    replies: list[str] = field(default_factory=list)
    step_tokens: int = 0
    stages: list[str] = field(default_factory=list)
    stage_weights: list[float] = field(default_factory=list)
    stage_offsets: list[float] = field(default_factory=list)
    calibration: dict[str, Any] = field(default_factory=dict)
    target: str = "logit"
    temperature: float = 1.0

    def prompts(self) -> list[Stage]:
        """What each prompt of a teacher shows."""
        return [STAGES[name] for name in self.stages or ["neighbors" if self.num_neighbors else "semantic"]]

    def reads_jointly(self) -> bool:
        return self.kind in JOINT_KINDS and not self.offsets

    def classifies_as_decoder(self) -> bool:
        """Whether a head reads the grades at a decoder's last token."""
        return self.decoder and self.reads_jointly() and not self.replies

    def num_labels(self) -> int:
        return len(self.gains) if self.kind == "teacher" else 1


def fetch(uri: str) -> Path:
    """The model as a local folder; remote ones are copied to a temporary folder once per call.

    Raises:
        InputError: when nothing is there, or the folder is not safe to load.
    """
    if not storage.exists(uri):
        raise InputError(f"model '{uri}' does not exist; give a model folder, or models:/<name>@champion")
    if storage.is_local(uri):
        folder = storage.local_path(uri)
    else:
        folder = Path(tempfile.mkdtemp(prefix="model-"))
        fs, path = storage.resolve(uri)
        storage.temporary_on_trouble(lambda: fs.get(path + "/", str(folder) + "/", recursive=True), uri)
    check_safe(folder)
    return folder


def check_safe(folder: Path) -> None:
    """Refuse folders that could run code or that hold no weights we accept.

    Raises:
        InputError: naming the file.
    """
    if (folder / SPEC).is_file() and storage.read_json(str(folder / SPEC)).get("grader"):
        return  # nothing is loaded from it
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise InputError(f"model folder '{folder}' has no config.json; give a Hugging Face model folder")
    if not list(folder.glob("*.safetensors")):
        found = sorted(one.name for one in folder.iterdir() if one.suffix in (".bin", ".pt", ".pth", ".pkl", ".h5"))
        raise InputError(f"model folder '{folder}' has no *.safetensors ({', '.join(found) or 'no weights'}); save it with safetensors")
    for name in ("config.json", "tokenizer_config.json"):
        file = folder / name
        if file.is_file() and "auto_map" in storage.read_json(str(file)):
            raise InputError(f"'{file}' asks for remote code (auto_map), which is refused; use a model that transformers knows itself")


def read_written_spec(folder: Path) -> ModelSpec:
    """What `relevance.json` of a folder says.

    Raises:
        InputError: for a file that is no spec, or an unknown kind.
        OutdatedModelError: for texts of another version than this code builds.
    """
    given = storage.read_json(str(folder / SPEC))
    known = [one.name for one in fields(ModelSpec)]
    if unknown := sorted(set(given) - set(known)):
        raise InputError(f"'{folder / SPEC}': unknown key '{unknown[0]}'; known keys: {', '.join(known)}")
    spec = ModelSpec(**given)
    if spec.kind not in KINDS:
        raise InputError(f"'{folder / SPEC}': kind '{spec.kind}' is unknown; one of {', '.join(KINDS)}")
    if unknown := [one for one in spec.stages if one not in STAGES]:
        raise InputError(f"'{folder / SPEC}': stage '{unknown[0]}' is unknown; one of {', '.join(STAGES)}")
    sizes = (len(spec.stage_weights), len(spec.stage_offsets))
    if spec.stages and sizes != (len(spec.stages), len(spec.gains)):
        raise InputError(f"'{folder / SPEC}': {sizes[0]} stage_weights and {sizes[1]} stage_offsets; give one per stage and one per grade")
    if spec.text_version != TEXT_VERSION:
        raise OutdatedModelError(
            f"'{folder / SPEC}': the model reads texts of version {spec.text_version}, this code writes version {TEXT_VERSION}: retrain"
        )
    return spec


def write_spec(uri: str, spec: ModelSpec) -> None:
    """Say (anew) what the model folder is."""
    storage.write_json(storage.join(uri, SPEC), asdict(spec))
