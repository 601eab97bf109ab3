"""Drills: backups restored into throwaway clusters of real etcd, by the command."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etcdguard.drill import key_counts
from etcdguard.etcd.admin import AdminClient
from etcdguard.etcd.connection import ConnectionOptions
from tests.e2e.running import Installation
from tests.support.etcd_versions import EtcdPrograms
from tests.support.fixtures_disk import SmallDisk
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version
from tests.support.load import connect, write_history
from tests.support.waiting import eventually

_MEMBERS = 3


class Scene:
    """An installation with one backup, whose cluster is gone."""

    def __init__(
        self, here: Installation, programs: EtcdPrograms, base: Path, revision: int, live: int
    ) -> None:
        self.here = here
        self.base = base
        self.revision = revision
        self.live = live
        self._flags = ("--level", "drill", "--dir", str(base), "--etcd", str(programs.folder))

    def drill(self, *flags: str, code: int = 0) -> Any:
        done = self.here.run("verify", "latest", *self._flags, "-o", "json", *flags, code=code)
        return done.document["results"][0] if done.out else done.problem

    def start(self) -> subprocess.Popen[str]:
        """A drill to be ended by a signal."""
        return self.here.start_unmeasured("verify", "latest", *self._flags, "--members", str(_MEMBERS))

    def left(self) -> list[str]:
        """Folders and processes of drills."""
        running = subprocess.run(["pgrep", "-f", str(self.base)], capture_output=True, text=True, check=False)
        return [path.name for path in self.base.iterdir()] + running.stdout.split()


@pytest.fixture
def scene(tmp_path: Path, etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory) -> Iterator[Scene]:
    cluster = cluster_factory()
    history = write_history(cluster)
    with connect(cluster) as client:
        client.put("alone", "x")
        revision = client.get("alone")[1].mod_revision
    here = Installation.of(tmp_path / "here", cluster)
    here.backup()
    cluster.close()
    base = tmp_path / "drills"
    base.mkdir()
    (listed,) = here.json("list")["backups"]
    assert listed["revision"] >= revision
    yield Scene(here, etcd_binaries, base, listed["revision"], len(history.live))
    shutil.rmtree(base)


@each_etcd_version
def test_a_drill_proves_the_backup_and_says_how_long_it_took(scene: Scene) -> None:
    result = scene.drill()
    assert (result["level"], result["outcome"], result["problems"]) == ("drill", "ok", [])
    drill = result["drill"]
    assert drill["members"] == 1
    lock = {"/etcdguard/": 1}  # the backup took it; its lease ends
    assert {**drill["keys"], **lock} == {"/registry/": scene.live, "alone": 1, **lock}
    assert set(drill["proofs"]) == {"members", "leader", "revision", "hash", "alarms", "auth", "canary"}
    assert str(scene.revision) in drill["proofs"]["revision"]
    assert drill["proofs"]["hash"].endswith("and in the manifest")
    assert drill["rto_seconds"] == pytest.approx(sum(drill["seconds"].values()), abs=0.01)
    assert set(drill["seconds"]) == {"restore", "start"}
    assert scene.left() == []

    (listed,) = scene.here.json("list")["backups"]
    assert listed["verified_level"] == "drill"
    (event,) = (scene.here.repository / "prod" / "events").glob("*-verify-*.json")
    recorded = json.loads(event.read_text())["results"][0]
    assert recorded["drill"] == drill
    assert event.with_suffix(".json.sig").stat().st_size == 64


def test_on_three_members(scene: Scene) -> None:
    drill = scene.drill("--members", "3")["drill"]
    assert drill["members"] == 3
    assert drill["proofs"]["members"].startswith("3 voters")
    assert scene.left() == []


def test_a_database_larger_than_etcds_default_quota(
    scene: Scene, etcd_binaries: EtcdPrograms, tmp_path: Path
) -> None:
    """Real etcd whose default is less than any database has, where it is 2 GiB else."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for path in etcd_binaries.folder.iterdir():
        (tools / path.name).symlink_to(path)
    (tools / "etcd").unlink()
    etcd = etcd_binaries.folder / "etcd"
    (tools / "etcd").write_text(f'#!/bin/sh\nexec {etcd} --quota-backend-bytes=4096 "$@"\n')
    (tools / "etcd").chmod(0o755)
    result = scene.drill("--etcd", str(tools))
    assert (result["outcome"], result["problems"]) == ("ok", [])


