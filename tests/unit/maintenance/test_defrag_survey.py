"""The cluster as its members tell it, when some do not answer or are not who they should be."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError, EtcdUnreachable
from etcdguard.etcd.source import Alarm, EndpointFailure
from etcdguard.maintenance.defrag.facts import Survey
from etcdguard.maintenance.defrag.survey import DefragCluster, Observation, take_survey
from etcdguard.model import ClusterTopology, Member, MemberStatus
from tests.support.defrag_facts import GIB, facts, status

DOWN = EtcdUnreachable("connection refused", hint="start it")
NO_LEADER = ClusterUnhealthy("no leader", hint="wait")


@dataclass
class Cluster:
    """Three members; ``asked`` is what the configured endpoints answer, ``elsewhere`` what others do."""

    asked: list[MemberStatus | EndpointFailure] = field(
        default_factory=lambda: [status(n) for n in (1, 2, 3)]
    )
    elsewhere: dict[str, MemberStatus] = field(default_factory=dict)
    without_quorum: set[str] = field(default_factory=set)
    members: tuple[Member, ...] = tuple(facts(n).member for n in (1, 2, 3))
    topology_of: list[str | None] = field(default_factory=list)

    def statuses(self) -> list[MemberStatus | EndpointFailure]:
        return self.asked

    def status(self, endpoint: str) -> MemberStatus:
        if endpoint not in self.elsewhere:
            raise DOWN
        return self.elsewhere[endpoint]

    def topology(self, endpoint: str | None = None) -> ClusterTopology:
        self.topology_of.append(endpoint)
        return ClusterTopology("c1", self.members)

    def linearizable_read(self, endpoint: str) -> None:
        if endpoint in self.without_quorum:
            raise NO_LEADER

    def alarms(self, endpoint: str) -> tuple[Alarm, ...]:
        return (Alarm(endpoint, "NOSPACE"),)

    def defragment(self, endpoint: str, timeout: float) -> bool:
        raise AssertionError("looking changes nothing")

    def move_leader(self, endpoint: str, target_id: str) -> None:
        raise AssertionError("looking changes nothing")

    def compact(self, endpoint: str, revision: int, timeout: float) -> None:
        raise AssertionError("looking changes nothing")

    def disarm(self, endpoint: str, alarm: Alarm) -> None:
        raise AssertionError("looking changes nothing")


_: type[DefragCluster] = Cluster  # checked by mypy


def url(number: int) -> str:
    return f"http://127.0.0.{number}:2379"


def unreachable(number: int, error: EtcdGuardError = DOWN) -> EndpointFailure:
    return EndpointFailure(url(number), error)


def taken(cluster: Cluster) -> Survey:
    return take_survey(cluster, lambda _member, one: Observation(quota=GIB, disk_free=one.db_size))


def test_every_member_and_what_was_observed_of_it() -> None:
    found = taken(Cluster())
    assert [(one.id, one.failure, one.quota) for one in found.members] == [
        ("a1", None, GIB), ("a2", None, GIB), ("a3", None, GIB),
    ]  # fmt: skip
    assert found.members[0].disk_free == status(1).db_size
    assert (found.strangers, found.alarms) == ((), (Alarm(url(1), "NOSPACE"),))


def test_the_first_endpoint_with_a_quorum_behind_it_is_believed() -> None:
    cluster = Cluster([unreachable(9), status(1), status(2), status(3)], without_quorum={url(1)})
    found = taken(cluster)
    assert cluster.topology_of == [url(2)]
    assert found.alarms == (Alarm(url(2), "NOSPACE"),)
    assert [one.failure for one in found.members] == ["no leader", None, None]
    assert found.members[0].status == status(1), "what it says of itself is known all the same"


def test_a_member_that_no_endpoint_leads_to_is_asked_where_it_advertises() -> None:
    cluster = Cluster([status(1), status(2)], elsewhere={url(3): status(3, db_size=7)})
    third = taken(cluster).members[2]
    assert third.status is not None
    assert (third.status.db_size, third.failure, third.disk_free) == (7, None, 7)


def test_a_member_that_does_not_answer_is_told_as_such() -> None:
    third = taken(Cluster([status(1), status(2), unreachable(3)])).members[2]
    assert (third.status, third.disk_free) == (None, None)
    assert "connection refused" in (third.failure or "")


def test_another_member_at_its_address_is_not_it() -> None:
    cluster = Cluster([status(1), status(2)], elsewhere={url(3): status(3, member_id="a9")})
    third = taken(cluster).members[2]
    assert (third.status, third.failure) == (None, f"another member answers at {url(3)}: a9")


def test_a_learner_serves_no_linearizable_read_and_is_not_asked_for_one() -> None:
    learner = facts(3, learner=True, is_learner=True)
    assert learner.status is not None
    cluster = Cluster([learner.status, status(1), status(2)], without_quorum={url(3)})
    cluster.members = (*cluster.members[:2], learner.member)
    found = taken(cluster)
    assert cluster.topology_of == [url(1)]
    assert [one.failure for one in found.members] == [None, None, None]


@pytest.mark.parametrize(
    "change", [{"cluster_id": "c2"}, {"cluster_id": "c2", "member_id": "a3"}, {"member_id": "a9"}]
)
def test_an_endpoint_of_somebody_else_is_a_stranger(change: dict[str, Any]) -> None:
    stranger = status(8, **change)
    found = taken(Cluster([status(1), status(2), status(3), stranger]))
    assert found.strangers == (f"{url(8)} is not one of this cluster's members",)
    assert [one.status for one in found.members] == [status(1), status(2), status(3)]


def test_without_a_quorum_every_endpoint_says_why() -> None:
    learner = replace(status(2), is_learner=True)
    cluster = Cluster([unreachable(1), learner, status(3)], without_quorum={url(3)})
    with pytest.raises(ClusterUnhealthy) as caught:
        taken(cluster)
    assert caught.value.message == f"connection refused; {url(2)} is a learner; no leader"
    assert caught.value.hint == "start it"


def test_without_any_answer_etcd_is_not_reached() -> None:
    with pytest.raises(EtcdUnreachable, match="connection refused; connection refused"):
        taken(Cluster([unreachable(1), unreachable(2)]))
