"""What only the unit tests share."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

_IN_MEMORY = Path("/dev/shm")
_ENOUGH = 512 * 1024 * 1024
"""Bytes; a container often has 64 MiB."""


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is room: no power is cut here, and tens of thousands of fsyncs cost nothing.

    Its name has digits where temporary names have anything: no test shall find ``m3`` in it by chance.
    """
    if not _has_room():
        yield tmp_path
        return
    around = _IN_MEMORY / f"etcdguard-unit-{secrets.randbelow(10**15):015}"
    around.mkdir(mode=0o700)
    folder = around / "0"  # what a test puts beside it goes with it
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(around)


def _has_room() -> bool:
    try:
        room = os.statvfs(_IN_MEMORY)
    except OSError:
        return False
    return os.access(_IN_MEMORY, os.W_OK) and room.f_bavail * room.f_frsize >= _ENOUGH
