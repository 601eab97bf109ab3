"""What a node remembers of slots, and what it puts on record of those that passed."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from etcdguard.errors import ClusterUnhealthy, Interrupted, SnapshotFailed
from etcdguard.storage.memory import MemoryStore
from tests.support.faulty_store import Fault, FaultyStore, Rule
from tests.unit.backup.test_due import HOUR, Machine, missed, slots

UNKNOWN = "no node had brought a backup when it was over"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "node-1")


def test_an_interrupt_is_no_reason_for_a_missed_slot(machine: Machine) -> None:
    store = MemoryStore("s3")
    machine.run(store)
    machine.clock.advance(HOUR)
    machine.source.stream_error = Interrupted("interrupted", hint="run it again")
    with pytest.raises(Interrupted):
        machine.run(store)
    machine.clock.advance(HOUR)
    machine.source.stream_error = None
    machine.run(store)
    assert missed(store) == {"20261121T030000Z": UNKNOWN}


@pytest.mark.parametrize("damage", ["{", "[]"])
def test_reasons_that_cannot_be_read_are_forgotten(machine: Machine, damage: str) -> None:
    store = MemoryStore("s3")
    machine.run(store)
    machine.clock.advance(HOUR)
    machine.source.stream_error = SnapshotFailed("the member ended the stream", hint="look")
    with pytest.raises(SnapshotFailed):
        machine.run(store)
    (memory,) = machine.spool.glob("reasons-*.json")
    assert "the member ended the stream" in memory.read_text()
    memory.write_text(damage)
    machine.clock.advance(HOUR)
    machine.source.stream_error = None
    with capture_logs() as logs:
        assert machine.run(store).report is not None
    assert [one["name"] for one in logs if one["event"] == "slot.memory_damaged"] == ["reasons"]
    assert missed(store) == {"20261121T030000Z": UNKNOWN}


@pytest.mark.parametrize("damage", ["{", '{"at": "yesterday"}', "{}"])
def test_an_emergency_that_cannot_be_read_forbids_none(machine: Machine, damage: str) -> None:
    store = MemoryStore("s3")
    machine.gate.problem = ClusterUnhealthy("etcd has no leader", hint="wait")
    machine.emergency = 3 * HOUR
    assert machine.run(store).report is not None
    (memory,) = machine.spool.glob("emergency-*.json")
    memory.write_text(damage)
    machine.clock.advance(HOUR)
    with capture_logs() as logs:
        assert machine.run(store).report is not None
    told = [one["name"] for one in logs if one["event"] == "slot.memory_damaged"]
    assert told == (["emergency"] if damage != "{}" else [])


def test_slots_with_a_backup_are_not_missed(machine: Machine) -> None:
    store = MemoryStore("s3")
    for _ in range(4):
        machine.run(store)
        machine.clock.advance(HOUR)
    assert len(slots(store)) == 4
    assert missed(store) == {}


def test_only_repositories_that_know_of_a_slot_get_reasons(machine: Machine) -> None:
    known, fresh = MemoryStore("known"), MemoryStore("fresh")
    read_only = FaultyStore(fresh, [Rule(Fault.DENIED, "put", times=None)])
    machine.run(known, read_only)
    machine.clock.advance(2 * HOUR)
    with capture_logs() as logs:
        machine.run(known, read_only)
    assert missed(known) == {"20261121T030000Z": UNKNOWN}
    assert missed(fresh) == {}
    assert [one["repository"] for one in logs if one["event"] == "slot.missed"] == ["known"]
    assert "slot.not_recorded" not in {one["event"] for one in logs}


def test_a_reason_that_cannot_be_recorded_costs_no_backup(machine: Machine) -> None:
    one, two = MemoryStore("one"), MemoryStore("two")
    denied = FaultyStore(one, [Rule(Fault.DENIED, "put", ".missed.json", times=None)])
    machine.run(denied, two)
    machine.clock.advance(2 * HOUR)
    with capture_logs() as logs:
        report = machine.run(denied, two)
    assert report.report is not None
    assert report.report.failed == {}
    assert (missed(one), missed(two)) == ({}, {"20261121T030000Z": UNKNOWN})
    assert [one["repository"] for one in logs if one["event"] == "slot.not_recorded"] == ["one"]
