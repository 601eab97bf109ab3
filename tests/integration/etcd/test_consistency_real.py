"""Members of a sound cluster that compact while they are hashed: that is no corruption."""

from __future__ import annotations

from etcdguard.etcd.client import EtcdClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.consistency import TRIES, compare
from etcdguard.model import HashKV
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Etcdctl
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version
from tests.support.restores import wait_applied


class CompactedMeanwhile(EtcdClient):
    """After each hash, the cluster compacts a little further, always below the revision that is hashed."""

    etcdctl: Etcdctl
    compacted = 0

    def hash_kv(self, endpoint: str, revision: int, timeout: float) -> HashKV | None:
        found = super().hash_kv(endpoint, revision, timeout)
        self.compacted += 1
        self.etcdctl.run("compact", str(self.compacted))
        for _ in range(2):
            self.etcdctl.run("put", "/another", "revision")
        return found


@each_etcd_version
def test_different_compact_revisions_are_inconclusive(
    cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms
) -> None:
    cluster = cluster_factory()
    etcdctl = Etcdctl(etcd_binaries.etcdctl, cluster)
    for number in range(3 * TRIES + 1):
        etcdctl.run("put", f"/key/{number}", "value")
    wait_applied(etcdctl, etcdctl.revision())
    endpoints = dict(zip(cluster.names, cluster.client_urls, strict=True))
    options = ConnectionOptions(cluster.client_urls, command_timeout=30.0)

    with CompactedMeanwhile(options) as client:
        client.etcdctl = etcdctl
        result = compare(client, endpoints, timeout=60.0, sleep=lambda _: None, at_once=False)
        assert client.compacted == 3 * TRIES
    assert result.outcome == "inconclusive"
    known = [one for one in result.hashes.values() if one is not None]
    assert len({one.compact_revision for one in known}) > 1

    with EtcdClient(options) as client:
        wait_applied(etcdctl, etcdctl.revision())
        again = compare(client, endpoints, timeout=60.0, sleep=lambda _: None, at_once=False)
    assert again.outcome == "equal"
