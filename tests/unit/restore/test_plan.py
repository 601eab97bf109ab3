"""A plan file is read as it was written, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etcdguard.errors import Refused, UsageError
from etcdguard.restore.places import Place
from etcdguard.restore.plan import (
    ControlPlaneSpec,
    ServiceSpec,
    located,
    plan_document,
    read_plan,
    read_plan_document,
    write_plan,
)
from etcdguard.restore.planner import Choices, MemberSpec
from tests.support.restores import make_manifest, make_members
from tests.unit.restore.golden_plan import GOLDEN
from tests.unit.restore.golden_plan import plan as golden_plan
from tests.unit.restore.test_planner import plan_of

PLAN = plan_of(choices=Choices(wal_dirs={"m2": "/wal"}, here=frozenset({"m1"}), bump=9, mark_compacted=True))


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in _leaves(item, (*path, index))]
    return [path]


DOCUMENT = plan_document(PLAN)
LEAVES = _leaves(DOCUMENT)


def test_a_plan_survives_its_file() -> None:
    assert read_plan(write_plan(PLAN)) == PLAN


def test_a_plan_with_everything_in_it_is_to_the_letter_the_one_that_is_kept() -> None:
    """Every host must read the same from it; a change that is meant is made with golden_plan."""
    assert write_plan(golden_plan()).decode() == GOLDEN.read_text()
    assert read_plan(GOLDEN.read_bytes()) == golden_plan()


def test_where_nothing_uses_etcd_only_etcd_is_stopped_and_started() -> None:
    unit = ServiceSpec(kind="systemd", unit="etcd.service")
    (m1,) = make_members("m1")
    spec = MemberSpec("m1", m1.peer_urls, service=unit)

    steps = plan_of(make_manifest((m1,)), [spec]).steps

    assert [(one.phase, one.member) for one in steps] == [
        ("preflight", None),
        ("stage", "m1"),
        ("gate", None),
        ("quiesce", "m1"),
        ("barrier", None),
        ("swap", "m1"),
        ("gate", None),
        ("start", "m1"),
        ("prove", None),
        ("record", None),
    ]


def test_what_is_a_mount_point_where_the_plan_is_carried_out_is_swapped_inside() -> None:
    here = located(PLAN, ["/wal"]).member("m2")

    assert here.wal_place == Place(
        Path("/wal"), Path(f"/wal/.etcdguard-{PLAN.id}"), Path(f"/wal/before-{PLAN.id}")
    )
    assert here.data_place == PLAN.member("m2").data_place
    assert located(PLAN, ()) is PLAN


CHANGED = "the plan file was changed after it was written"
NO_PLAN = "the file is not a restore plan"
MAKE_ANEW = "make a new one with `etcdguard restore plan` and copy it to every host unchanged"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", NO_PLAN),
        (b"[" * 100_000, NO_PLAN),
        (b"{}", NO_PLAN),
        (b"[]", NO_PLAN),
        (b'{"schema_version": 1, "plan": {}}', NO_PLAN),
        (b'{"schema_version": 2, "plan": {}}', "the plan file has schema version 2, not 1"),
        (b'{"schema_version": null, "plan": {}}', "the plan file has schema version None, not 1"),
        (write_plan(PLAN).replace(b'"m3"', b'"m4"'), CHANGED),
        (write_plan(PLAN).replace(b'"digest"', b'"extra": 1, "digest"'), CHANGED),
        (write_plan(PLAN).replace(b"10.0.0.1:2380", b"10.0.0.1", 1), CHANGED),
    ],
    ids=["half", "deep", "empty", "list", "nothing", "later", "null", "edited", "added", "derived"],
)
def test_what_is_told_of_a_file_that_is_not_the_plan(data: bytes, message: str) -> None:
    with pytest.raises(Refused) as refusal:
        read_plan(data)

    assert (refusal.value.message, refusal.value.hint) == (message, MAKE_ANEW)


def test_the_outlook_of_a_dry_run_is_no_part_of_the_plan() -> None:
    assert read_plan_document({**DOCUMENT, "outlook": {"seconds": 9}}) == PLAN


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "systemd"},
        {"kind": "systemd", "manifest": "/etcd.yaml"},
        {"kind": "systemd", "unit": "etcd.service", "manifest": "/etcd.yaml"},
        {"kind": "systemd", "unit": ""},
        {"kind": "static-pod"},
        {"kind": "static-pod", "unit": "etcd.service"},
        {"kind": "static-pod", "unit": "etcd.service", "manifest": "/etcd.yaml"},
    ],
    ids=str,
)
def test_a_service_is_one_thing(spec: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="a systemd service has a unit alone, a static pod a manifest"):
        ServiceSpec.model_validate(spec)


def test_who_is_stopped_before_etcd_and_started_after_it() -> None:
    """kube-apiserver first, or the others would go on asking it; without a word, what kubeadm puts there."""
    named = ControlPlaneSpec(units=("a.service", "kube-apiserver.service"), manifests=("/m/b.yaml",))
    assert named.names == ("kube-apiserver.service", "a.service", "/m/b.yaml")
    pod = ServiceSpec(kind="static-pod", manifest="/pods/etcd.yaml")
    unit = ServiceSpec(kind="systemd", unit="etcd.service")
    m1 = PLAN.member("m1")
    assert (pod.name, unit.name) == ("/pods/etcd.yaml", "etcd.service")
    assert m1.clients == ControlPlaneSpec()
    assert m1.model_copy(update={"service": unit}).clients == ControlPlaneSpec()
    assert m1.model_copy(update={"service": pod}).clients.names == (
        "/pods/kube-apiserver.yaml",
        "/pods/kube-controller-manager.yaml",
        "/pods/kube-scheduler.yaml",
    )
    assert m1.model_copy(update={"service": pod, "control_plane": named}).clients == named


def test_every_directory_that_is_swapped_has_its_three_names() -> None:
    m1, m2 = PLAN.member("m1"), PLAN.member("m2")
    (data,) = m1.places
    names = (f"/var/lib/etcd.etcdguard-{PLAN.id}", f"/var/lib/etcd.before-{PLAN.id}")
    assert data == Place(Path("/var/lib/etcd"), *map(Path, names)) == m1.data_place
    assert m1.wal_place is None
    wal = Place(Path("/wal"), Path(f"/wal.etcdguard-{PLAN.id}"), Path(f"/wal.before-{PLAN.id}"))
    assert m2.places == (m2.data_place, wal)
    assert m2.wal_place == wal


def test_the_document_has_what_scripts_rely_on() -> None:
    plan = DOCUMENT["plan"]

    assert DOCUMENT["schema_version"] == 1
    assert DOCUMENT["digest"].startswith("sha256:")
    assert {"backup_id", "token", "cluster_id", "initial_cluster", "members", "steps"} <= set(plan)
    assert all({"name", "host", "member_id", "data_dir", "argv"} <= set(one) for one in plan["members"])
    phases = [step["phase"] for step in plan["steps"]]
    assert list(dict.fromkeys(phases)) == ["preflight", "stage", "gate", "swap", "record"]


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: ".".join(map(str, leaf)))
def test_no_field_can_be_edited(leaf: tuple[str | int, ...]) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    holder = document
    for key in leaf[:-1]:
        holder = holder[key]
    old = holder[leaf[-1]]
    holder[leaf[-1]] = old + 1 if isinstance(old, int) else f"{old}0" if isinstance(old, str) else "x"

    with pytest.raises(Refused) as refusal:
        read_plan(json.dumps(document).encode())

    assert "make a new one" in refusal.value.hint


def test_an_edit_that_makes_no_sense_is_still_just_a_changed_file() -> None:
    with pytest.raises(Refused):
        read_plan(write_plan(PLAN).replace(b"http://10.0.0.1:2380", b"10.0.0.1"))


def test_a_field_that_was_slipped_in_is_noticed() -> None:
    document = json.loads(json.dumps(DOCUMENT))
    document["plan"]["members"][0]["run_as"] = "root"

    with pytest.raises(Refused, match="was changed"):
        read_plan(json.dumps(document).encode())


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["schema_version", "digest", "plan", "x"]), inner, max_size=4)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_other_files_are_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(Refused) as refusal:
        read_plan(data)

    assert "\n" not in refusal.value.message


def test_asking_for_a_member_it_does_not_have() -> None:
    with pytest.raises(UsageError) as refusal:
        PLAN.member("m9")

    assert refusal.value.message == "the plan has no member 'm9'"
    assert refusal.value.hint == "it restores m1, m2, m3"
