"""Bytes at a URI: `file://` (or a plain path) and `gs://`, with create-once commits.

Create-once is `link(2)` on disk and `ifGenerationMatch=0` on Google Cloud Storage: of any number of writers one wins.
"""

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import pyarrow.fs as pafs

from components.shared.errors import InputError, TemporaryError

SCHEMES = ("file", "gs")
T = TypeVar("T")


def normalise(uri: str | os.PathLike[str]) -> str:
    """A URI with scheme; plain paths become absolute `file://` URIs.

    Raises:
        InputError: for another scheme, or a path that climbs with `..` after a scheme.
    """
    text = os.fspath(uri)
    if "://" not in text:
        return "file://" + os.path.abspath(os.path.expanduser(text))
    scheme, rest = text.split("://", 1)
    if scheme not in SCHEMES:
        raise InputError(f"'{text}': scheme '{scheme}' is not supported; use a path, file:// or gs://")
    if ".." in rest.split("/") or "\x00" in rest:
        raise InputError(f"'{text}': '..' and NUL are refused in a URI; give the full address")
    return text.rstrip("/")


def join(uri: str, *parts: str) -> str:
    """`uri/part/part`; a part that is absolute or climbs is refused."""
    for part in parts:
        if part.startswith("/") or ".." in part.split("/") or "\x00" in part:
            raise InputError(f"'{part}' below '{uri}': absolute paths and '..' are refused; name a place inside the folder")
    return "/".join([normalise(uri), *parts])


def local_path(uri: str) -> Path:
    """The path behind a `file://` URI.

    Raises:
        InputError: for a remote URI.
    """
    full = normalise(uri)
    if not full.startswith("file://"):
        raise InputError(f"'{uri}' is not on this machine's disk; give a path or a file:// URI")
    return Path(full.removeprefix("file://"))


def is_local(uri: str) -> bool:
    return normalise(uri).startswith("file://")


@lru_cache(maxsize=4)
def filesystem(scheme: str) -> Any:
    """One fsspec file system per scheme and process."""
    if scheme != "gs":
        return fsspec.filesystem(scheme)
    from components.shared.checked_gcs import CheckedGcs  # noqa: PLC0415 - its imports take half a second, and a laptop needs none of them

    return CheckedGcs()


def resolve(uri: str) -> tuple[Any, str]:
    """(file system, path on it)."""
    scheme, path = normalise(uri).split("://", 1)
    return filesystem(scheme), path


def arrow_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """(pyarrow file system, path on it), for Parquet readers and writers."""
    fs, path = resolve(uri)
    if is_local(uri):
        return pafs.LocalFileSystem(), path
    return pafs.PyFileSystem(pafs.FSSpecHandler(fs)), path


def temporary_on_trouble(action: Callable[[], T], uri: str) -> T:
    """Run a storage call; trouble that may pass becomes TemporaryError."""
    cloud = sys.modules.get("components.shared.checked_gcs")
    trouble = (ConnectionError, TimeoutError, *(cloud.ERRORS if cloud else ()))
    try:
        return action()
    except trouble as error:
        if cloud and not cloud.may_pass(error):
            raise InputError(f"'{uri}': storage refuses the request ({error}); check the address and your credentials") from error
        raise TemporaryError(f"'{uri}': storage did not answer ({error or type(error).__name__}); try again") from error


def exists(uri: str) -> bool:
    fs, path = resolve(uri)
    return temporary_on_trouble(lambda: bool(fs.exists(path)), uri)


def read_bytes(uri: str) -> bytes:
    """Raises InputError when nothing is there, or we may not read it."""
    fs, path = resolve(uri)
    try:
        return temporary_on_trouble(lambda: fs.cat_file(path), uri)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"'{uri}' does not exist or is not a file; check the address") from None
    except PermissionError:
        raise InputError(f"'{uri}' may not be read by this user; change its permissions") from None


def read_json(uri: str) -> Any:
    try:
        return json.loads(read_bytes(uri))
    except ValueError as error:
        raise InputError(f"'{uri}' is not valid JSON ({error}); it may be cut short: delete it and run the step again") from None


def write_bytes(uri: str, data: bytes) -> None:
    """Replace the object; readers see the old or the new bytes, never a mixture."""
    fs, path = resolve(uri)
    if is_local(uri):
        _write_aside(path, data, lambda aside: os.replace(aside, path))
    else:
        temporary_on_trouble(lambda: fs.pipe_file(path, data), uri)


