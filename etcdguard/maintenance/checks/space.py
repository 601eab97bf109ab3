"""Judgments of the database's size, its quota, its growth and the disk under it. Pure."""

from __future__ import annotations

from etcdguard.human import human_bytes, human_duration
from etcdguard.maintenance.checks.facts import ClusterFacts, MemberFacts, Unknown
from etcdguard.maintenance.checks.lines import line, ok, skip, warn, worst
from etcdguard.maintenance.checks.thresholds import Thresholds
from etcdguard.maintenance.checks.trend import covers_enough, growth_per_second, keys_per_second
from etcdguard.maintenance.defrag import facts as defrag
from etcdguard.maintenance.defrag.facts import Policy
from etcdguard.maintenance.defrag.select import decide
from etcdguard.maintenance.results import CheckResult, Outcome
from etcdguard.model import MemberStatus

__all__ = [
    "database_quota", "disk", "fragmentation", "key_growth", "prefix_share", "quota_forecast", "quota_size",
    "value_size",
]  # fmt: skip

_MIB = 1024**2
_MOST_QUOTA = 8 * 1024**3
_WORTH_IT = 100 * _MIB
_DAY = 86400.0
_TOO_SHORT = "needs three backups over an hour, or a daemon here that looks for an hour"
_NO_QUOTA = "neither status nor metrics name a quota"


def database_quota(facts: ClusterFacts, thresholds: Thresholds) -> CheckResult:
    """The file's size against the quota: past it etcd takes no more writes. Free pages count."""
    limits = thresholds["database_quota"]
    shares = {one.name: size / quota for one, size, quota in _with_quota(facts)}
    sizes = {
        one.name: f"{human_bytes(size)} of {human_bytes(quota)}" for one, size, quota in _with_quota(facts)
    }
    if not shares and any(one.quota is not None and one.quota < 0 for one in facts.members):
        return line("database_quota", Outcome.OK, "no quota is enforced", limits)
    return worst(
        "database_quota",
        limits,
        shares,
        none=_NO_QUOTA,
        hint="compact and defragment, then find what fills it; raise --quota-backend-bytes as a last resort",
        said=lambda of, share: f"{limits.text(share)} ({sizes[of]})",
    )


def quota_forecast(facts: ClusterFacts, thresholds: Thresholds) -> CheckResult:
    """When the fullest member meets its quota, if the database goes on growing as it does."""
    name, limits = "quota_forecast", thresholds["quota_forecast"]
    if isinstance(facts.sizes, Unknown):
        return line(name, Outcome.SKIP, facts.sizes.why, limits)
    if not covers_enough(facts.sizes):
        return line(name, Outcome.SKIP, _TOO_SHORT, limits)
    rooms = [quota - size for _, size, quota in _with_quota(facts)]
    if not rooms:
        return line(name, Outcome.SKIP, _NO_QUOTA, limits)
    slope = growth_per_second(facts.sizes)
    if slope <= 0:
        return line(name, Outcome.OK, "the database does not grow", limits)
    left = max(0.0, min(rooms) / slope)
    value = f"full in {human_duration(left)}, growing {human_bytes(round(slope * _DAY))} a day"
    outcome = limits.judge(left)
    hint = "find what grows before etcd stops taking writes"
    return line(name, outcome, value, limits, None if outcome is Outcome.OK else hint)


def quota_size(facts: ClusterFacts) -> CheckResult:
    """A quota is set, the same everywhere, and at most 8 GiB, as etcd advises."""
    quotas = {one.name: one.quota for one in facts.members if one.quota is not None}
    if not quotas:
        return skip("quota_size", _NO_QUOTA)
    value = ", ".join(
        f"{name} {human_bytes(quota) if quota >= 0 else 'none'}" for name, quota in quotas.items()
    )
    if any(quota < 0 for quota in quotas.values()):
        return warn("quota_size", value, "without a quota etcd grows until the disk is full: set one")
    if max(quotas.values()) > _MOST_QUOTA:
        return warn("quota_size", value, "etcd advises 8 GiB at most: restarts and recovery get slow past it")
    if len(set(quotas.values())) > 1:
        return warn("quota_size", value, "the smallest stops all writes: give every member the same")
    return ok("quota_size", human_bytes(max(quotas.values())))


