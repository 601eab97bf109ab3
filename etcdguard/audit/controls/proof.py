"""Whether backups were read back, and restored."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from statistics import median_high

from etcdguard.audit.case import Case
from etcdguard.audit.history import standing
from etcdguard.audit.judgment import Control, Finding, conclude
from etcdguard.human import human_duration, human_time

__all__ = ["drilled", "verified"]


def verified(case: Case) -> Control:
    """The newest verification of data is not too old, and none has failed."""
    findings = [*_failed(case, drills=False), *_late(case, "data", ("data", "drill"))]
    newest = case.newest_sound(("data", "drill"))
    read_back, present = 0, 0
    for history in case.readable:
        states = standing(history.checks)
        present += len(history.present)
        read_back += sum(
            states[known.id].proven("data") is not None for known in history.present if known.id in states
        )
    summary = f"{read_back} of {present} copies of backups were read back and found sound"
    if newest is not None:
        summary += f", the last {human_time(newest[1].at)}"
    evidence = [
        history.evidence(check.key)
        for history, check in case.checks
        if check.level != "drill" and check.at in case.period
    ]
    return conclude(
        "verification.data",
        "Backups are read back and found sound",
        summary,
        findings=findings,
        evidence=evidence,
        applicable="data" in case.promise.schedules,
    )


def drilled(case: Case) -> Control:
    """The newest drill is not too old and restored its backup, and so did the last drill of every other."""
    findings = [*_failed(case, drills=True), *_late(case, "drill", ("drill",))]
    drills = [
        (history, check)
        for history, check in case.checks
        if check.level == "drill" and check.at in case.period
    ]
    sound = sum(check.sound for _, check in drills)
    summary = f"{sound} of {len(drills)} drills of the period restored their backup"
    if case.restored_in:
        median, longest = median_high(case.restored_in), max(case.restored_in)
        summary += f"; restored in {human_duration(median)} (median), {human_duration(longest)} at most"
    return conclude(
        "restore.drilled",
        "Restores are drilled",
        summary,
        findings=findings,
        evidence=[history.evidence(check.key) for history, check in drills],
        applicable="drill" in case.promise.schedules or bool(drills),
    )


def _failed(case: Case, *, drills: bool) -> Iterator[Finding]:
    newest = next((check for _, check in reversed(case.checks) if check.level == "drill"), None)
    for history in case.readable:
        there = {known.id for known in history.present}
        failed = (state.failed for state in standing(history.checks).values())
        for check in (one for one in failed if one is not None):
            if (check.backup in there or check is newest) and (check.level == "drill") == drills:
                what = "its drill" if drills else f"its verification at level {check.level}"
                why = f": {'; '.join(check.problems)}" if check.problems else ""
                yield Finding(
                    "drill-failed" if drills else "verification-failed",
                    f"{what} failed at {human_time(check.at)}{why}",
                    integrity=not drills,
                    repository=history.name,
                    backup=check.backup,
                    evidence=history.evidence(check.key),
                )


def _late(case: Case, job: str, levels: tuple[str, ...]) -> Iterator[Finding]:
    """Nothing was found sound for more than twice the time between two runs."""
    interval = case.interval(job)
    if interval is None or case.first_known is None:
        return
    allowed = 2 * interval
    newest = case.newest_sound(levels)
    since = case.first_known if newest is None else newest[1].at
    age = case.period.end - since
    if age > allowed:
        never = "never" if newest is None else f"not since {human_time(since)}"
        yield Finding(
            f"{'verification' if job == 'data' else 'drill'}-late",
            f"no backup was found sound {never}: {_span(age)}, {_span(allowed)} are allowed",
        )


def _span(length: timedelta) -> str:
    return human_duration(length.total_seconds())
