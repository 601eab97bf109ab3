"""Everything that can be wrong from outside: one error line, one hint, its exit code, and nothing changed."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from etcdguard.etcd.local import LocalCluster, TlsFiles
from tests.e2e.bad_input import READER, ROOT, Row, World, connect_to, plain
from tests.e2e.bad_input_rows import RESTORE, ROWS
from tests.e2e.running import Installation, tree
from tests.support.certs import Pki
from tests.support.etcd_versions import EtcdPrograms, Unavailable, default_programs, required_minors
from tests.support.etcdctl import enable_auth
from tests.support.s3_servers import S3Server

pytestmark = pytest.mark.xdist_group("bad-input")  # the servers below are started once


# -- the world -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def etcd() -> EtcdPrograms:
    try:
        return default_programs()
    except Unavailable as error:
        if required_minors(os.environ):
            pytest.fail(f"etcd is required and not available: {error}", pytrace=False)
        pytest.skip(f"etcd is not available: {error}")


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    etcd: EtcdPrograms,
    pki: Pki,
    shared_cluster: LocalCluster,
    seaweedfs_server: S3Server,
    second_s3_server: S3Server,
) -> Iterator[World]:
    base = tmp_path_factory.mktemp("world")

    def alone(name: str, tls: TlsFiles | None = None) -> LocalCluster:
        return LocalCluster(etcd.etcd, base / name, names=("alone",), tls=tls, unsafe_no_fsync=True)

    clusters = {
        "doomed": alone("doomed"),
        "mutual_tls": alone("mutual_tls", pki.tls()),
        "expired": alone("expired", replace(pki, server=pki.expired_server).tls()),
        "guarded": alone("guarded"),
    }
    try:
        for cluster in clusters.values():
            cluster.start_all()
        _wait_until_listening(clusters["expired"])  # it never looks healthy
        for name in ("doomed", "mutual_tls", "guarded"):
            clusters[name].wait_healthy()
        enable_auth(etcd.etcdctl, clusters["guarded"], ROOT, READER)
        sound = Installation.of(
            base / "sound", clusters["doomed"], variables={"PATH": f"{etcd.folder}:{os.environ['PATH']}"}
        )
        sound.backup()
        clusters["doomed"].kill()  # and not closed yet: its ports stay ours, so nobody else answers there
        yield World(
            etcd,
            pki,
            sound,
            plain=shared_cluster,
            seaweedfs=seaweedfs_server,
            second=second_s3_server,
            **{name: cluster for name, cluster in clusters.items() if name != "doomed"},
        )
    finally:
        for cluster in clusters.values():
            cluster.close()


def _wait_until_listening(cluster: LocalCluster) -> None:
    port = int(cluster.client_urls[0].rpartition(":")[2])
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, "etcd does not listen"
            time.sleep(0.05)
        else:
            return


def _arguments(command: str, here: Installation) -> list[str]:
    return command.format(here=here.folder).split()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_bad_input(world: World, tmp_path: Path, row: Row) -> None:
    here = world.sound.copy(tmp_path / "here")
    row.arrange(world, here)
    if here.settings and here.config_path.exists():
        here.save()
    # A restore takes its locks, and notes in its journal what it begins, also when it comes to nothing.
    without = (*row.without, "restore")
    before = tree(here.folder, without=without)
    done = here.run(*_arguments(row.command, here), "-q", code=row.code)
    error, hint = done.problem
    assert row.error in error
    assert row.hint in hint
    assert "Traceback" not in done.err
    assert tree(here.folder, without=without) == before


def test_a_spool_that_may_not_be_written(world: World, tmp_path: Path) -> None:
    here = world.sound.copy(tmp_path / "here")
    connect_to(plain)(world, here)
    here.save()
    shutil.rmtree(here.spool)
    here.spool.mkdir(mode=0o500)
    setpriv = shutil.which("setpriv")
    # Root may write anywhere, unless it gives that right away.
    lower = [setpriv, "--bounding-set=-dac_override"] if setpriv is not None and os.geteuid() == 0 else []
    before = tree(here.folder)
    error, hint = here.run("backup", "-q", code=1, prefix=lower).problem
    assert "Permission denied" in error
    assert "backup.spool_dir" in hint
    assert tree(here.folder) == before


def test_the_failure_of_the_only_repository_is_told_once(world: World, tmp_path: Path) -> None:
    here = world.sound.copy(tmp_path / "here")
    shutil.rmtree(here.repository)
    assert len(here.run("list", code=10).err.splitlines()) == 2
    here.settings["repositories"].append({"name": "second", "file": {"path": "missing"}})
    here.save()
    done = here.run("list", code=10)
    assert [line.startswith("{") for line in done.err.splitlines()] == [True, True, False, False]


def test_another_run_holds_the_spool(world: World, tmp_path: Path) -> None:
    """What a schedule repeats waits for a quarter of its time; who wants a backup now waits longer."""
    here = world.sound.copy(tmp_path / "here")
    connect_to(plain)(world, here)
    here.settings["backup"]["schedule"] = "8s"
    here.save()
    before = tree(here.folder)
    with (here.spool / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        error, hint = here.run("backup", "--spooled", "-q", code=11).problem
        assert "another etcdguard backup" in error
        assert "wait" in hint
        assert tree(here.folder) == before
        with here.start("backup") as process:
            assert process.stderr is not None
            while "spool.waiting" not in (line := process.stderr.readline()):
                assert line, "it ended"
            fcntl.flock(lock, fcntl.LOCK_UN)
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err


def test_the_same_commands_succeed_on_sound_input(world: World, tmp_path: Path) -> None:
    """What the rows break was whole before: none of them fails for another reason than its own."""
    here = world.sound.copy(tmp_path / "here")
    for command in ("list", "show latest", "verify", "download latest -o snapshot.db", "config validate"):
        here.run(*command.split())
    here.run(*_arguments(RESTORE, here))
    assert (here.folder / "data" / "member").is_dir()
    connect_to(plain)(world, here)
    here.save()
    here.run("backup")
