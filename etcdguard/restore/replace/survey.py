"""The living part of the cluster, looked at all at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.etcd.consistency import HashSource
from etcdguard.etcd.reach import reach
from etcdguard.model import ClusterTopology, Member, MemberStatus
from etcdguard.restore.services import Patience

__all__ = ["ReplaceableCluster", "Survey", "first_survey", "reachable", "survey"]


class ReplaceableCluster(HashSource, Protocol):
    """The cluster, as ``etcd.admin.AdminClient`` knows it."""

    def linearizable_read(self, endpoint: str) -> None:
        """Prove that a quorum stands behind that endpoint."""

    def topology(self, endpoint: str | None = None) -> ClusterTopology:
        """The members as that endpoint knows them."""

    def add_learner(self, endpoint: str, peer_urls: Sequence[str]) -> str:
        """Announce a new member without a vote; returns its id."""

    def remove_member(self, endpoint: str, member_id: str) -> None:
        """Take a member out."""

    def promote_member(self, endpoint: str, member_id: str) -> None:
        """Give a learner its vote."""


@dataclass(frozen=True)
class Survey:
    """What the cluster's quorum says. ``endpoint`` is a member that has it behind it."""

    endpoint: str
    topology: ClusterTopology


def first_survey(
    cluster: ReplaceableCluster, endpoints: Sequence[str], name: str, patience: Patience
) -> Survey:
    """``survey``, with patience for an election: the member may have been the leader, and lost just now."""
    seen: list[Survey] = []

    def answered() -> bool:
        try:
            seen.append(survey(cluster, endpoints, name))
        except Refused:
            return False
        return True

    return seen[0] if patience.until(answered) else survey(cluster, endpoints, name)


def survey(cluster: ReplaceableCluster, endpoints: Iterable[str], name: str) -> Survey:
    """Ask every endpoint but those of the member called ``name``, which is not to be trusted any more.

    Raises Refused when no quorum answers, or when endpoints belong to different clusters.
    """
    answers = _all(cluster, tuple(dict.fromkeys(endpoints)), name)
    alive = [one for one in answers if isinstance(one, Survey)]
    clusters = sorted({one.topology.cluster_id for one in alive})
    if len(clusters) > 1:
        raise Refused(
            f"the endpoints lead to different clusters: {', '.join(clusters)}",
            hint="name the members of one of them with --endpoints",
        )
    if not alive:
        reasons = "; ".join(one.message for one in answers if isinstance(one, EtcdGuardError))
        raise Refused(
            f"no quorum answers besides {name}: {reasons or 'no other member is known'}",
            hint="name other members with --endpoints; without a quorum the way is `etcdguard restore`",
        )
    return alive[0]


def reachable(
    cluster: ReplaceableCluster, members: Sequence[Member]
) -> dict[str, MemberStatus | EtcdGuardError]:
    """Each member's own answer, or why there is none, by name; asked all at once."""
    with ThreadPoolExecutor(max(1, len(members)), thread_name_prefix="reach") as pool:
        answers = pool.map(lambda one: reach(cluster.status, one.id, one.client_urls), members)
        found = dict(zip((member.name or member.id for member in members), answers, strict=True))
    wrong = {
        member.name or member.id: EtcdGuardError(
            f"member {answer.member_id} answers there", hint="check the members' advertised client URLs"
        )
        for member in members
        if isinstance(answer := found[member.name or member.id], MemberStatus)
        and answer.member_id != member.id
    }
    return {**found, **wrong}


def _all(
    cluster: ReplaceableCluster, endpoints: Sequence[str], name: str
) -> list[Survey | EtcdGuardError | None]:
    def ask(endpoint: str) -> Survey | EtcdGuardError | None:
        try:
            asked = cluster.status(endpoint).member_id
            cluster.linearizable_read(endpoint)
            # After the read: this member has applied every change of members agreed on before it.
            topology = cluster.topology(endpoint)
        except EtcdGuardError as error:
            return error
        itself = topology.by_id(asked)
        return None if itself is None or itself.name == name else Survey(endpoint, topology)

    with ThreadPoolExecutor(max(1, len(endpoints)), thread_name_prefix="survey") as pool:
        return list(pool.map(ask, endpoints))
