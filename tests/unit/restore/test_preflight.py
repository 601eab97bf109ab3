"""Every refusal before anything is changed: exit code, message, hint, and the disk as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etcdguard.catalog.catalog import Signature
from etcdguard.errors import ClusterUnhealthy, EtcdGuardError, ObjectNotFound, Refused, WrongKey
from etcdguard.etcd.tools import Tool
from etcdguard.restore.environment import Overrides
from etcdguard.restore.machine import Filesystem
from tests.unit.restore.world import World, nobody

MIB = 1024 * 1024

Change = Callable[[World], World]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path)


def _raising(error: EtcdGuardError) -> Callable[[], Iterator[bytes]]:
    def fetch() -> Iterator[bytes]:
        yield from _fail(error)

    return fetch


def _signed(world: World, signature: Signature) -> World:
    return world.with_(backup=replace(world.environment.backup, signature=signature))


def _replaced(world: World) -> World:
    backup = world.environment.backup
    snapshot = backup.manifest.snapshot.model_copy(update={"sha256": "f" * 64})
    manifest = backup.manifest.model_copy(update={"snapshot": snapshot})
    return world.with_(backup=replace(backup, manifest=manifest))


def _fail(error: EtcdGuardError) -> list[bytes]:
    raise error


def _in(world: World, relative: str) -> Path:
    return world.root / relative.replace("ID", world.plan.id)


def _with_file(relative: str) -> Change:
    def change(world: World) -> World:
        _in(world, relative).parent.mkdir(parents=True, exist_ok=True)
        _in(world, relative).write_text("somebody's")
        return world

    return change


def _moved(source: str, target: str, *, link: bool = False) -> Change:
    def change(world: World) -> World:
        _in(world, source).rename(_in(world, target))
        if link:
            _in(world, source).symlink_to(_in(world, target))
        return world

    return change


def _without_root(world: World) -> World:
    return world.with_machine(uid=world.root.stat().st_uid + 1)


def _other_tool(*version: int) -> Change:
    return lambda world: world.with_(
        tool=Tool(Path("/opt/etcdutl"), (version[0], version[1], version[2]), "etcdutl")
    )


def _alive(world: World) -> World:
    return world.with_(linearizable_read=lambda _: None)


def _listening_on(*ports: int, **changes: Any) -> Change:
    return lambda world: world.with_machine(listening=lambda _, port: port in ports, **changes)


def _free(mebibytes: int) -> Change:
    return lambda world: world.with_machine(filesystem=lambda _: Filesystem(1, mebibytes * MIB))


REFUSALS: dict[str, tuple[Change, int, str, str]] = {
    "no signature": (lambda w: _signed(w, "missing"), 15, "is not signed", "--allow-unsigned"),
    "bad signature": (lambda w: _signed(w, "invalid"), 13, "by anyone trusted", "trusted_signers"),
    "another backup": (_replaced, 13, "holds another snapshot than the one planned", "plan again only"),
    "wrong key": (lambda w: w.with_(fetch=_raising(WrongKey("no key", hint="h"))), 12, "no key", "h"),
    "object gone": (lambda w: w.with_(fetch=_raising(ObjectNotFound("gone", hint="h"))), 10, "gone", "h"),
    "other tool": (_other_tool(3, 5, 27), 15, "has etcdutl 3.5.27", "--etcdutl PATH"),
    "no parent": (_moved("wal", "lost"), 15, "wal is not a directory on this machine", "is mounted"),
    "foreign data": (
        lambda w: _with_file("data/m1/notes")(_moved("data/m1/member", "elsewhere")(w)),
        15,
        "m1 holds something that is not etcd's",
        "move the directory away",
    ),
    "foreign wal": (_with_file("wal/m2/notes"), 15, "m2 holds something that is not etcd's", "wal_dir"),
    "a file": (
        lambda w: _with_file("data/m1")(_moved("data/m1", "elsewhere")(w)),
        15,
        "m1 is not a directory",
        "data_dir",
    ),
    "a link": (_moved("data/m1", "real", link=True), 15, "m1 is a symbolic link", "/real"),
    "a mount": (
        lambda w: w.with_machine(is_mount=lambda path: path.match("m1/member/wal")),
        15,
        "m1/member/wal is a mount point",
        "--wal-dir",
    ),
    "another user's": (_without_root, 15, "belongs to another user", "run as root"),
    "staging taken": (_with_file("data/m1.etcdguard-ID/notes"), 15, "is in the way", "move it away"),
    "staging is a file": (_with_file("data/m1.etcdguard-ID"), 15, "is in the way", "move it away"),
    "wal staging taken": (_with_file("wal/m2.etcdguard-ID/notes"), 15, "is in the way", "move it away"),
    "snapshot is a folder": (_with_file("data/m1.etcdguard-ID.db/x"), 15, "is in the way", "move it away"),
    "run before": (_with_file("data/m1.before-ID/x"), 15, "has been run here before", "make a new plan"),
    "cut off in the swap": (_moved("data/m1", "data/m1.before-ID"), 15, "has been run here", "mv -T "),
    "client port": (
        _listening_on(2379),
        15,
        "something listens at http://10.0.0.1:2379, where m1",
        "stop etcd",
    ),
    "peer port": (
        _listening_on(2380),
        15,
        "something listens at http://10.0.0.1:2380, where m1",
        "stop etcd",
    ),
    "a holder": (
        lambda w: w.with_machine(holders=lambda path: ("etcd (pid 7)",) if path.name == "m3" else ()),
        15,
        "etcd (pid 7) uses ",
        "would start it again",
    ),
    "live quorum": (_alive, 15, "the cluster is alive", "member replace"),
    "someone behind a closed door": (
        lambda w: _listening_on(2379)(w).with_(endpoints=()),
        15,
        "cannot tell whether the cluster is alive",
        "mend what keeps it from answering",
    ),
    "no room": (_free(198), 15, "has 198 MiB free, staging needs 199 MiB", "--data-dir"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(world: World, case: str) -> None:
    change, code, message, hint = REFUSALS[case]
    changed = change(world)
    before = changed.files()

    with pytest.raises(EtcdGuardError) as refusal:
        changed.run()

    assert refusal.value.exit_code == code
    assert message in refusal.value.message
    assert hint in refusal.value.hint
    assert "\n" not in refusal.value.message + refusal.value.hint
    assert changed.files() == before


ACCEPTED: dict[str, Change] = {
    "unsigned, waived": lambda w: replace(_signed(w, "missing"), overrides=Overrides(unsigned=True)),
    "badly signed, waived": lambda w: replace(_signed(w, "invalid"), overrides=Overrides(unsigned=True)),
    "alive, waived": lambda w: replace(_alive(w), overrides=Overrides(live_quorum=True)),
    "just enough room": _free(199),
    "its own user": lambda w: w.with_machine(uid=w.root.stat().st_uid),
    "extra files beside member": _with_file("data/m1/README"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(world: World, case: str) -> None:
    result = ACCEPTED[case](world).run()

    assert len(result.members) == 3


def test_a_cluster_that_is_alive_where_the_members_were_stops_it(world: World) -> None:
    """They move to other hosts, and their old client URLs are in no configuration any more."""

    def read(endpoint: str) -> None:
        if endpoint != "http://10.0.0.7:2379":
            nobody(endpoint)

    moved = replace(
        world, plan=world.plan.model_copy(update={"former_client_urls": ("http://10.0.0.7:2379",)})
    )
    with pytest.raises(Refused, match=r"10\.0\.0\.7:2379 answers with a quorum"):
        moved.with_(linearizable_read=read).run()


def test_a_survivor_that_is_silent_is_no_reason_to_replace_a_member(world: World) -> None:
    """Replacing one takes a quorum, of which nothing is known here."""
    with pytest.raises(Refused, match="cannot tell whether") as doubt:
        _listening_on(2379)(world).with_(endpoints=()).run()

    assert "member replace" not in doubt.value.hint


def test_a_proof_of_life_is_told_before_a_doubt(world: World) -> None:
    def read(endpoint: str) -> None:
        if endpoint != "http://10.0.0.3:2379":
            nobody(endpoint)

    with pytest.raises(Refused, match=r"alive: http://10\.0\.0\.3:2379 answers") as proof:
        _listening_on(2379)(world).with_(linearizable_read=read).run()

    assert "member replace" in proof.value.hint


def test_members_that_answer_without_a_quorum_do_not_stop_it(world: World) -> None:
    asked = []

    def read(endpoint: str) -> None:
        asked.append(endpoint)
        raise ClusterUnhealthy("no leader", hint="x")

    world.with_(linearizable_read=read).run()

    assert sorted(asked) == [
        "10.9.9.9:2379",
        "http://10.0.0.1:2379",
        "http://10.0.0.2:2379",
        "http://10.0.0.3:2379",
    ]


def test_each_file_system_needs_room_for_what_it_gets(world: World) -> None:
    """m2's log has its own: 64 MiB there, and two databases for each of three members elsewhere."""
    room = {"wal": 63, "data": 1 + 6 + 128}
    small = world.with_machine(filesystem=lambda path: Filesystem(len(path.name), room[path.name] * MIB))

    with pytest.raises(EtcdGuardError) as refusal:
        small.run()

    assert refusal.value.message.endswith("wal has 63 MiB free, staging needs 64 MiB")


def test_everything_found_is_said_and_the_first_decides(world: World) -> None:
    changed = _free(1)(_listening_on(2380)(_signed(world, "invalid")))
    changed = changed.with_(fetch=_raising(WrongKey("no key", hint="bring it")))

    with pytest.raises(EtcdGuardError) as refusal:
        changed.run()

    assert refusal.value.exit_code == 13
    message = refusal.value.message
    places = [message.index(part) for part in ("trusted here", "no key", "something listens", "MiB free")]
    assert places == sorted(places)
    assert "bring it" in refusal.value.hint
