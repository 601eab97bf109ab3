"""What the checks of a cluster judge: the members as they answered, and how their counters moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from etcdguard.errors import EtcdGuardError
from etcdguard.etcd.consistency import Consistency
from etcdguard.etcd.metrics import Histogram, MetricsPage
from etcdguard.etcd.source import Alarm
from etcdguard.model import ClusterTopology, Member, MemberStatus

if TYPE_CHECKING:  # what it imports would cost a daemon, which only samples, 8 MB
    from etcdguard.etcd.certificates import Certificate

__all__ = [
    "Certified", "ClusterFacts", "Counters", "Disk", "KeySpace", "MemberFacts", "Sample", "SizePoint",
    "Unknown", "counters_of",
]  # fmt: skip


@dataclass(frozen=True)
class Unknown:
    """Something that could not be found out, and why."""

    why: str


@dataclass(frozen=True)
class Counters:
    """What one member's metrics say; None where this etcd has no such metric. Times in seconds."""

    leader_changes: float | None
    failed_proposals: float | None
    keys: float | None
    wal_fsync: Histogram | None
    backend_commit: Histogram | None
    peer_round_trip: Mapping[str, Histogram]
    """By the id of the other member."""


def counters_of(metrics: MetricsPage) -> Counters:
    """Only what checks look at over time, so that it costs little to keep."""
    return Counters(
        leader_changes=metrics.value("etcd_server_leader_changes_seen_total"),
        failed_proposals=metrics.value("etcd_server_proposals_failed_total"),
        keys=metrics.value("etcd_debugging_mvcc_keys_total"),
        wal_fsync=metrics.histogram("etcd_disk_wal_fsync_duration_seconds"),
        backend_commit=metrics.histogram("etcd_disk_backend_commit_duration_seconds"),
        peer_round_trip=metrics.histograms("etcd_network_peer_round_trip_time_seconds", "To"),
    )


@dataclass(frozen=True)
class Sample:
    """The members at one moment, by member id; who did not answer is missing."""

    at: datetime
    statuses: Mapping[str, MemberStatus]
    counters: Mapping[str, Counters]


@dataclass(frozen=True)
class SizePoint:
    """How large the database was. ``keys`` is None where nobody counted."""

    at: datetime
    db_bytes: int
    keys: int | None
    counted: Literal["revisions", "keys"] = "revisions"
    """What ``keys`` counts: manifests all revisions in the database, members the keys that there are."""


@dataclass(frozen=True)
class MemberFacts:
    """One member of the cluster now."""

    member: Member
    status: MemberStatus | EtcdGuardError
    quota: int | None = None
    """Bytes; negative where etcd enforces none, None where nobody says."""
    skew: float | None = None
    """Seconds by which its clock is ahead of ours at least."""
    metrics_problem: str | None = None

    @property
    def name(self) -> str:
        """The member's name, or its id before it has ever started."""
        return self.member.name or self.member.id


@dataclass(frozen=True)
class Certified:
    """A certificate, and where it was found."""

    where: str
    certificate: Certificate


@dataclass(frozen=True)
class Disk:
    """The file system under a data directory on this machine."""

    member: str
    path: Path
    free_bytes: int
    total_bytes: int
    db_bytes: int | None


@dataclass(frozen=True)
class KeySpace:
    """What all live keys and values are like."""

    largest_key: str
    largest_bytes: int
    largest_prefix: str
    prefix_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class ClusterFacts:
    """All that the checks of a cluster need; what could not be had is Unknown."""

    topology: ClusterTopology
    members: Sequence[MemberFacts]
    strangers: Sequence[str]
    """Endpoints that lead to another cluster, or to a member this one has removed."""
    quorum: EtcdGuardError | None
    """None: a linearizable read was answered."""
    alarms: Sequence[Alarm] | Unknown
    samples: Sequence[Sample]
    """From oldest to newest, at least one."""
    consistency: Consistency | Unknown
    certificates: Sequence[Certified | Unknown]
    disks: Sequence[Disk] | Unknown
    sizes: Sequence[SizePoint] | Unknown
    """From oldest to newest."""
    key_space: KeySpace | Unknown
    now: datetime

    @property
    def answered(self) -> dict[str, MemberStatus]:
        """The statuses of those that answered, by name."""
        return {one.name: one.status for one in self.members if isinstance(one.status, MemberStatus)}

    @property
    def span(self) -> timedelta:
        """The time that the samples cover."""
        return self.samples[-1].at - self.samples[0].at
