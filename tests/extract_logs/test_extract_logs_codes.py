"""Codes and ids that every engine is given: computed by hand, or told apart."""

import hashlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.extract_logs import codes, privacy

_whole = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize("salt", [b"pepper", b"s" * 64, b"s" * 65], ids=["short", "a block", "longer than a block"])
def test_a_code_is_hmac_sha256(salt):
    names = pa.chunked_array([["client-ü", ""], ["c1", "👩‍👩‍👧"]])
    published = codes.hex_codes(codes.encoder(salt)(names)).to_pylist()
    assert published == [privacy.hash_client(salt, name) for name in names.to_pylist()]  # Python's hmac (RFC 2104)


def test_codes_are_published_as_16_characters_and_null_stays_null():
    assert codes.hex_codes(pa.array([1, None, -1, 255], pa.int64())).to_pylist() == ["0" * 15 + "1", None, "f" * 16, "0" * 14 + "ff"]
    assert codes.hex_codes(pa.array([], pa.int64())).to_pylist() == []


def test_ids_by_hand():
    def finalise(state):  # splitmix64 (Steele, Lea, Flood 2014) in whole numbers of Python
        mask = 2**64 - 1
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & mask
        state = (state ^ state >> 27) * 0x94D049BB133111EB & mask
        return state ^ state >> 31

    def half(start, values):
        state = start
        for value in values:
            state = finalise((state * 0x94D049BB133111EB + start ^ value) % 2**64)
        return f"{state:016x}"

    expected = half(0x9E3779B97F4A7C15, [5, 0]) + half(0xD1B54A32D192ED03, [5, 0])
    assert codes.mix_ids([pa.array([5, 5]), pa.array([None, 0], pa.int8())]).to_pylist() == [expected] * 2


@given(st.lists(st.tuples(_whole, _whole, st.integers(0, 3)), min_size=1, max_size=50, unique=True))
def test_different_rows_have_different_ids_wherever_they_stand(rows):
    def mix(some):
        return codes.mix_ids([pa.array(column) for column in zip(*some, strict=True)]).to_pylist()

    ids = mix(rows)
    assert len(set(ids)) == len(rows)
    assert {len(one) for one in ids} == {32}
    assert mix(rows[::-1]) == ids[::-1]


def test_ids_do_not_cluster():
    ids = codes.mix_ids([pa.array(range(10_000)), pa.array([7] * 10_000)]).to_pylist()
    assert len({one[:8] for one in ids}) >= 9_990  # 10,000 of 2^32 values at random: 0.01 equal pairs are expected
    for place in (0, 15, 16, 31):
        share = [sum(one[place] == digit for one in ids) / 10_000 for digit in "0123456789abcdef"]
        assert max(share) < 0.08  # 1/16 = 0.0625, seven standard deviations of 0.0024 above
    # an event keeps its id from night to night: whoever changes these must say so to the readers of table `events`
    assert hashlib.sha256("".join(ids).encode()).hexdigest()[:16] == "572a305125964cd5"
