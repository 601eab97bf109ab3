"""Made-up clusters for the pure decisions of a defragmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from etcdguard.etcd.source import Alarm
from etcdguard.maintenance.defrag.facts import MIB, MemberFacts, Survey
from etcdguard.model import ClusterTopology, Member, MemberStatus

__all__ = ["GIB", "NOW", "facts", "status", "survey"]

GIB = 1024 * MIB
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)


def status(number: int = 1, **changes: Any) -> MemberStatus:
    """A sound follower of member 1; ids are a, b, c, ..."""
    plain = MemberStatus(
        endpoint=f"http://127.0.0.{number}:2379",
        cluster_id="c1",
        member_id=f"a{number}",
        version="3.6.5",
        storage_version="3.6.0",
        db_size=400 * MIB,
        db_size_in_use=100 * MIB,
        db_size_quota=2 * GIB,
        leader_id="a1",
        raft_term=7,
        raft_index=5000,
        raft_applied_index=5000,
        is_learner=False,
        errors=(),
        revision=4000,
    )
    return replace(plain, **changes)


def facts(
    number: int = 1, *, quota: int | None = 2 * GIB, learner: bool = False, **changes: Any
) -> MemberFacts:
    """A member and its status."""
    one = status(number, **changes)
    member = Member(
        id=one.member_id,
        name=f"etcd-{number}",
        peer_urls=(f"http://127.0.0.{number}:2380",),
        client_urls=(one.endpoint,),
        is_learner=learner,
    )
    return MemberFacts(member, one, quota=quota)


def survey(
    members: Sequence[MemberFacts] | None = None, alarms: Sequence[Alarm] = (), **changes: Any
) -> Survey:
    """Three sound members, the first of which leads."""
    chosen = tuple(members or (facts(1), facts(2), facts(3)))
    topology = ClusterTopology("c1", tuple(one.member for one in chosen))
    return replace(Survey(topology, chosen, tuple(alarms)), **changes)
