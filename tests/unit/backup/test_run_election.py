"""A backup while the members elect a leader, and without one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from etcdguard.errors import ClusterUnhealthy
from etcdguard.etcd.source import EndpointFailure
from etcdguard.model import MemberStatus
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import Node, database, violations
from tests.support.fake_source import FakeSource, fake_members


class Electing(FakeSource):
    """Knows no leader the first ``looks`` times that it is asked."""

    looks = 2

    def statuses(self) -> list[MemberStatus | EndpointFailure]:
        self.looks -= 1
        self.members = fake_members()
        if self.looks >= 0:
            self.members = [replace(one, leader_id="0") for one in self.members]
        return super().statuses()


def test_an_election_is_waited_for(node: Node, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        node.clock.moment += timedelta(seconds=seconds)

    monkeypatch.setattr("etcdguard.backup.run.time.sleep", sleep)
    node.options = {"election_patience": 10.0}
    node.run(Electing(database(20)), store)
    assert violations(store) == []

    lost = FakeSource(database(20), members=[replace(one, leader_id="0") for one in fake_members()])
    began = node.clock.monotonic()
    with pytest.raises(ClusterUnhealthy, match="knows no leader"):
        node.run(lost, store)
    assert 10.0 <= node.clock.monotonic() - began < 12.0


def test_a_cluster_that_is_sick_otherwise_is_not_waited_for(node: Node, store: MemoryStore) -> None:
    cluster = FakeSource(database(20), members=[replace(one, is_learner=True) for one in fake_members()])
    node.options = {"election_patience": 1e9}
    with pytest.raises(ClusterUnhealthy, match="is a learner"):
        node.run(cluster, store)


def test_nor_is_it_in_an_emergency(node: Node, store: MemoryStore) -> None:
    cluster = Electing(database(20))
    node.options = {"election_patience": 1e9, "emergency": True}
    node.run(cluster, store)
    assert cluster.looks == Electing.looks - 1