def fragmentation(facts: ClusterFacts, policy: Policy) -> CheckResult:
    """Members that a defragmentation is worth it for, by the very rule that it chooses by."""
    seen = [defrag.MemberFacts(one.member, _status(one), quota=one.quota) for one in facts.members]
    decisions = [decide(one, policy, nospace=False, last=None, now=facts.now) for one in seen]
    chosen = [one for one in decisions if one.chosen]
    value = "; ".join(f"{one.member.name}: {one.reason}" for one in chosen or decisions)
    if chosen:
        return warn("fragmentation", value, "etcdguard defrag: followers first, the leader last")
    if all(one.status is None or one.status.db_size_in_use is None for one in seen):
        return skip("fragmentation", value)
    return ok("fragmentation", value)


def disk(facts: ClusterFacts, thresholds: Thresholds) -> CheckResult:
    """Room for another copy of the database, which defragmentation and restore make, where we can see it."""
    limits = thresholds["disk"]
    if isinstance(facts.disks, Unknown):
        return line("disk", Outcome.SKIP, facts.disks.why, limits)
    shares = {one.member: one.free_bytes / one.total_bytes for one in facts.disks}
    result = worst(
        "disk",
        limits,
        shares,
        none="no member's data directory is on this machine",
        hint="free space on that file system, or give it more",
        said=lambda of, share: f"{limits.text(share)} free",
        on="for",
    )
    tight = [one for one in facts.disks if one.db_bytes is not None and one.free_bytes < 2 * one.db_bytes]
    if result.outcome is Outcome.OK and tight:
        one = tight[0]
        value = f"{human_bytes(one.free_bytes)} free for {one.member}, less than twice its database"
        return line("disk", Outcome.WARN, value, limits, "free space there: a restore makes another copy")
    return result


def key_growth(facts: ClusterFacts, thresholds: Thresholds) -> CheckResult:
    """How much of all there is a day adds: keys as members count them, or revisions as manifests do."""
    name, limits = "key_growth", thresholds["key_growth"]
    if isinstance(facts.sizes, Unknown):
        return line(name, Outcome.SKIP, facts.sizes.why, limits)
    rate = keys_per_second(facts.sizes) if covers_enough(facts.sizes) else None
    if rate is None:
        return line(name, Outcome.SKIP, _TOO_SHORT, limits)
    newest = facts.sizes[-1]
    share = rate * _DAY / (newest.keys or 1)
    outcome = limits.judge(share)
    hint = "find what writes so much: etcd is for what is needed now, not for history"
    value = f"{limits.text(share)} a day of {newest.keys} {newest.counted}"
    return line(name, outcome, value, limits, None if outcome is Outcome.OK else hint)


def value_size(facts: ClusterFacts, thresholds: Thresholds) -> CheckResult:
    """The largest value: etcd refuses requests of 1.5 MiB, and large ones slow down all others."""
    name, limits = "value_size", thresholds["value_size"]
    if isinstance(facts.key_space, Unknown):
        return line(name, Outcome.SKIP, facts.key_space.why, limits)
    found = facts.key_space
    outcome = limits.judge(found.largest_bytes)
    value = f"{human_bytes(found.largest_bytes)} at {found.largest_key}" if found.largest_key else "no keys"
    hint = "store it elsewhere or in parts: etcd refuses requests of 1.5 MiB by default"
    return line(name, outcome, value, limits, None if outcome is Outcome.OK else hint)


def prefix_share(facts: ClusterFacts, thresholds: Thresholds) -> CheckResult:
    """Whether one kind of key fills the database: its first two parts, as in /registry/events."""
    name, limits = "prefix_share", thresholds["prefix_share"]
    if isinstance(facts.key_space, Unknown):
        return line(name, Outcome.SKIP, facts.key_space.why, limits)
    found = facts.key_space
    if not found.total_bytes:
        return line(name, Outcome.OK, "no keys", limits)
    share = found.prefix_bytes / found.total_bytes
    outcome = limits.judge(share)
    if outcome is not Outcome.OK and found.total_bytes < _WORTH_IT:
        outcome = Outcome.OK  # of a small database that says nothing
    value = f"{limits.text(share)} is {found.largest_prefix} ({human_bytes(found.prefix_bytes)})"
    hint = "look at what writes there, and whether it has an expiry"
    return line(name, outcome, value, limits, None if outcome is Outcome.OK else hint)


def _status(facts: MemberFacts) -> MemberStatus | None:
    return facts.status if isinstance(facts.status, MemberStatus) else None


def _with_quota(facts: ClusterFacts) -> list[tuple[MemberFacts, int, int]]:
    """Members that answered and have a quota, with size and quota in bytes."""
    return [
        (one, one.status.db_size, one.quota)
        for one in facts.members
        if isinstance(one.status, MemberStatus) and one.quota is not None and one.quota > 0
    ]
