"""Whether what was deleted was allowed to go, and what was to go is gone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from etcdguard.audit.case import Case
from etcdguard.audit.history import History, Known, Prune, standing
from etcdguard.audit.judgment import Control, Finding, conclude
from etcdguard.human import counted, human_time
from etcdguard.retention import Candidate, Policy, decide

__all__ = ["kept_to"]

_PLANNING = timedelta(minutes=10)
"""So long before its event a prune may have looked."""


def kept_to(case: Case) -> Control:
    """Prunes removed only what their rules let go of, and prunes that were due let nothing stand."""
    findings: list[Finding] = []
    keys: list[str] = []
    removed, overdue = 0, 0
    for history in case.readable:
        for prune in history.prunes:
            if prune.at in case.period:
                keys.append(history.evidence(prune.key))
                removed += len(prune.removed)
                findings += _forbidden(history, prune)
        late = list(_overdue(case, history))
        overdue += len(late)
        findings += late
    policy = case.promise.retention
    if policy is None:
        rules = "no retention is configured: everything is kept"
    else:
        rules = ", ".join(f"{name} {rule}" for name, rule in policy.facts.items())
    return conclude(
        "retention.kept-to",
        "Backups are kept and deleted by the retention policy",
        f"{rules}; {counted(removed, 'deletion')} in the period, {overdue} overdue",
        findings=findings,
        evidence=keys,
        applicable=policy is not None or removed > 0,
    )


def _forbidden(history: History, prune: Prune) -> Iterator[Finding]:
    """What a prune removed although its own rules kept it, by what was known then, or just before."""
    try:
        policy = Policy.from_facts(prune.rules)
    except (ValueError, TypeError):
        return  # by a newer etcdguard
    kept = _kept(history, policy, prune.at)
    if kept and (wrong := [one for one in prune.removed if one in kept]):
        before = _kept(history, policy, prune.at - _PLANNING)
        for backup_id in wrong:
            if backup_id in before:
                yield Finding(
                    "deletion-against-policy",
                    f"{prune.actor} deleted it although the rules kept it: {', '.join(before[backup_id])}",
                    repository=history.name,
                    backup=backup_id,
                    evidence=history.evidence(prune.key),
                )


def _overdue(case: Case, history: History) -> Iterator[Finding]:
    """What the rules let go of at the last but one prune that was due, and is still there."""
    schedule, policy = case.promise.schedules.get("prune"), case.promise.retention
    if schedule is None or policy is None:
        return
    due = schedule.latest(schedule.latest(case.period.end) - timedelta(microseconds=1))
    kept = {*_kept(history, policy, due), *(hold.id for hold in history.facts.holds.values())}
    for known in history.present:
        if known.stored is None or known.stored.manifest is None or known.stored.signature != "valid":
            continue
        locked = any(lock is not None and lock.until > due for lock in known.stored.locks.values())
        if known.created_at < due and known.id not in kept and not locked:
            yield Finding(
                "deletion-overdue",
                f"no rule has kept it since {human_time(due)}, and it is still there",
                repository=history.name,
                backup=known.id,
                evidence=history.manifest_key(known.id),
            )


def _kept(history: History, policy: Policy, at: datetime) -> dict[str, tuple[str, ...]]:
    """What the policy kept at that moment of what was there, with the reasons."""
    verified = _verified(history, at)
    held = _held(history, at)
    candidates = [
        Candidate(
            id=known.id,
            cluster_id=known.cluster_id,
            created_at=known.created_at,
            order=known.order,
            verified=known.id in verified,
            held=known.id in held,
        )
        for known in history.known.values()
        if known.cluster_id is not None and known.order is not None and _was_there(known, at)
    ]
    return {one.id: one.reasons for one in decide(candidates, policy, at) if one.keep}


def _was_there(known: Known, at: datetime) -> bool:
    """Whether it may have been: one more can only take the place of others, never protect them."""
    if known.stored is not None:
        judged = known.stored.signature in ("valid", None)  # what is not judged takes no other's place
        return judged and known.created_at <= at
    return known.created_at <= at and (known.deletion is None or known.deletion.at >= at)


def _verified(history: History, at: datetime) -> set[str]:
    """Found sound at level data or deeper by then, and not failed since."""
    states = standing(check for check in history.checks if check.at <= at)
    return {backup_id for backup_id, state in states.items() if state.proven("data") is not None}


def _held(history: History, at: datetime) -> set[str]:
    found: set[str] = set()
    for change in history.holds:
        if change.at > at:
            break
        (found.add if change.added else found.discard)(change.backup)
    return found
