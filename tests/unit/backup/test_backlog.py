"""What waits in the spool, and the chain that it holds a place in."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from etcdguard.storage.memory import MemoryStore
from tests.support.backups import Node
from tests.support.faulty_store import Fault, FaultyStore, Rule


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "spool")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("one")


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
