"""Judgments of the members and their consensus: who is there, who leads, who is behind. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise

from etcdguard.errors import ClusterUnhealthy, Corruption, EtcdUnreachable
from etcdguard.human import human_duration
from etcdguard.maintenance.checks.facts import ClusterFacts, Sample, Unknown
from etcdguard.maintenance.checks.lines import fail, line, ok, skip, warn, worst
from etcdguard.maintenance.checks.thresholds import Thresholds
from etcdguard.maintenance.results import CheckResult, Outcome
from etcdguard.model import MemberStatus

__all__ = [
    "alarms", "failed_proposals", "identity", "leader", "leader_changes", "members", "metrics", "quorum",
    "unapplied", "versions",
]  # fmt: skip

_MOST_MEMBERS = 7
_NO_LEADER = "0"
_MINUTE = timedelta(minutes=1)
_QUARTER = timedelta(minutes=15)


def identity(facts: ClusterFacts) -> CheckResult:
    """All endpoints lead to members of one cluster."""
    if facts.strangers:
        return fail(
            "identity",
            f"not of cluster {facts.topology.cluster_id}: {', '.join(facts.strangers)}",
            "configure endpoints of one cluster only; a member with old data may have come back",
        )
    return ok("identity", f"cluster {facts.topology.cluster_id}")


def members(facts: ClusterFacts) -> CheckResult:
    """An odd number of voters, seven at most; learners only while they catch up."""
    voters = len(facts.topology.voters)
    learners = [one.name or one.id for one in facts.topology.members if one.is_learner]
    value = f"{voters} voter{'s' if voters != 1 else ''}"
    if learners:
        value += f", learner {', '.join(learners)}"
    if voters % 2 == 0:
        return warn("members", value, "an even number survives no more losses than one less: add or remove")
    if voters > _MOST_MEMBERS:
        return warn("members", value, "more than 7 voters slow every write down: remove some")
    if learners:
        return warn("members", value, "promote the learner when it has caught up, or remove it")
    return ok("members", value)


def quorum(facts: ClusterFacts) -> CheckResult:
    """A linearizable read is answered, and every voter answers for itself."""
    voters = [one for one in facts.members if not one.member.is_learner]
    down = [one for one in facts.members if not isinstance(one.status, MemberStatus)]
    value = f"{sum(one not in down for one in voters)} of {len(voters)} voters answer"
    problems = "; ".join(
        f"{one.name}: {one.status.message}" for one in down if not isinstance(one.status, MemberStatus)
    )
    if facts.quorum is not None:
        unreachable = isinstance(facts.quorum, EtcdUnreachable) and len(down) == len(facts.members)
        return fail(
            "quorum",
            f"{value}; no linearizable read: {problems or facts.quorum.message}",
            facts.quorum.hint,
            EtcdUnreachable if unreachable else ClusterUnhealthy,
        )
    if down:
        return warn("quorum", f"{value}; {problems}", "bring it back, or replace it: docs/member-replace.md")
    return ok("quorum", value)


def leader(facts: ClusterFacts) -> CheckResult:
    """Everybody follows the same leader; without one for as long as was looked, a FAIL."""
    answered = facts.answered
    if not answered:
        return skip("leader", "no member answers")
    leaderless = [name for name, status in answered.items() if status.leader_id == _NO_LEADER]
    if leaderless:
        ids = {answered[name].member_id for name in leaderless}
        lasting = all(
            status.leader_id == _NO_LEADER
            for sample in _recent(facts.samples, _MINUTE)
            for member_id, status in sample.statuses.items()
            if member_id in ids
        )
        hint = "bring back a quorum; check the peers' network, disks and clocks"
        value = f"{', '.join(leaderless)} know{'s' if len(leaderless) == 1 else ''} no leader"
        return fail("leader", value, hint) if lasting else warn("leader", value, hint)
    leaders = {status.leader_id for status in answered.values()}
    if len(leaders) > 1:
        told = ", ".join(f"{name} follows {status.leader_id}" for name, status in answered.items())
        return warn("leader", told, "run this again: an election may be going on")
    (leader_id,) = leaders
    found = facts.topology.by_id(leader_id)
    return ok("leader", found.name if found is not None else leader_id)


def leader_changes(facts: ClusterFacts, thresholds: Thresholds) -> CheckResult:
    """Elections in a quarter of an hour. A shorter look can prove too many, and few only near the start."""
    name, limits = "leader_changes", thresholds["leader_changes"]
    totals: list[float] = []
    changes: list[float] = []
    samples = _recent(facts.samples, _QUARTER)
    for member_id, last in samples[-1].counters.items():
        if last.leader_changes is None:
            continue
        totals.append(last.leader_changes)
        changes.append(
            _increase(
                found.leader_changes
                for sample in samples
                if (found := sample.counters.get(member_id)) is not None
            )
        )
    if not totals:
        return line(name, Outcome.SKIP, "no member's metrics say", limits)
    span = samples[-1].at - samples[0].at
    seen = f"{max(changes):g} in {human_duration(span.total_seconds())}"
    outcome = limits.judge(max(changes))
    hint = "look at the peers' network, disk latency and CPU: leaders are lost when heartbeats are late"
    if outcome is not Outcome.OK:
        return line(name, outcome, seen, limits, hint)
    if limits.judge(max(totals)) is Outcome.OK:
        return line(name, Outcome.OK, f"{max(totals):g} since the members started", limits)
    if span < _QUARTER * 0.9:
        return line(
            name,
            Outcome.SKIP,
            f"{seen}, too short to tell",
            limits,
            "a daemon on this node remembers the last quarter of an hour",
        )
    return line(name, Outcome.OK, seen, limits)


def failed_proposals(facts: ClusterFacts, thresholds: Thresholds) -> CheckResult:
    """Proposals a second that found no quorum, over the last quarter of an hour at most."""
    limits = thresholds["failed_proposals"]
    samples = _recent(facts.samples, _QUARTER)
    rates: dict[str, float] = {}
    for member in facts.members:
        points = [
            (sample.at, found.failed_proposals)
            for sample in samples
            if (found := sample.counters.get(member.member.id)) is not None
        ]
        if len(points) > 1 and points[-1][0] > points[0][0]:
            seconds = (points[-1][0] - points[0][0]).total_seconds()
            rates[member.name] = _increase(value for _, value in points) / seconds
    return worst(
        "failed_proposals",
        limits,
        rates,
        none="needs two looks at the members' metrics",
        hint="writes find no quorum: look at the leader, the peers' network and disk latency",
        said=lambda of, rate: f"{rate:.3g}/s",
    )


def unapplied(facts: ClusterFacts, thresholds: Thresholds) -> CheckResult:
    """Entries that are committed and not applied: past the warning all the time, or past the failure now."""
    limits = thresholds["unapplied"]
    now = {name: float(_unapplied(status)) for name, status in facts.answered.items()}
    result = worst(
        "unapplied",
        limits,
        now,
        none="no member answers",
        hint="it is slower than the cluster writes: check its disk and CPU; past 5000 etcd refuses writes",
    )
    if result.outcome is not Outcome.WARN:
        return result
    samples = _recent(facts.samples, _MINUTE)
    lasting = [
        member_id
        for member_id in samples[-1].statuses
        if all(
            limits.judge(_unapplied(sample.statuses[member_id])) is not Outcome.OK
            for sample in samples
            if member_id in sample.statuses
        )
    ]
    return result if lasting else line("unapplied", Outcome.OK, f"{result.value}, for a moment", limits)


def alarms(facts: ClusterFacts) -> CheckResult:
    """NOSPACE stops all writes; CORRUPT is etcd's own word that members differ."""
    if isinstance(facts.alarms, Unknown):
        return skip("alarms", facts.alarms.why)
    names = {one.member.id: one.name for one in facts.members}
    told = [f"{one.kind} on {names.get(one.member_id, one.member_id)}" for one in facts.alarms]
    kinds = {one.kind for one in facts.alarms}
    if "CORRUPT" in kinds:
        return fail(
            "alarms",
            ", ".join(told),
            "find the member that differs (cluster.hash), replace it, then disarm: docs/checks.md",
            Corruption,
        )
    if kinds:
        return fail(
            "alarms",
            ", ".join(told),
            "no write is taken until it is undone: etcdguard defrag compacts, defragments and disarms",
        )
    return ok("alarms", "none")


