"""Look at the whole cluster: every member's own answer, and a linearizable read from every voter."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError, EtcdUnreachable
from etcdguard.etcd.reach import reach
from etcdguard.etcd.source import Alarm, EndpointFailure
from etcdguard.maintenance.defrag.facts import MemberFacts, Survey
from etcdguard.model import ClusterTopology, Member, MemberStatus

__all__ = ["DefragCluster", "Observation", "Observer", "take_survey"]


class DefragCluster(Protocol):
    """A cluster as ``etcd.admin.AdminClient`` knows it; every call raises EtcdGuardError where it says so."""

    def statuses(self) -> list[MemberStatus | EndpointFailure]:
        """Every configured endpoint's own answer."""

    def status(self, endpoint: str) -> MemberStatus:
        """What the member there says of itself."""

    def topology(self, endpoint: str | None = None) -> ClusterTopology:
        """The members as that endpoint knows them."""

    def linearizable_read(self, endpoint: str) -> None:
        """Prove that a quorum stands behind that endpoint."""

    def alarms(self, endpoint: str) -> tuple[Alarm, ...]:
        """Every alarm raised in the cluster."""

    def defragment(self, endpoint: str, timeout: float) -> bool:
        """Defragment the member there; False when it did not answer in time."""

    def move_leader(self, endpoint: str, target_id: str) -> None:
        """Have the leader there hand over."""

    def compact(self, endpoint: str, revision: int, timeout: float) -> None:
        """Give up the history before ``revision``."""

    def disarm(self, endpoint: str, alarm: Alarm) -> None:
        """Take an alarm back."""


@dataclass(frozen=True)
class Observation:
    """What is known of a member from elsewhere than its status; see MemberFacts."""

    quota: int | None = None
    disk_free: int | None = None
    busy: str | None = None


Observer = Callable[[Member, MemberStatus], Observation]


def take_survey(cluster: DefragCluster, observe: Observer) -> Survey:
    """The cluster as it is now.

    Raises ClusterUnhealthy when no configured endpoint has a quorum behind it, and EtcdUnreachable when none
    answers.
    """
    statuses = cluster.statuses()
    answers = [one for one in statuses if isinstance(one, MemberStatus)]
    endpoint = _with_quorum(cluster, statuses)
    topology = cluster.topology(endpoint)  # after the read, so with every change of members before it
    known = {one.member_id: one for one in answers if one.cluster_id == topology.cluster_id}

    def look(member: Member) -> MemberFacts:
        return _look(cluster, member, known.get(member.id), observe)

    with ThreadPoolExecutor(max(1, len(topology.members)), thread_name_prefix="survey") as pool:
        members = tuple(pool.map(look, topology.members))
    strangers = tuple(
        f"{one.endpoint} is not one of this cluster's members"
        for one in answers
        if one.cluster_id != topology.cluster_id or topology.by_id(one.member_id) is None
    )
    return Survey(topology, members, cluster.alarms(endpoint), strangers)


def _with_quorum(cluster: DefragCluster, statuses: list[MemberStatus | EndpointFailure]) -> str:
    """The first endpoint that serves a linearizable read."""
    failures: list[EtcdGuardError] = []
    for one in statuses:
        if isinstance(one, EndpointFailure):
            failures.append(one.error)
        elif one.is_learner:
            failures.append(ClusterUnhealthy(f"{one.endpoint} is a learner", hint="name a voter"))
        else:
            try:
                cluster.linearizable_read(one.endpoint)
            except EtcdGuardError as error:
                failures.append(error)
            else:
                return one.endpoint
    answered = any(isinstance(one, MemberStatus) for one in statuses)
    kind = ClusterUnhealthy if answered else EtcdUnreachable
    raise kind("; ".join(one.message for one in failures), hint=failures[0].hint)


def _look(
    cluster: DefragCluster, member: Member, known: MemberStatus | None, observe: Observer
) -> MemberFacts:
    status = known or reach(cluster.status, member.id, member.client_urls)
    if isinstance(status, EtcdGuardError):
        return MemberFacts(member, None, status.message)
    if status.member_id != member.id:
        return MemberFacts(member, None, f"another member answers at {status.endpoint}: {status.member_id}")
    failure = None
    if not member.is_learner:
        try:
            cluster.linearizable_read(status.endpoint)
        except EtcdGuardError as error:
            failure = error.message
    seen = observe(member, status)
    return MemberFacts(member, status, failure, seen.quota, seen.disk_free, seen.busy)
