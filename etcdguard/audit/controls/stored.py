"""Whether what is stored is whole, signed, encrypted, locked, and the same everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from etcdguard.audit.case import Case, Sighting
from etcdguard.audit.facts import StoredBackup
from etcdguard.audit.history import History, Known
from etcdguard.audit.judgment import Control, Finding, Where, conclude
from etcdguard.human import counted

__all__ = ["copied", "encrypted", "locked", "readable", "signed", "sound"]

_UNDER_WAY = timedelta(minutes=10)
"""A backup that reached one repository may be on its way to the others."""


def _present(case: Case) -> Iterator[tuple[History, Known, StoredBackup]]:
    for history in case.readable:
        for known in history.known.values():
            if known.stored is not None:
                yield history, known, known.stored


def readable(case: Case) -> Control:
    """Every repository could be read to the end."""
    findings = [
        Finding("repository-unreadable", one.facts.error, repository=one.name)
        for one in case.histories
        if one.facts.error is not None
    ]
    findings += [
        Finding(
            "unknown-object",
            f"{len(one.facts.unknown)} objects in the cluster's folder are none of etcdguard's",
            "notice",
            repository=one.name,
            evidence=one.evidence(one.facts.unknown[0]),
        )
        for one in case.readable
        if one.facts.unknown
    ]
    counts = ", ".join(f"{one.name}: {counted(len(one.present), 'backup')}" for one in case.readable)
    return conclude(
        "repositories.readable",
        "Every repository could be read",
        counts or "no repository could be read",
        findings=findings,
    )


def sound(case: Case) -> Control:
    """Every manifest can be read, is what was announced, and names objects that are there."""
    findings: list[Finding] = []
    keys: list[str] = []
    for history, known, stored in _present(case):
        announced = known.announced
        key = history.manifest_key(known.id)
        keys.append(key)
        where: Where = {"repository": history.name, "backup": known.id, "evidence": key}
        if stored.problem is not None:
            findings.append(Finding("backup-damaged", stored.problem, integrity=True, **where))
        digest = None if announced is None else announced.facts.get("manifest_sha256")
        if stored.digest is not None and digest is not None and digest != stored.digest:
            message = "the manifest is not the one that was announced when the backup was made"
            findings.append(Finding("manifest-changed", message, integrity=True, **where))
        if _is_later(stored.objects_written, stored.written):
            message = "its object was written after its manifest; 'etcdguard verify --level data' proves it"
            findings.append(Finding("object-newer", message, "notice", **where))
    return conclude(
        "backups.sound",
        "Every manifest can be read and names objects that are there",
        f"{len(keys)} copies of backups were looked at",
        findings=findings,
        evidence=keys,
        applicable=bool(keys),
    )


def _is_later(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and one > other


def signed(case: Case) -> Control:
    """Every manifest has a signature by a trusted signer."""
    findings: list[Finding] = []
    keys: list[str] = []
    signers: Counter[str] = Counter()
    for history, known, stored in _present(case):
        if stored.signature is None:
            continue  # damaged, which is told elsewhere
        key = history.manifest_key(known.id) + ".sig"
        keys.append(key)
        where: Where = {"repository": history.name, "backup": known.id, "evidence": key}
        if stored.signer is not None:
            signers[stored.signer] += 1
        elif not case.expectation.must_be_signed:
            continue
        elif stored.signature == "missing":
            findings.append(
                Finding("signature-missing", "the manifest is not signed", integrity=True, **where)
            )
        else:
            message = "the signature is by no trusted signer, or the manifest was changed"
            findings.append(Finding("signature-invalid", message, integrity=True, **where))
    by = ", ".join(f"{count} by {signer}" for signer, count in sorted(signers.items()))
    return conclude(
        "backups.signed",
        "Every backup is signed by a trusted signer",
        by or "none is signed by a trusted signer",
        findings=findings,
        evidence=keys,
        applicable=bool(keys) and case.expectation.must_be_signed,
    )


def encrypted(case: Case) -> Control:
    """Every backup was encrypted before it was stored."""
    findings: list[Finding] = []
    keys: list[str] = []
    recipients: Counter[str] = Counter()
    clear = 0
    for history, known, stored in _present(case):
        if stored.manifest is None:
            continue
        key = history.manifest_key(known.id)
        keys.append(key)
        encryption = stored.manifest.encryption
        if encryption is not None:
            recipients.update(encryption.recipients)
            continue
        clear += 1
        if case.promise.recipients:
            message = "it is stored in clear"
            findings.append(
                Finding("not-encrypted", message, repository=history.name, backup=known.id, evidence=key)
            )
    told = ", ".join(f"{count} to {recipient}" for recipient, count in sorted(recipients.items()))
    in_clear = f"{clear} in clear" if clear else ""
    return conclude(
        "backups.encrypted",
        "Every backup was encrypted before it was stored",
        "; ".join(part for part in (told, in_clear) if part) or "no backup",
        findings=findings,
        evidence=keys,
        applicable=bool(keys) and (bool(case.promise.recipients) or not clear),
    )


def locked(case: Case) -> Control:
    """Every object is under the object lock that it was to get, by what the store says."""
    findings: list[Finding] = []
    keys: list[str] = []
    for history, known, stored in _present(case):
        rule = history.facts.lock
        if rule is None or stored.manifest is None:
            continue
        for key, lock in stored.locks.items():
            evidence = history.evidence(key)
            keys.append(evidence)
            broken = rule.broken(lock, stored.manifest.created_at)
            if broken is not None:
                code, what = broken
                where: Where = {"repository": history.name, "backup": known.id, "evidence": evidence}
                findings.append(Finding(f"lock-{code}", f"it {what}; configured is {rule}", **where))
    rules = {str(one.facts.lock) for one in case.readable if one.facts.lock}
    return conclude(
        "backups.locked",
        "Every object is under object lock for as long as configured",
        f"{len(keys)} objects are to be locked now ({', '.join(sorted(rules))})"
        if rules
        else "no object lock is configured",
        findings=findings,
        evidence=keys,
        applicable=bool(keys),
    )


def copied(case: Case) -> Control:
    """Every backup is in every repository, byte for byte the same manifest."""
    findings: list[Finding] = []
    keys: list[str] = []
    whole = 0
    for sighting in case.sightings:
        found = [(history, known) for history, known in sighting.by if known.stored is not None]
        if not found:
            continue
        keys += [history.manifest_key(sighting.id) for history, _ in found]
        digests = {known.stored.digest for _, known in found if known.stored and known.stored.digest}
        if len(digests) > 1:
            message = "the repositories hold different manifests of this backup"
            evidence = found[0][0].manifest_key(sighting.id)
            findings.append(
                Finding("copy-differs", message, integrity=True, backup=sighting.id, evidence=evidence)
            )
        missing = [history for history in case.readable if _lacks(history, sighting, case.now - _UNDER_WAY)]
        whole += not missing and len(found) == len(case.histories)
        findings += [
            Finding(
                "copy-missing",
                f"it is in {found[0][0].name} and not here, and nothing says that it was deleted",
                repository=history.name,
                backup=sighting.id,
                evidence=history.manifest_key(sighting.id),
            )
            for history in missing
        ]
    total = len({sighting.id for sighting in case.sightings if any(known.stored for _, known in sighting.by)})
    return conclude(
        "backups.copied",
        "Every backup is in every repository, and the copies are the same",
        f"{whole} of {total} backups are in all {len(case.histories)} repositories",
        findings=findings,
        evidence=keys,
        applicable=len(case.histories) > 1 and total > 0,
    )


def _lacks(history: History, sighting: Sighting, recent: datetime) -> bool:
    """Whether the repository should have the backup: it is younger than its first one and was not deleted.

    One that was announced here and is gone is told by the control of deletions. A repository with another
    backup of the same slot got that one first. One that was announced after ``recent`` may be on its way.
    """
    if sighting.id in history.known:
        return False
    if not history.known:
        return True
    first = min(one.created_at for one in history.known.values())
    if any(one.announced is not None and one.announced.at > recent for _, one in sighting.by):
        return False
    slot = sighting.first.slot
    if slot is not None and any(one.slot == slot for one in history.known.values()):
        return False
    return sighting.first.created_at > first
