"""Services on real machines: systemd runs etcd's unit, a kubelet's stand-in runs its static pod."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

import pytest

from etcdguard.restore.plan import ControlPlaneSpec, PlannedMember, ServiceSpec
from etcdguard.restore.planner import MemberSpec
from tests.support.etcd_versions import EtcdPrograms
from tests.support.hosts import Host, HostSet
from tests.support.hosts_etcd import (
    CONTROL_PLANE,
    MANIFESTS,
    HostCluster,
    HostPki,
    client_url,
    deploy_etcd,
    deploy_static_pods,
    peer_url,
    remove_etcd,
)
from tests.support.waiting import eventually
from tests.unit.restore.test_planner import plan_of

_PLAN = "20261121T020000Z-abababab"
_UNIT = ServiceSpec(kind="systemd", unit="etcd.service")
_POD = ServiceSpec(kind="static-pod", manifest=f"{MANIFESTS}/etcd.yaml")

_IN_VENDOR_FOLDER = """\
[Service]
ExecStart=/bin/sleep infinity
Restart=always
"""

_LEAVES_A_PROCESS = """\
[Service]
ExecStart=/bin/sh -c "sleep 15 & exec sleep infinity"
KillMode=process
"""

# Runs on the host. Prints what runs afterwards, in the order in which services are stopped.
_DRIVER = """\
import sys, time
from etcdguard.errors import EtcdGuardError
from etcdguard.restore.plan import PlannedMember
from etcdguard.restore.services import Surroundings, services_for

member = PlannedMember.model_validate_json(sys.stdin.read())
around = Surroundings.here("", monotonic=time.monotonic, sleep=time.sleep)
services = services_for(member, sys.argv[1], around)
try:
    for service in {"all": services.all, "etcd": [services.etcd], "kubelet": [services.kubelet]}[sys.argv[2]]:
        getattr(service, sys.argv[3])()
except EtcdGuardError as error:
    sys.exit(f"{type(error).__name__}: {error.message}")
print(*(service.name for service in services.all if service.is_running()))
"""


@pytest.fixture
def hosts(three_hosts: HostSet) -> Iterator[HostSet]:
    """The three, without etcd and holds afterwards."""
    yield three_hosts
    for host in three_hosts:
        host.run("sh", "-c", "rm -rf /etc/systemd/system/*.service.d /usr/lib/systemd/system/probe.service")
    remove_etcd(three_hosts.hosts)


@pytest.fixture
def unit_cluster(hosts: HostSet, host_pki: HostPki, etcd_binaries: EtcdPrograms) -> HostCluster:
    return deploy_etcd(hosts.hosts, host_pki, etcd_binaries)


@pytest.fixture
def pod_cluster(hosts: HostSet, host_pki: HostPki, etcd_binaries: EtcdPrograms) -> HostCluster:
    return deploy_static_pods(hosts.hosts, host_pki, etcd_binaries)


def _member(host: Host, service: ServiceSpec, control_plane: ControlPlaneSpec | None = None) -> PlannedMember:
    spec = MemberSpec(
        host.name, (peer_url(host),), (client_url(host),), service=service, control_plane=control_plane
    )
    return plan_of(configured=[spec]).members[0]


def _do(
    host: Host, member: PlannedMember, action: str, *, which: str = "etcd", plan: str = _PLAN
) -> list[str]:
    """Call a method of the member's services there; the services that run afterwards."""
    text = member.model_dump_json()
    return host.run(f"{sys.prefix}/bin/python", "-c", _DRIVER, plan, which, action, text=text).stdout.split()


def _refused(host: Host, member: PlannedMember, action: str, *, plan: str = _PLAN) -> str:
    command = (f"{sys.prefix}/bin/python", "-c", _DRIVER, plan, "etcd", action)
    done = host.run(*command, text=member.model_dump_json(), check=False)
    assert done.returncode == 1
    return done.stderr


def _running(host: Host, names: Sequence[str]) -> list[str]:
    return [name for name in names if host.processes(name)]


# -- systemd -----------------------------------------------------------------------------------------------


def test_a_unit_stays_down_whatever_tries_to_start_it(unit_cluster: HostCluster) -> None:
    host = unit_cluster.hosts[0]
    member = _member(host, _UNIT)

    assert _do(host, member, "stop") == []

    assert host.processes("etcd") == []
    assert host.systemctl("start", "etcd.service", check=False).returncode != 0
    host.reboot(hard=True)
    host.wait_booted()
    assert host.processes("etcd") == []
    assert _do(host, member, "stop") == []

    assert _do(host, member, "start") == ["etcd.service"]
    unit_cluster.wait_healthy()
    assert not host.exists("/etc/systemd/system/etcd.service.d")
    host.reboot()
    unit_cluster.wait_healthy()


