"""etcd on the test hosts: under systemd, and as a static pod of the kubelet's stand-in."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.support.etcd_versions import EtcdPrograms
from tests.support.fixtures_etcd import each_etcd_version
from tests.support.hosts import Disk, Host, HostSet
from tests.support.hosts_etcd import (
    CONTROL_PLANE,
    MANIFESTS,
    HostCluster,
    HostPki,
    deploy_etcd,
    deploy_static_pods,
    install_kubelet,
    pod_manifest,
    remove_etcd,
)
from tests.support.waiting import PLENTY, eventually

_ETCD = f"{MANIFESTS}/etcd.yaml"


@pytest.fixture
def hosts(three_hosts: HostSet) -> Iterator[HostSet]:
    """The three, without etcd afterwards."""
    yield three_hosts
    remove_etcd(three_hosts.hosts)


@pytest.fixture
def systemd_cluster(hosts: HostSet, host_pki: HostPki, etcd_binaries: EtcdPrograms) -> HostCluster:
    return deploy_etcd(hosts.hosts, host_pki, etcd_binaries)


@pytest.fixture
def pod_cluster(hosts: HostSet, host_pki: HostPki, etcd_binaries: EtcdPrograms) -> HostCluster:
    return deploy_static_pods(hosts.hosts, host_pki, etcd_binaries)


@each_etcd_version
def test_three_members_are_healthy_over_mutual_tls(systemd_cluster: HostCluster) -> None:
    etcdctl = systemd_cluster.etcdctl
    etcdctl.run("put", "key", "value")
    assert etcdctl.get("key") == "value"
    assert len(etcdctl.json("member", "list")["members"]) == 3
    systemd_cluster.wait_healthy()  # each has applied the put
    assert len(set(etcdctl.hash_kv().values())) == 1
    for host in systemd_cluster.hosts:
        assert host.is_active("etcd.service")
        assert host.run("stat", "-c", "%U %a", "/var/lib/etcd/member").stdout == "etcd 700\n"
        assert len(host.processes("etcd")) == 1


def test_a_client_without_a_certificate_is_refused(systemd_cluster: HostCluster) -> None:
    context = systemd_cluster.tls.context()
    assert _health(systemd_cluster.hosts[0], context=context) == 200
    anonymous = ssl.create_default_context(cafile=str(systemd_cluster.tls.ca))
    with pytest.raises(OSError, match="certificate required"):
        _health(systemd_cluster.hosts[0], context=anonymous)


def test_a_reboot_brings_etcd_back(systemd_cluster: HostCluster) -> None:
    host = systemd_cluster.hosts[1]
    host.reboot()
    systemd_cluster.wait_healthy(hosts=[host])
    host.reboot(hard=True)
    systemd_cluster.wait_healthy()


def test_a_stopped_member_stays_down(systemd_cluster: HostCluster) -> None:
    host = systemd_cluster.hosts[2]
    host.systemctl("stop", "etcd.service")
    assert host.processes("etcd") == []
    assert not systemd_cluster.healthy(host)
    systemd_cluster.wait_healthy(hosts=systemd_cluster.hosts[:2])  # without it, be it that it led


def test_a_machine_can_be_prepared_without_starting(
    hosts: HostSet, host_pki: HostPki, etcd_binaries: EtcdPrograms
) -> None:
    cluster = deploy_etcd(hosts.hosts, host_pki, etcd_binaries, wal_dir="/var/lib/etcd-wal/wal", start=False)
    for host in cluster.hosts:
        assert not host.is_active("etcd.service")
        assert list(host.path("/var/lib/etcd").iterdir()) == []
        assert host.run("/usr/local/bin/etcd", "--version").stdout.startswith("etcd Version:")
    for host in cluster.hosts:
        host.systemctl("start", "--no-block", "etcd.service")
    cluster.wait_healthy()
    assert cluster.hosts[0].exists("/var/lib/etcd-wal/wal/0000000000000000-0000000000000000.wal")


def test_removing_leaves_hosts_as_new(systemd_cluster: HostCluster) -> None:
    remove_etcd(systemd_cluster.hosts)
    for host in systemd_cluster.hosts:
        assert host.processes("etcd") == []
        assert not host.exists("/var/lib/etcd")
        assert host.systemctl("is-system-running").stdout == "running\n"


def test_a_data_directory_can_be_a_mount_point(
    hosts_available: None, host_pki: HostPki, etcd_binaries: EtcdPrograms
) -> None:
    with HostSet(1, disk=Disk("/var/lib/etcd", 512)) as hosts:
        cluster = deploy_etcd(hosts.hosts, host_pki, etcd_binaries)
        assert hosts["cp1"].run("mountpoint", "/var/lib/etcd", check=False).returncode == 0
        cluster.etcdctl.run("put", "key", "value")
        remove_etcd(hosts.hosts)
        assert list(hosts["cp1"].path("/var/lib/etcd").iterdir()) == []


def test_static_pods_run_the_whole_control_plane(pod_cluster: HostCluster) -> None:
    pod_cluster.etcdctl.run("put", "key", "value")
    for host in pod_cluster.hosts:
        _await_ready(host)
        assert [len(host.processes(name)) for name in CONTROL_PLANE] == [1, 1, 1]
        assert host.run("stat", "-c", "%U", "/var/lib/etcd/member").stdout == "root\n"


def test_a_static_pod_ends_with_its_manifest_and_comes_back(pod_cluster: HostCluster) -> None:
    host = pod_cluster.hosts[0]
    _await_ready(host)
    host.run("mv", _ETCD, "/etc/kubernetes/etcd.yaml")
    eventually(lambda: host.processes("etcd") == [], "etcd has ended")
    time.sleep(2.0)
    assert host.processes("etcd") == []
    _await_ready(host, [500, 200, 200])
    host.run("mv", "/etc/kubernetes/etcd.yaml", _ETCD)
    pod_cluster.wait_healthy()
    _await_ready(host)


def test_a_backup_of_the_manifest_in_the_folder_is_a_pod_too(pod_cluster: HostCluster) -> None:
    host = pod_cluster.hosts[0]
    first = host.processes("etcd")
    host.run("cp", _ETCD, f"{MANIFESTS}/etcd.yaml.bak")
    host.run("cp", _ETCD, f"{MANIFESTS}/.etcd.yaml")
    time.sleep(1.0)
    assert host.processes("etcd") == first
    host.run("rm", _ETCD)
    eventually(lambda: host.processes("etcd") not in ([], first), "the other manifest's etcd runs")
    host.run("rm", f"{MANIFESTS}/etcd.yaml.bak")
    eventually(lambda: host.processes("etcd") == [], "etcd has ended")
    time.sleep(2.0)
    assert host.processes("etcd") == [], "a hidden file is no manifest"


def test_a_killed_container_is_started_again(pod_cluster: HostCluster) -> None:
    host = pod_cluster.hosts[0]
    first = host.processes("etcd")
    host.kill_processes("etcd")
    eventually(lambda: host.processes("etcd") not in ([], first), "etcd runs again")
    pod_cluster.wait_healthy()


def test_containers_outlive_the_kubelet(pod_cluster: HostCluster) -> None:
    host = pod_cluster.hosts[0]
    first = host.processes("etcd")
    host.systemctl("stop", "kubelet.service")
    assert host.processes("etcd") == first
    host.systemctl("start", "kubelet.service")
    time.sleep(1.0)
    assert host.processes("etcd") == first
    host.run("rm", _ETCD)
    eventually(lambda: host.processes("etcd") == [], "etcd has ended")


def test_a_container_that_ignores_the_signal_is_killed_after_its_grace_period(hosts: HostSet) -> None:
    host = hosts["cp1"]
    stubborn = (
        "#!/usr/bin/python3\nimport signal\nsignal.signal(15, signal.SIG_IGN)\n"
        "open('/run/stubborn', 'w').close()\nwhile True: signal.pause()\n"
    )
    host.write("/usr/local/bin/stubborn", stubborn, mode=0o755)
    install_kubelet(host)
    host.write(f"{MANIFESTS}/stubborn.yaml", pod_manifest("stubborn", ["stubborn"], grace=2))
    host.systemctl("start", "kubelet.service")
    eventually(lambda: host.exists("/run/stubborn"), "it ignores the signal")
    assert len(host.processes("stubborn")) == 1
    started = time.monotonic()
    host.run("rm", f"{MANIFESTS}/stubborn.yaml")
    eventually(lambda: host.processes("stubborn") == [], "it has been killed")
    assert time.monotonic() - started > 1.9


def test_a_reboot_brings_static_pods_back(pod_cluster: HostCluster) -> None:
    host = pod_cluster.hosts[2]
    host.reboot()
    pod_cluster.wait_healthy()
    _await_ready(host)


def _await_ready(host: Host, wanted: Sequence[int] = (200, 200, 200)) -> None:
    eventually(lambda: _ready(host) == list(wanted), f"the control plane of {host.name} says {wanted}")


def _ready(host: Host) -> list[int]:
    """What the control plane's three pods say of themselves; 0 for one that gives no answer."""
    statuses = []
    for port in CONTROL_PLANE.values():
        connection = http.client.HTTPConnection(host.address, port, timeout=5.0)
        try:
            connection.request("GET", "/readyz")
            statuses.append(connection.getresponse().status)
        except (OSError, http.client.HTTPException):
            statuses.append(0)
        finally:
            connection.close()
    return statuses


def _health(host: Host, *, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection(host.address, 2379, timeout=PLENTY, context=context)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    finally:
        connection.close()
