"""Judgments of what members are believed for: equal data, certificates, clocks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from etcdguard.errors import Corruption
from etcdguard.human import human_time
from etcdguard.maintenance.checks.facts import Certified, ClusterFacts, Unknown
from etcdguard.maintenance.checks.lines import fail, line, ok, skip, warn, worst
from etcdguard.maintenance.checks.thresholds import Thresholds
from etcdguard.maintenance.results import CheckResult, Outcome

__all__ = ["certificates", "clock", "hash_kv"]

_SOON = timedelta(days=7)


def hash_kv(facts: ClusterFacts) -> CheckResult:
    """All voters hold the same data. Only hashes of the same revisions prove anything."""
    found = facts.consistency
    if isinstance(found, Unknown):
        return skip("hash", found.why)
    if found.outcome == "different":
        return fail(
            "hash",
            found.found,
            "members hold different data: find the odd one, keep its directory, replace it: docs/checks.md",
            Corruption,
        )
    missing = sorted({one.name for one in facts.members if not one.member.is_learner} - set(found.hashes))
    if found.outcome == "inconclusive":
        return warn("hash", f"inconclusive: {found.found}", "run this again when no compaction is going on")
    if missing:
        return warn("hash", f"{found.found}; not asked: {', '.join(missing)}", "bring back the others first")
    return ok("hash", found.found)


def certificates(found: Sequence[Certified | Unknown], now: datetime, thresholds: Thresholds) -> CheckResult:
    """Every certificate we use and every one an endpoint shows, by the time it has left."""
    limits = thresholds["certificates"]
    known = [one for one in found if isinstance(one, Certified)]
    unknown = [one.why for one in found if isinstance(one, Unknown)]
    if not known:
        why = "; ".join(unknown) or "no TLS is configured"
        return line("certificates", Outcome.SKIP, why, limits)
    early = [one for one in known if one.certificate.not_before > now]
    if early:
        one = early[0]
        value = f"{one.where}: not valid before {human_time(one.certificate.not_before)}"
        return fail("certificates", value, "check the clocks, or install the certificate that is in force")
    left = {one.where: (one.certificate.not_after - now).total_seconds() for one in known}
    result = worst(
        "certificates",
        limits,
        left,
        none="",
        hint="renew it in good time and restart what uses it",
        said=lambda of, seconds: _until(seconds, limits.text(seconds)),
        on="for",
    )
    value = result.value
    hint = result.hint
    if unknown:
        value += f"; not seen: {'; '.join(unknown)}"
    if result.outcome is Outcome.WARN and min(left.values()) < _SOON.total_seconds():
        hint = "renew it this week and restart what uses it: with it etcd stops serving"
    return line("certificates", result.outcome, value, limits, hint)


def clock(facts: ClusterFacts, thresholds: Thresholds) -> CheckResult:
    """How far members' clocks are apart from ours, as far as the dates of their answers prove it."""
    limits = thresholds["clock"]
    skews = {one.name: one.skew for one in facts.members if one.skew is not None}

    def said(of: str, amount: float) -> str:
        if not amount:
            return "no difference proven"
        return f"at least {limits.text(amount)} {'ahead' if skews[of] > 0 else 'behind'}"

    return worst(
        "clock",
        limits,
        {name: abs(skew) for name, skew in skews.items()},
        none="no member's metrics were read, whose answers are dated",
        hint="mend time synchronisation there or here: leases and certificates depend on it",
        said=said,
    )


def _until(seconds: float, text: str) -> str:
    return f"{text} left" if seconds > 0 else f"expired {text.removeprefix('-')} ago"
