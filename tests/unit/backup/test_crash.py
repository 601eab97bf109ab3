"""Crash safety: whatever step a process dies at, what is listed can be restored and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import pytest

from etcdguard.backup.spool import Spool
from etcdguard.errors import RepositoryError
from etcdguard.storage.memory import MemoryStore
from etcdguard.storage.retry import RetryingStore
from tests.support.backups import Node, catalog_of, chain_problems, violations
from tests.support.crashes import CrashingStore, Fuse, count_disk_steps
from tests.support.faulty_store import Fault, FaultyStore, Operation, Rule, SimulatedCrash

REPOSITORIES = pytest.mark.parametrize("names", [("one",), ("one", "two")], ids=["one", "two"])
STEPS = 17
"""stale_uploads, multipart, 3 parts, complete, head, list, manifest and signature read, both written;
the trail listed by day, month, year and whole, and the event's signature and itself written."""


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a database of some kilobytes takes the multipart path."""
    monkeypatch.setattr("etcdguard.backup.upload.PART_SIZE", 2500)


class World:
    """A node and its stores with one backup behind them, of revision 10."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.node = Node(folder / "spool")
        self.stores = [MemoryStore(name, now=lambda: self.node.clock.moment) for name in names]
        self.node.backup(10, *self.stores)

    def waiting(self) -> set[str]:
        """Ids of complete backups in the spool."""
        backups = [entry.backup() for entry in Spool(self.node.spool_path).entries()]
        return {backup.id for backup in backups if backup is not None}

    def listed(self) -> list[set[str]]:
        return [{backup.id for backup in catalog_of(store).list().backups} for store in self.stores]

    def violations(self) -> list[str]:
        return [f"{store.name}: {text}" for store in self.stores for text in violations(store)]

    def recover(self) -> list[str]:
        """A fresh run of revision 30 without any fault; returns what is wrong after it."""
        must_be_there = self.waiting().union(*self.listed())
        report = self.node.backup(30, *self.stores)
        wrong = self.violations()
        for store, listed in zip(self.stores, self.listed(), strict=True):
            missing = (must_be_there | {report.backup.id}) - listed
            wrong += [f"{store.name}: {backup_id} is lost" for backup_id in missing]
            wrong += chain_problems(catalog_of(store).list())
            wrong += [f"{store.name}: upload of {stale.key} is left" for stale in store.stale_uploads("")]
        if report.failed or self.node.spool.entries():
            wrong.append(f"the spool is not empty: {report.failed}")
        return wrong


def _worlds(tmp_path: Path, names: Sequence[str]) -> Iterator[World]:
    number = 0
    while True:
        number += 1
        yield World(tmp_path / str(number), names)


@REPOSITORIES
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_storage_operation(
    tmp_path: Path, names: Sequence[str], when: Literal["before", "after"]
) -> None:
    wrong: list[str] = []
    resumed = 0
    for point, world in enumerate(_worlds(tmp_path, names), start=1):
        fuse = Fuse(point, when)
        stores = [CrashingStore(store, fuse) for store in world.stores]
        try:
            world.node.backup(20, *stores)
        except SimulatedCrash:
            wrong += [f"crash {when} {point}: {text}" for text in world.violations()]
            resumed += len(world.waiting())
            wrong += [f"crash {when} {point}, after recovery: {text}" for text in world.recover()]
        else:
            break
    points = point - 1
    print(
        f"\n{points} crash points {when} a storage operation, {len(names)} repositories: {len(wrong)} wrong"
    )
    assert wrong == []
    assert resumed == points, "every one of these crashes comes after the spool was complete"
    assert points == STEPS * len(names)


@REPOSITORIES
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_step_on_the_local_disk_or_in_a_store(
    tmp_path: Path, names: Sequence[str], when: Literal["before", "after"]
) -> None:
    wrong: list[str] = []
    discarded = 0
    for point, world in enumerate(_worlds(tmp_path, names), start=1):
        fuse = Fuse(point, when)
        stores = [CrashingStore(store, fuse) for store in world.stores]
        with pytest.MonkeyPatch.context() as patch:
            count_disk_steps(patch, fuse)
            try:
                world.node.backup(20, *stores)
            except SimulatedCrash:
                pass
            else:
                break
        wrong += [f"crash {when} {point}: {text}" for text in world.violations()]
        discarded += not world.waiting() and all(len(listed) == 1 for listed in world.listed())
        wrong += [f"crash {when} {point}, after recovery: {text}" for text in world.recover()]
    print(f"\n{point - 1} crash points {when} a step, {len(names)} repositories: {len(wrong)} wrong")
    assert wrong == []
    assert discarded >= 5, "early crashes leave an incomplete entry"
    assert point - 1 >= 30


