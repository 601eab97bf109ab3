"""One line of a check of a cluster, from facts that are given."""

from __future__ import annotations

from typing import Any

from etcdguard.maintenance.checks.facts import ClusterFacts, MemberFacts
from etcdguard.maintenance.checks.judge import judge_cluster
from etcdguard.maintenance.checks.thresholds import Thresholds
from etcdguard.maintenance.results import CheckResult
from tests.unit.maintenance.facts import DOWN, GIB, member, status


def judged(found: ClusterFacts, name: str, thresholds: Thresholds | None = None) -> CheckResult:
    lines = {one.name: one for one in judge_cluster(found, thresholds or Thresholds())}
    return lines[f"cluster.{name}"]


def one(number: int, quota: int | None = 2 * GIB, skew: float | None = 0.0, **changes: Any) -> MemberFacts:
    return MemberFacts(member(number), status(number, **changes), quota=quota, skew=skew)


def down(number: int) -> MemberFacts:
    return MemberFacts(member(number), DOWN)
