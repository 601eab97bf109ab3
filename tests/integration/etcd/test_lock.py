"""The lock on real clusters: competitors, a paused and a killed holder, members that go away."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

import grpc
import pytest
from pydantic import SecretStr

from etcdguard.errors import ClusterUnhealthy, EtcdUnreachable, Locked
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.lock import LeaseLock, lock_key
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Credentials, Etcdctl, enable_auth
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version
from tests.support.load import fill

PATIENCE = 90.0
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


def lock_on(
    cluster: LocalCluster, owner: str, *, key: bytes, lease_seconds: int = 15, login: bool = False
) -> LeaseLock:
    options = ConnectionOptions(
        cluster.client_urls,
        user=ROOT.user if login else None,
        password=SecretStr(ROOT.password) if login else None,
    )
    return LeaseLock.on(options, key, owner, lambda: datetime.now(timezone.utc), lease_seconds=lease_seconds)


@contextmanager
def holder(cluster: LocalCluster, key: bytes, lease_seconds: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, ",".join(cluster.client_urls), key.decode(), str(lease_seconds)],
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


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


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
        second.acquire(PATIENCE)
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
        start.wait(PATIENCE)
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
    with holder(shared_cluster, key, 9) as child, lock_on(shared_cluster, "heir", key=key) as heir:
        ask(child)
        assert told(child) == "held"
        child.send_signal(signal.SIGSTOP)
        ask(child)  # the first thing it will do
        with pytest.raises(Locked, match="held by the child"):
            heir.acquire()
        heir.acquire(PATIENCE)
        child.send_signal(signal.SIGCONT)
        assert told(child) == "lost"
        assert heir.held()


def test_a_killed_holder_loses_it_with_the_lease(shared_cluster: LocalCluster) -> None:
    key = lock_key("killed", "leader")
    with holder(shared_cluster, key, 3) as child, lock_on(shared_cluster, "heir", key=key) as heir:
        child.kill()
        child.wait()
        heir.acquire(PATIENCE)
        assert heir.held()


@pytest.mark.slow
def test_it_is_renewed_outlives_a_member_and_is_lost_with_the_quorum(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory()
    key = lock_key("prod", "leader")
    with lock_on(cluster, "node-1", key=key, lease_seconds=9) as lock:
        lock.acquire()
        holder = lock.holder()
        cluster.kill(cluster.names[0])  # the endpoint it speaks to
        killed = time.monotonic()
        # So late, only a renewal after the kill can be why.
        until(lambda: time.monotonic() > killed + 10 or not lock.held())
        assert lock.held()
        assert lock.holder() == holder
        cluster.kill(cluster.names[1])
        until(lambda: not lock.held())
        with pytest.raises((ClusterUnhealthy, EtcdUnreachable)):
            lock.acquire()
        cluster.start_all()
        cluster.wait_healthy()
        assert not lock.held()
        lock.acquire(PATIENCE)  # after the old lease, which etcd prolongs when it elects a leader
        assert lock.held()


def test_with_users_a_refused_token_is_replaced(
    etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory
) -> None:
    cluster = cluster_factory(names=("etcd-1",))
    enable_auth(etcd_binaries.etcdctl, cluster, ROOT, Credentials("reader", "staple"))
    key = lock_key("prod", "leader")
    with lock_on(cluster, "node-1", key=key, lease_seconds=9, login=True) as lock:
        lock.acquire()
        cluster.kill()  # a member forgets its tokens
        cluster.start_all()
        cluster.wait_healthy()
        began = time.monotonic()
        until(lambda: time.monotonic() > began + 10 or not lock.held())
        if not lock.held():  # the restart took longer than the lease
            lock.acquire(PATIENCE)
        assert lock.held()


def test_a_cluster_out_of_space_grants_no_lock_and_says_why(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(names=("etcd-1",), quota_bytes=2_000_000)
    with pytest.raises(grpc.RpcError, match="database space exceeded"):
        fill(cluster, 20_000_000)
    with lock_on(cluster, "node-1", key=lock_key("prod", "leader")) as lock:
        with pytest.raises(ClusterUnhealthy, match="database space exceeded"):
            lock.acquire()
        assert not lock.held()
