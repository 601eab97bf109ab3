"""Whether backups were read back, and restored."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from etcdguard.audit.case import Case
from etcdguard.audit.history import Check, History
from etcdguard.audit.judgment import Control, Finding, conclude
from etcdguard.human import human_duration, human_time

__all__ = ["drilled", "standing", "verified"]

_DEPTHS = ("manifest", "data", "drill")


def standing(history: History) -> tuple[dict[str, Check], dict[str, Check]]:
    """By backup: the deepest check that found it sound since it last failed, and how it last failed.

    A failure stands until a check as deep finds the backup sound.
    """
    found: dict[str, Check] = {}
    failed: dict[str, Check] = {}
    for check in history.checks:
        if check.level not in _DEPTHS:
            continue
        depth = _DEPTHS.index(check.level)
        if not check.sound:
            found.pop(check.backup, None)
            failed[check.backup] = check
            continue
        if check.backup not in found or depth >= _DEPTHS.index(found[check.backup].level):
            found[check.backup] = check
        if check.backup in failed and depth >= _DEPTHS.index(failed[check.backup].level):
            del failed[check.backup]
    return found, failed


def verified(case: Case) -> Control:
    """The newest verification of data is not too old, and none has failed."""
    findings = [*_failed(case, drills=False), *_late(case, "data", ("data", "drill"))]
    newest = case.newest_sound(("data", "drill"))
    read_back, present = 0, 0
    for history in case.readable:
        found, _ = standing(history)
        present += len(history.present)
        read_back += sum(
            known.id in found and found[known.id].level != "manifest" for known in history.present
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
    sound = [check for _, check in drills if check.sound]
    times = sorted(
        float(check.drill["rto_seconds"]) for check in sound if check.drill and "rto_seconds" in check.drill
    )
    summary = f"{len(sound)} of {len(drills)} drills of the period restored their backup"
    if times:
        longest = human_duration(times[-1])
        summary += f"; restored in {human_duration(times[len(times) // 2])} (median), {longest} at most"
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
        _, failed = standing(history)
        for check in failed.values():
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