def _rules(operations: Sequence[tuple[Operation, str]]) -> Iterator[Rule]:
    """Every fault that can happen at every one of these operations."""
    seen: dict[Operation, int] = {}
    for operation, _ in operations:
        skip = seen.get(operation, 0)
        seen[operation] = skip + 1
        reading = operation in ("get", "list")
        for fault in (Fault.TIMEOUT, Fault.DENIED, Fault.CUT_SHORT if reading else Fault.LOST_ACK):
            yield Rule(fault, operation, skip=skip)


def _operations(tmp_path: Path, names: Sequence[str]) -> list[tuple[Operation, str]]:
    """What the first repository sees of an undisturbed second backup."""
    world = World(tmp_path / "clean", names)
    watched = FaultyStore(world.stores[0])
    world.node.backup(20, watched, *world.stores[1:])
    return watched.operations


@REPOSITORIES
def test_a_fault_at_any_storage_operation(tmp_path: Path, names: Sequence[str]) -> None:
    wrong: list[str] = []
    rules = list(_rules(_operations(tmp_path, names)))
    for number, rule in enumerate(rules):
        world = World(tmp_path / str(number), names)
        faulty = FaultyStore(world.stores[0], [rule])
        failed = _failures(world, faulty)
        listed = world.listed()
        if rule.fault.value not in failed.get("one", ""):
            wrong.append(f"{rule}: reported as {failed}")
        if len(names) == 2 and (set(failed) != {"one"} or len(listed[1]) != 2):
            wrong.append(f"{rule}: the other repository was not served: {failed}")
        if len(world.waiting()) != 1:
            wrong.append(f"{rule}: the spool holds {world.waiting()}")
        wrong += [f"{rule}: {text}" for text in [*world.violations(), *world.recover()]]
    print(f"\n{len(rules)} faults, {len(names)} repositories: {len(wrong)} wrong")
    assert wrong == []
    assert len(rules) == 3 * STEPS


def _failures(world: World, faulty: FaultyStore) -> dict[str, str]:
    """What a backup with the faulty store in the first place says has failed, by repository."""
    if len(world.stores) == 1:
        with pytest.raises(RepositoryError, match="no repository took the backup") as failure:
            world.node.backup(20, faulty)
        assert failure.value.exit_code == 10
        assert "the backup is whole in the spool" in failure.value.hint
        return {"one": failure.value.message}
    report = world.node.backup(20, faulty, *world.stores[1:])
    return {name: error.message for name, error in report.failed.items()}


@REPOSITORIES
def test_a_passing_fault_at_any_storage_operation_costs_nothing(tmp_path: Path, names: Sequence[str]) -> None:
    """As deployed, behind retries: the run in which the fault happens delivers all the same."""
    wrong: list[str] = []
    rules = [rule for rule in _rules(_operations(tmp_path, names)) if rule.fault is not Fault.DENIED]
    for number, rule in enumerate(rules):
        world = World(tmp_path / str(number), names)
        patient = RetryingStore(FaultyStore(world.stores[0], [rule]), sleep=lambda _: None)
        report = world.node.backup(20, patient, *world.stores[1:])
        if report.failed or world.waiting() or any(len(listed) != 2 for listed in world.listed()):
            wrong.append(f"{rule}: {report.failed}")
        if rule.operation == "multipart" and rule.fault is Fault.LOST_ACK:
            # Nobody knows of that upload; it is told from a running one by its age alone.
            world.node.clock.moment = world.node.clock.moment.replace(day=23)
        wrong += [f"{rule}: {text}" for text in [*world.violations(), *world.recover()]]
    assert wrong == []


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.DENIED])
def test_a_store_that_is_down_for_the_whole_backup(tmp_path: Path, fault: Fault) -> None:
    world = World(tmp_path, ["one"])
    down = FaultyStore(
        world.stores[0], [Rule(fault, operation, times=None) for operation in get_args(Operation)]
    )
    for waiting in (1, 2, 3):
        with pytest.raises(RepositoryError, match="no repository took the backup") as failure:
            world.node.backup(20 + waiting, down)
        assert failure.value.exit_code == 10
        assert len(world.waiting()) == waiting
    assert [len(listed) for listed in world.listed()] == [1]

    assert world.recover() == []
    revisions = [one.manifest.snapshot.revision for one in catalog_of(world.stores[0]).list().backups]
    assert revisions == [10, 21, 22, 23, 30]


def test_a_place_in_the_chain_is_given_once_even_if_older_backups_wait(tmp_path: Path) -> None:
    """The repository takes no manifest in one run, refuses, and takes one again within the next run."""
    world = World(tmp_path, ["one"])
    no_commit = FaultyStore(world.stores[0], [Rule(Fault.TIMEOUT, "put", key="manifest", times=None)])
    with pytest.raises(RepositoryError):
        world.node.backup(20, no_commit)
    back_in_time = FaultyStore(world.stores[0], [Rule(Fault.DENIED, "stale_uploads")])
    report = world.node.backup(21, back_in_time)
    assert set(report.failed) == {"one"}, "the older backup is still missing there"

    assert world.recover() == []
