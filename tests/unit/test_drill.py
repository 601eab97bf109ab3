"""What a drill counts, and the folders that drills leave; tests/e2e does whole drills."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from etcdguard import drill
from etcdguard.etcd.admin import AdminClient


class Keys:
    """A member with these keys."""

    def __init__(self, *keys: bytes) -> None:
        self._keys = sorted(keys)

    def entries(self, endpoint: str, start: bytes, limit: int) -> Sequence[tuple[bytes, int]]:
        return [(one, 1) for one in self._keys if one >= start][:limit]

    def count(self, endpoint: str, start: bytes, end: bytes) -> int:
        return sum(start <= one and (end == b"\0" or one < end) for one in self._keys)


def counted(*keys: bytes) -> dict[str, int]:
    return drill.key_counts(cast(AdminClient, Keys(*keys)), "http://m1:2379")


def test_keys_are_counted_by_their_top() -> None:
    assert counted(b"/a/1", b"/a/2", b"/b", b"c") == {"/a/": 2, "/b": 1, "c": 1}
    assert counted() == {}


@pytest.mark.parametrize(("keys", "rest"), [(200, None), (201, 1), (230, 30)])
def test_prefixes_beyond_the_most_are_counted_together(keys: int, rest: int | None) -> None:
    found = counted(*(f"/{number:03}/key".encode() for number in range(keys)))
    assert found.pop("…", None) == rest
    assert len(found) == 200
    assert set(found.values()) == {1}


def test_a_folder_of_a_drill_that_lives_is_left_alone(tmp_path: Path) -> None:
    living, dead, newborn = (tmp_path / f"etcdguard-drill-{name}" for name in ("living", "dead", "newborn"))
    for folder in (living, dead, newborn):
        folder.mkdir()
    for folder in (living, dead):
        (folder / drill._LOCK).touch()
    lock = os.open(living / drill._LOCK, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with drill._folder(tmp_path) as mine:
            assert set(tmp_path.iterdir()) == {living, newborn, mine}
            assert mine.stat().st_mode & 0o777 == 0o700
    finally:
        os.close(lock)
    assert set(tmp_path.iterdir()) == {living, newborn}
