"""A judged case as plain data: what JSON, HTML and the table are made from (docs/audit.schema.json). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from statistics import median_high
from typing import Any

from etcdguard.audit.case import Case, Sighting
from etcdguard.audit.controls import judge
from etcdguard.audit.history import Check, History, Known, standing
from etcdguard.audit.judgment import Control
from etcdguard.audit.period import Span
from etcdguard.catalog.holds import Hold
from etcdguard.catalog.standing import Standing
from etcdguard.model import Manifest, Tool

__all__ = ["audited", "report"]

_ISO = "ISO/IEC 27001:2022 A.8.13"
_BACKUP, _TEST = "SOC 2 A1.2", "SOC 2 A1.3"
_TESTS = frozenset({"verification.data", "restore.drilled", "backups.recovery-point"})

_States = Mapping[str, Mapping[str, Standing[Check]]]


def report(clusters: Sequence[Mapping[str, Any]], period: Span, now: datetime, tool: Tool) -> dict[str, Any]:
    """The whole document, of one cluster or many."""
    outcomes = {one["outcome"] for one in clusters}
    return {
        "generated_at": now,
        "generator": tool.model_dump(),
        "period": {"start": period.start, "end": period.end},
        "outcome": _worst(outcomes),
        "clusters": list(clusters),
    }


def audited(case: Case) -> dict[str, Any]:
    """One cluster, judged."""
    controls = judge(case)
    states = {history.name: standing(history.checks) for history in case.readable}
    backups = [one for one in case.sightings if _is_shown(case, one)]
    return {
        "name": case.cluster,
        "outcome": _worst({control.outcome for control in controls}),
        "controls": [_control(control) for control in controls],
        "measures": _measures(case),
        "repositories": [_repository(one) for one in case.histories],
        "policy": case.promise.facts,
        "policy_changes": [
            {"at": one.at, "actor": one.actor, "policy": one.promise.facts, "evidence": one.key}
            for one in case.promised
            if one.at < case.period.end
        ],
        "gaps": [
            {
                "start": gap.start,
                "end": gap.end,
                "seconds": gap.seconds,
                "exceeds": case.rpo is not None and gap.seconds > case.rpo.total_seconds(),
            }
            for gap in case.gaps
        ],
        "backups": [_backup(one, states) for one in backups],
        "verifications": [_check(*one) for one in case.checks if one[1].at in case.period],
        "deletions": list(_deletions(case)),
        "holds": [
            {"repository": history.name, **_hold(key, hold)}
            for history in case.readable
            for key, hold in history.facts.holds.items()
        ],
        "hold_changes": [
            {
                "repository": history.name,
                "id": change.backup,
                "at": change.at,
                "change": "added" if change.added else "removed",
                "actor": change.actor,
                "reason": change.reason,
                "evidence": change.key,
            }
            for history in case.readable
            for change in history.holds
            if change.at in case.period
        ],
    }


def _worst(outcomes: Iterable[str]) -> str:
    found = set(outcomes)
    return next((one for one in ("FAIL", "PASS") if one in found), "NOT-APPLICABLE")


def _control(control: Control) -> dict[str, Any]:
    return {
        "id": control.id,
        "title": control.title,
        "requirements": [_ISO, _BACKUP, *([_TEST] if control.id in _TESTS else [])],
        "outcome": control.outcome,
        "summary": control.summary,
        "findings": [asdict(finding) for finding in control.findings],
        "evidence": list(control.evidence),
        "evidence_total": control.evidence_total,
    }


def _measures(case: Case) -> dict[str, Any]:
    expected = len(case.expected)
    done = sum(slot in case.satisfied for slot in case.expected)
    times = case.restored_in
    return {
        "backups_taken": len(case.taken),
        "slots_expected": expected,
        "slots_satisfied": done,
        "success_rate": done / expected if expected else None,
        "rpo_target_seconds": None if case.rpo is None else case.rpo.total_seconds(),
        "longest_gap_seconds": max((gap.seconds for gap in case.gaps), default=None),
        "drills_sound": len(times),
        "rto_median_seconds": median_high(times) if times else None,
        "rto_longest_seconds": max(times, default=None),
    }


def _repository(history: History) -> dict[str, Any]:
    facts = history.facts
    return {
        "name": facts.name,
        "error": facts.error,
        "backups": len(history.present),
        "events": len(facts.event_keys),
        "object_lock": None if facts.lock is None else asdict(facts.lock),
    }


def _is_shown(case: Case, sighting: Sighting) -> bool:
    there = any(known.stored is not None for _, known in sighting.by)
    return sighting.first.created_at < case.period.end and (there or sighting.first.created_at in case.period)


def _backup(sighting: Sighting, states: _States) -> dict[str, Any]:
    manifest = next(
        (known.stored.manifest for _, known in sighting.by if known.stored and known.stored.manifest), None
    )
    one = sighting.first
    return {
        "id": sighting.id,
        "created_at": one.created_at.astimezone(timezone.utc),
        "sequence": one.sequence,
        "slot": one.slot,
        "db_bytes": one.db_bytes,
        **_manifest_facts(manifest),
        "copies": [_copy(history, known, states) for history, known in sighting.by],
    }


def _manifest_facts(manifest: Manifest | None) -> dict[str, Any]:
    if manifest is None:
        return {"revision": None, "stored_bytes": None, "encryption": None}
    encryption = manifest.encryption
    return {
        "revision": manifest.snapshot.revision,
        "stored_bytes": manifest.stored_bytes,
        "encryption": None
        if encryption is None
        else {"format": encryption.format, "recipients": list(encryption.recipients)},
    }


def _copy(history: History, known: Known, states: _States) -> dict[str, Any]:
    stored = known.stored
    state: Standing[Check] = states[history.name].get(known.id, Standing())
    sound, failed = state.sound, state.failed
    locks = [] if stored is None else list(stored.locks.values())
    moments = [lock.until for lock in locks if lock is not None]
    return {
        "repository": history.name,
        "state": "deleted"
        if stored is None and known.deletion
        else "missing"
        if stored is None
        else "present"
        if stored.problem is None
        else "damaged",
        "manifest_sha256": stored and stored.digest,
        "signature": stored and stored.signature,
        "signer": stored and stored.signer,
        "verified_level": sound and sound.level,
        "verified_at": sound and sound.at,
        "failed_level": failed and failed.level,
        "failed_at": failed and failed.at,
        "locked_until": min(moments) if moments and len(moments) == len(locks) else None,
        "held": any(hold.id == known.id for hold in history.facts.holds.values()),
    }


def _check(history: History, check: Check) -> dict[str, Any]:
    drill = check.drill or {}
    return {
        "repository": history.name,
        "id": check.backup,
        "at": check.at,
        "level": check.level,
        "outcome": "ok" if check.sound else "failed",
        "actor": check.actor,
        "members": drill.get("members"),
        "rto_seconds": drill.get("rto_seconds"),
        "evidence": check.key,
    }


def _deletions(case: Case) -> Iterator[dict[str, Any]]:
    for history in case.readable:
        for known in history.known.values():
            deletion = known.deletion
            if known.stored is None and deletion is not None and deletion.at in case.period:
                yield {
                    "repository": history.name,
                    "id": known.id,
                    "at": deletion.at,
                    "actor": deletion.actor,
                    "reason": deletion.reason,
                    "evidence": deletion.key,
                }


def _hold(key: str, hold: Hold) -> dict[str, Any]:
    return {**asdict(hold), "evidence": key}
