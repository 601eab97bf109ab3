"""What waits in the spool, and the chain that it holds a place in."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from etcdguard.errors import EtcdUnreachable, RepositoryError, SpoolFailed
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import Node, catalog_of, database
from tests.support.fake_source import FakeSource
from tests.support.faulty_store import Fault, FaultyStore, Rule


def test_a_place_in_the_chain_is_that_of_its_own_cluster(node: Node, store: MemoryStore) -> None:
    other = Node(node.spool_path, cluster="staging")
    full = FaultyStore(MemoryStore("two"), [Rule(Fault.DENIED, "put", times=None)])
    for revision in (20, 21):
        assert set(other.backup(revision, store, full).failed) == {"two"}
    assert len(node.spool.entries()) == 2, "numbers 1 and 2 of the other cluster wait"
    first = node.backup(22, store).delivery.manifest
    assert first is not None
    assert (first.sequence, first.previous) == (1, None)


@pytest.mark.parametrize(
    "damage", [b"rotten", b"[]", b"{}", b'{"id": "x"}'], ids=["text", "list", "empty", "id"]
)
def test_a_last_manifest_that_cannot_be_read_is_told_and_stops_nothing(
    node: Node, store: MemoryStore, damage: bytes
) -> None:
    node.backup(20, store)
    (node.spool_path / "last-prod.json").write_bytes(damage)
    with capture_logs() as logs:
        report = node.backup(21, store)
    assert report.failed == {}
    assert report.delivery.manifest is not None
    assert report.delivery.manifest.sequence == 2
    assert "spool.manifest_damaged" in {one["event"] for one in logs}


SLOTS = pytest.mark.parametrize("slot", [None, "2026-11-21T03:00:00Z"], ids=["by hand", "of a slot"])
FULL = SpoolFailed("cannot write the spool: no space left on device", hint="free space")


def denied(store: MemoryStore) -> FaultyStore:
    return FaultyStore(store, [Rule(Fault.DENIED, "put", times=None)])


def leave_waiting(node: Node, store: MemoryStore) -> None:
    """A backup at revision 20 that no repository took."""
    with pytest.raises(RepositoryError):
        node.backup(20, denied(store))


def revisions(store: MemoryStore) -> list[int]:
    return [one.manifest.snapshot.revision for one in catalog_of(store).list().backups]


@SLOTS
def test_the_snapshot_is_not_kept_waiting_by_what_waits(
    node: Node, store: MemoryStore, slot: str | None
) -> None:
    leave_waiting(node, store)
    node.options = {"slot": slot}
    seen: list[list[int]] = []
    report = node.run(FakeSource(database(21), before_piece=lambda _: seen.append(revisions(store))), store)
    assert seen
    assert not any(seen)
    assert revisions(store) == [20, 21]
    assert [one.committed for one in report.shipped] == [True]
    assert report.delivery.manifest is not None
    assert report.delivery.manifest.sequence == 2


@SLOTS
def test_a_spool_that_is_full_of_what_waits_is_emptied_and_tried_again(
    node: Node, store: MemoryStore, slot: str | None
) -> None:
    leave_waiting(node, store)
    node.options = {"slot": slot}

    def fill(_piece: int) -> None:
        if len(node.spool.entries()) > 1:
            raise FULL

    source = FakeSource(database(21), before_piece=fill)
    report = node.run(source, store)
    assert revisions(store) == [20, 21]
    assert [one.committed for one in report.shipped] == [True]
    assert node.spool.entries() == []
    assert len(source.opened) == 2


@SLOTS
def test_a_spool_that_is_full_of_what_a_crash_left_is_emptied_and_tried_again(
    node: Node, store: MemoryStore, slot: str | None
) -> None:
    with node.spool.locked(), node.spool.new_entry().create() as out:
        out.write(b"half")
    node.options = {"slot": slot}

    def fill(_piece: int) -> None:
        if len(node.spool.entries()) > 1:
            raise FULL

    node.run(FakeSource(database(21), before_piece=fill), store)
    assert revisions(store) == [21]
    assert node.spool.entries() == []


@SLOTS
def test_a_spool_that_stays_full_is_told_once_what_waits_is_shipped(
    node: Node, store: MemoryStore, slot: str | None
) -> None:
    leave_waiting(node, store)
    node.options = {"slot": slot}
    with pytest.raises(SpoolFailed, match="no space left"):
        node.run(FakeSource(database(21), stream_error=FULL), store)
    assert revisions(store) == [20]
    assert node.spool.entries() == []


def test_a_full_spool_that_nothing_can_leave_is_not_written_to_again(node: Node, store: MemoryStore) -> None:
    leave_waiting(node, store)
    source = FakeSource(database(21), stream_error=FULL)
    with pytest.raises(SpoolFailed, match="no space left"):
        node.run(source, denied(store))
    assert len(source.opened) == 1
    assert len(node.spool.entries()) == 1


def test_a_slot_whose_snapshot_fails_leaves_what_waits_to_the_schedule(
    node: Node, store: MemoryStore
) -> None:
    leave_waiting(node, store)
    node.options = {"slot": "2026-11-21T03:00:00Z"}
    with pytest.raises(EtcdUnreachable):
        node.run(FakeSource(database(21), stream_error=EtcdUnreachable("gone", hint="start it")), store)
    assert revisions(store) == []
    assert len(node.spool.entries()) == 1