def versions(facts: ClusterFacts) -> CheckResult:
    """One version everywhere, except while an upgrade rolls from one release line to the next."""
    found = {name: status.version for name, status in facts.answered.items()}
    if not found:
        return skip("versions", "no member answers")
    if len(set(found.values())) == 1:
        return ok("versions", next(iter(found.values())))
    value = ", ".join(f"{name} {version}" for name, version in found.items())
    lines = [_release_line(version) for version in found.values()]
    if None in lines:
        return warn("versions", value, "finish the upgrade")
    known = sorted(one for one in lines if one is not None)
    (major, low), (other_major, high) = known[0], known[-1]
    if major != other_major or high - low > 1:
        return fail("versions", value, "etcd supports one release line of difference: bring them together")
    return warn("versions", value, "finish the upgrade: two versions are for a rolling upgrade only")


def metrics(facts: ClusterFacts) -> CheckResult:
    """What checks over time need of every member that answers."""
    problems = [
        f"{one.name}: {one.metrics_problem}"
        for one in facts.members
        if one.metrics_problem is not None and isinstance(one.status, MemberStatus)
    ]
    if problems:
        return warn("metrics", "; ".join(problems), "set cluster.metrics_urls to where etcd serves /metrics")
    if not facts.answered:
        return skip("metrics", "no member answers")
    return ok("metrics", f"read from {len(facts.samples[-1].counters)} members")


def _recent(samples: Iterable[Sample], age: timedelta) -> list[Sample]:
    """The samples of that time before the newest, which is always among them."""
    found = list(samples)
    return [sample for sample in found if found[-1].at - sample.at <= age]


def _increase(totals: Iterable[float | None]) -> float:
    """How much a counter grew; after a restart it counts from nothing."""
    known = [total for total in totals if total is not None]
    return sum(late - early if late >= early else late for early, late in pairwise(known))


def _unapplied(status: MemberStatus) -> int:
    return max(0, status.raft_index - status.raft_applied_index)


def _release_line(version: str) -> tuple[int, int] | None:
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None
