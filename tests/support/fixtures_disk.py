"""Fixture: a file system of two megabytes, which can be made smaller. Needs root, for mount(2)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["SMALL_DISK", "SmallDisk", "small_disk"]

SMALL_DISK = 2 * 1024 * 1024
"""Bytes at first."""


class SmallDisk:
    """A tmpfs mounted at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resize(self, size: int, inodes: int | None = None) -> None:
        """Allow so many bytes and inodes (None: as before); at least as many as are in use."""
        limits = f"size={size}" if inodes is None else f"size={size},nr_inodes={inodes}"
        _mount("-o", f"remount,{limits}", str(self.path))

    @property
    def free(self) -> int:
        """Bytes."""
        return shutil.disk_usage(self.path).free

    @property
    def used(self) -> int:
        """Bytes."""
        return shutil.disk_usage(self.path).used

    @property
    def used_inodes(self) -> int:
        """Files and folders."""
        now = os.statvfs(self.path)
        return now.f_files - now.f_ffree


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A machine whose kernel refuses even root skips by name."""
    path = tmp_path / "small-disk"
    path.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={SMALL_DISK},mode=0700", "etcdguard-test", str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"a tmpfs cannot be mounted here: {getattr(error, 'stderr', error)}".strip()
        if os.environ.get("ETCDGUARD_REQUIRE_ROOT"):
            pytest.fail(f"{reason}, and ETCDGUARD_REQUIRE_ROOT requires it")
        pytest.skip(reason)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", str(path)], check=True)
