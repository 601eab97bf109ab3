"""What waits in the spool, and the chain that it holds a place in."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from etcdguard.errors import RepositoryError, SpoolFailed
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


def test_a_full_spool_is_emptied_for_the_next_slot(node: Node, store: MemoryStore) -> None:
    """What waits may be what fills it; of itself a slot's backup would never come to shipping it."""
    with pytest.raises(RepositoryError):
        node.backup(20, FaultyStore(store, [Rule(Fault.DENIED, "put", times=None)]))
    node.options = {"slot": "2026-11-21T03:00:00Z"}
    full = SpoolFailed("cannot write the spool: no space left on device", hint="free space")
    with pytest.raises(SpoolFailed, match="no space left"):
        node.run(FakeSource(database(21), stream_error=full), store)
    assert [one.manifest.snapshot.revision for one in catalog_of(store).list().backups] == [20]
    assert node.spool.entries() == []
