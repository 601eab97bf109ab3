"""Whether backups were taken when they were due."""

from __future__ import annotations

from etcdguard.audit.case import Case
from etcdguard.audit.judgment import Control, Finding, conclude
from etcdguard.human import human_duration, human_time
from etcdguard.slots import slot_time

__all__ = ["on_schedule", "recovery_point"]


def on_schedule(case: Case) -> Control:
    """Every slot of the schedule has, or had, a backup in at least one repository."""
    expected = case.expected
    missed = [slot for slot in expected if slot not in case.satisfied]
    reasons = {slot: why for history in case.readable for slot, why in history.facts.missed.items()}
    unknown = "no reason is on record"
    findings = [
        Finding(
            "slot-missed",
            f"no backup was taken for {human_time(slot_time(slot))}: {reasons.get(slot, unknown)}",
        )
        for slot in missed
    ]
    taken = {one.first.slot: one for one in case.sightings if one.first.slot is not None}
    evidence = [
        history.manifest_key(known.id)
        for slot in expected
        if slot in taken
        for history, known in taken[slot].by[:1]
    ]
    if expected:
        done = len(expected) - len(missed)
        summary = f"{done} of {len(expected)} scheduled backups were taken ({done / len(expected):.2%})"
    elif any(True for _ in case.schedules("backup")):
        summary = "no scheduled backup was due in the period"
    else:
        summary = f"no schedule is known; {len(case.taken)} backups were taken"
    return conclude(
        "backups.on-schedule",
        "Every scheduled backup was taken",
        summary,
        findings=findings,
        evidence=evidence,
        applicable=bool(expected),
    )


def recovery_point(case: Case) -> Control:
    """No time between two backups is longer than what may be lost."""
    target = case.rpo
    title = "No gap between backups exceeds the recovery point objective"
    if not case.gaps:
        findings = []
        if target is not None and case.first_known is None:
            findings = [Finding("no-backup", f"no backup is known of cluster {case.cluster}")]
        summary = "no backup is known up to the end of the period"
        return conclude("backups.recovery-point", title, summary, findings=findings, applicable=False)
    longest = max(case.gaps, key=lambda gap: gap.seconds)
    measured = f"longest gap {human_duration(longest.seconds)}, from {human_time(longest.start)}"
    if target is None:
        return conclude(
            "backups.recovery-point", title, f"{measured}; no objective is configured", applicable=False
        )
    allowed = human_duration(target.total_seconds())
    findings = [
        Finding(
            "gap-too-long",
            f"{human_duration(gap.seconds)} without a backup, from {human_time(gap.start)} to "
            f"{human_time(gap.end)}; {allowed} are allowed",
        )
        for gap in case.gaps
        if gap.seconds > target.total_seconds()
    ]
    return conclude("backups.recovery-point", title, f"{measured}; {allowed} are allowed", findings=findings)
