"""Which member a snapshot is taken from. Pure: statuses and topology in, a choice with its reason out.

A snapshot costs the member it is taken from disk reads, network and pinned pages, and it contains what that
member has applied. So: a healthy voter that has caught up, and a follower rather than the leader.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from etcdguard.errors import ClusterUnhealthy, EtcdUnreachable, UsageError
from etcdguard.etcd.source import Alarm, EndpointFailure
from etcdguard.model import ClusterTopology, MemberStatus

__all__ = ["Choice", "MOST_UNAPPLIED", "MOST_REVISIONS_BEHIND", "NoLeader", "Preference", "choose_member"]

Preference = Literal["follower", "local", "leader"]

MOST_UNAPPLIED = 100
"""Raft entries a member may have committed and not yet applied."""

MOST_REVISIONS_BEHIND = 1000
"""Revisions a member may be behind the most advanced one; statuses are not taken at one instant."""

_HARMLESS_ALARM = "NOSPACE"
_NO_LEADER = "0"


class NoLeader(ClusterUnhealthy):
    """Nobody is fit, and some know no leader: they may be electing one just now."""


@dataclass(frozen=True)
class Choice:
    """The member to take the snapshot from, and why this one, for the log."""

    status: MemberStatus
    reason: str


def choose_member(
    statuses: Sequence[MemberStatus | EndpointFailure],
    topology: ClusterTopology,
    *,
    prefer: Preference = "follower",
    endpoint: str | None = None,
    emergency: bool = False,
    local_hosts: Collection[str] = (),
) -> Choice:
    """Choose among the members that answered.

    ``endpoint`` allows only that one; ``emergency`` takes the most advanced member even without leader,
    quorum or health; ``local_hosts`` are this machine's names and addresses, for ``prefer="local"``.

    Raises EtcdUnreachable when nobody answered, ClusterUnhealthy (NoLeader for want of one) when nobody who
    did is fit or the endpoints lead to different clusters, and UsageError when ``endpoint`` was not asked.
    """
    answers = _answers(statuses, endpoint)
    _refuse_mixed_clusters([status for status in statuses if isinstance(status, MemberStatus)], topology)
    newest = max(status.revision for status in statuses if isinstance(status, MemberStatus))
    if emergency:
        status = max(answers, key=lambda one: _worth_in_emergency(one, topology))
        return Choice(status, f"emergency: the most advanced of {len(answers)} that answered")
    faults = {id(status): _faults(status, topology, newest) for status in answers}
    fit = [status for status in answers if not faults[id(status)]]
    if not fit:
        why = "; ".join(f"{status.endpoint} {', '.join(faults[id(status)])}" for status in answers)
        raise _unfit(answers, f"no member is fit for a snapshot: {why}")
    if endpoint is not None:
        return Choice(fit[0], "the endpoint asked for")
    return _preferred(fit, prefer, local_hosts)


def _answers(statuses: Sequence[MemberStatus | EndpointFailure], endpoint: str | None) -> list[MemberStatus]:
    asked = [
        status for status in statuses if endpoint is None or _netloc(status.endpoint) == _netloc(endpoint)
    ]
    if not asked:
        known = ", ".join(status.endpoint for status in statuses)
        raise UsageError(f"{endpoint} is not among the endpoints", hint=f"choose one of {known or 'none'}")
    answers = [status for status in asked if isinstance(status, MemberStatus)]
    if not answers:
        failures = [status.error for status in asked if isinstance(status, EndpointFailure)]
        if len(failures) == 1:
            raise failures[0]
        raise EtcdUnreachable(
            f"no endpoint answered: {'; '.join(error.message for error in failures)}", hint=failures[0].hint
        ) from failures[0]
    return answers


def _netloc(endpoint: str) -> str:
    """``host:port`` of an endpoint, which people write with and without scheme and slash."""
    return endpoint.strip().lower().rpartition("://")[2].rstrip("/")


def _refuse_mixed_clusters(answers: Sequence[MemberStatus], topology: ClusterTopology) -> None:
    clusters = dict.fromkeys([topology.cluster_id, *(status.cluster_id for status in answers)])
    if len(clusters) > 1:
        where = ", ".join(f"{status.endpoint} is in {status.cluster_id}" for status in answers)
        raise ClusterUnhealthy(
            f"the endpoints lead to different clusters: {where}",
            hint="configure endpoints of one cluster only; a member with old data may have come back",
        )


def _faults(status: MemberStatus, topology: ClusterTopology, newest: int) -> list[str]:
    """Why this member is not fit; empty when it is."""
    faults = [f"reports {error!r}" for error in status.errors if not _is_harmless(error)]
    if status.leader_id == _NO_LEADER:
        faults.append("knows no leader")
    if status.is_learner:
        faults.append("is a learner")
    if topology.by_id(status.member_id) is None:
        faults.append("is not a member any more")
    unapplied = status.raft_index - status.raft_applied_index
    if unapplied > MOST_UNAPPLIED:
        faults.append(f"has {unapplied} entries to apply")
    if newest - status.revision > MOST_REVISIONS_BEHIND:
        faults.append(f"is {newest - status.revision} revisions behind")
    return faults


def _is_harmless(error: str) -> bool:
    """A full database stops writes, not snapshots; and there is no better moment for one."""
    alarm = Alarm.parse(error)
    return alarm is not None and alarm.kind == _HARMLESS_ALARM


def _unfit(answers: Sequence[MemberStatus], message: str) -> ClusterUnhealthy:
    instead = "or take what one member has with --emergency"
    if any(status.leader_id == _NO_LEADER for status in answers):
        return NoLeader(message, hint=f"bring back a quorum, {instead}")
    return ClusterUnhealthy(message, hint=f"repair the cluster first (etcdctl endpoint status), {instead}")


def _worth_in_emergency(status: MemberStatus, topology: ClusterTopology) -> tuple[bool, bool, int, int]:
    """Sort key: sound data before the rest, voters before learners, then the newest data."""
    return (
        status.member_id not in _corrupt_members(status),
        not status.is_learner and topology.by_id(status.member_id) is not None,
        status.revision,
        status.raft_applied_index,
    )


def _corrupt_members(status: MemberStatus) -> set[str]:
    alarms = filter(None, map(Alarm.parse, status.errors))
    return {alarm.member_id for alarm in alarms if alarm.kind == "CORRUPT"}


def _preferred(fit: Sequence[MemberStatus], prefer: Preference, local_hosts: Collection[str]) -> Choice:
    """By preference, then the newest data, then the configured order."""
    newest_first = sorted(fit, key=lambda status: -status.revision)
    followers = [status for status in newest_first if not status.is_leader]
    wanted = {
        "follower": followers,
        "leader": [status for status in newest_first if status.is_leader],
        "local": [status for status in newest_first if _is_local(status, local_hosts)],
    }[prefer]
    if wanted:
        return Choice(wanted[0], _REASONS[prefer])
    status = (followers or newest_first)[0]
    return Choice(status, f"{_REASONS['leader' if status.is_leader else 'follower']}; {prefer}: none is fit")


_REASONS: dict[Preference, str] = {
    "follower": "a caught-up follower",
    "leader": "the leader",
    "local": "the member on this host",
}


def _is_local(status: MemberStatus, local_hosts: Collection[str]) -> bool:
    return urlsplit(status.endpoint).hostname in local_hosts
