from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest

from etcdguard.errors import ClusterUnhealthy
from etcdguard.etcd.local import LocalCluster
from tests.support.certs import Pki
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Credentials, Etcdctl, enable_auth
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version
from tests.support.load import connect, write_history, write_load
from tests.support.waiting import eventually


@each_etcd_version
def test_three_members_survive_the_loss_of_one(
    cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms
) -> None:
    cluster = cluster_factory()
    etcdctl = Etcdctl(etcd_binaries.etcdctl, cluster)
    cluster.kill("etcd-2")
    assert cluster.pid("etcd-2") is None
    cluster.wait_healthy(names=["etcd-1", "etcd-3"])
    etcdctl.run("put", "/a", "written by two")
    cluster.start_member("etcd-2")
    cluster.wait_healthy()
    etcdctl.revision()  # a linearizable read through the leader, before members are compared
    hashes = etcdctl.hash_kv(revision=2)
    assert sorted(hashes) == sorted(cluster.client_urls)
    assert len(set(hashes.values())) == 1


@each_etcd_version
def test_an_orderly_stop_keeps_the_data(cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms) -> None:
    cluster = cluster_factory()
    etcdctl = Etcdctl(etcd_binaries.etcdctl, cluster)
    etcdctl.run("put", "/a", "kept")
    cluster.stop()
    assert [cluster.pid(name) for name in cluster.names] == [None, None, None]
    cluster.start_all()
    cluster.wait_healthy()
    assert etcdctl.get("/a") == "kept"


@each_etcd_version
@pytest.mark.parametrize("client_auth", [True, False])
def test_tls(
    cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms, pki: Pki, client_auth: bool
) -> None:
    cluster = cluster_factory(tls=pki.tls(client_auth=client_auth))
    assert all(url.startswith("https://") for url in (*cluster.client_urls, *cluster.peer_urls))
    Etcdctl(etcd_binaries.etcdctl, cluster).run("put", "/a", "b")
    files = replace(pki.tls(), client_cert=pki.stranger.cert, client_key=pki.stranger.key)
    stranger = Etcdctl(etcd_binaries.etcdctl, cluster, tls=files)
    if client_auth:
        with pytest.raises(AssertionError, match="etcdctl get"):
            stranger.get("/a")
    else:
        assert stranger.get("/a") == "b"


@each_etcd_version
def test_authentication(cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms) -> None:
    cluster = cluster_factory()
    reader = Credentials("reader", "only-reads")
    root = enable_auth(etcd_binaries.etcdctl, cluster, Credentials("root", "s3cret:pass"), reader)
    root.run("put", "/a", "b")
    cluster.wait_healthy()
    limited = Etcdctl(etcd_binaries.etcdctl, cluster, reader)
    assert limited.get("/a") == "b"
    with pytest.raises(AssertionError, match="permission denied"):
        limited.run("put", "/a", "c")
    with pytest.raises(AssertionError, match="user name is empty"):
        Etcdctl(etcd_binaries.etcdctl, cluster).get("/a")


@each_etcd_version
def test_a_history_is_what_it_says(cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms) -> None:
    cluster = cluster_factory(names=("one",))
    history = write_history(cluster, keys=50)
    etcdctl = Etcdctl(etcd_binaries.etcdctl, cluster)
    assert etcdctl.revision() == history.revision
    with connect(cluster) as client:
        assert {meta.key.decode(): value.decode() for value, meta in client.get_all()} == history.live
        assert client.get_lease_info(history.lease_id).grantedTTL == 3600
        with pytest.raises(grpc.RpcError, match="has been compacted"):
            client.get_response("/registry/", revision=history.compacted_at - 1)
    assert history.deleted
    assert not set(history.deleted) & set(history.live)


def test_a_write_load_loses_nothing_it_was_promised(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory()
    with write_load(cluster) as load:
        time.sleep(0.5)
        cluster.kill("etcd-1")
        time.sleep(1.5)
        cluster.start_member("etcd-1")
        cluster.wait_healthy()
    assert load.failures > 0
    assert load.acknowledged
    with connect(cluster) as client:
        stored = {meta.key.decode(): value.decode() for value, meta in client.get_prefix("/load/")}
    assert load.acknowledged.items() <= stored.items()


def test_members_die_with_their_parent(etcd_binaries: EtcdPrograms, tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.tools import find_tool
cluster = LocalCluster(find_tool("etcd", None, {etcd_binaries.search_path!r}), Path({str(tmp_path)!r}))
cluster.start_all()
cluster.wait_healthy()
print(*[cluster.pid(name) for name in cluster.names], flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
    finally:
        parent.kill()
        parent.communicate()
    assert len(pids) == 3
    eventually(lambda: not any(map(running, pids)), "the members have ended")


def running(pid: int) -> bool:
    """False for a zombie too: in a container nobody may be there to reap orphans."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_members_do_not_see_the_terminals_interrupt(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(names=("one",))
    pid = cluster.pid("one")
    assert pid is not None
    assert os.getpgid(pid) == pid != os.getpgid(0)


def test_the_ports_of_a_dead_member_stay_its_own(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(names=("one",))
    cluster.kill("one")
    for url in (*cluster.client_urls, *cluster.peer_urls):
        port = urlsplit(url).port
        assert port is not None
        with socket.socket() as intruder, pytest.raises(OSError, match="in use"):
            intruder.bind(("127.0.0.1", port))
    cluster.start_member("one")
    cluster.wait_healthy()
    cluster.close()
    with socket.socket() as successor:
        successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as every server does, for TIME_WAIT
        successor.bind(("127.0.0.1", port))


def test_without_a_quorum_nothing_is_healthy(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory()
    cluster.kill("etcd-1", "etcd-3")
    with pytest.raises(ClusterUnhealthy, match=r"etcd-2 is not healthy after 3 s: \{") as caught:
        cluster.wait_healthy(timeout=3, names=["etcd-2"])
    assert str(cluster.log_path("etcd-2")) in caught.value.hint
    with pytest.raises(ClusterUnhealthy, match="etcd-1 ended with code -9"):
        cluster.wait_healthy(names=["etcd-1"])


def test_a_member_that_cannot_start_says_why_at_once(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(names=("one",), extra_args=("--no-such-flag",), wait=False)
    with pytest.raises(ClusterUnhealthy, match="one ended with code"):
        cluster.wait_healthy()


def test_a_member_nobody_started_is_not_waited_for(etcd_binaries: EtcdPrograms, tmp_path: Path) -> None:
    cluster = LocalCluster(etcd_binaries.etcd, tmp_path)
    with pytest.raises(ClusterUnhealthy, match="etcd-1 was not started: it wrote nothing"):
        cluster.wait_healthy()
    cluster.close()


def test_an_expired_server_certificate_is_named(cluster_factory: ClusterFactory, pki: Pki) -> None:
    files = replace(pki.tls(), cert=pki.expired_server.cert, key=pki.expired_server.key)
    cluster = cluster_factory(names=("one",), tls=files, wait=False)
    with pytest.raises(ClusterUnhealthy, match="certificate that does not fit"):
        cluster.wait_healthy()


def test_leaving_the_block_ends_every_process(etcd_binaries: EtcdPrograms, tmp_path: Path) -> None:
    with LocalCluster(etcd_binaries.etcd, tmp_path) as cluster:
        pids = [cluster.pid(name) for name in cluster.names]
        assert len(set(pids)) == 3
        os.kill(pids[0] or 0, signal.SIGSTOP)  # a stopped member must not survive either
    assert not any(running(pid or 0) for pid in pids)
