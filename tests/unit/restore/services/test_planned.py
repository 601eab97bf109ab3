"""What a plan says about services, and that a plan file carries it."""

from __future__ import annotations

import pytest

from etcdguard.restore.plan import (
    ControlPlaneSpec,
    RestorePlan,
    ServiceSpec,
    read_plan,
    write_plan,
)
from etcdguard.restore.planner import MemberSpec
from tests.unit.restore.test_planner import plan_of

_POD = ServiceSpec(kind="static-pod", manifest="/etc/kubernetes/manifests/etcd.yaml")
_UNIT = ServiceSpec(kind="systemd", unit="etcd.service", user="etcd", group="etcd")
_APISERVER = ControlPlaneSpec(units=("kube-apiserver.service",), restart_kubelet=True)


def _plan(service: ServiceSpec | None, control_plane: ControlPlaneSpec | None = None) -> RestorePlan:
    specs = [
        MemberSpec(name, (f"http://{name}:2380",), host=name, service=service, control_plane=control_plane)
        for name in ("m1", "m2")
    ]
    return plan_of(configured=specs)


def _does(plan: RestorePlan, *phases: str) -> list[tuple[str, str | None, str]]:
    return [(step.phase, step.member, step.does) for step in plan.steps if step.phase in phases]


def test_with_services_a_run_has_all_phases_in_order() -> None:
    phases = [step.phase for step in _plan(_UNIT, _APISERVER).steps]

    assert list(dict.fromkeys(phases)) == [
        *("preflight", "stage", "gate", "quiesce", "barrier", "swap", "start", "prove", "reopen", "record")
    ]


def test_etcd_stops_after_every_host_has_stopped_its_clients() -> None:
    assert _does(_plan(_UNIT, _APISERVER), "quiesce", "start", "reopen") == [
        ("quiesce", "m1", "stop kube-apiserver.service"),
        ("quiesce", "m2", "stop kube-apiserver.service"),
        ("quiesce", "m1", "stop etcd: etcd.service"),
        ("quiesce", "m2", "stop etcd: etcd.service"),
        ("start", "m1", "start etcd: etcd.service"),
        ("start", "m2", "start etcd: etcd.service"),
        ("reopen", "m1", "start kube-apiserver.service"),
        ("reopen", "m1", "restart the kubelet"),
        ("reopen", "m2", "start kube-apiserver.service"),
        ("reopen", "m2", "restart the kubelet"),
    ]


def test_a_static_pod_has_kubeadms_control_plane_beside_it() -> None:
    folder = "/etc/kubernetes/manifests"

    assert _plan(_POD).members[0].clients == ControlPlaneSpec(
        manifests=tuple(
            f"{folder}/kube-{name}.yaml" for name in ("apiserver", "controller-manager", "scheduler")
        )
    )


@pytest.mark.parametrize(
    ("service", "control_plane"),
    [(_POD, ControlPlaneSpec()), (_UNIT, None), (None, None)],
    ids=["said-so", "systemd", "no-service"],
)
def test_nothing_is_stopped_that_nobody_named(
    service: ServiceSpec | None, control_plane: ControlPlaneSpec | None
) -> None:
    plan = _plan(service, control_plane)

    assert plan.members[0].clients == ControlPlaneSpec()
    assert _does(plan, "reopen") == []


@pytest.mark.parametrize("service", [_POD, _UNIT])
def test_a_plan_file_carries_them(service: ServiceSpec) -> None:
    plan = _plan(service, _APISERVER)

    assert read_plan(write_plan(plan)) == plan


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "systemd"},
        {"kind": "static-pod", "unit": "etcd.service"},
        {"kind": "systemd", "unit": "etcd.service", "manifest": "/m/etcd.yaml"},
    ],
)
def test_a_service_is_one_thing(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="alone"):
        ServiceSpec.model_validate(fields)
