"""What a person is told when no plan can be made: error and hint, to the letter; and what just fits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from etcdguard.errors import EtcdGuardError, Refused, UsageError
from etcdguard.etcd.tools import Tool
from etcdguard.restore.planner import Choices, MemberSpec, member_directory
from tests.support.restores import make_manifest, make_members
from tests.unit.restore.test_planner import TWO, plan_of, tool

NAMES = "name members as the configuration, or else `etcdguard show`, lists them"
OWN = "give each its own directory: --data-dir NAME=DIR, --wal-dir NAME=DIR"
BOTH = "without the mark, clients could read revisions that never were; give both or neither"
AMOUNT = "any positive number of revisions will do; etcd's guide uses 1000000000"
COMPLETE = "complete `members`, or --leave-out NAME for each that is not to come back"
OTHER_HOSTS = "make a plan with `etcdguard restore plan -o FILE`, then `restore run` it on each host"
REQUESTED: dict[str, Any] = {"bump": 1, "mark_compacted": True}
MOST = 2**63 - 1 - 5033
"""So many revisions can a cluster still jump whose newest one is 5033."""


@pytest.mark.parametrize(
    ("backup", "program", "hint"),
    [
        ("3.5.21", "3.6.1", "pass --etcdutl PATH with an etcdctl or etcdutl 3.5"),
        ("3.4.23", "3.6.1", "pass --etcdutl PATH with an etcdctl or etcdutl 3.4 or 3.5"),
        ("3.6.1", "3.5.26", "pass --etcdutl PATH with an etcdutl 3.6"),
        ("3.7.0", "3.6.1", "pass --etcdutl PATH with an etcdutl 3.7"),
    ],
)
def test_a_tool_of_another_line(backup: str, program: str, hint: str) -> None:
    with pytest.raises(Refused) as refusal:
        plan_of(make_manifest(etcd_version=backup), with_tool=tool(program))

    message = f"/usr/bin/etcdutl is etcdutl {program}, but the backup is of etcd {backup}"
    assert (refusal.value.message, refusal.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("kubernetes", "choices", "way_out"),
    [(True, {}, ", or --no-bump to go without"), (False, REQUESTED, ""), (True, REQUESTED, "")],
    ids=["kubernetes", "requested", "both"],
)
def test_a_tool_that_cannot_bump(kubernetes: bool, choices: dict[str, Any], way_out: str) -> None:
    with pytest.raises(Refused) as refusal:
        plan_of(make_manifest(kubernetes=kubernetes), (), Choices(**choices), tool("3.5.9"))

    assert refusal.value.message == (
        "etcdutl 3.5.9 cannot bump revisions; clients that watch would miss changes"
    )
    assert refusal.value.hint == (
        f"pass --etcdutl PATH with 3.4.27, 3.5.10, 3.6 or later of that line{way_out}"
    )


@pytest.mark.parametrize(
    ("choices", "message", "hint"),
    [
        ({"bump": 1}, "--bump-revision and --mark-compacted go together", BOTH),
        ({"mark_compacted": True}, "--bump-revision and --mark-compacted go together", BOTH),
        ({**REQUESTED, "no_bump": True}, "--no-bump contradicts --bump-revision", "give one of them"),
        ({**REQUESTED, "bump": 0}, "--bump-revision 0 is out of range", AMOUNT),
        ({**REQUESTED, "bump": MOST + 1}, f"--bump-revision {MOST + 1} is out of range", AMOUNT),
        (
            {"here": frozenset({"m9"})},
            "no voting member is called 'm9'; there are m1, m2, m3",
            NAMES,
        ),
        ({"wal_dirs": {"m8": "/x"}}, "no voting member is called 'm8'; there are m1, m2, m3", NAMES),
        ({"data_dirs": {"m8": "/x"}}, "no voting member is called 'm8'; there are m1, m2, m3", NAMES),
        (
            {"data_dirs": {"m1": "etcd"}},
            "'etcd' cannot be a member's directory",
            "give an absolute path without '..'",
        ),
        (
            {"here": frozenset({"m1", "m3"})},
            "/var/lib/etcd of m1 and /var/lib/etcd of m3 overlap",
            OWN,
        ),
        (
            {"data_dirs": {"m1": "/a/b"}, "wal_dirs": {"m1": "/a"}},
            "/a/b of m1 and /a of m1 overlap",
            OWN,
        ),
        (
            {"data_dirs": {"m1": "/a"}, "wal_dirs": {"m1": "/a/b"}},
            "/a of m1 and /a/b of m1 overlap",
            OWN,
        ),
        (
            {"leave_out": frozenset({"m3", "m9"})},
            "--leave-out m9: the backup has no such voter",
            "it has m1, m2, m3",
        ),
    ],
)
def test_choices_that_do_not_fit(choices: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as refusal:
        plan_of(choices=Choices(**choices))

    assert (refusal.value.message, refusal.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("configured", "choices", "kind", "message", "hint"),
    [
        (
            TWO,
            {},
            Refused,
            "the cluster in the backup has m3 too, which the configuration does not name",
            COMPLETE,
        ),
        (
            TWO[:1],
            {},
            Refused,
            "the cluster in the backup has m2, m3 too, which the configuration does not name",
            COMPLETE,
        ),
        (
            TWO[:1],
            {"leave_out": frozenset({"m3"})},
            Refused,
            "the cluster in the backup has m2 too, which the configuration does not name",
            COMPLETE,
        ),
        (
            TWO,
            {"leave_out": frozenset({"m3"}), "here": frozenset({"m1", "m2"})},
            UsageError,
            "these members live on different hosts",
            OTHER_HOSTS,
        ),
    ],
    ids=["one", "two", "one of two", "hosts"],
)
def test_a_configuration_that_does_not_fit(
    configured: Sequence[MemberSpec],
    choices: dict[str, Any],
    kind: type[EtcdGuardError],
    message: str,
    hint: str,
) -> None:
    with pytest.raises(kind) as refusal:
        plan_of(make_manifest(), configured, Choices(**choices))

    assert (refusal.value.message, refusal.value.hint) == (message, hint)


def test_the_largest_jump_ends_at_the_last_revision_there_is() -> None:
    plan = plan_of(choices=Choices(bump=MOST, mark_compacted=True))

    assert plan.revision == 2**63 - 1
    assert plan_of(choices=Choices(bump=1, mark_compacted=True)).revision == 5034
    assert plan_of().revision == 5033


def test_members_of_one_machine() -> None:
    """All that are on no other; each has directories of its own."""
    places = {f"m{number}": f"/data/{number}" for number in (1, 2, 3)}
    specs = [MemberSpec(name, (f"http://{name}:1",)) for name in places]
    specs[2] = MemberSpec("m3", ("http://m3:1",), host="elsewhere")

    plan = plan_of(make_manifest(), specs, Choices(all_here=True, data_dirs=places))

    assert [(one.host, one.data_dir) for one in plan.members] == [
        ("cp1", "/data/1"),
        ("cp1", "/data/2"),
        ("elsewhere", "/data/3"),
    ]


def test_directories_of_the_configuration_and_of_the_command_line() -> None:
    """The command line wins; without either there is etcd's usual place, and no WAL directory."""
    m1, m2, m3 = make_members("m1", "m2", "m3")
    specs = [
        MemberSpec("m1", m1.peer_urls, data_dir="/conf/1", wal_dir="/conf/wal1"),
        MemberSpec("m2", m2.peer_urls, data_dir="/conf/2/", wal_dir="/conf//wal2/"),
        MemberSpec("m3", m3.peer_urls),
    ]
    choices = Choices(data_dirs={"m1": "/flag/1"}, wal_dirs={"m1": "/flag/wal1"})

    plan = plan_of(make_manifest(), specs, choices)

    assert [(one.data_dir, one.wal_dir) for one in plan.members] == [
        ("/flag/1", "/flag/wal1"),
        ("/conf/2", "/conf/wal2"),
        ("/var/lib/etcd", None),
    ]


