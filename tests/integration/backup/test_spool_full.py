"""A disk that is really full: the spool on a file system of two megabytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.running import Installation
from tests.support.fixtures_disk import SMALL_DISK, SmallDisk
from tests.support.fixtures_etcd import ClusterFactory
from tests.support.load import fill


@pytest.fixture
def here(tmp_path: Path, small_disk: SmallDisk, cluster_factory: ClusterFactory) -> Installation:
    """Backs up some 5 MB, when compressed, over the small disk."""
    cluster = cluster_factory(names=("etcd-1",))
    fill(cluster, 30_000_000)
    installation = Installation.of(tmp_path / "here", cluster)
    installation.settings["backup"]["spool_dir"] = str(small_disk.path)
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
def test_a_spool_too_small_for_the_snapshot(here: Installation, small_disk: SmallDisk) -> None:
    _refused(here)
    assert [path for path in small_disk.path.iterdir() if path.is_dir()] == [], (
        "the half-written entry is gone"
    )
    assert small_disk.free > 0.9 * SMALL_DISK

    small_disk.resize(64 * 1024 * 1024)
    backup_id = here.backup()
    assert here.ids() == [backup_id]
    (result,) = here.json("verify", backup_id, "--level", "data")["results"]
    assert result["outcome"] == "ok"
    assert [path for path in small_disk.path.iterdir() if path.is_dir()] == []


@pytest.mark.root
def test_a_spool_on_a_disk_that_is_full_already(here: Installation, small_disk: SmallDisk) -> None:
    filler = small_disk.path / "filler"
    with filler.open("wb") as file:
        while (free := small_disk.free) > 0:
            file.write(bytes(free))
            file.flush()
    _refused(here)
    assert [path for path in small_disk.path.iterdir() if path.is_dir()] == []

    filler.unlink()
    small_disk.resize(64 * 1024 * 1024)
    backup_id = here.backup()
    assert here.ids() == [backup_id]
