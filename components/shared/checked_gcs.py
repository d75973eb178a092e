"""gcsfs with what our promises need beyond it: checksums of downloads, an end to silence, more tries.

gcsfs drops the headers of a download, so it cannot see that bytes are not those that were stored; by default it waits for ever for a
server that went silent; and it gives up after six tries, half a minute.
"""

import base64
import inspect
import os
from collections.abc import Mapping
from typing import Any

import aiohttp
import google_crc32c
import requests.exceptions
from fsspec.caching import AllBytes, ReadAheadCache
from gcsfs.core import GCSFileSystem
from gcsfs.retry import ChecksumError, HttpError, is_retriable, retry_request

TRIES = 12  # with gcsfs' own growing pauses about four minutes
SILENCE_S = 60.0
WHOLE_BYTES = 64 << 20  # files up to this size are read at once, so that they can be checked
ERRORS = (HttpError, ChecksumError, aiohttp.ClientError, requests.exceptions.RequestException)


class CheckedGcs(GCSFileSystem):
    """Raises ChecksumError when a download is damaged again and again; ranges are checked where they cover the whole object.

    The base is gcsfs' plain class: its extended one asks for the bucket type over gRPC, which takes a minute where gRPC is closed
    (datachain#1829).
    """

    def __init__(self, **options: Any) -> None:
        patience = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S)
        super().__init__(use_listings_cache=False, requests_timeout=patience, **options)

    @retry_request(retries=TRIES)  # pyright: ignore[reportCallIssue]
    async def _request(self, method: str, path: str, *args: Any, **kwargs: Any) -> Any:
        once = inspect.unwrap(GCSFileSystem._request)  # without gcsfs' own loop around it
        try:
            status, headers, info, contents = await once(self, method, path, *args, **kwargs)
        except OSError as error:  # gcsfs says "forbidden" by a bare OSError, which nobody could tell from trouble of a disk
            if str(error).startswith("Forbidden"):
                raise HttpError({"code": 403, "message": " ".join(str(error).split())}) from None
            raise
        if status in (200, 206) and not is_intact(headers, contents):
            raise ChecksumError(f"{path}: the bytes that arrived are not those that are stored")
        return status, headers, info, contents

    def _open(self, path: str, mode: str = "rb", *args: Any, **options: Any) -> Any:
        file = super()._open(path, mode, *args, **{**options, "cache_type": "none"})
        if "r" in mode:
            cache = AllBytes if file.size <= WHOLE_BYTES else ReadAheadCache
            file.cache = cache(file.blocksize, file._fetch_range, file.size)
        return file

    @retry_request(retries=TRIES)  # pyright: ignore[reportCallIssue]
    async def _get_file(self, rpath: str, lpath: str, *args: Any, **kwargs: Any) -> None:
        await super()._get_file(rpath, lpath, *args, **kwargs)
        if not os.path.isfile(lpath):
            return
        about: Any = await self._info(rpath)
        with open(lpath, "rb") as handle:
            found = google_crc32c.Checksum()
            for _ in found.consume(handle, 1 << 20):
                pass
        if about.get("crc32c") not in (None, base64.b64encode(found.digest()).decode()):
            raise ChecksumError(f"{rpath}: the file that arrived is not what is stored")


def may_pass(error: BaseException) -> bool:
    """Whether one of `ERRORS` is trouble outside our control rather than a request that is wrong."""
    return not isinstance(error, HttpError) or is_retriable(error)


def is_intact(headers: Mapping[str, str], content: bytes) -> bool:
    """Whether a download fits the CRC-32C that came with it; what covers only a part, or was unpacked on the way, cannot be told."""
    whole = headers.get("Content-Range", f"/{len(content)}").rpartition("/")[2] == str(len(content))
    stored_as_is = headers.get("X-Goog-Stored-Content-Encoding", "identity") == "identity"
    sums = dict(one.strip().split("=", 1) for one in headers.get("X-Goog-Hash", "").split(",") if "=" in one)
    if not whole or not stored_as_is or "crc32c" not in sums:
        return True
    return sums["crc32c"] == crc32c(content)


def crc32c(content: bytes) -> str:
    """The checksum as the service writes it."""
    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