def test_a_damaged_backup_does_not_pass(scene: Scene) -> None:
    (stored,) = scene.here.repository.glob("prod/backups/*/snapshot.db.zst.age")
    data = bytearray(stored.read_bytes())
    data[len(data) // 2] ^= 1
    stored.write_bytes(data)
    error, _ = scene.drill(code=13)
    assert "is not what was stored" in error
    assert scene.left() == []
    assert scene.here.json("list")["backups"][0]["verified_level"] is None


def test_what_cannot_be_drilled_is_refused(scene: Scene, tmp_path: Path) -> None:
    stranger = Installation(tmp_path / "stranger")
    scene.drill("--identity", str(stranger.identity_file), code=12)
    scene.drill("--etcd", str(tmp_path), code=64)
    scene.drill("--dir", str(tmp_path / "absent"), code=64)
    assert "a drill" in scene.here.run("verify", "--all", "--level", "drill", code=64).err
    assert scene.left() == []


@pytest.mark.root
def test_a_disk_that_cannot_hold_it_is_refused_before_anything_is_written(
    scene: Scene, small_disk: SmallDisk
) -> None:
    error, hint = scene.drill("--dir", str(small_disk.path), code=15)
    assert re.search(r"a drill needs [0-9]+ MiB below .*, which has [0-9]+ MiB free", error)
    assert "--dir" in hint
    assert list(small_disk.path.iterdir()) == []
    small_disk.resize(300 * 2**20)
    scene.drill("--dir", str(small_disk.path), "--members", "3", code=15)
    assert scene.drill("--dir", str(small_disk.path))["outcome"] == "ok"
    assert list(small_disk.path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(scene: Scene, number: signal.Signals) -> None:
    process = scene.start()
    _until_members_run(scene, process)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert scene.left() == []


def test_killed_it_leaves_no_process_and_the_next_one_clears_up(scene: Scene) -> None:
    process = scene.start()
    _until_members_run(scene, process)
    process.kill()
    process.communicate(timeout=60)
    eventually(lambda: len(scene.left()) == 1, "only the folder is left")
    living = scene.base / "etcdguard-drill-newborn"
    living.mkdir()  # of a drill that has not come to lock it
    scene.drill()
    assert scene.left() == [living.name]


def _until_members_run(scene: Scene, process: subprocess.Popen[str]) -> None:
    """All three are etcd by then: a log is empty while its member is still to be executed."""
    logs = "*/members/*/etcd.log"
    eventually(
        lambda: (
            process.poll() is not None
            or sum(path.stat().st_size > 0 for path in scene.base.glob(logs)) == _MEMBERS
        ),
        "every member has a log",
    )
    assert process.poll() is None


def test_keys_are_counted_by_their_top(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(names=("alone",))
    keys = ["/a/1", "/a/2", "/b/1/2", "b/1", "b/2", "single", "/", "//x", "\x7f/ü"]
    with connect(cluster) as client:
        for key in keys:
            client.put(key, "v")
        client.put(b"\xff\xff", "v")
    with AdminClient(ConnectionOptions(cluster.client_urls, command_timeout=60)) as admin:
        counts = key_counts(admin, cluster.client_urls[0])
    assert counts == {
        "/": 1, "//": 1, "/a/": 2, "/b/": 1, "b/": 2, "single": 1, "\x7f/": 1, "\\xff\\xff": 1,
    }  # fmt: skip
