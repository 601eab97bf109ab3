"""Judgments of the 99th percentiles that etcd keeps: disks and network. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from etcdguard.etcd.metrics import Histogram
from etcdguard.human import human_duration
from etcdguard.maintenance.checks.facts import ClusterFacts, Counters
from etcdguard.maintenance.checks.lines import worst
from etcdguard.maintenance.checks.thresholds import Thresholds
from etcdguard.maintenance.results import CheckResult, Outcome

__all__ = ["backend_commit", "peer_round_trip", "wal_fsync"]

_P99 = 0.99
_ENOUGH = 100
"""Observations that a 99th percentile takes at least."""

_NONE = "no member's metrics say"


def wal_fsync(facts: ClusterFacts, thresholds: Thresholds) -> CheckResult:
    """How long the write-ahead log takes to reach the disk: every write waits for it."""
    return _judged(
        facts,
        thresholds,
        "wal_fsync",
        lambda found: {"": found.wal_fsync} if found.wal_fsync is not None else {},
        advisory=0.010,
        hint="the disk is too slow or shared: give etcd a fast disk of its own",
    )


def backend_commit(facts: ClusterFacts, thresholds: Thresholds) -> CheckResult:
    """How long a commit of the database takes."""
    return _judged(
        facts,
        thresholds,
        "backend_commit",
        lambda found: {"": found.backend_commit} if found.backend_commit is not None else {},
        advisory=0.025,
        hint="the disk is too slow or shared: give etcd a fast disk of its own",
    )


def peer_round_trip(facts: ClusterFacts, thresholds: Thresholds) -> CheckResult:
    """How long members take to hear from each other."""
    names = {one.member.id: one.name for one in facts.members}
    result = _judged(
        facts,
        thresholds,
        "peer_round_trip",
        lambda found: {
            f" to {names.get(_canonical(to), to)}": one for to, one in found.peer_round_trip.items()
        },
        advisory=None,
        hint="keep members in one region, and raise --heartbeat-interval and --election-timeout to fit",
    )
    if result.outcome is Outcome.SKIP and len(facts.topology.members) == 1:
        return CheckResult(result.name, Outcome.OK, "a single member has no peers", result.threshold)
    return result


def _judged(
    facts: ClusterFacts,
    thresholds: Thresholds,
    name: str,
    histograms: Callable[[Counters], Mapping[str, Histogram]],
    *,
    advisory: float | None,
    hint: str,
) -> CheckResult:
    values: dict[str, float] = {}
    whole: set[str] = set()
    first, last = facts.samples[0].counters, facts.samples[-1].counters
    for member in facts.members:
        if member.member.id not in last:
            continue
        before = histograms(first[member.member.id]) if member.member.id in first else {}
        for suffix, now in histograms(last[member.member.id]).items():
            lately = now.since(before[suffix]) if suffix in before else now
            if lately.count < _ENOUGH:
                lately = now
                whole.add(member.name + suffix)
            p99 = lately.quantile(_P99)
            if p99 is not None:
                values[member.name + suffix] = p99
    span = human_duration(facts.span.total_seconds())

    def said(of: str, value: float) -> str:
        over = "since its start" if of in whole else f"over {span}"
        return f"p99 {human_duration(value)} {over}"

    limits = thresholds[name]
    slow = advisory is not None and any(value > advisory for value in values.values())
    advice = f"etcd's own advice is {human_duration(advisory)}: {hint}" if slow and advisory else None
    return worst(name, limits, values, none=_NONE, hint=hint, advice=advice, said=said)


def _canonical(member_id: str) -> str:
    return member_id.lstrip("0")
