"""Recipes: YAML with one section per task, checked by the settings class of its room before anything is compiled."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from components.shared.config import StepConfig
from components.shared.errors import InputError

RECIPES = Path(__file__).parent / "recipes"
EXTENDS = "extends"

# recipe section = pipeline parameter -> room
SECTIONS = {
    "shop": "simulate_shop",
    "dataset": "import_dataset",
    "logs": "extract_logs",
    "neighbors": "retrieve_neighbors",
    "teacher_encoder": "prepare_encoder",
    "student_encoder": "prepare_encoder",
    "teacher": "train_teacher",
    "pool": "build_pool",
    "scoring": "score_pairs",
    "cross_encoder": "train_student",
    "bi_encoder": "train_student",
    "ranking": "score_pairs",
    "evaluation": "evaluate_rankings",
    "promotion": "promote_model",
}

CHAMPION = "champion"  # in a recipe: the registered model that `promotion` would replace
NAMES_MODEL = (("ranking", "model"), ("pool", "bi_encoder"))

Settings = dict[str, dict[str, Any]]


def names() -> list[str]:
    """Recipes that come with the project."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load(recipe: str, overrides: Sequence[str] = ()) -> Settings:
    """All sections of a recipe, with defaults filled in and overrides applied.

    Args:
        recipe: name of a recipe of the project, or the path of a YAML file.
        overrides: `section.key=value`, the value written as YAML.

    Raises:
        InputError: naming file, section, key and value, and what is known.
    """
    given = _read(find(recipe), seen=())
    for override in overrides:
        given = _merge(given, _parse_override(override))
    settings = {section: _validated(section, given.get(section, {}), recipe) for section in SECTIONS}
    for section, key in NAMES_MODEL:
        if settings[section][key] == CHAMPION:
            settings[section] = _validated(section, {**settings[section], key: _champion(settings)}, recipe)
    _check_agreement(settings, recipe)
    return settings


def _champion(settings: Settings) -> str:
    """Address of the champion; empty where `promotion` registers nothing."""
    promotion = settings["promotion"]
    return f"models:/{promotion['model_name']}@{promotion['champion_alias']}" if promotion["model_name"] else ""


def _check_agreement(settings: Settings, recipe: str) -> None:
    """What two sections say about one thing has to agree, or the night ends in its last task."""
    promotion, evaluation = settings["promotion"], settings["evaluation"]
    expected = [
        ("evaluation.challenger", evaluation["challenger"], promotion["system"], "promotion.system"),
        ("ranking.model", settings["ranking"]["model"], _champion(settings), "promotion.model_name and champion_alias"),
    ]
    if promotion["metric"].startswith("ndcg@"):
        expected.append(("promotion.metric", promotion["metric"], f"ndcg@{evaluation['cutoff']}", "evaluation.cutoff"))
    for key, value, wanted, other in expected:
        if value != wanted:
            raise InputError(f"recipe '{recipe}': {key} = {value!r} does not fit {other}, which asks for {wanted!r}; change one of them")
    if unranked := sorted(set(evaluation["splits"]) - set(settings["ranking"]["splits"])):
        raise InputError(f"recipe '{recipe}': evaluation.splits has '{unranked[0]}', which ranking.splits lacks; change one of them")
    if settings["teacher"]["num_neighbors"] > settings["neighbors"]["num_neighbors"]:
        raise InputError(
            f"recipe '{recipe}': teacher.num_neighbors = {settings['teacher']['num_neighbors']} is above neighbors.num_neighbors = "
            f"{settings['neighbors']['num_neighbors']}; lower one or raise the other"
        )


def find(recipe: str) -> Path:
    """The file of a recipe. Raises InputError listing the known names."""
    if recipe.endswith((".yaml", ".yml")):
        if not Path(recipe).is_file():
            raise InputError(f"recipe '{recipe}' does not exist; give the path of a YAML file or one of: {', '.join(names())}")
        return Path(recipe)
    if recipe not in names():
        raise InputError(f"recipe '{recipe}' is not known; use one of {', '.join(names())}, or the path of a YAML file")
    return RECIPES / f"{recipe}.yaml"


def config_of(section: str) -> type[StepConfig]:
    """The settings class that a section is checked by."""
    room = SECTIONS[section]
    module = importlib.import_module(f"components.{room}.config")
    return getattr(module, "".join(word.title() for word in room.split("_")) + "Config")


def _read(path: Path, seen: tuple[Path, ...]) -> Settings:
    if path.resolve() in seen:
        raise InputError(f"recipe '{path}' extends itself ({' -> '.join(one.stem for one in [*seen, path])}); remove one `{EXTENDS}`")
    try:
        whole = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"recipe '{path}' is not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(whole, dict):
        raise InputError(f"recipe '{path}' is a {type(whole).__name__}; write `section:` with `key: value` lines below it")
    base = whole.pop(EXTENDS, None)
    if base is not None and not isinstance(base, str):
        raise InputError(f"recipe '{path}': {EXTENDS} = {base!r}; write the name of one recipe or the path of one YAML file")
    _check_shape(whole, path)
    return _merge(_read(_base_of(base, path), (*seen, path.resolve())), whole) if base else whole


def _base_of(base: str, path: Path) -> Path:
    beside = path.parent / base
    return beside if base.endswith((".yaml", ".yml")) and beside.is_file() else find(base)


def _check_shape(whole: Mapping[str, Any], where: Path | str) -> None:
    for section, keys in whole.items():
        if section not in SECTIONS:
            raise InputError(f"recipe '{where}': unknown section {section!r}; known sections: {', '.join(SECTIONS)}")
        if not isinstance(keys, dict):
            raise InputError(f"recipe '{where}': section '{section}' = {keys!r}; write `key: value` lines below it, or leave it out")
        for key, value in keys.items():
            if _holds_null(value):
                raise InputError(f"recipe '{where}': {f'{section}.{key}'!r} is empty; leave the key out to keep its default")


def _holds_null(value: Any) -> bool:
    """kfp refuses a null inside a dict parameter when the pipeline is called."""
    if isinstance(value, dict):
        return any(_holds_null(one) for one in value.values())
    if isinstance(value, list):
        return any(_holds_null(one) for one in value)
    return value is None


def _parse_override(text: str) -> Settings:
    place, found, value = text.partition("=")
    section, *keys = place.strip().split(".")
    if not found or not keys or not all(keys):
        raise InputError(f"--set '{text}': write section.key=value, for example teacher.learning_rate=0.0001")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(f"--set '{text}': the value is not valid YAML; put it in quotes") from None
    for key in reversed(keys):
        nested = {key: nested}
    _check_shape({section: nested}, f"--set {text}")
    return {section: nested}


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _validated(section: str, keys: Mapping[str, Any], recipe: str) -> dict[str, Any]:
    try:
        config = config_of(section).from_mapping(keys, section=section)
    except InputError as error:
        raise InputError(f"recipe '{recipe}': {error}") from None
    return config.model_dump(mode="json", exclude_none=True)
