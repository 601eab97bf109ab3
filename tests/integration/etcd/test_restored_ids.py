"""Predicted ids against those that etcd's own restore writes into the WAL, for every supported version."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from etcdguard.etcd.client import EtcdClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.source import StreamLimits
from etcdguard.etcd.topology import initial_cluster, predict
from etcdguard.etcd.wal import WalMetadata, read_wal_metadata
from tests.support.etcd_versions import EtcdPrograms
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version


@dataclass(frozen=True)
class Peer:
    name: str
    peer_urls: tuple[str, ...]


# Spelled as people spell them: the prediction and the command line must come to the same.
MEMBERS = (
    Peer("c", ("https://[0:0:0:0:0:0:0:1]:2380", "http://10.0.0.3:2380")),
    Peer("a", ("HTTPS://10.0.0.1:2380/",)),
    Peer("b", ("https://Node-B.example.com:2380",)),
)


@each_etcd_version
def test_every_member_gets_the_predicted_ids(
    etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory, tmp_path: Path
) -> None:
    cluster = cluster_factory(names=("alone",))
    url = cluster.client_urls[0]
    snapshot = tmp_path / "snapshot.db"
    with EtcdClient(ConnectionOptions((url,))) as client:
        running = read_wal_metadata(cluster.data_dir("alone") / "member" / "wal")
        status = client.status(url)
        assert running == WalMetadata(status.member_id, status.cluster_id)
        alone = predict([Peer("alone", (cluster.peer_url("alone"),))], cluster.token)
        assert (alone.member_ids["alone"], alone.cluster_id) == (status.member_id, status.cluster_id)
        with client.snapshot(url, StreamLimits()) as pieces, snapshot.open("wb") as out:
            out.writelines(pieces)

    everyone, prediction = initial_cluster(MEMBERS), predict(MEMBERS, "a-fresh-token")
    for number, member in enumerate(MEMBERS):
        data_dir = tmp_path / f"restored-{number}"
        separate = ["--wal-dir", str(tmp_path / f"wal-{number}")] if number == 1 else []
        urls = [one.partition("=")[2] for one in everyone.split(",") if one.startswith(f"{member.name}=")]
        subprocess.run(
            [
                *(str(etcd_binaries.restore.path), "snapshot", "restore", str(snapshot)),
                *("--name", member.name, "--data-dir", str(data_dir), *separate),
                *("--initial-cluster", everyone, "--initial-cluster-token", "a-fresh-token"),
                *("--initial-advertise-peer-urls", ",".join(urls)),
            ],
            env={"ETCDCTL_API": "3"},
            capture_output=True,
            check=True,
        )
        wal_dir = Path(separate[1]) if separate else data_dir / "member" / "wal"
        assert read_wal_metadata(wal_dir) == WalMetadata(
            prediction.member_ids[member.name], prediction.cluster_id
        )