def test_start_does_not_wait_for_the_other_hosts(unit_cluster: HostCluster) -> None:
    for host in unit_cluster.hosts:
        _do(host, _member(host, _UNIT), "stop")
    first, *others = unit_cluster.hosts
    began = time.monotonic()

    assert _do(first, _member(first, _UNIT), "start") == ["etcd.service"]

    assert time.monotonic() - began < 60, "it waited until systemd gave up, after 90 s"
    assert not first.is_active("etcd.service"), "it waits for a quorum"
    for host in others:
        _do(host, _member(host, _UNIT), "start")
    unit_cluster.wait_healthy()


def test_a_unit_that_failed_too_often_starts_again(unit_cluster: HostCluster) -> None:
    host = unit_cluster.hosts[0]
    member = _member(host, _UNIT)
    host.systemctl("stop", "etcd.service")
    host.run("mv", "/var/lib/etcd", "/var/lib/etcd-away")
    host.write("/var/lib/etcd", "in the way")
    host.systemctl("start", "etcd.service", check=False)
    given_up = ("is-failed", "--quiet", "etcd.service")
    eventually(lambda: host.systemctl(*given_up, check=False).returncode == 0, "systemd gives it up")

    assert _do(host, member, "stop") == []
    host.run("rm", "/var/lib/etcd")
    host.run("mv", "/var/lib/etcd-away", "/var/lib/etcd")
    _do(host, member, "start")

    unit_cluster.wait_healthy()


def test_a_unit_of_a_package_is_held_as_well(hosts: HostSet) -> None:
    host = hosts["cp1"]
    host.write("/usr/lib/systemd/system/probe.service", _IN_VENDOR_FOLDER)
    host.systemctl("daemon-reload")
    host.systemctl("start", "probe.service")
    member = _member(host, ServiceSpec(kind="systemd", unit="probe.service"))

    assert _do(host, member, "stop") == []
    assert host.systemctl("start", "probe.service", check=False).returncode != 0
    assert _do(host, member, "release") == []
    assert _do(host, member, "start") == ["probe.service"]
    host.systemctl("stop", "probe.service")


def test_processes_that_a_unit_leaves_behind_are_waited_for(hosts: HostSet) -> None:
    host = hosts["cp1"]
    host.write("/usr/lib/systemd/system/probe.service", _LEAVES_A_PROCESS)
    host.systemctl("daemon-reload")
    host.systemctl("start", "probe.service")
    eventually(lambda: len(host.processes("sleep")) == 2, "the unit runs")
    member = _member(host, ServiceSpec(kind="systemd", unit="probe.service"))

    assert _do(host, member, "stop") == []

    assert host.processes("sleep") == []


def test_units_that_could_not_be_started_again_are_refused(unit_cluster: HostCluster) -> None:
    host = unit_cluster.hosts[0]
    member = _member(host, _UNIT)
    _do(host, member, "stop", plan="first")
    assert "held down by another restore, first" in _refused(host, member, "check")
    _do(host, member, "start", plan="first")

    host.systemctl("stop", "etcd.service")
    host.run("mv", "/etc/systemd/system/etcd.service", "/usr/lib/systemd/system/probe.service")
    host.systemctl("daemon-reload")
    host.systemctl("mask", "probe.service")
    masked = _member(host, ServiceSpec(kind="systemd", unit="probe.service"))
    assert "Refused: probe.service is masked" in _refused(host, masked, "check")
    host.systemctl("unmask", "probe.service")
    absent = _member(host, ServiceSpec(kind="systemd", unit="none.service"))
    assert "Refused: there is no none.service on this host" in _refused(host, absent, "is_running")


# -- static pods -------------------------------------------------------------------------------------------


def test_static_pods_are_taken_out_and_put_back(pod_cluster: HostCluster) -> None:
    host = pod_cluster.hosts[0]
    member = _member(host, _POD)
    programs = ("etcd", *CONTROL_PLANE)
    eventually(lambda: _running(host, programs) == list(programs), "the control plane runs")

    assert _do(host, member, "stop", which="all") == []

    assert _running(host, programs) == []
    assert list(host.path(MANIFESTS).iterdir()) == []
    host.reboot(hard=True)
    host.wait_booted()
    assert _running(host, programs) == []

    names = _do(host, member, "start", which="all")
    assert names == [f"{MANIFESTS}/{name}.yaml" for name in (*CONTROL_PLANE, "etcd")]
    assert _running(host, programs) == list(programs)
    assert not list(host.path("/etc/kubernetes").glob("etcdguard-*"))
    pod_cluster.wait_healthy()


def test_the_kubelet_is_restarted(pod_cluster: HostCluster) -> None:
    host = pod_cluster.hosts[0]
    before = host.processes("kubelet")

    _do(host, _member(host, _POD, ControlPlaneSpec(restart_kubelet=True)), "restart", which="kubelet")

    def is_another() -> bool:
        return len(host.processes("kubelet")) == 1 and host.processes("kubelet") != before

    eventually(is_another, "another kubelet runs")  # systemd calls it started before it is