@pytest.mark.parametrize(
    ("path", "plain"),
    [("/a", "/a"), ("/a/", "/a"), ("/a/./b//c", "/a/b/c"), ("//a/b", "/a/b"), ("///a", "/a")],
)
def test_a_directory_has_one_spelling(path: str, plain: str) -> None:
    assert member_directory(path) == plain


@pytest.mark.parametrize("path", ["", "a", "./a", "/", "//", "/.", "/a/..", "/../a"])
def test_what_cannot_be_a_directory(path: str) -> None:
    with pytest.raises(UsageError) as refusal:
        member_directory(path)

    assert refusal.value.message == f"{path!r} cannot be a member's directory"


def test_directories_on_different_hosts_do_not_overlap() -> None:
    """A member whose host nobody has named is on one of its own."""
    assert {one.data_dir for one in plan_of().members} == {"/var/lib/etcd"}
    assert {one.data_dir for one in plan_of(configured=TWO).members} == {"/var/lib/etcd"}


def test_a_member_may_have_several_peer_urls() -> None:
    first, second, started = make_members("m1", "m2", "")
    both = {"peer_urls": (*first.peer_urls, "http://192.0.2.1:2380")}
    members = (first.model_copy(update=both), second, started.model_copy(update=both))

    plan = plan_of(make_manifest(members))

    assert plan.initial_cluster == (
        "m1=http://10.0.0.1:2380,m1=http://192.0.2.1:2380,m2=http://10.0.0.2:2380"
    )
    assert plan.member("m1").argv[7] == (
        "--initial-advertise-peer-urls=http://10.0.0.1:2380,http://192.0.2.1:2380"
    )
    assert plan.notes[0] == (
        "A member at http://10.0.0.1:2380,http://192.0.2.1:2380 had never started and is left out."
    )


