"""The lock on real clusters: competitors, a paused and a killed holder, members that go away."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

import grpc
import pytest
from pydantic import SecretStr

from etcdguard.errors import ClusterUnhealthy, EtcdUnreachable, Locked
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.lease import LeaseClient, impatient
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.lock import LeaseLock, lock_key
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Credentials, Etcdctl, enable_auth
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version
from tests.support.load import fill
from tests.support.waiting import PLENTY, eventually

LEASE = 30
"""Seconds: for a lease whose end is waited for. A machine that stands still for ten does not end it."""
ROOT = Credentials("root", "correct-horse-battery")

# Answers one line of stdin at a time with what it believes.
HOLDER = """\
import sys
from datetime import datetime, timezone
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.lock import LeaseLock
from etcdguard.log import configure
configure("json")
urls, key, seconds = sys.argv[1].split(","), sys.argv[2].encode(), int(sys.argv[3])
now = lambda: datetime.now(timezone.utc)
lock = LeaseLock.on(ConnectionOptions(tuple(urls)), key, "the child", now, lease_seconds=seconds)
lock.acquire()
print("acquired", flush=True)
for line in sys.stdin:
    print("held" if lock.held() else "lost", flush=True)
"""


def now() -> datetime:
    return datetime.now(timezone.utc)


def lock_on(cluster: LocalCluster, owner: str, *, key: bytes) -> LeaseLock:
    """With a lease so long that every call has a minute."""
    options = ConnectionOptions(cluster.client_urls, command_timeout=60.0)
    return LeaseLock.on(options, key, owner, now, lease_seconds=360)


class Renewals(LeaseClient):
    """Knows when it sent the last renewal that etcd acknowledged, by the monotonic clock."""

    def __init__(self, cluster: LocalCluster, login: Credentials | None = None) -> None:
        options = ConnectionOptions(
            cluster.client_urls,
            user=login.user if login else None,
            password=SecretStr(login.password) if login else None,
        )
        super().__init__(impatient(options, LEASE))
        self.last = 0.0

    def keep_alive(self, lease: int) -> int:
        sent = time.monotonic()
        seconds = super().keep_alive(lease)
        if seconds:
            self.last = sent
        return seconds


@contextmanager
def holder(cluster: LocalCluster, key: bytes) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, ",".join(cluster.client_urls), key.decode(), str(LEASE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert told(process) == "acquired"
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("?\n")
    process.stdin.flush()


@each_etcd_version
def test_two_competitors_and_who_has_it(etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(names=("etcd-1",))
    key = lock_key("prod", "maintenance")
    etcdctl = Etcdctl(etcd_binaries.etcdctl, cluster)
    with lock_on(cluster, "node-1", key=key) as first, lock_on(cluster, "node-2", key=key) as second:
        first.acquire()
        with pytest.raises(Locked, match="/etcdguard/prod/lock/maintenance is held by node-1"):
            second.acquire()
        found = json.loads(etcdctl.run("get", key.decode(), "--print-value-only"))
        assert found["owner"] == "node-1"
        assert len(etcdctl.json("lease", "list")["leases"]) == 1
        first.release()
        second.acquire(PLENTY)
        assert second.held()
        assert not first.held()
    assert etcdctl.run("get", "", "--prefix") == ""
    assert not etcdctl.json("lease", "list").get("leases")


def test_of_many_at_once_exactly_one_gets_it(shared_cluster: LocalCluster) -> None:
    key = lock_key("of-many", "leader")
    locks = [lock_on(shared_cluster, f"node-{number}", key=key) for number in range(6)]
    start = threading.Barrier(len(locks))
    refused: list[Locked] = []

    def compete(lock: LeaseLock) -> None:
        start.wait(PLENTY)
        try:
            lock.acquire()
        except Locked as error:
            refused.append(error)

    threads = [threading.Thread(target=compete, args=(lock,)) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [lock for lock in locks if lock.held()]
    for lock in locks:
        lock.close()
    assert len(winners) == 1
    assert len(refused) == len(locks) - 1


def test_a_holder_that_was_stopped_past_its_lease_knows_it_the_moment_it_wakes(
    shared_cluster: LocalCluster,
) -> None:
    key = lock_key("stopped", "leader")
    with holder(shared_cluster, key) as child, lock_on(shared_cluster, "heir", key=key) as heir:
        ask(child)
        assert told(child) == "held"
        child.send_signal(signal.SIGSTOP)
        ask(child)  # the first thing it will do
        with pytest.raises(Locked, match="held by the child"):
            heir.acquire()
        heir.acquire(PLENTY)
        child.send_signal(signal.SIGCONT)
        assert told(child) == "lost"
        assert heir.held()


def test_a_killed_holder_loses_it_with_the_lease(shared_cluster: LocalCluster) -> None:
    key = lock_key("killed", "leader")
    with holder(shared_cluster, key) as child, lock_on(shared_cluster, "heir", key=key) as heir:
        child.kill()
        child.wait()
        heir.acquire(PLENTY)
        assert heir.held()


@pytest.mark.slow
def test_it_is_renewed_outlives_a_member_and_is_lost_with_the_quorum(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory()
    keys = Renewals(cluster)
    with LeaseLock(keys, lock_key("prod", "leader"), "node-1", now, lease_seconds=LEASE) as lock:
        lock.acquire()
        holder = lock.holder()
        cluster.kill(cluster.names[0])  # the endpoint it speaks to
        killed = time.monotonic()
        eventually(lambda: keys.last > killed or not lock.held(), "it was renewed, or is lost")
        assert lock.held()
        assert lock.holder() == holder
        cluster.kill(cluster.names[1])
        eventually(lambda: not lock.held(), "it is lost")
        with pytest.raises((ClusterUnhealthy, EtcdUnreachable)):
            lock.acquire()
        cluster.start_all()
        cluster.wait_healthy()
        assert not lock.held()
        lock.acquire(PLENTY)  # after the old lease, which etcd prolongs when it elects a leader
        assert lock.held()


def test_with_users_a_refused_token_is_replaced(
    etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory
) -> None:
    cluster = cluster_factory(names=("etcd-1",))
    enable_auth(etcd_binaries.etcdctl, cluster, ROOT, Credentials("reader", "staple"))
    keys = Renewals(cluster, ROOT)
    with LeaseLock(keys, lock_key("prod", "leader"), "node-1", now, lease_seconds=LEASE) as lock:
        lock.acquire()
        cluster.kill()  # a member forgets its tokens
        cluster.start_all()
        cluster.wait_healthy()
        began = time.monotonic()
        eventually(lambda: keys.last > began or not lock.held(), "it was renewed, or is lost")
        if not lock.held():  # the restart took longer than the lease
            lock.acquire(PLENTY)
        assert lock.held()


def test_a_cluster_out_of_space_grants_no_lock_and_says_why(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(names=("etcd-1",), quota_bytes=2_000_000)
    with pytest.raises(grpc.RpcError, match="database space exceeded"):
        fill(cluster, 20_000_000)
    with lock_on(cluster, "node-1", key=lock_key("prod", "leader")) as lock:
        with pytest.raises(ClusterUnhealthy, match="database space exceeded"):
            lock.acquire()
        assert not lock.held()
