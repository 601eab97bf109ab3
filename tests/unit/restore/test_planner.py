"""What is planned from which manifest, configuration and choices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from etcdguard.errors import ConfigError, EtcdGuardError, Refused, UsageError
from etcdguard.etcd.tools import Tool, ToolKind
from etcdguard.model import Manifest
from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.planner import KUBERNETES_BUMP, Choices, MemberSpec, make_plan
from tests.support.restores import NOW, make_manifest, make_members


def tool(version: str = "3.5.26", kind: ToolKind = "etcdutl") -> Tool:
    major, minor, patch = map(int, version.split("."))
    return Tool(Path("/usr/bin") / kind, (major, minor, patch), kind)


def plan_of(
    manifest: Manifest | None = None,
    configured: Sequence[MemberSpec] = (),
    choices: Choices | None = None,
    with_tool: Tool | None = None,
) -> RestorePlan:
    """Without a manifest, for a backup of the configured members."""
    return make_plan(
        manifest or make_manifest(make_members(*(spec.name for spec in configured))),
        configured,
        choices or Choices(),
        with_tool or tool(),
        node="cp1",
        now=NOW,
        token_hex=lambda count: "ab" * count,
    )


def test_command_lines_and_names_are_exactly_these() -> None:
    choices = Choices(
        here=frozenset({"m1", "m2"}),
        data_dirs={"m1": "/data/m1/", "m2": "/data/m2"},
        wal_dirs={"m2": "/wal/m2"},
        bump=1000,
        mark_compacted=True,
    )

    plan = plan_of(choices=choices)

    assert plan.id == "20261121T020000Z-abababab"
    assert plan.token == f"etcdguard-{plan.id}-{'ab' * 16}"
    assert plan.initial_cluster == "m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380"
    assert plan.revision == 6033
    first, second, third = plan.members
    assert first.argv == (
        "/usr/bin/etcdutl",
        "snapshot",
        "restore",
        "/data/m1.etcdguard-20261121T020000Z-abababab.db",
        "--name=m1",
        f"--initial-cluster={plan.initial_cluster}",
        f"--initial-cluster-token={plan.token}",
        "--initial-advertise-peer-urls=http://10.0.0.1:2380",
        "--data-dir=/data/m1.etcdguard-20261121T020000Z-abababab",
        "--bump-revision=1000",
        "--mark-compacted",
    )
    assert second.argv[3] == first.argv[3], "one snapshot file for the host"
    assert second.argv[8:10] == (
        "--data-dir=/data/m2.etcdguard-20261121T020000Z-abababab",
        "--wal-dir=/wal/m2.etcdguard-20261121T020000Z-abababab",
    )
    assert (second.kept_dir, second.kept_wal_dir) == (
        "/data/m2.before-20261121T020000Z-abababab",
        "/wal/m2.before-20261121T020000Z-abababab",
    )
    assert (first.host, second.host, third.host) == ("cp1", "cp1", None)
    assert third.data_dir == "/var/lib/etcd"
    assert third.snapshot_file == "/var/lib/etcd.etcdguard-20261121T020000Z-abababab.db"


def test_the_same_input_gives_the_same_plan_whatever_the_order() -> None:
    forward = [MemberSpec("a", ("http://a:2380",)), MemberSpec("b", ("http://b:2380",))]

    assert plan_of(configured=forward) == plan_of(configured=forward[::-1])


def test_a_new_token_gives_new_ids() -> None:
    counter = iter(range(100))

    def plan() -> RestorePlan:
        return make_plan(
            make_manifest(),
            (),
            Choices(),
            tool(),
            node="cp1",
            now=NOW,
            token_hex=lambda count: format(next(counter), f"0{2 * count}x"),
        )

    one, two = plan(), plan()
    assert one.token != two.token
    assert one.cluster_id != two.cluster_id
    assert not {member.member_id for member in one.members} & {member.member_id for member in two.members}


def test_configured_members_come_before_those_of_the_manifest() -> None:
    configured = [MemberSpec("new", ("https://NEW.example:2380/",), host="h9", data_dir="/srv/etcd")]

    plan = plan_of(configured=configured)

    (member,) = plan.members
    assert (member.name, member.host, member.data_dir) == ("new", "h9", "/srv/etcd")
    assert member.peer_urls == ("https://new.example:2380",), "one spelling for ids and arguments"


def test_voters_are_left_out_by_name_only() -> None:
    plan = plan_of(choices=Choices(leave_out=frozenset({"m2"})))

    assert [member.name for member in plan.members] == ["m1", "m3"]
    assert any(note.startswith("m2 is left out") for note in plan.notes)


def test_as_many_voters_may_have_other_names() -> None:
    renamed = [MemberSpec(f"n{n}", (f"http://n{n}:2380",), host=f"n{n}") for n in (1, 2, 3)]

    assert [member.name for member in plan_of(make_manifest(), renamed).members] == ["n1", "n2", "n3"]


def test_members_without_a_vote_are_left_out_and_named() -> None:
    voters = make_members("m1", "m2", "m3", "m4", "")
    members = (*voters[:3], voters[3].model_copy(update={"is_learner": True}), voters[4])

    plan = plan_of(make_manifest(members))

    assert [member.name for member in plan.members] == ["m1", "m2", "m3"]
    assert any(note.startswith("m4 was a learner") for note in plan.notes)
    assert any("10.0.0.5:2380 had never started" in note for note in plan.notes)


def test_a_configured_learner_is_left_out_too() -> None:
    m1, m2 = make_members("m1", "m2")
    configured = [MemberSpec(member.name, member.peer_urls) for member in (m1, m2)]

    plan = plan_of(make_manifest((m1, m2.model_copy(update={"is_learner": True}))), configured)

    assert [member.name for member in plan.members] == ["m1"]


@pytest.mark.parametrize(
    ("kubernetes", "choices", "revisions", "reason"),
    [
        (False, Choices(), None, None),
        (True, Choices(), KUBERNETES_BUMP, "kubernetes"),
        (True, Choices(no_bump=True), None, None),
        (True, Choices(bump=5, mark_compacted=True), 5, "requested"),
        (False, Choices(bump=5, mark_compacted=True), 5, "requested"),
    ],
)
def test_bump(kubernetes: bool, choices: Choices, revisions: int | None, reason: str | None) -> None:
    plan = plan_of(make_manifest(kubernetes=kubernetes), choices=choices)

    assert (plan.bump and plan.bump.revisions, plan.bump and plan.bump.reason) == (revisions, reason)
    assert any("--bump-revision" in argument for argument in plan.members[0].argv) == (revisions is not None)
    assert ("--mark-compacted" in plan.members[0].argv) == (revisions is not None)


@pytest.mark.parametrize(
    ("etcd_version", "kind", "version"),
    [
        ("3.4.23", "etcdctl", "3.4.23"),
        ("3.4.23", "etcdutl", "3.5.26"),
        ("3.4.23", "etcdctl", "3.5.26"),
        ("3.5.0", "etcdutl", "3.5.35"),
        ("3.6.1", "etcdutl", "3.6.16"),
    ],
)
def test_tools_that_fit(etcd_version: str, kind: ToolKind, version: str) -> None:
    plan = plan_of(make_manifest(etcd_version=etcd_version), with_tool=tool(version, kind))

    assert (plan.tool.name, plan.tool.version) == (kind, version)
    zombies = any("#20967" in note for note in plan.notes)
    assert zombies == (tuple(map(int, version.split("."))) < (3, 5, 26))


HERE = frozenset({"m1", "m2"})
TWICE = tuple(MemberSpec(name, ("http://a:1",), data_dir=f"/{name}") for name in ("m1", "m2"))
TWO = tuple(MemberSpec(name, (f"http://{name}:1",), host=name) for name in ("m1", "m2"))
WITHOUT_M3 = {"leave_out": frozenset({"m3"})}


@pytest.mark.parametrize(
    ("kind", "message", "hint", "manifest", "configured", "choices", "with_tool"),
    [
        (Refused, "etcdutl 3.6.1, but the backup is of etcd 3.5.21", "--etcdutl PATH", {}, (), {}, "3.6.1"),
        (
            Refused,
            "but the backup is of etcd 3.4.23",
            "3.4 or 3.5",
            {"etcd_version": "3.4.23"},
            (),
            {},
            "3.6.1",
        ),
        (
            Refused,
            "cannot bump revisions",
            "--etcdutl PATH",
            {},
            (),
            {"bump": 1, "mark_compacted": True},
            "3.5.9",
        ),
        (Refused, "cannot bump revisions", "--no-bump", {"kubernetes": True}, (), {}, "3.5.9"),
        (UsageError, "go together", "both or neither", {}, (), {"bump": 1}, None),
        (UsageError, "go together", "both or neither", {}, (), {"mark_compacted": True}, None),
        (
            UsageError,
            "contradicts",
            "one of them",
            {},
            (),
            {"bump": 1, "mark_compacted": True, "no_bump": True},
            None,
        ),
        (
            UsageError,
            "out of range",
            "positive",
            {},
            (),
            {"bump": 2**63 - 5033, "mark_compacted": True},
            None,
        ),
        (UsageError, "out of range", "positive", {}, (), {"bump": 0, "mark_compacted": True}, None),
        (
            UsageError,
            "no voting member is called 'm9'",
            "etcdguard show",
            {},
            (),
            {"here": frozenset({"m9"})},
            None,
        ),
        (UsageError, "no voting member is called 'm9'", "show", {}, (), {"data_dirs": {"m9": "/x"}}, None),
        (UsageError, "overlap", "--data-dir NAME=DIR", {}, (), {"here": HERE}, None),
        (
            UsageError,
            "overlap",
            "--wal-dir NAME=DIR",
            {},
            (),
            {"wal_dirs": {"m1": "/var/lib/etcd/wal"}},
            None,
        ),
        (
            UsageError,
            "cannot be a member's directory",
            "absolute",
            {},
            (),
            {"data_dirs": {"m1": "etcd"}},
            None,
        ),
        (UsageError, "cannot be a member's directory", "absolute", {}, (), {"data_dirs": {"m1": "/"}}, None),
        (
            UsageError,
            "cannot be a member's directory",
            "absolute",
            {},
            (),
            {"wal_dirs": {"m1": "/a/../b"}},
            None,
        ),
        (
            UsageError,
            "live on different hosts",
            "restore plan",
            {},
            (MemberSpec("m1", ("http://a:1",), host="a"), MemberSpec("m2", ("http://b:1",), host="b")),
            {"here": HERE},
            None,
        ),
        (ConfigError, "cannot be used", "https://host:2380", {}, (MemberSpec("m1", ("a:1",)),), {}, None),
        (ConfigError, "appears twice", "exactly one", {}, TWICE, WITHOUT_M3, None),
        (Refused, "has m3 too", "--leave-out NAME", {}, TWO, {}, None),
        (Refused, "has m2, m3 too", "--leave-out NAME", {}, TWO[:1], {}, None),
        (Refused, "has m2 too", "--leave-out NAME", {}, TWO[:1], WITHOUT_M3, None),
        (
            UsageError,
            "--leave-out m9",
            "it has m1, m2, m3",
            {},
            TWO,
            {"leave_out": frozenset({"m3", "m9"})},
            None,
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    kind: type[EtcdGuardError],
    message: str,
    hint: str,
    manifest: dict[str, object],
    configured: Sequence[MemberSpec],
    choices: dict[str, object],
    with_tool: str | None,
) -> None:
    with pytest.raises(kind) as refusal:
        plan_of(
            make_manifest(**manifest),  # type: ignore[arg-type]
            configured,
            Choices(**choices),  # type: ignore[arg-type]
            tool(with_tool or "3.5.26"),
        )

    assert message in refusal.value.message
    assert hint in refusal.value.hint
    assert "\n" not in refusal.value.message + refusal.value.hint


def test_a_plan_for_the_manifests_members_at_new_hosts() -> None:
    plan = plan_of(choices=Choices(moves={"10.0.0.3": "fd00::3"}))

    assert plan.initial_cluster.endswith(",m3=http://[fd00::3]:2380")
    assert plan.member("m3").argv[7] == "--initial-advertise-peer-urls=http://[fd00::3]:2380"
    assert plan.former_client_urls == ("http://10.0.0.3:2379",)
    assert plan.member("m3").member_id != plan_of().member("m3").member_id
    assert plan.notes[0].startswith("m3 moves: http://10.0.0.3:2380 becomes http://[fd00::3]:2380")
    assert plan_of().former_client_urls == ()


def test_a_plan_keeps_where_ssh_goes() -> None:
    specs = [
        MemberSpec("m1", ("http://10.0.0.1:2380",), host="10.0.0.1", ssh="root@10.0.0.1"),
        MemberSpec("m2", ("http://10.0.0.2:2380",), host="10.0.0.2"),
    ]

    plan = plan_of(configured=specs, choices=Choices(moves={"10.0.0.1": "10.0.0.11"}))

    assert [(member.host, member.ssh) for member in plan.members] == [
        ("10.0.0.11", "root@10.0.0.11"),
        ("10.0.0.2", None),
    ]
