from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.backup.growing import Abandoned, GrowingObject
from etcdguard.errors import Corruption, SpoolFailed
from etcdguard.model import ObjectEntry

DATA = random.Random(1).randbytes(10_000)


def entry(data: bytes) -> ObjectEntry:
    return ObjectEntry(key="k", bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "snapshot.bin"
    found.touch()
    return found


def in_thread(action: Callable[[], object]) -> Future[object]:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(action)
    pool.shutdown(wait=False)
    return future


@given(
    writes=st.lists(st.integers(1, 3000), max_size=12),
    size=st.sampled_from([1, 500, 1000, 2500, 9999]),
    readers=st.integers(1, 3),
)
def test_every_reader_gets_every_byte_however_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, writes: list[int], size: int, readers: int
) -> None:
    path = tmp_path_factory.mktemp("growing") / "snapshot.bin"
    data = DATA[: sum(writes)]
    with path.open("wb", buffering=0) as out:
        growing = GrowingObject(path)
        parts = [in_thread(lambda: list(growing.parts(size))) for _ in range(readers)]
        at = 0
        for count in writes:
            out.write(data[at : at + count])
            at += count
            growing.grown()
        growing.whole(entry(data))
        for future in parts:
            found = future.result(10)
            assert isinstance(found, list)
            assert b"".join(found) == data
            assert all(len(part) == size for part in found[:-1])
            assert all(found)


def test_parts_come_before_the_whole(path: Path) -> None:
    growing = GrowingObject(path)
    path.write_bytes(DATA[:2500])
    parts = growing.parts(1000)
    assert [next(parts), next(parts)] == [DATA[:1000], DATA[1000:2000]]
    path.write_bytes(DATA)
    growing.whole(entry(DATA))
    assert b"".join(parts) == DATA[2000:]


def test_its_size_is_told_as_soon_as_it_can_be(path: Path) -> None:
    growing = GrowingObject(path, most_bytes=99)
    assert growing.most_bytes == 99
    path.write_bytes(DATA[:500])
    assert growing.exceeds(499)
    waiting = in_thread(lambda: growing.exceeds(500))
    growing.grown()
    assert not waiting.done()
    growing.whole(entry(DATA[:500]))
    assert waiting.result(10) is False
    assert growing.most_bytes == 500


def test_whoever_waits_is_told_that_it_was_abandoned(path: Path) -> None:
    path.write_bytes(DATA[:1500])
    growing = GrowingObject(path)
    parts = growing.parts(1000)
    next(parts)
    waiting = [in_thread(lambda: next(parts)), in_thread(lambda: growing.exceeds(5000))]
    growing.abandon()
    for future in waiting:
        with pytest.raises(Abandoned):
            future.result(10)
    with pytest.raises(Abandoned):  # though there is enough of it
        growing.exceeds(10)


@pytest.mark.parametrize("shown", [DATA[:-1] + b"?", DATA[:-1], DATA + b"?"], ids=["flip", "cut", "grown"])
def test_what_is_not_what_was_sealed_never_becomes_whole(path: Path, shown: bytes) -> None:
    """The last part is kept back, unless it was read before anybody knew that it was the last."""
    path.write_bytes(shown)
    handed: list[bytes] = []
    with pytest.raises(Corruption, match="no longer what was written"):
        handed.extend(GrowingObject(path, entry(DATA)).parts(1000))
    growing = GrowingObject(path)
    parts = growing.parts(1000)
    first = next(parts)
    growing.whole(entry(DATA))
    with pytest.raises(Corruption, match="no longer what was written"):
        list(parts)
    assert first == DATA[:1000]


def test_a_file_that_is_gone(path: Path) -> None:
    path.unlink()
    with pytest.raises(SpoolFailed, match="cannot read the spool"):
        GrowingObject(path).exceeds(1)
