"""The client against real clusters of every supported version."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from etcdguard.errors import ClusterUnhealthy, EtcdUnreachable
from etcdguard.etcd.client import Alarm, EtcdClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.source import EndpointFailure, StreamLimits
from etcdguard.etcd.stream import TrailerCheck
from etcdguard.model import HashKV, MemberStatus
from tests.support.defrags import STEADY
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Etcdctl
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version
from tests.support.load import fill, write_history
from tests.support.waiting import PLENTY, eventually

NOT_KNOWN_BEFORE_36 = ("3.4", "3.5")


def client_of(cluster: LocalCluster, *, timeout: float = 60.0) -> EtcdClient:
    return EtcdClient(ConnectionOptions(cluster.client_urls, command_timeout=timeout))


def answered(answers: list[MemberStatus | EndpointFailure]) -> list[MemberStatus]:
    statuses = [one for one in answers if isinstance(one, MemberStatus)]
    assert len(statuses) == len(answers), answers
    return statuses


@each_etcd_version
def test_every_member_tells_what_etcdctl_tells(
    etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory
) -> None:
    cluster = cluster_factory(extra_args=STEADY)
    history = write_history(cluster)
    etcdctl = Etcdctl(etcd_binaries.etcdctl, cluster)
    with client_of(cluster) as client:
        for url in client.endpoints:
            client.linearizable_read(url)  # so that every member has applied the last write
        statuses = answered(client.statuses())
        topology = client.topology()

        told = {one["Endpoint"]: one["Status"] for one in etcdctl.json("endpoint", "status")}
        assert [status.endpoint for status in statuses] == list(cluster.client_urls)
        for status in statuses:
            theirs = told[status.endpoint]
            assert int(status.member_id, 16) == theirs["header"]["member_id"]
            assert int(status.cluster_id, 16) == theirs["header"]["cluster_id"]
            assert int(status.leader_id, 16) == theirs["leader"]
            assert status.version == theirs["version"] == etcd_binaries.version
            assert status.db_size > 0
            assert status.revision == history.revision
            assert status.raft_index >= status.raft_applied_index > 0
            assert status.db_size_in_use
            assert (status.db_size_quota is None) == (etcd_binaries.minor in NOT_KNOWN_BEFORE_36)
            assert (status.storage_version is None) == (etcd_binaries.minor in NOT_KNOWN_BEFORE_36)
            assert not status.errors
        assert sum(status.is_leader for status in statuses) == 1

        assert topology.cluster_id == statuses[0].cluster_id
        by_name = {member.name: member for member in topology.voters}
        assert set(by_name) == set(cluster.names)
        for name, status in zip(cluster.names, statuses, strict=True):
            assert by_name[name].id == status.member_id
            assert by_name[name].peer_urls == (cluster.peer_url(name),)
            assert by_name[name].client_urls == (cluster.client_url(name),)


@each_etcd_version
def test_hashes_and_prefixes(etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(names=("alone",))
    history = write_history(cluster, prefix="/registry/pods/")
    url = cluster.client_urls[0]
    with client_of(cluster) as client:
        theirs = Etcdctl(etcd_binaries.etcdctl, cluster).hash_kv(history.revision)[url]
        ours = client.hash_kv(url, history.revision, timeout=PLENTY)
        assert ours == HashKV(hash=theirs[0], revision=history.revision, compact_revision=theirs[1])
        assert client.hash_kv(url, history.compacted_at - 1, timeout=PLENTY) is None
        assert client.hash_kv(url, history.revision + 1000, timeout=PLENTY) is None
        assert client.holds_prefix(url, b"/registry/")
        assert client.holds_prefix(url, b"")
        assert not client.holds_prefix(url, b"/registry/secrets/")
        assert not client.holds_prefix(url, b"\xff")
        assert client.alarms(url) == ()


@each_etcd_version
def test_a_full_database_raises_an_alarm(
    etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory
) -> None:
    cluster = cluster_factory(names=("alone",), quota_bytes=2_000_000)
    with pytest.raises(grpc.RpcError, match="database space exceeded"):
        fill(cluster, 40_000_000)  # etcd looks at the file, which grows only at the next commit
    with client_of(cluster) as client:
        (status,) = answered(client.statuses())
        assert client.alarms(cluster.client_urls[0]) == (Alarm(status.member_id, "NOSPACE"),)
        assert len(status.errors) == 1
        assert "NOSPACE" in status.errors[0]


@each_etcd_version
def test_one_survivor_of_three_still_gives_what_an_emergency_needs(
    etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory
) -> None:
    cluster = cluster_factory()
    write_history(cluster)
    survivor, *others = cluster.names
    url = cluster.client_url(survivor)
    with client_of(cluster) as client:
        client.linearizable_read(url)
        cluster.kill(*others)
        eventually(lambda: client.status(url).leader_id == "0", "the survivor sees no leader")

        alone, *dead = client.statuses()
        assert isinstance(alone, MemberStatus)
        assert alone.leader_id == "0"
        assert any("no leader" in error for error in alone.errors)
        for failure in dead:
            assert isinstance(failure, EndpointFailure)
            assert failure.error.message == f"{failure.endpoint}: connection refused"
        # Less patient than etcd itself, which gives up after 7 s.
        with client_of(cluster, timeout=5.0) as impatient, pytest.raises(ClusterUnhealthy) as raised:
            impatient.linearizable_read(url)
        assert raised.value.hint
        assert len(client.topology(url).members) == 3
        assert client.holds_prefix(url, b"/registry/")
        check = TrailerCheck()
        with client.snapshot(url, StreamLimits()) as pieces:
            for piece in pieces:
                check.update(piece)
        assert check.finish()[0] > 0


def test_a_dead_endpoint_among_live_ones_costs_nothing_but_its_own_answer(
    shared_cluster: LocalCluster,
) -> None:
    with unused_port() as port:
        endpoints = (f"http://127.0.0.1:{port}", *shared_cluster.client_urls)
        with EtcdClient(ConnectionOptions(endpoints, command_timeout=300.0)) as client:
            started = time.monotonic()
            dead, *alive = client.statuses()
            assert time.monotonic() - started < 60
            assert isinstance(dead, EndpointFailure)
            assert "connection refused" in dead.error.message
            answered(alive)
            assert len(client.topology().members) == 3


@contextmanager
def unused_port() -> Iterator[int]:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def test_two_endpoints_of_one_member_give_two_answers(shared_cluster: LocalCluster) -> None:
    url = shared_cluster.client_urls[0]
    with EtcdClient(ConnectionOptions((url, url.replace("127.0.0.1", "localhost")))) as client:
        first, second = answered(client.statuses())
    assert first.member_id == second.member_id
    assert first.endpoint != second.endpoint


def test_when_nobody_answers_every_endpoint_is_named_in_one_line() -> None:
    with unused_port() as first, unused_port() as second:
        urls = (f"http://127.0.0.1:{first}", f"http://127.0.0.1:{second}")
        with EtcdClient(ConnectionOptions(urls)) as client, pytest.raises(EtcdUnreachable) as raised:
            client.topology()
    assert raised.value.message == (
        f"no endpoint answered: {urls[0]}: connection refused; {urls[1]}: connection refused"
    )


def test_a_host_name_that_does_not_exist() -> None:
    with (
        EtcdClient(ConnectionOptions(("http://no-such-host.invalid:2379",))) as client,
        pytest.raises(EtcdUnreachable, match="host name cannot be resolved") as raised,
    ):
        client.topology()
    assert raised.value.hint == "check the endpoint's host name"


def test_a_server_that_accepts_and_stays_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = ConnectionOptions((url,), command_timeout=0.5, dial_timeout=0.3)
        with EtcdClient(options) as client, pytest.raises(EtcdUnreachable) as raised:
            client.topology()
    assert raised.value.message == f"{url}: etcd accepts connections but did not answer in time"
    assert "--command-timeout" in raised.value.hint


def test_hash_kv_of_a_member_that_hangs_is_given_up_in_time(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(names=("alone",))
    url = cluster.client_urls[0]
    with client_of(cluster, timeout=300.0) as client:
        revision = client.status(url).revision
        with paused(cluster, "alone"):
            started = time.monotonic()
            assert client.hash_kv(url, revision, timeout=0.5) is None
            assert time.monotonic() - started < 60
        assert client.hash_kv(url, revision, timeout=PLENTY) is not None


@contextmanager
def paused(cluster: LocalCluster, name: str) -> Iterator[None]:
    pid = cluster.pid(name)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        while not all((one / "stat").read_text().rpartition(") ")[2].startswith("T") for one in threads):
            time.sleep(0.01)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_etcd_is_spoken_to_past_any_proxy(
    cluster_factory: ClusterFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a unit's environment names is the way to the repository."""
    cluster = cluster_factory(names=("alone",))
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with client_of(cluster) as client, client.snapshot(client.endpoints[0], StreamLimits()) as pieces:
        assert answered(client.statuses())
        assert b"".join(pieces)
