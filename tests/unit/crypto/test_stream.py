from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdguard.crypto.errors import PayloadInvalid
from etcdguard.crypto.stream import CHUNK_BYTES, TAG_BYTES, StreamReader, StreamWriter

_FILE_KEY = bytes(range(16))
_NONCE = bytes(range(16, 32))
_SEALED = CHUNK_BYTES + TAG_BYTES

_sizes = st.builds(
    lambda chunks, offset: max(0, chunks * CHUNK_BYTES + offset), st.integers(0, 3), st.integers(-2, 2)
)


def _plaintext(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def _seal(plaintext: bytes) -> bytes:
    writer = StreamWriter(_FILE_KEY, _NONCE)
    return writer.update(plaintext) + writer.finish()


def _open_into(released: bytearray, sealed: bytes) -> None:
    reader = StreamReader(_FILE_KEY, _NONCE)
    for start in range(0, len(sealed), 50_000):
        released += reader.update(sealed[start : start + 50_000])
    released += reader.finish()


def _refused(sealed: bytes, plaintext: bytes) -> int:
    """Assert that ``sealed`` is refused, and only plaintext released; how many bytes."""
    released = bytearray()
    with pytest.raises(PayloadInvalid):
        _open_into(released, sealed)
    assert plaintext.startswith(released)
    return len(released)


def _cut(data: bytes, places: list[float]) -> list[bytes]:
    borders = [0, *sorted(int(place * len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(borders)]


_places = st.lists(st.floats(0, 1), max_size=8)


@settings(deadline=None)
@given(size=_sizes, writing=_places, reading=_places)
def test_round_trip_however_it_is_cut(size: int, writing: list[float], reading: list[float]) -> None:
    plaintext = _plaintext(size)
    writer = StreamWriter(_FILE_KEY, _NONCE)
    sealed = (
        b"".join(writer.update(memoryview(piece)) for piece in _cut(plaintext, writing)) + writer.finish()
    )
    assert sealed == _seal(plaintext)
    reader = StreamReader(_FILE_KEY, _NONCE)
    opened = b"".join(reader.update(memoryview(piece)) for piece in _cut(sealed, reading)) + reader.finish()
    assert opened == plaintext


@pytest.mark.parametrize(
    ("size", "chunks"),
    [(0, 1), (1, 1), (CHUNK_BYTES - 1, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2), (2 * CHUNK_BYTES, 2)],
)
def test_there_is_no_empty_last_chunk_but_for_an_empty_payload(size: int, chunks: int) -> None:
    assert len(_seal(_plaintext(size))) == size + chunks * TAG_BYTES


def test_no_more_than_one_chunk_is_held_back() -> None:
    writer, reader = StreamWriter(_FILE_KEY, _NONCE), StreamReader(_FILE_KEY, _NONCE)
    sealed = writer.update(_plaintext(3 * CHUNK_BYTES))
    assert len(sealed) == 2 * _SEALED
    assert len(reader.update(sealed)) == CHUNK_BYTES


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 100])
def test_truncation_is_refused_wherever_it_falls(size: int) -> None:
    plaintext = _plaintext(size)
    sealed = _seal(plaintext)
    borders = [0, *range(_SEALED, len(sealed), _SEALED), len(sealed)]
    lengths = {border + offset for border in borders for offset in (*range(-20, 20), 5000)}
    for length in lengths & set(range(len(sealed))):
        released = _refused(sealed[:length], plaintext)
        assert released <= max(0, length - 1) // _SEALED * CHUNK_BYTES


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1])
@pytest.mark.parametrize("extra", [b"\x00", bytes(TAG_BYTES), bytes(_SEALED), bytes(_SEALED + 1)])
def test_bytes_behind_the_end_are_refused(size: int, extra: bytes) -> None:
    plaintext = _plaintext(size)
    _refused(_seal(plaintext) + extra, plaintext)
    _refused(_seal(plaintext) * 2, plaintext)


def test_an_empty_last_chunk_behind_full_ones_is_refused() -> None:
    # Sealed correctly by someone who holds the key: only the rule itself stands against it.
    writer = StreamWriter(_FILE_KEY, _NONCE)
    sealed = writer.update(bytes(CHUNK_BYTES + 1))
    writer._chunks._pending.clear()
    with pytest.raises(PayloadInvalid, match="empty chunk"):
        _open_into(bytearray(), sealed + writer.finish())


@pytest.mark.parametrize(
    "order",
    [(0, 1, 3), (0, 2, 1, 3), (1, 0, 2, 3), (0, 0, 1, 2, 3), (0, 1, 1, 2, 3), (3, 0, 1, 2), (0, 1, 2, 3, 3)],
)
def test_moved_missing_and_repeated_chunks_are_refused(order: tuple[int, ...]) -> None:
    plaintext = _plaintext(3 * CHUNK_BYTES + 500)
    sealed = _seal(plaintext)
    chunks = [sealed[start : start + _SEALED] for start in range(0, len(sealed), _SEALED)]
    good = next((place for place, chunk in enumerate(order) if place != chunk), 3)
    assert _refused(b"".join(chunks[index] for index in order), plaintext) <= good * CHUNK_BYTES


@settings(deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_refused_before_its_chunk_is_released(data: st.DataObject) -> None:
    plaintext = _plaintext(2 * CHUNK_BYTES + 500)
    sealed = bytearray(_seal(plaintext))
    borders = [0, _SEALED, 2 * _SEALED, len(sealed)]
    near = st.builds(
        lambda border, offset: (border + offset) % len(sealed), st.sampled_from(borders), st.integers(-17, 17)
    )
    place = data.draw(near | st.integers(0, len(sealed) - 1))
    sealed[place] ^= 1 << data.draw(st.integers(0, 7))
    assert _refused(bytes(sealed), plaintext) == place // _SEALED * CHUNK_BYTES


@pytest.mark.parametrize(("file_key", "nonce"), [(bytes(16), _NONCE), (_FILE_KEY, bytes(16))])
def test_another_key_or_nonce_is_refused(file_key: bytes, nonce: bytes) -> None:
    reader = StreamReader(file_key, nonce)
    reader.update(_seal(b"secret"))
    with pytest.raises(PayloadInvalid):
        reader.finish()


def test_nothing_is_sealed_after_the_end() -> None:
    writer = StreamWriter(_FILE_KEY, _NONCE)
    writer.finish()
    with pytest.raises(RuntimeError):
        writer.update(b"more")
    with pytest.raises(RuntimeError):
        writer.finish()
