"""No space, no inodes, or an error of the disk at any point of a backup whose spool and repository are on it.

Whatever happens: a clear error, only whole backups are listed, and the next run makes up for it.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from etcdguard.errors import EtcdGuardError
from etcdguard.storage.file import FileStore
from tests.support.backups import Node, catalog_of, chain_problems, violations
from tests.support.fixtures_disk import SmallDisk

_PAGE = 4096
_ROOMY = 64 * 1024 * 1024


class Scene:
    """A node with one backup, everything below one folder."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        FileStore.create("main", folder / "repository")
        self.store = FileStore("main", folder / "repository")
        self.node = Node(folder / "spool")
        self.node.backup(9, self.store)

    def tried(self, says: str) -> str:
        """Take a backup on the disk as it is: ``done``, or the error's class."""
        try:
            self.node.backup(40, self.store)
        except EtcdGuardError as caught:
            error = caught
        else:
            assert self.revisions() == [9, 40]
            return "done"
        assert error.exit_code in (1, 10), error
        assert says in error.message
        assert error.hint
        assert self.revisions() in ([9], [9, 40])
        return type(error).__name__

    def made_up(self) -> None:
        """Take the next one on a sound disk."""
        whole = any(entry.backup() for entry in self.node.spool.entries())
        committed = self.revisions()
        self.node.backup(41, self.store)
        assert self.revisions() == ([9, 40, 41] if whole or 40 in committed else [9, 41])
        assert self.node.spool.entries() == []
        assert self.store.stale_uploads("") == []
        assert chain_problems(catalog_of(self.store).list()) == []

    def revisions(self) -> list[int]:
        """Of all that is listed; every one is whole."""
        assert violations(self.store) == []
        return [one.manifest.snapshot.revision for one in catalog_of(self.store).list().backups]


@pytest.mark.root
def test_a_disk_that_is_full_after_any_number_of_pages(small_disk: SmallDisk) -> None:
    outcomes: Counter[str] = Counter()
    for pages in range(28):
        small_disk.resize(_ROOMY)
        scene = Scene(small_disk.path / "scene")
        small_disk.resize(small_disk.used + pages * _PAGE)
        outcomes[scene.tried("No space left on device")] += 1
        small_disk.resize(_ROOMY)
        scene.made_up()
    print(dict(outcomes))
    assert set(outcomes) == {"done", "SpoolFailed", "RepositoryError"}


@pytest.mark.root
def test_a_disk_without_inodes_after_any_number_of_files(small_disk: SmallDisk) -> None:
    outcomes: Counter[str] = Counter()
    for files in range(24):
        small_disk.resize(_ROOMY, 10_000)
        scene = Scene(small_disk.path / "scene")
        small_disk.resize(_ROOMY, small_disk.used_inodes + files)
        outcomes[scene.tried("No space left on device")] += 1
        small_disk.resize(_ROOMY, 10_000)
        scene.made_up()
    print(dict(outcomes))
    assert set(outcomes) == {"done", "SpoolFailed", "RepositoryError"}


@pytest.mark.root
def test_an_error_of_the_disk_at_any_sync(small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: Counter[str] = Counter()
    nth = 0
    while not outcomes["done"]:
        small_disk.resize(_ROOMY)
        scene = Scene(small_disk.path / "scene")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", _failing(nth))
            outcomes[scene.tried(os.strerror(errno.EIO))] += 1
        scene.made_up()
        nth += 1
    print(dict(outcomes))
    assert set(outcomes) == {"done", "SpoolFailed", "RepositoryError"}


def _failing(nth: int) -> Callable[[int], None]:
    """fsync, but for the ``nth`` call, counted from 0."""
    real, calls = os.fsync, itertools.count()

    def fsync(descriptor: int) -> None:
        if next(calls) == nth:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    return fsync
