"""Our own Arrow functions for names and ids, so that every engine works with the same numbers.

After staging, a search, a client, a session and an item are 64-bit codes: the first eight bytes of HMAC-SHA-256(salt, name)
(RFC 2104) as a signed number, because not every engine has unsigned ones.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), "S2")
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # splitmix64 (Steele, Lea, Flood 2014)


def encoder(salt: bytes) -> Callable[[pa.ChunkedArray], pa.Array]:
    """The function from names [rows] to codes [rows] (int64); no name may be null."""
    key = (hashlib.sha256(salt).digest() if len(salt) > 64 else salt).ljust(64, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in key)) for pad in (0x36, 0x5C))  # `hmac` takes twice as long a name

    def code(name: bytes) -> bytes:
        once, twice = inner.copy(), outer.copy()
        once.update(name)
        twice.update(once.digest())
        return twice.digest()[:8]

    def encode(names: pa.ChunkedArray) -> pa.Array:
        digests = b"".join([code(name) for name in names.cast(pa.binary()).to_pylist()])
        return pa.array(np.frombuffer(digests, ">i8").astype(np.int64))

    return encode


def hex_codes(codes: pa.Array) -> pa.Array:
    """Codes [rows] as they are published: 16 hex characters; null stays null."""
    plain = codes.fill_null(0).to_numpy(zero_copy_only=False)
    return pc.if_else(codes.is_valid(), _hex(plain.astype(">i8").tobytes(), len(plain)), None)


def mix_ids(columns: list[pa.Array]) -> pa.Array:
    """128-bit ids [rows] as 32 hex characters, from whole numbers that together tell the rows apart; null counts as 0.

    Each half is folded with the finaliser of splitmix64, under another start. What is mixed must hold keyed codes: the fold itself
    keeps no secret.
    """
    halves = []
    for half in np.array([0x9E3779B97F4A7C15, 0xD1B54A32D192ED03], np.uint64):
        state = np.full(len(columns[0]), half, np.uint64)
        for column in columns:
            state = _finalise(state * _SECOND + half ^ column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64))
        halves.append(state)
    return _hex(np.stack(halves, axis=1).astype(">u8").tobytes(), len(columns[0]))


def _finalise(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))


def _hex(raw: bytes, num_rows: int) -> pa.Array:
    text = _HEX[np.frombuffer(raw, np.uint8)].tobytes()
    offsets = np.arange(num_rows + 1, dtype=np.int32) * (len(text) // max(num_rows, 1))
    return pa.StringArray.from_buffers(num_rows, pa.py_buffer(offsets), pa.py_buffer(text))
