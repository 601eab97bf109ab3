"""One host's part does all of it or nothing: a failure anywhere leaves every directory as it was."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from etcdguard.errors import Corruption, EtcdGuardError, RepositoryError
from etcdguard.etcd.wal import WalMetadata
from etcdguard.restore.swap import occupied, put, put_back
from tests.unit.restore.world import NAMES, SNAPSHOT, World, read_ids, write_members


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path)


def test_every_member_is_new_and_every_old_directory_is_kept(world: World) -> None:
    result = world.run()

    plan = world.plan
    for name in NAMES:
        data = world.root / "data" / name
        assert (data / "member" / "snap" / "db").read_text() == f"new data of {name}"
        assert data.stat().st_mode & 0o777 == 0o700
        kept = world.root / "data" / f"{name}.before-{plan.id}"
        assert (kept / "member" / "snap" / "db").read_text() == f"old data of {name}"
    old_wal = world.root / "wal" / f"m2.before-{plan.id}" / "0000000000000000-0000000000000000.wal"
    assert old_wal.read_text() == "old log of m2"
    assert not [path for path in world.files() if ".etcdguard-" in path]
    assert [member.name for member in result.members] == list(NAMES)
    assert result.members[1].kept == (plan.members[1].kept_dir, plan.members[1].kept_wal_dir)
    assert list(result.seconds) == ["preflight", "stage", "barrier", "swap", "gate", "reopen", "record"]
    assert (result.phase, result.proof, result.record_problem) == ("open", None, None)


def test_one_event_says_what_was_done(world: World) -> None:
    result = world.run("m3")

    (event,) = world.events
    assert event["plan_id"] == world.plan.id
    assert event["backup_id"] == world.plan.backup_id
    assert event["old_cluster_id"] == "cafe"
    assert event["bump_revisions"] == 0
    assert set(event["seconds"]) < set(result.seconds)
    assert [member["name"] for member in event["members"]] == ["m3"]
    assert event["started_at"] < event["finished_at"]


def test_members_not_named_are_not_touched(world: World) -> None:
    before = world.files()

    world.run("m3", "m3")

    after = world.files()
    assert {path: text for path, text in after.items() if "m3" not in path} == {
        path: text for path, text in before.items() if "m3" not in path
    }


def test_absent_and_empty_directories_can_be_restored_into(world: World) -> None:
    shutil.rmtree(world.root / "data" / "m1")
    shutil.rmtree(world.root / "data" / "m3" / "member")

    result = world.run("m1", "m3")

    assert [member.kept for member in result.members] == [(), (world.plan.members[2].kept_dir,)]
    assert (world.root / "data" / "m1" / "member" / "snap" / "db").read_text() == "new data of m1"


def test_remains_of_a_run_that_was_cut_off_are_cleared(world: World) -> None:
    member = world.plan.members[0]
    (Path(member.staging_dir) / "member" / "snap").mkdir(parents=True)
    Path(member.snapshot_file).write_bytes(SNAPSHOT[:10])

    world.run()

    assert not [path for path in world.files() if ".etcdguard-" in path]


@pytest.mark.parametrize("roomy", [True, False])
def test_the_plaintext_is_written_to_disk_only_where_memory_is_short(world: World, roomy: bool) -> None:
    seen: list[bool] = []

    def run_commands(commands: Sequence[Sequence[str]], _: int) -> None:
        seen.extend(Path(member.snapshot_file).exists() for member in world.plan.members)
        write_members(world.plan, commands)

    needed = 2 * (world.plan.db_bytes + 32) + 512 * 1024**2
    world.with_machine(memory=lambda: needed if roomy else needed - 1).with_(run_commands=run_commands).run()

    assert seen == [not roomy] * len(NAMES)
    assert not [path for path in world.files() if ".etcdguard-" in path]


def test_a_restore_that_cannot_be_recorded_stands(world: World) -> None:
    def record(_: object) -> None:
        raise RepositoryError("the bucket is gone", hint="x")

    result = dataclasses.replace(world, record=record).run()

    assert result.record_problem == "the bucket is gone"
    assert (world.root / "data" / "m1" / "member" / "snap" / "db").read_text() == "new data of m1"


# -- failures ------------------------------------------------------------------------------------------------


def _fails_while_fetching(world: World) -> World:
    def fetch() -> Iterator[bytes]:
        yield SNAPSHOT[:100]
        raise Corruption("the object was changed", hint="x")

    return world.with_(fetch=fetch)


def _fails_in_the_tool(world: World) -> World:
    def run_commands(commands: Sequence[Sequence[str]], _: int) -> None:
        write_members(world.plan, commands[:2])
        raise EtcdGuardError("etcdutl ended with code 1", hint="x")

    return world.with_(run_commands=run_commands)


def _interrupted_in_the_tool(world: World) -> World:
    def run_commands(commands: Sequence[Sequence[str]], _: int) -> None:
        write_members(world.plan, commands[:1])
        raise KeyboardInterrupt

    return world.with_(run_commands=run_commands)


def _wrong_ids(when_staged: bool, **wrong: str) -> Callable[[World], World]:
    def change(world: World) -> World:
        place = world.plan.members[2].data_place

        def read_wal(wal: Path) -> WalMetadata:
            ids = read_ids(wal)
            if wal.is_relative_to(place.staged if when_staged else place.target):
                return WalMetadata(**{**vars(ids), **wrong})
            return ids

        return world.with_(read_wal=read_wal)

    return change


def _started_again(world: World) -> World:
    staged = Path(world.plan.members[0].staging_dir)
    return world.with_machine(listening=lambda *_: staged.exists())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_fails_while_fetching, Corruption, "the object was changed"),
        (_fails_in_the_tool, EtcdGuardError, "ended with code 1"),
        (_interrupted_in_the_tool, KeyboardInterrupt, None),
        (_wrong_ids(True, member_id="1"), Corruption, "m3 was restored as member 1"),
        (_wrong_ids(True, cluster_id="2"), Corruption, "of cluster 2"),
        (_wrong_ids(False, cluster_id="2"), Corruption, "of cluster 2"),
        (_started_again, EtcdGuardError, "something listens"),
    ],
    ids=["fetch", "tool", "interrupt", "member-id", "cluster-id", "in-place", "started-again"],
)
def test_a_failure_leaves_everything_as_it_was(
    world: World, change: Callable[[World], World], error: type[BaseException], message: str | None
) -> None:
    before = world.files()

    with pytest.raises(error, match=message):
        change(world).run()

    assert world.files() == before
    assert world.events == []


RENAMES = 8
"""Three data directories and one WAL directory, each moved away and replaced."""


@pytest.mark.parametrize(
    "fault", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["error", "stop"]
)
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(RENAMES))
def test_a_failure_at_any_rename_is_rolled_back(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int, done: bool, fault: BaseException
) -> None:
    """Also when the rename itself still took place."""
    before = world.files()
    calls = iter(range(100))
    real = Path.rename

    def rename(self: Path, target: Any) -> Path:
        if next(calls) != number:
            return real(self, target)
        if done:
            real(self, target)
        raise fault

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises((EtcdGuardError, KeyboardInterrupt)):
        world.run()

    assert next(calls) > number, "the fault was met"
    assert world.files() == before


def test_there_are_no_more_renames_than_these(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = Path.rename

    def rename(self: Path, target: Any) -> Path:
        calls.append(self)
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    world.run()
    assert len(calls) == RENAMES


def test_a_rollback_that_gets_stuck_undoes_the_rest_and_says_how_to_finish(world: World) -> None:
    for place in (place for member in world.plan.members for place in member.places):
        place.staged.mkdir()
    old = occupied(world.plan.members)
    put(world.plan.members, old)
    member = world.plan.members[0]
    for directory in (member.staging_dir, member.data_dir):
        (Path(directory) / "somebody").mkdir(parents=True)

    with pytest.raises(EtcdGuardError, match="could not take every rename back") as stuck:
        put_back(world.plan.members, old)

    assert stuck.value.hint.endswith(
        f"mv -T {member.data_dir} {member.staging_dir} && mv -T {member.kept_dir} {member.data_dir}"
    )
    for name in ("m2", "m3"):
        assert (world.root / "data" / name / "member" / "snap" / "db").read_text() == f"old data of {name}"


def test_a_cluster_that_is_all_here_is_backed_up_at_the_end(world: World) -> None:
    world.backup = lambda: "20261121T030000Z-r00000000000000000005-9f31c2aa"
    result = world.run()
    assert (result.fresh_backup, result.fresh_backup_problem) == (world.backup(), None)
    assert list(result.seconds)[-2:] == ["record", "backup"]


def test_a_backup_that_fails_at_the_end_undoes_nothing(world: World) -> None:
    def backup() -> str:
        raise RepositoryError("the bucket is gone", hint="x")

    world.backup = backup
    result = world.run()
    assert (result.fresh_backup, result.fresh_backup_problem) == (None, "the bucket is gone")
    db = world.root / "data" / "m1" / "member" / "snap" / "db"
    assert db.read_text() == "new data of m1"


def test_a_part_of_the_members_is_not_backed_up(world: World) -> None:
    world.backup = lambda: "never"
    assert world.run("m1").fresh_backup is None


def test_what_was_cut_off_after_all_was_in_service_is_only_recorded(world: World) -> None:
    """Killed before it could say that it is done, it says so the next time, and changes nothing."""
    kept = world.record

    def killed(_: object) -> None:
        raise KeyboardInterrupt

    world.record = killed
    with pytest.raises(KeyboardInterrupt):
        world.run()
    restored = world.files()
    assert world.events == []

    world.record = kept
    result = world.run()
    assert list(result.seconds) == ["record"]
    assert [event["plan_id"] for event in world.events] == [world.plan.id]
    assert world.files() == restored
