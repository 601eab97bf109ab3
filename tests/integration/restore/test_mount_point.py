"""What a restore leaves inside a mount point, beside etcd's own files, does not disturb etcd."""

from __future__ import annotations

from pathlib import Path

from etcdguard.restore.places import contents, kept_name, staged_name
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Etcdctl
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version

PLAN = "20261121T020000Z-9f31c2aa"


@each_etcd_version
def test_etcd_takes_no_notice_of_it(
    cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms, tmp_path: Path
) -> None:
    cluster = cluster_factory(names=("m1",))
    etcdctl = Etcdctl(etcd_binaries.etcdctl, cluster)
    etcdctl.run("put", "/a", "kept")
    cluster.stop()
    data, wal = cluster.data_dir("m1"), tmp_path / "wal"
    (data / "member" / "wal").rename(wal)
    etcds = contents(wal)
    for directory in (str(data), str(wal)):
        staged = staged_name(directory, PLAN, [directory])
        for folder in (kept_name(directory, PLAN, [directory]), staged, f"{directory}/lost+found"):
            Path(folder, "member").mkdir(parents=True)
        Path(f"{staged}.db").touch()

    cluster.start_member("m1", f"--wal-dir={wal}")
    cluster.wait_healthy()

    assert etcdctl.get("/a") == "kept"
    assert contents(data) == ["member"]
    assert set(etcds) <= set(contents(wal))
