"""What is known of the members, and the numbers they are judged by. Sizes in bytes, times in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from etcdguard.etcd.source import Alarm
from etcdguard.model import ClusterTopology, Member, MemberStatus

__all__ = ["CORRUPT", "History", "MemberFacts", "NOSPACE", "Policy", "Survey", "fragmentation"]

MIB = 2**20
NOSPACE = "NOSPACE"
CORRUPT = "CORRUPT"


@dataclass(frozen=True)
class Policy:
    """When a member is worth it, and what must hold before, between and after members."""

    fragmentation: float = 0.45
    min_size: int = 100 * MIB
    min_free: int = 100 * MIB
    quota_usage: float = 0.80
    quota_free: float = 0.10
    """Share of the quota that must be free pages for the quota to be a reason."""
    at_most_every: timedelta = timedelta(hours=24)
    small_clusters: bool = False
    """Whether one or two voters, which nobody can stand in for, may be blocked."""
    max_duration: float = 60.0
    """Longest estimate for one member: a liveness probe may kill etcd after that."""
    disk_factor: float = 1.2
    disk_reserve: int = 512 * MIB
    max_unapplied: int = 100
    max_spread: int = 1000
    bytes_per_second: int = 100_000_000
    min_timeout: float = 60.0
    max_timeout: float = 600.0
    patience: float = 600.0
    """For a member that did not answer in time to serve again, and for the cluster to be sound again."""
    settle: float = 30.0
    """Between a member and the next, and before the alarm is looked at once more."""
    leader_settle: float = 10.0
    compact_age: float = 300.0
    """How old the history must be that is given up when there is no space."""
    compact_timeout: float = 600.0
    max_failures: int = 3

    def estimate(self, db_size: int) -> float:
        """How long a member of that size will probably be blocked."""
        return db_size / self.bytes_per_second

    def timeout(self, db_size: int) -> float:
        """How long its answer is waited for."""
        return min(self.max_timeout, max(self.min_timeout, 3 * self.estimate(db_size)))

    def disk_needed(self, in_use: int) -> int:
        """Free bytes that its disk must have: etcd writes a copy beside the database."""
        return int(self.disk_factor * in_use) + self.disk_reserve


@dataclass(frozen=True)
class MemberFacts:
    """One member, and what was seen of it."""

    member: Member
    status: MemberStatus | None
    failure: str | None = None
    """Why it gave no status, or no linearizable read where it is a voter."""
    quota: int | None = None
    """None where it is not known; negative where etcd enforces none."""
    disk_free: int | None = None
    """Free bytes where its database lies; None where that cannot be known from here."""
    busy: str | None = None
    """What it is doing that a defragmentation would wait for, where that is known."""

    @property
    def id(self) -> str:
        """The member's id."""
        return self.member.id

    @property
    def name(self) -> str:
        """Its name; a member that never started has none."""
        return self.member.name or self.member.id

    @property
    def quota_share(self) -> float | None:
        """Size by quota, None where there is no quota or it is not known."""
        if self.status is None or self.quota is None or self.quota <= 0:
            return None
        return self.status.db_size / self.quota


@dataclass(frozen=True)
class Survey:
    """The cluster at one moment, as its quorum and its members see it."""

    topology: ClusterTopology
    members: tuple[MemberFacts, ...]
    alarms: tuple[Alarm, ...]
    strangers: tuple[str, ...] = ()
    """Configured endpoints that lead to another cluster or to nobody of this one."""

    @property
    def voters(self) -> tuple[MemberFacts, ...]:
        """The members that count for quorum."""
        return tuple(one for one in self.members if not one.member.is_learner)

    @property
    def nospace(self) -> bool:
        """Whether the cluster is out of space: nothing can be written but deletions and compactions."""
        return any(alarm.kind == NOSPACE for alarm in self.alarms)

    @property
    def leaders(self) -> frozenset[str]:
        """The leaders that the voters name; one, in a sound cluster."""
        return frozenset(one.status.leader_id for one in self.voters if one.status is not None)

    @property
    def leader_id(self) -> str | None:
        """The leader that all agree on, if they do."""
        found = self.leaders
        return next(iter(found)) if len(found) == 1 else None

    @property
    def term(self) -> int:
        """The newest raft term that was seen."""
        return max((one.status.raft_term for one in self.voters if one.status is not None), default=0)

    def by_id(self, member_id: str) -> MemberFacts | None:
        """What was seen of that member."""
        return next((one for one in self.members if one.id == member_id), None)


@dataclass(frozen=True)
class History:
    """What earlier runs have left in the audit trail."""

    last: Mapping[str, datetime]
    """Member id to when it was last defragmented."""
    failures: int = 0
    """Runs that failed since one succeeded."""


def fragmentation(status: MemberStatus) -> tuple[int, float]:
    """Free bytes inside the file, and their share of it; nothing where etcd does not say."""
    if status.db_size_in_use is None or status.db_size <= 0:
        return 0, 0.0
    free = max(0, status.db_size - status.db_size_in_use)
    return free, free / status.db_size