def test_one_voter_has_another_name_and_one_is_left_out() -> None:
    """Together they are as many as in the backup: nobody is forgotten."""
    specs = [MemberSpec(name, (f"http://{name}:1",), host=name) for name in ("m1", "n2")]

    plan = plan_of(make_manifest(), specs, Choices(leave_out=frozenset({"m3"})))

    assert [member.name for member in plan.members] == ["m1", "n2"]


def test_a_plan_is_named_by_utc_whatever_the_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as west:
        west.setenv("TZ", "Etc/GMT+12")
        time.tzset()
        named = plan_of().id
    time.tzset()

    assert named == "20261121T020000Z-abababab"


def test_what_the_notes_say_word_for_word() -> None:
    last = "A snapshot holds no certificates, keys or configuration: they must be on every host already."
    assert plan_of().notes == (last,)
    kubernetes = make_manifest(kubernetes=True)
    assert plan_of(kubernetes).notes == (
        "Revisions jump by 1000000000, so that every Kubernetes watch starts over.",
        last,
    )
    assert plan_of(kubernetes, choices=Choices(no_bump=True)).notes == (
        "Without a revision bump, Kubernetes controllers may miss changes: restart all of them.",
        last,
    )
    assert plan_of(kubernetes, choices=Choices(**REQUESTED)).notes == (last,)
    etcdctl = Tool(Path("/usr/bin/etcdctl"), (3, 5, 25), "etcdctl")
    assert plan_of(with_tool=etcdctl).notes == (
        "etcdctl 3.5.25 may leave old members in the file, which return on an upgrade "
        "(etcd #20967); 3.5.26 or later does not.",
        last,
    )
    voters = make_members("m1", "m2", "")
    assert plan_of(make_manifest(voters), choices=Choices(leave_out=frozenset({"m2"}))).notes == (
        "A member at http://10.0.0.3:2380 had never started and is left out.",
        "m2 is left out: never start it on its old data again, it is of another cluster.",
        last,
    )
