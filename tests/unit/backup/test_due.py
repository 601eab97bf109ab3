"""One backup a slot: whoever takes it, in whatever order, with whatever repositories in reach."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from etcdguard.backup import BackupJob
from etcdguard.backup.due import DueBackup, DueReport
from etcdguard.catalog import Catalog
from etcdguard.errors import (
    ClusterUnhealthy,
    EtcdGuardError,
    EtcdUnreachable,
    Locked,
    RepositoryError,
    SnapshotFailed,
)
from etcdguard.slots import parse_schedule
from etcdguard.storage.base import RepositoryStore
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import CLUSTER, Node, catalog_of, database, violations
from tests.support.fake_source import FakeSource
from tests.support.faulty_store import Fault, FaultyStore, Operation, Rule
from tests.support.simulation import SimulatedClock

START = datetime(2026, 11, 21, 2, 30, tzinfo=timezone.utc)
SLOT = "20261121T020000Z"
HOUR = timedelta(hours=1)


@dataclass
class Gate:
    """The lock in etcd. ``problem`` is raised instead of taking it; ``meanwhile`` happens while waiting."""

    problem: EtcdGuardError | None = None
    meanwhile: Callable[[], object] = lambda: None
    held: bool = False

    def acquire(self, patience: float = 0.0) -> None:
        self.meanwhile()
        if self.problem is not None:
            raise self.problem
        self.held = True

    def release(self) -> None:
        self.held = False


@dataclass
class Machine:
    """A node with a spool of its own; each ``run`` is a process."""

    spool: Path
    clock: SimulatedClock = field(default_factory=lambda: SimulatedClock(START))
    gate: Gate = field(default_factory=Gate)
    source: FakeSource = field(default_factory=lambda: FakeSource(database()))
    emergency: timedelta | None = HOUR
    taken: list[bool] = field(default_factory=list)
    """For every backup that was begun, whether it was in an emergency."""

    def node(self, **options: Any) -> Node:
        return Node(self.spool, clock=self.clock, options=options)  # type: ignore[arg-type]

    def run(self, *stores: RepositoryStore) -> DueReport:
        def job(slot: str, emergency: bool) -> BackupJob:
            self.taken.append(emergency)
            return self.node(slot=slot, emergency=emergency).job(self.source, *stores)

        return DueBackup(
            parse_schedule(["1h"]),
            CLUSTER,
            self.spool.name,
            self.node().spool,
            [catalog_of(store) for store in stores],
            self.gate,
            job,
            self.clock,
            emergency=self.emergency,
            patience=0.0,
        ).run()

    def ship(self, *stores: RepositoryStore) -> None:
        self.node().job(self.source, *stores).ship()

    @property
    def waiting(self) -> dict[str, str]:
        return self.node().spool.slots(CLUSTER)


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Machine, Machine]:
    clock = SimulatedClock(START)
    return Machine(tmp_path / "node-1", clock), Machine(tmp_path / "node-2", clock)


def slots(store: RepositoryStore) -> list[str | None]:
    listing = catalog_of(store).list()
    assert not listing.problems
    return [backup.manifest.slot for backup in listing.backups]


def missed(store: RepositoryStore) -> dict[str, str]:
    layout = catalog_of(store).layout
    keys = [info.key for info in store.list(layout.slots) if info.key.endswith(".missed.json")]
    documents = [json.loads(b"".join(store.get(key))) for key in keys]
    return {one["slot"]: one["missed"] for one in documents}


def down(store: RepositoryStore) -> FaultyStore:
    operations: tuple[Operation, ...] = ("put", "get", "head", "list", "delete", "multipart", "stale_uploads")
    return FaultyStore(store, [Rule(Fault.TIMEOUT, one, times=None) for one in operations])


def test_of_two_nodes_one_takes_it_and_the_other_says_who(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    store = MemoryStore("s3")
    report = first.run(store)
    assert (report.slot, report.satisfied) == (SLOT, True)
    assert report.report is not None
    late = second.run(store)
    assert late.report is None
    assert late.satisfied
    assert late.reason == f"the slot has backup {report.report.backup.id}, taken by node-1"
    assert second.taken == []
    assert slots(store) == [SLOT]
    assert not first.gate.held


def test_the_next_slot_is_another(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    store = MemoryStore("s3")
    first.run(store)
    first.clock.advance(HOUR)
    assert second.run(store).report is not None
    assert slots(store) == [SLOT, "20261121T030000Z"]


def test_whoever_waited_for_the_lock_looks_again(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    store = MemoryStore("s3")
    second.gate.meanwhile = lambda: first.run(store)
    assert second.run(store).report is None
    assert second.taken == []


def test_a_slot_that_came_while_waiting_for_the_lock_is_the_one_taken(
    machines: tuple[Machine, Machine],
) -> None:
    first, _ = machines
    first.gate.meanwhile = lambda: first.clock.advance(HOUR)
    assert first.run(MemoryStore("s3")).slot == "20261121T030000Z"


def test_a_held_lock_is_no_failure_and_worth_another_try(machines: tuple[Machine, Machine]) -> None:
    first, _ = machines
    first.gate.problem = Locked("the lock is held by node-9", hint="wait")
    report = first.run(MemoryStore("s3"))
    assert (report.report, report.satisfied, report.reason) == (None, False, "the lock is held by node-9")


class Interloper(FaultyStore):
    """Lets somebody else act right before the first operation on a key."""

    def __init__(self, inner: RepositoryStore, operation: str, key: str, act: Callable[[], object]) -> None:
        super().__init__(inner)
        self._wanted = (operation, key)
        self._act: Callable[[], object] | None = act

    def perform(self, operation: Any, key: str, act: Any) -> Any:
        if self._act is not None and operation == self._wanted[0] and key.endswith(self._wanted[1]):
            interlude, self._act = self._act, None
            interlude()
        return super().perform(operation, key, act)


@pytest.mark.parametrize("moment", [".age", f"{SLOT}.json", "manifest.json.sig", "manifest.json"])
def test_two_leaders_at_once_make_one_backup(moment: str, machines: tuple[Machine, Machine]) -> None:
    """The second does everything at the worst moments of the first, as if no lock were there."""
    first, second = machines
    store = MemoryStore("s3")
    reports: list[DueReport] = []
    report = first.run(Interloper(store, "put", moment, lambda: reports.append(second.run(store))))
    both = [report, *reports]
    assert len(both) == 2
    assert slots(store) == [SLOT]
    assert sorted(one.report is not None for one in both) == [False, True]
    assert all(one.satisfied for one in both)
    assert first.waiting == second.waiting == {}
    (backup,) = catalog_of(store).list().backups
    kept = {entry.key for entry in backup.manifest.objects}
    layout = catalog_of(store).layout
    objects = {info.key for info in store.list(layout.backups) if "snapshot.db" in info.key}
    assert objects == {layout.absolute(key) for key in kept}  # the loser's was taken back
    assert not violations(store)


def test_during_an_outage_it_waits_in_the_spool_once_and_is_shipped_later(
    machines: tuple[Machine, Machine],
) -> None:
    first, _ = machines
    store = MemoryStore("s3")
    with pytest.raises(RepositoryError):
        first.run(down(store))
    again = first.run(down(store))
    assert again.satisfied
    assert "waits in the spool of this node" in str(again.reason)
    assert len(first.taken) == 1
    first.ship(store)
    assert slots(store) == [SLOT]
    assert first.waiting == {}


def test_two_nodes_that_took_a_slot_during_an_outage_leave_one_backup(
    machines: tuple[Machine, Machine],
) -> None:
    store = MemoryStore("s3")
    for machine in machines:
        with pytest.raises(RepositoryError):
            machine.run(down(store))
    seen = FaultyStore(store)
    for machine in machines:
        machine.ship(seen)
        assert machine.waiting == {}
    assert slots(store) == [SLOT]
    uploads = [key for operation, key in seen.operations if operation == "put" and key.endswith(".age")]
    assert len(uploads) == 1  # the second looked before it sent anything


def test_each_repository_has_one_when_two_nodes_were_cut_off_from_different_ones(
    machines: tuple[Machine, Machine],
) -> None:
    first, second = machines
    one, two = MemoryStore("one"), MemoryStore("two")
    with pytest.raises(RepositoryError):  # the spool keeps it; neither repository is there
        first.run(down(one), down(two))
    first.ship(one, down(two))
    with pytest.raises(RepositoryError):
        second.run(down(one), down(two))
    second.ship(down(one), two)
    assert (slots(one), slots(two)) == ([SLOT], [SLOT])
    for machine in machines:
        machine.ship(one, two)
        assert machine.waiting == {}
    assert (slots(one), slots(two)) == ([SLOT], [SLOT])
    assert not violations(one)
    assert not violations(two)


def test_the_first_repository_that_answers_decides_for_all(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    one, two = MemoryStore("one"), MemoryStore("two")
    for machine in machines:
        with pytest.raises(RepositoryError):
            machine.run(down(one), down(two))
    first.ship(one, down(two))
    second.ship(one, two)
    assert (slots(one), slots(two)) == ([SLOT], [])
    first.ship(one, two)
    assert (slots(one), slots(two)) == ([SLOT], [SLOT])
    assert catalog_of(one).list().backups[0].id == catalog_of(two).list().backups[0].id


def test_a_node_that_died_after_the_decision_finishes_when_it_is_back(
    machines: tuple[Machine, Machine],
) -> None:
    first, second = machines
    store = MemoryStore("s3")
    crashing = FaultyStore(store)
    with pytest.raises(RuntimeError):
        first.run(Interloper(crashing, "put", "manifest.json.sig", _die))
    assert catalog_of(store).ledger.decision(SLOT) is not None
    assert slots(store) == []
    assert second.run(store).report is None
    first.ship(store)
    assert slots(store) == [SLOT]


def _die() -> None:
    raise RuntimeError("the process died here")


def test_a_manual_backup_is_of_no_slot(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    store = MemoryStore("s3")
    first.node().job(first.source, store).run()
    assert slots(store) == [None]
    assert second.run(store).report is not None
    assert sorted(map(str, slots(store))) == [SLOT, "None"]


def test_without_a_quorum_each_node_takes_one_an_interval_and_one_counts(
    machines: tuple[Machine, Machine],
) -> None:
    store = MemoryStore("s3")
    for machine in machines:
        machine.gate.problem = ClusterUnhealthy("etcd has no leader", hint="wait")
        machine.emergency = 3 * HOUR
    assert machines[0].run(store).report is not None
    assert machines[1].run(store).satisfied
    machines[0].clock.advance(HOUR)
    limited = machines[0].run(store)
    assert not limited.satisfied
    assert "took a backup without one" in str(limited.reason)
    assert machines[1].run(store).report is not None
    assert [machine.taken for machine in machines] == [[True], [True]]
    machines[0].clock.advance(2 * HOUR)
    assert machines[0].run(store).report is not None
    assert slots(store) == [SLOT, "20261121T030000Z", "20261121T050000Z"]


def test_without_an_emergency_policy_a_lost_quorum_is_an_error(machines: tuple[Machine, Machine]) -> None:
    first, _ = machines
    first.gate.problem = EtcdUnreachable("nobody answers", hint="start etcd")
    first.emergency = None
    with pytest.raises(EtcdUnreachable):
        first.run(MemoryStore("s3"))
    assert first.taken == []


def test_a_clock_that_was_set_back_does_not_forbid_an_emergency_for_long(
    machines: tuple[Machine, Machine],
) -> None:
    first, _ = machines
    store = MemoryStore("s3")
    first.gate.problem = ClusterUnhealthy("etcd has no leader", hint="wait")
    first.clock.set_wall(timedelta(days=400))
    first.run(store)
    first.clock.set_wall(-timedelta(days=400))
    assert first.run(store).report is not None


def test_slots_that_passed_without_a_backup_get_their_reason(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    store = MemoryStore("s3")
    first.run(store)
    first.clock.advance(HOUR)
    first.source.stream_error = SnapshotFailed("the member ended the stream", hint="look")
    with pytest.raises(SnapshotFailed):
        first.run(store)
    first.clock.advance(2 * HOUR)  # 04:00 and its hour pass without anybody
    first.source.stream_error = None
    assert first.run(store).report is not None
    assert slots(store) == [SLOT, "20261121T050000Z"]
    assert missed(store) == {
        "20261121T030000Z": "the member ended the stream",
        "20261121T040000Z": "no node had brought a backup when it was over",
    }
    second.run(store)
    assert len(missed(store)) == 2


def test_a_reason_does_not_keep_a_waiting_backup_from_its_slot(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    store = MemoryStore("s3")
    first.run(store)
    first.clock.advance(HOUR)
    with pytest.raises(RepositoryError):
        first.run(down(store))
    first.clock.advance(HOUR)
    second.run(store)
    assert set(missed(store)) == {"20261121T030000Z"}
    first.ship(store)
    assert sorted(map(str, slots(store))) == [SLOT, "20261121T030000Z", "20261121T040000Z"]


def test_an_empty_repository_gets_no_reasons_for_the_time_before_it(
    machines: tuple[Machine, Machine],
) -> None:
    store = MemoryStore("s3")
    machines[0].run(store)
    assert missed(store) == {}


def test_a_repository_that_cannot_be_asked_does_not_stop_the_backup(
    machines: tuple[Machine, Machine],
) -> None:
    first, _ = machines
    one, two = MemoryStore("one"), MemoryStore("two")
    report = first.run(down(one), two)
    assert report.report is not None
    assert (slots(one), slots(two)) == ([], [SLOT])
    assert first.run(one, two).satisfied
    first.ship(one, two)
    assert slots(one) == [SLOT]


def test_an_unreadable_record_of_a_slot_is_not_taken_for_ours(machines: tuple[Machine, Machine]) -> None:
    first, _ = machines
    store = MemoryStore("s3")
    catalog: Catalog = catalog_of(store)
    store.put(catalog.layout.slot(SLOT), b"{}")
    with pytest.raises(RepositoryError, match="no repository took the backup"):
        first.run(store)
    assert slots(store) == []
    assert first.waiting
