"""What stops when, and the estimate of for how long with what it rests on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from etcdguard.restore.member_spec import MemberSpec
from etcdguard.restore.outlook import outlook
from etcdguard.restore.plan import (
    ControlPlaneSpec,
    RestorePlan,
    ServiceSpec,
    plan_document,
    read_plan_document,
)
from etcdguard.restore.planner import Choices, make_plan
from tests.support.restores import NOW, make_manifest
from tests.unit.restore.fleet import TOOL

_UNIT = ServiceSpec(kind="systemd", unit="etcd.service")
_POD = ServiceSpec(kind="static-pod", manifest="/etc/kubernetes/manifests/etcd.yaml")


def _plan(service: ServiceSpec | None = _UNIT, *, mebibytes: int = 1, hosts: str = "abc") -> RestorePlan:
    specs = [
        MemberSpec(
            f"m{number}",
            (f"http://10.0.0.{number}:2380",),
            (f"http://10.0.0.{number}:2379",),
            host=host,
            data_dir=f"/data/m{number}",
            service=service,
            control_plane=ControlPlaneSpec(units=("kcm.service", "kube-apiserver.service"))
            if service is _UNIT
            else None,
        )
        for number, host in enumerate(hosts, 1)
    ]
    manifest = make_manifest(db_bytes=mebibytes * 1024 * 1024)
    return make_plan(
        manifest, specs, Choices(), TOOL, node="here", now=NOW, token_hex=lambda count: "0" * 2 * count
    )


def _restore(seconds: float, *, members: int = 3, proof: object = {"leader": "m1"}) -> dict[str, Any]:
    return {"downtime_seconds": seconds, "members": [{}] * members, "proof": proof}


def test_what_uses_etcd_stops_first_and_each_name_once_a_host() -> None:
    stops = outlook(_plan(hosts="aab"), ()).stops

    assert [(one.host, one.members) for one in stops] == [("a", ("m1", "m2")), ("b", ("m3",))]
    assert stops[0].first == ("kube-apiserver.service", "kcm.service")
    assert stops[0].etcd == ("etcd.service", "etcd.service")


def test_a_pod_stops_what_kubeadm_puts_beside_it() -> None:
    first = outlook(_plan(_POD), ()).stops[0].first
    assert first[0] == "/etc/kubernetes/manifests/kube-apiserver.yaml"
    assert len(first) == 3


def test_without_services_nothing_is_stopped_or_estimated() -> None:
    expected = outlook(_plan(None), [_restore(7.0)])
    assert expected.downtime is None
    assert {(one.first, one.etcd) for one in expected.stops} == {((), ())}


@pytest.mark.parametrize(
    ("past", "seconds", "basis"),
    [
        ([_restore(7.5)], 7.5, "the last restore of this cluster with 3 members"),
        ([_restore(7.5), _restore(9), _restore(8)], 9.0, "the slowest of the last 3 restores"),
        ([_restore(99), *[_restore(5)] * 5], 5.0, "the slowest of the last 5 restores"),
        ([_restore(7.5), _restore(99, members=5), _restore(98, proof=None), {}], 7.5, "the last restore"),
    ],
)
def test_earlier_restores_are_the_measure(past: list[dict[str, Any]], seconds: float, basis: str) -> None:
    downtime = outlook(_plan(), past).downtime
    assert downtime is not None
    assert downtime.seconds == seconds
    assert downtime.basis.startswith(basis)


@pytest.mark.parametrize("past", [[], [_restore(99, members=1)], [_restore(0)], [{"downtime_seconds": "9"}]])
def test_without_them_it_is_a_guess_and_says_so(past: list[dict[str, Any]]) -> None:
    small, large = (outlook(_plan(mebibytes=size), past).downtime for size in (1, 1000))
    pods = outlook(_plan(_POD), past).downtime
    assert small is not None
    assert large is not None
    assert pods is not None
    assert large.seconds == pytest.approx(small.seconds + 2 * 9.99)
    assert pods.seconds > small.seconds
    assert large.basis.startswith("a guess from 1000 MiB of database")
    assert "no restore of this cluster has been measured" in large.basis


def test_what_a_dry_run_prints_is_still_a_plan() -> None:
    plan = _plan()
    shown = {**plan_document(plan), "outlook": outlook(plan, ()).model_dump(mode="json")}
    assert read_plan_document(json.loads(json.dumps(shown))) == plan
