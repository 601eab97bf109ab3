"""The calls that maintenance is made of, against real clusters of every supported version."""

from __future__ import annotations

import pytest

from etcdguard.errors import ClusterUnhealthy
from etcdguard.etcd.admin import AdminClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.source import Alarm
from tests.support.defrags import STEADY
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Etcdctl
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version
from tests.support.load import fill
from tests.support.waiting import PLENTY


@each_etcd_version
def test_compact_defragment_and_move_the_leader(
    etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory
) -> None:
    cluster = cluster_factory(extra_args=STEADY)
    etcdctl = Etcdctl(etcd_binaries.etcdctl, cluster)
    fill(cluster, 8_000_000)
    etcdctl.run("del", "/registry/bulk/", "--prefix")
    with AdminClient(ConnectionOptions(cluster.client_urls, command_timeout=60)) as client:
        leader = next(url for url in cluster.client_urls if client.status(url).is_leader)
        client.linearizable_read(leader)  # so that it has applied the deletion
        before = client.status(leader)
        for _ in range(2):  # the second time it is compacted already
            client.compact(leader, before.revision, PLENTY)
        with pytest.raises(ClusterUnhealthy, match="future revision"):
            client.compact(leader, before.revision + 1000, PLENTY)
        assert client.defragment(leader, PLENTY)
        after = client.status(leader)
        assert after.db_size < 2_000_000
        assert after.member_id == before.member_id

        target = next(url for url in cluster.client_urls if url != leader)
        with pytest.raises(ClusterUnhealthy, match="not leader"):
            client.move_leader(target, before.member_id)
        client.move_leader(leader, client.status(target).member_id)
        assert client.status(target).is_leader
        assert not client.status(leader).is_leader


@each_etcd_version
def test_an_alarm_is_disarmed(etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(names=("alone",), quota_bytes=2_000_000)
    url = cluster.client_urls[0]
    with AdminClient(ConnectionOptions(cluster.client_urls, command_timeout=60)) as client:
        with pytest.raises(Exception, match="database space exceeded"):
            fill(cluster, 40_000_000)
        (alarm,) = client.alarms(url)
        status = client.status(url)
        assert list(map(Alarm.parse, status.errors)) == [alarm]
        client.disarm(url, alarm)
        assert client.alarms(url) == ()
        assert client.status(url).errors == ()
