"""A disk that is really full: the spool on a file system of two megabytes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running import Installation
from tests.support.fixtures_etcd import ClusterFactory
from tests.support.load import fill

_SIZE = 2 * 1024 * 1024


class SmallDisk:
    """A tmpfs mounted at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resize(self, size: int) -> None:
        _mount("-o", f"remount,size={size}", str(self.path))

    @property
    def free(self) -> int:
        return shutil.disk_usage(self.path).free


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Needs root, for mount(2); a machine whose kernel refuses even root skips by name as well."""
    path = tmp_path / "small-disk"
    path.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={_SIZE},mode=0700", "etcdguard-test", str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"a tmpfs cannot be mounted here: {getattr(error, 'stderr', error)}".strip()
        if os.environ.get("ETCDGUARD_REQUIRE_ROOT"):
            pytest.fail(f"{reason}, and ETCDGUARD_REQUIRE_ROOT requires it")
        pytest.skip(reason)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def here(tmp_path: Path, disk: SmallDisk, cluster_factory: ClusterFactory) -> Installation:
    """Backs up some 5 MB, when compressed, over the small disk."""
    cluster = cluster_factory(names=("etcd-1",))
    fill(cluster, 30_000_000)
    installation = Installation.of(tmp_path / "here", cluster)
    installation.settings["backup"]["spool_dir"] = str(disk.path)
    installation.save()
    return installation


def _refused(here: Installation) -> None:
    done = here.run("backup", code=1)
    error, hint = done.problem
    assert "cannot write the spool" in error
    assert "No space left on device" in error
    assert "backup.spool_dir" in hint
    assert "Traceback" not in done.err
    assert here.ids() == []
    assert list((here.repository / "prod").rglob("*")) == []


@pytest.mark.root
def test_a_spool_too_small_for_the_snapshot(here: Installation, disk: SmallDisk) -> None:
    _refused(here)
    assert [path for path in disk.path.iterdir() if path.is_dir()] == [], "the half-written entry is gone"
    assert disk.free > 0.9 * _SIZE

    disk.resize(64 * 1024 * 1024)
    backup_id = here.backup()
    assert here.ids() == [backup_id]
    (result,) = here.json("verify", backup_id, "--level", "data")["results"]
    assert result["outcome"] == "ok"
    assert [path for path in disk.path.iterdir() if path.is_dir()] == []


@pytest.mark.root
def test_a_spool_on_a_disk_that_is_full_already(here: Installation, disk: SmallDisk) -> None:
    filler = disk.path / "filler"
    with filler.open("wb") as file:
        while (free := disk.free) > 0:
            file.write(bytes(free))
            file.flush()
    _refused(here)
    assert [path for path in disk.path.iterdir() if path.is_dir()] == []

    filler.unlink()
    disk.resize(64 * 1024 * 1024)
    backup_id = here.backup()
    assert here.ids() == [backup_id]
