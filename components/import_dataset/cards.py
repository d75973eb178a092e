"""Finding and checking the card of a data folder."""

from importlib import resources
from typing import Any

import yaml

from components.import_dataset.sources import find_place
from components.shared import storage
from components.shared.card import DatasetCard
from components.shared.errors import InputError

CARD = "dataset.yaml"
GIVEN = "given.json"


def follow(dataset: str) -> str:
    """The address of the data: `dataset` itself, or the folder that its `given.json` points at.

    Raises:
        InputError: when nothing is there.
    """
    _refuse_absent(dataset)
    pointer = storage.join(dataset, GIVEN)
    if not storage.exists(pointer):
        return storage.normalise(dataset)
    address = storage.read_json(pointer)["uri"]
    _refuse_absent(address)
    return storage.normalise(address)


def _refuse_absent(uri: str) -> None:
    if not storage.list_files(uri):
        raise InputError(f"data folder '{uri}' does not exist, is empty or cannot be read; give the path of a folder with {CARD}")
    if storage.is_local(uri) and not storage.local_path(uri).is_dir():
        raise InputError(f"data folder '{uri}' is a file; give the folder that holds it")


def resolve_card(root: str, shape: str) -> DatasetCard:
    """The folder's own card, else the packaged one called `shape`, else the packaged one whose files are all there.

    `root`, `snapshot` and the files' full names are filled in.

    Raises:
        InputError: for no card, a card that is not valid, or files that are absent.
    """
    own = storage.join(root, CARD)
    card = parse_card(storage.read_bytes(own), own) if storage.exists(own) else _packaged(root, shape)
    places = {name: {"file": _existing(root, getattr(card, name).file, f"{name}.file")} for name in ("items", "queries", "judgments")}
    logs = {name: place for name in ("queries", "events") if (place := getattr(card.log, name))}
    log = {name: _existing(root, place, f"log.{name}") for name, place in logs.items()}
    sheets = {"judgment_sheets": _existing(root, card.judgment_sheets, "judgment_sheets")} if card.judgment_sheets else {}
    return card.model_copy(
        update={
            **sheets,
            **{name: getattr(card, name).model_copy(update=place) for name, place in places.items()},
            "log": card.log.model_copy(update=log),
            "root": root,
            "snapshot": storage.listing_digest(root),
        }
    )


def packaged_cards() -> dict[str, DatasetCard]:
    """Name -> card, in alphabetical order."""
    folder = resources.files("components.import_dataset") / "cards"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return {file.name.removesuffix(".yaml"): parse_card(file.read_bytes(), f"card {file.name}") for file in files}


def _packaged(root: str, shape: str) -> DatasetCard:
    cards = packaged_cards()
    if shape:
        if shape not in cards:
            raise InputError(f"recipe section 'dataset': key 'shape' = '{shape}' is not a packaged card; known: {', '.join(cards)}")
        return cards[shape]
    for card in cards.values():
        if all(find_place(root, place) for place in _places(card)):
            return card
    known = "; ".join(f"{name} ({', '.join(_places(card))})" for name, card in cards.items())
    raise InputError(f"data folder '{root}' has no {CARD} and its files fit no known shape: {known}; write a {CARD} beside the data")


def _places(card: DatasetCard) -> list[str]:
    return [place for place in (card.items.file, card.queries.file, card.judgments.file, card.log.queries, card.log.events) if place]


def _existing(root: str, place: str, key: str) -> str:
    found = find_place(root, place)
    if found is None:
        raise InputError(f"card of '{root}': key '{key}' = '{place}' does not exist there; name a file or folder below the data folder")
    return found


def parse_card(content: bytes, where: str) -> DatasetCard:
    """A card from YAML.

    Raises:
        InputError: for YAML that cannot be read (with its line), unknown or absent keys, and grades that are not 0, 1, 2, ...
    """
    try:
        mapping = yaml.safe_load(content)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise InputError(f"{where}{line}: not valid YAML ({problem}); correct the line") from None
    if not isinstance(mapping, dict):
        raise InputError(
            f"{where}: holds {type(mapping).__name__}, not keys and values; start from components/import_dataset/cards/ubi.yaml"
        )
    card = DatasetCard.from_mapping(_with_text_labels(mapping, where), section=where)
    _check_grades(card, where)
    return card


def _with_text_labels(mapping: dict[str, Any], where: str) -> dict[str, Any]:
    """YAML reads `3:` as a number and `no:` as false; labels are text."""
    grades = mapping.get("grades")
    if not isinstance(grades, dict):
        return mapping
    for label in grades:
        if isinstance(label, bool):
            raise InputError(f"{where}: key 'grades' has the label {label}, which YAML made of yes/no/on/off; put the label in quotes")
    return {**mapping, "grades": {str(label): grade for label, grade in grades.items()}}


def _check_grades(card: DatasetCard, where: str) -> None:
    grades = sorted(one.grade for one in card.grades.values())
    if grades != list(range(len(grades))) or len(grades) < 2:
        raise InputError(f"{where}: key 'grades' has the values {grades}; use each of 0, 1, 2, ... once, at least two")
    gains = card.gains()
    if gains != sorted(gains):
        raise InputError(f"{where}: key 'grades' has the gains {gains} from the worst grade up; a better grade must not be worth less")
