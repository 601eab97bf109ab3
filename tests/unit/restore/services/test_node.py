"""Which services a planned member has on its host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from etcdguard.errors import EtcdGuardError
from etcdguard.restore.machine import LOCAL
from etcdguard.restore.plan import ControlPlaneSpec, PlannedMember, ServiceSpec
from etcdguard.restore.planner import MemberSpec
from etcdguard.restore.services import CommandResult, Patience, Surroundings, services_for
from etcdguard.restore.services.processes import Processes
from tests.support.restores import SteppingClock
from tests.unit.restore.services.systemd_stand_in import FakeSystemd
from tests.unit.restore.test_planner import plan_of

_POD = (
    "kind: Pod\nmetadata: {name: etcd}\nspec: {containers: [{name: etcd, command: [etcd, --data-dir=/d]}]}\n"
)


def _member(service: ServiceSpec | None, control_plane: ControlPlaneSpec | None = None) -> PlannedMember:
    spec = MemberSpec(
        "m1",
        ("http://10.0.0.1:2380",),
        ("http://10.0.0.1:2379",),
        service=service,
        control_plane=control_plane,
    )
    return plan_of(configured=[spec]).members[0]


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    """A machine on which nothing runs."""
    return Surroundings(
        Patience(5, SteppingClock().monotonic, lambda _: None),
        crictl=None,
        run=FakeSystemd(tmp_path),
        processes=Processes(tmp_path / "proc"),
        machine=replace(LOCAL, listening=lambda *_: False),
        drop_ins=tmp_path,
    )


def test_a_member_without_a_service_is_the_operators(around: Surroundings) -> None:
    assert services_for(_member(None), "p", around) is None


def test_a_unit_and_the_units_around_it(around: Surroundings) -> None:
    control_plane = ControlPlaneSpec(
        units=("kube-scheduler.service", "kube-apiserver.service"),
        manifests=("/m/x.yaml",),
        restart_kubelet=True,
    )

    services = services_for(
        _member(ServiceSpec(kind="systemd", unit="etcd.service"), control_plane), "p", around
    )

    assert services is not None
    assert services.etcd.name == "etcd.service"
    assert [service.name for service in services.control_plane] == [
        "kube-apiserver.service",
        "kube-scheduler.service",
        "/m/x.yaml",
    ]
    assert [service.name for service in services.all][-1] == "etcd.service"
    assert services.kubelet is not None


def test_what_kubeadm_would_have_put_there_counts_where_it_is(around: Surroundings, tmp_path: Path) -> None:
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    for name in ("kube-scheduler", "kube-apiserver"):
        (manifests / f"{name}.yaml").write_text(_POD)
    member = _member(ServiceSpec(kind="static-pod", manifest=str(manifests / "etcd.yaml")))

    services = services_for(member, "p", around)

    assert services is not None
    assert services.kubelet is None
    names = [Path(service.name).name for service in services.control_plane]
    assert names == ["kube-apiserver.yaml", "kube-scheduler.yaml"]
    for service in services.control_plane:
        service.stop()
    again = services_for(member, "p", around)
    assert again is not None
    assert [service.name for service in again.control_plane] == [
        service.name for service in services.control_plane
    ], "what was taken out is still there"


def test_what_was_named_must_be_there(around: Surroundings, tmp_path: Path) -> None:
    (tmp_path / "etcd.yaml").write_text(_POD)
    spec = ServiceSpec(kind="static-pod", manifest=str(tmp_path / "etcd.yaml"))

    services = services_for(
        _member(spec, ControlPlaneSpec(manifests=(str(tmp_path / "x.yaml"),))), "p", around
    )

    assert services is not None
    with pytest.raises(EtcdGuardError, match=r"there is no .*x\.yaml"):
        services.control_plane[0].check()


@pytest.mark.parametrize("port", [2379, 2380])
def test_a_static_etcd_is_down_once_its_ports_are_closed(
    around: Surroundings, tmp_path: Path, port: int
) -> None:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "etcd.yaml").write_text(_POD)
    spec = ServiceSpec(kind="static-pod", manifest=str(tmp_path / "manifests" / "etcd.yaml"))
    machine = replace(LOCAL, listening=lambda host, number: (host, number) == ("10.0.0.1", port))

    services = services_for(_member(spec), "p", replace(around, machine=machine))

    assert services is not None
    with pytest.raises(EtcdGuardError, match="still runs"):
        services.etcd.stop()


def test_the_kubelet_is_restarted(around: Surroundings) -> None:
    calls = []

    def run(argv: object, timeout: float) -> CommandResult:
        calls.append(argv)
        return CommandResult(0, "", "")

    member = _member(ServiceSpec(kind="systemd", unit="etcd.service"), ControlPlaneSpec(restart_kubelet=True))
    services = services_for(member, "p", replace(around, run=run))

    assert services is not None
    assert services.kubelet is not None
    services.kubelet.restart()
    assert calls == [["systemctl", "restart", "--", "kubelet.service"]]


def test_here_looks_for_crictl(tmp_path: Path) -> None:
    (tmp_path / "crictl").write_text("#!/bin/sh\n")
    (tmp_path / "crictl").chmod(0o755)
    clock = SteppingClock()

    around = Surroundings.here(str(tmp_path), monotonic=clock.monotonic, sleep=lambda _: None)

    assert around.crictl == str(tmp_path / "crictl")
