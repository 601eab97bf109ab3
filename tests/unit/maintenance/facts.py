"""A sound cluster of three as the checks see it, to be changed at one point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from etcdguard.errors import EtcdUnreachable
from etcdguard.etcd.certificates import Certificate
from etcdguard.etcd.consistency import Consistency
from etcdguard.etcd.metrics import Histogram
from etcdguard.maintenance.checks.facts import (
    Certified,
    ClusterFacts,
    Counters,
    Disk,
    KeySpace,
    MemberFacts,
    Sample,
    SizePoint,
)
from etcdguard.model import ClusterTopology, HashKV, Member, MemberStatus

__all__ = [
    "DOWN", "GIB", "MIB", "NOW", "certified", "counters", "disk", "facts", "growing", "histogram", "member",
    "sample", "status", "with_members",
]  # fmt: skip

NOW = datetime(2026, 11, 21, 2, 0, tzinfo=timezone.utc)
MIB, GIB = 1024**2, 1024**3
INF = float("inf")
DOWN = EtcdUnreachable("connection refused", hint="start it")


def member(number: int, *, learner: bool = False) -> Member:
    return Member(id=f"a{number}", name=f"m{number}", peer_urls=(), client_urls=(), is_learner=learner)


def status(number: int, **changes: Any) -> MemberStatus:
    made = MemberStatus(
        endpoint=f"http://m{number}:2379",
        cluster_id="c",
        member_id=f"a{number}",
        version="3.5.30",
        storage_version=None,
        db_size=200 * MIB,
        db_size_in_use=190 * MIB,
        db_size_quota=None,
        leader_id="a1",
        raft_term=2,
        raft_index=1000,
        raft_applied_index=1000,
        is_learner=False,
        errors=(),
        revision=900,
    )
    return replace(made, **changes)


def histogram(p99: float, count: float = 1000.0) -> Histogram:
    """All observations are of that many seconds, so that every quantile past the lower bound is there."""
    return Histogram((p99, p99, INF), (0.0, count, count))


def counters(**changes: Any) -> Counters:
    made = Counters(
        leader_changes=1.0,
        failed_proposals=0.0,
        keys=100.0,
        wal_fsync=histogram(0.002),
        backend_commit=histogram(0.005),
        peer_round_trip={},
    )
    return replace(made, **changes)


def sample(
    seconds_ago: float,
    each: Mapping[int, Counters] | None = None,
    statuses: Mapping[int, MemberStatus] | None = None,
) -> Sample:
    each = each if each is not None else {number: counters() for number in (1, 2, 3)}
    statuses = statuses if statuses is not None else {number: status(number) for number in (1, 2, 3)}
    return Sample(
        NOW - timedelta(seconds=seconds_ago),
        {f"a{number}": one for number, one in statuses.items()},
        {f"a{number}": one for number, one in each.items()},
    )


def certified(where: str, **left: float) -> Certified:
    return Certified(where, Certificate("CN=x", NOW - timedelta(days=100), NOW + timedelta(**left)))


def growing(
    bytes_a_day: float, *, start: int = 200 * MIB, hours: int = 24, keys_a_day: float = 0
) -> list[SizePoint]:
    return [
        SizePoint(
            NOW - timedelta(hours=hours - hour),
            round(start + bytes_a_day * (hour - hours) / 24),
            round(1000 + keys_a_day * (hour - hours) / 24),
        )
        for hour in range(hours + 1)
    ]


def facts(**changes: Any) -> ClusterFacts:
    members = [member(number) for number in (1, 2, 3)]
    equal = HashKV(hash=7, revision=900, compact_revision=800)
    made = ClusterFacts(
        topology=ClusterTopology("c", tuple(members)),
        members=[
            MemberFacts(one, status(number), quota=2 * GIB, skew=0.0)
            for number, one in enumerate(members, start=1)
        ],
        strangers=(),
        quorum=None,
        alarms=(),
        samples=[sample(5.0), sample(0.0)],
        consistency=Consistency("equal", "equal on all 3", {f"m{n}": equal for n in (1, 2, 3)}),
        certificates=[certified("client", days=300)],
        disks=[disk(50 * GIB)],
        sizes=growing(MIB),
        key_space=KeySpace("/a/b/c", 100, "/a/b", 300, 1000),
        now=NOW,
    )
    return replace(made, **changes)


def disk(free: int, *, total: int = 100 * GIB, db: int | None = 200 * MIB) -> Disk:
    return Disk("m1", Path("/var/lib/etcd"), free, total, db)


def with_members(*changed: MemberFacts, **changes: Any) -> ClusterFacts:
    """These members instead of those of the same id; what answered is the newest sample too."""
    base = facts(**changes)
    by_id = {one.member.id: one for one in changed}
    members = [by_id.get(one.member.id, one) for one in base.members]
    return replace(base, members=members)
