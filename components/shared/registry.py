"""The MLflow model registry: versions that point at model folders, and the aliases that say which one serves.

Weights never go through the tracking server: the source of a version is the URI of the model folder, and its digest is a tag
(mlflow#8539, #7564). MLflow is found through MLFLOW_TRACKING_URI, or else where `make run` keeps it.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.errors import InputError, TemporaryError

SCHEME = "models:/"
DIGEST = "digest"
LOCAL_STORE = Path("runs/mlflow.db")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\- ]{0,127}")
ALIAS = re.compile(r"(?!latest$)(?![vV]\d+$)[A-Za-z0-9_\-]{1,127}")
ABSENT, STANDS_ALREADY = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"
PERMANENT = frozenset({ABSENT, "INVALID_PARAMETER_VALUE", "BAD_REQUEST", "PERMISSION_DENIED", "UNAUTHENTICATED", "ENDPOINT_NOT_FOUND"})


def register(name: str, uri: str, digest: str, tags: Mapping[str, str]) -> str:
    """The version of `name` with this digest; made where there is none yet, so that a second call changes nothing.

    Args:
        uri: the model folder.
        tags: further tags of a new version; `@` in a key becomes `_at_`, which is how MLflow writes `ndcg@10`.

    Raises:
        InputError: for a name, digest or source that MLflow cannot take.
        TemporaryError: when the registry does not answer.
    """
    _check_name(name)
    if not re.fullmatch(r"[0-9a-f]{8,64}", digest):
        raise InputError(f"digest '{digest}' of model '{name}' is not hexadecimal; give the content digest of the model folder")
    _call(lambda client: client.create_registered_model(name), name, ignore=STANDS_ALREADY)
    standing = _call(lambda client: client.search_model_versions(f"name='{name}' and tags.{DIGEST}='{digest}'"), name)
    if standing:
        return str(min(int(version.version) for version in standing))
    named = {key.replace("@", "_at_"): value for key, value in tags.items()} | {DIGEST: digest}
    return str(_call(lambda client: client.create_model_version(name, storage.normalise(uri), tags=named), name).version)


def set_alias(name: str, alias: str, version: str) -> None:
    """Let `models:/name@alias` mean this version; an alias that stood elsewhere moves."""
    _check_name(name, alias)
    _call(lambda client: client.set_registered_model_alias(name, alias, version), name)


def alias_version(name: str, alias: str) -> tuple[str, str]:
    """(version, digest) behind an alias; two empty strings where there is none."""
    version = _behind_alias(name, alias)
    return (str(version.version), str(version.tags.get(DIGEST, ""))) if version else ("", "")


def resolve(address: str) -> str:
    """The model folder behind `models:/name@alias`, `models:/name/3`, or a folder's own address.

    An alias that nobody has set yet gives "": on the first night there is no champion.

    Raises:
        InputError: for a malformed address, or a version that does not exist.
        TemporaryError: when the registry does not answer.
    """
    if not address.startswith(SCHEME):
        return storage.normalise(address) if address else ""
    rest = address.removeprefix(SCHEME)
    if "@" in rest:
        version = _behind_alias(*rest.split("@", 1))
        return str(version.source) if version else ""
    name, _, number = rest.partition("/")
    if not re.fullmatch(r"[0-9]{1,9}", number):
        raise InputError(f"'{address}' names no version; write models:/name@alias or models:/name/3")
    _check_name(name)
    version = _call(lambda client: client.get_model_version(name, number), name, ignore=ABSENT)
    if version is None:
        raise InputError(f"'{address}': the registry has no such version; look at the versions of '{name}' in MLflow")
    return str(version.source)


def _behind_alias(name: str, alias: str) -> Any:
    _check_name(name, alias)
    # asking for an absent alias gives INVALID_PARAMETER_VALUE in MLflow 3.17, which could mean anything; the model lists its aliases
    model = _call(lambda client: client.get_registered_model(name), name, ignore=ABSENT)
    if model is None or alias not in model.aliases:
        return None
    return _call(lambda client: client.get_model_version(name, str(model.aliases[alias])), name)


def _check_name(name: str, alias: str | None = None) -> None:
    if not NAME.fullmatch(name):
        raise InputError(f"model name '{name}' is not one of the MLflow registry; use letters, digits, and _ . - space")
    if alias is not None and not ALIAS.fullmatch(alias):
        raise InputError(f"alias '{alias}' of model '{name}' is not one; use letters, digits, _ and -, but not 'latest' or 'v1'")


def _local_store() -> str:
    """The store that `make run` keeps below the working folder, for commands that are typed there by hand."""
    if not LOCAL_STORE.is_file():
        raise InputError(f"MLFLOW_TRACKING_URI is not set and there is no {LOCAL_STORE} here, so there is no model registry; set it")
    return f"sqlite:///{LOCAL_STORE.resolve()}"


def _call(action: Callable[[Any], Any], name: str, ignore: str = "") -> Any:
    """What the registry answers; None for the error code `ignore`."""
    # takes a second and is needed only where a registry is used
    from mlflow import MlflowClient  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from sqlalchemy.exc import OperationalError  # noqa: PLC0415

    place = os.environ.get("MLFLOW_TRACKING_URI") or _local_store()
    try:
        return action(MlflowClient(place, os.environ.get("MLFLOW_REGISTRY_URI", place)))
    except MlflowException as error:
        if ignore and error.error_code == ignore:
            return None
        text = f"model registry, model '{name}': {str(error)[:300]}"
        if error.error_code in PERMANENT:
            raise InputError(f"{text}; check the name, the address and MLFLOW_TRACKING_URI") from None
        raise TemporaryError(f"{text}; try again") from error
    except (OperationalError, ConnectionError, TimeoutError) as error:
        raise TemporaryError(f"model registry, model '{name}': no answer ({str(error)[:300]}); try again") from error
