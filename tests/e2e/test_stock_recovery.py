"""The way out: a backup becomes a running cluster with stock tools only, by the commands of the document."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from etcdguard.etcd.local import LocalCluster
from etcdguard.model import BackupId
from tests.e2e.running import Installation, credentials, downloads, s3_repository
from tests.support.documents import fenced
from tests.support.etcd_versions import EtcdPrograms, programs
from tests.support.etcdctl import Etcdctl
from tests.support.fixtures_etcd import ClusterFactory
from tests.support.load import History, write_history
from tests.support.s3_servers import S3Server, make_bucket

_DOCUMENT = "recovery-without-etcdguard.md"
_STOCK = ("age", "zstd", "openssl", "etcdutl", "cut", "grep")
_BUMP = 1_000_000_000


def _blocks() -> tuple[str, str]:
    """The commands to run: those that open a backup, and those that restore one member."""
    opening, restoring = fenced(_DOCUMENT, "sh")
    return opening, restoring


class _Shell:
    """Runs commands where nothing but the tools the document names is to be found."""

    def __init__(self, folder: Path, etcdutl: Path) -> None:
        self.folder = folder
        self._tools = folder / "bin"
        self._tools.mkdir(parents=True)
        for name in _STOCK:
            found = str(etcdutl) if name == "etcdutl" else shutil.which(name)
            assert found is not None, f"stock recovery needs the `{name}` command"
            (self._tools / name).symlink_to(found)

    def run(self, commands: str, **variables: str | Path) -> subprocess.CompletedProcess[str]:
        """Like a careful reader: stops at the first command that fails."""
        return subprocess.run(
            ["/bin/sh", "-eu", "-c", commands],
            cwd=self.folder,
            env={"PATH": str(self._tools), "HOME": str(self.folder)}
            | {k: str(v) for k, v in variables.items()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def shell(tmp_path: Path, etcd_binaries: EtcdPrograms) -> _Shell:
    etcdutl = etcd_binaries.etcdutl or programs("3.6").etcdutl
    assert etcdutl is not None
    return _Shell(tmp_path / "shell", etcdutl.path)


def _restore(shell: _Shell, cluster: LocalCluster) -> None:
    _, restoring = _blocks()
    for name in cluster.names:
        done = shell.run(
            restoring,
            NAME=name,
            PEER_URL=cluster.peer_url(name),
            DATA_DIR=cluster.data_dir(name),
            CLUSTER=cluster.initial_cluster,
            TOKEN="restored-by-hand",
        )
        assert done.returncode == 0, done.stderr


def _lose_everything(cluster: LocalCluster) -> None:
    cluster.kill()
    for name in cluster.names:
        shutil.rmtree(cluster.data_dir(name))


def _assert_holds(etcdctl: Etcdctl, history: History) -> None:
    pairs = etcdctl.json("get", "", "--prefix")["kvs"]
    decoded = {
        base64.b64decode(pair["key"]).decode(): base64.b64decode(pair["value"]).decode() for pair in pairs
    }
    # The lock that the backup took is in it, until its lease ends: docs/adr/0009-the-maintenance-lock.md
    decoded.pop("/etcdguard/prod/lock/maintenance", None)
    assert decoded == history.live
    leases = {lease["id"] for lease in etcdctl.json("lease", "list")["leases"]}
    assert history.lease_id in leases
    assert len(leases) <= 2
    assert 0 <= etcdctl.revision() - history.revision - _BUMP <= 4


def test_a_cluster_from_a_backup_with_stock_tools(
    tmp_path: Path, etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory, shell: _Shell
) -> None:
    cluster = cluster_factory()
    history = write_history(cluster)
    here = Installation.of(tmp_path / "here", cluster)
    backup_id = here.backup()
    _lose_everything(cluster)

    opening, _ = _blocks()
    done = shell.run(
        opening, BACKUP=here.stored(backup_id), IDENTITY=here.identity_file, SIGNER=here.public_key
    )
    assert done.returncode == 0, done.stderr
    assert str(BackupId.parse(backup_id).revision) in done.stdout
    assert (shell.folder / "snapshot.db").stat().st_mode & 0o777 == 0o600
    _restore(shell, cluster)
    cluster.start_all()
    cluster.wait_healthy()
    _assert_holds(Etcdctl(etcd_binaries.etcdctl, cluster), history)


def test_from_a_bucket_and_a_recipient_of_another_hand(
    tmp_path: Path,
    cluster_factory: ClusterFactory,
    seaweedfs_server: S3Server,
    shell: _Shell,
) -> None:
    """The identity was made with ``age-keygen``, and the objects came out of S3 by a plain client."""
    cluster = cluster_factory(names=("alone",))
    write_history(cluster)
    here = Installation.of(tmp_path / "here", cluster, variables=credentials(seaweedfs_server))
    bucket = make_bucket(seaweedfs_server)
    identity = tmp_path / "offline-identity.txt"
    keygen = shutil.which("age-keygen")
    assert keygen is not None
    subprocess.run([keygen, "-o", identity], check=True, capture_output=True)
    public = subprocess.run([keygen, "-y", identity], check=True, capture_output=True, text=True)
    here.settings["repositories"] = [s3_repository(seaweedfs_server, bucket)]
    here.settings["encryption"] = {"recipients": [public.stdout.strip()]}
    here.save()
    here.identity_file.unlink()
    backup_id = here.backup()

    folder = tmp_path / "copied"
    folder.mkdir()
    for key, content in downloads(seaweedfs_server, bucket).items():
        before, _, name = key.rpartition("/")
        if before == f"etcd/prod/backups/{backup_id}":
            (folder / name).write_bytes(content)
    done = shell.run(_blocks()[0], BACKUP=folder, IDENTITY=identity, SIGNER=here.public_key)
    assert done.returncode == 0, done.stderr
    assert str(BackupId.parse(backup_id).revision) in done.stdout


@pytest.mark.parametrize("damaged", ["manifest.json", "manifest.json.sig", "snapshot.db.zst.age"])
def test_the_commands_stop_at_damage(
    tmp_path: Path, shared_cluster: LocalCluster, shell: _Shell, damaged: str
) -> None:
    here = Installation.of(tmp_path / "here", shared_cluster)
    folder = here.stored(here.backup())
    content = bytearray((folder / damaged).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / damaged).write_bytes(content)
    done = shell.run(_blocks()[0], BACKUP=folder, IDENTITY=here.identity_file, SIGNER=here.public_key)
    assert done.returncode != 0
    assert not (shell.folder / "snapshot.db").exists()