def upload(file: Path, uri: str) -> None:
    """Copy a local file; what is read meanwhile may be half of it. It lasts when this returns."""
    fs, path = resolve(uri)
    if is_local(uri):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    temporary_on_trouble(lambda: fs.put_file(str(file), path), uri)
    if is_local(uri):
        with open(path, "rb+") as written:
            os.fsync(written.fileno())


@contextlib.contextmanager
def downloaded(uri: str) -> Iterator[Path]:
    """The object as a local file while open: itself where it is one, else a copy."""
    if is_local(uri):
        yield local_path(uri)
        return
    fs, path = resolve(uri)
    with tempfile.TemporaryDirectory(prefix="download-") as scratch:
        file = Path(scratch) / "file"
        temporary_on_trouble(lambda: fs.get_file(path, str(file)), uri)
        yield file


def to_json(value: Any) -> bytes:
    """The one way our JSON files are written: sorted keys, so that equal values are equal bytes."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def write_json(uri: str, value: Any) -> None:
    write_bytes(uri, to_json(value))


def create_once(uri: str, data: bytes) -> bool:
    """Write the object if it is absent; True for the one writer that made it."""
    fs, path = resolve(uri)
    if is_local(uri):
        try:
            _write_aside(path, data, lambda aside: os.link(aside, path))
        except FileExistsError:
            return False
        return True
    writer = uuid.uuid4().hex
    try:
        temporary_on_trouble(lambda: fs.pipe_file(path, data, mode="create", metadata={"writer": writer}), uri)
    except FileExistsError:
        # when the answer to a write is lost, gcsfs writes again and then meets the object that it made itself
        return _writer_of(uri) == writer
    return True


def _writer_of(uri: str) -> str:
    fs, path = resolve(uri)
    try:
        return temporary_on_trouble(lambda: fs.info(path), uri).get("metadata", {}).get("writer", "")
    except FileNotFoundError:
        return ""


def _write_aside(path: str, data: bytes, publish: Callable[[str], None]) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    aside = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with open(aside, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        publish(aside)
    finally:
        if os.path.exists(aside):
            os.unlink(aside)


def list_files(uri: str) -> list[str]:
    """URIs of all files below a folder, sorted; empty when the folder is absent."""
    fs, path = resolve(uri)
    scheme = normalise(uri).split("://", 1)[0]
    found = temporary_on_trouble(lambda: fs.find(path), uri)
    return sorted(f"{scheme}://{name}" for name in found)


def change_times(uri: str) -> dict[str, float]:
    """URI -> seconds since 1970 at which storage says it was last written, for all files below a folder."""
    fs, path = resolve(uri)
    scheme = normalise(uri).split("://", 1)[0]
    found = temporary_on_trouble(lambda: fs.find(path, detail=True), uri)
    return {f"{scheme}://{name}": _seconds(entry["mtime"]) for name, entry in found.items()}


def _seconds(time: Any) -> float:
    return time.timestamp() if isinstance(time, datetime) else float(time)


def remove(uri: str) -> None:
    """Delete a file or a folder; nothing happens where nothing is."""
    fs, path = resolve(uri)
    with contextlib.suppress(FileNotFoundError):  # another process may remove it at the same time
        temporary_on_trouble(lambda: fs.rm(path, recursive=True), uri)


def chunks_of(uri: str, size: int = 1 << 20) -> Iterator[bytes]:
    fs, path = resolve(uri)
    with temporary_on_trouble(lambda: fs.open(path, "rb"), uri) as handle:
        while chunk := temporary_on_trouble(lambda: handle.read(size), uri):
            yield chunk


def content_digest_of(uri: str) -> str:
    """SHA-256 of one file's bytes."""
    digest = hashlib.sha256()
    for chunk in chunks_of(uri):
        digest.update(chunk)
    return digest.hexdigest()


def content_digest(uri: str) -> str:
    """SHA-256 over the relative names and bytes of all files below a folder, or of one file."""
    base = normalise(uri)
    parts = [(name.removeprefix(base), content_digest_of(name)) for name in list_files(uri)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def listing_digest(uri: str) -> str:
    """SHA-256 over names, sizes and change times below a folder: cheap, for input too large to read twice."""
    fs, path = resolve(uri)
    found = temporary_on_trouble(lambda: fs.find(path, detail=True), uri)
    rows = [(name, entry.get("size"), str(entry.get("mtime") or entry.get("generation"))) for name, entry in sorted(found.items())]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
