"""Whether everything that happened to backups is on record, and nothing is missing of the record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from etcdguard.audit.case import Case
from etcdguard.audit.history import History
from etcdguard.audit.judgment import Control, Finding, Where, conclude

__all__ = ["chained", "complete", "deletions", "held"]

_MOST_NUMBERS = 100


def chained(case: Case) -> Control:
    """Each manifest names the one before it, and no number is missing that nothing accounts for."""
    findings: list[Finding] = []
    keys: list[str] = []
    elsewhere = {
        known.sequence for history in case.readable for known in history.known.values() if known.sequence
    }
    for history in case.readable:
        keys += [history.manifest_key(known.id) for known in history.present]
        findings += [*_broken_links(history), *_forks(history), *_missing_numbers(history, elsewhere)]
    return conclude(
        "chain.unbroken",
        "The chain of manifests is unbroken",
        f"{len(keys)} manifests were looked at",
        findings=findings,
        evidence=keys,
        applicable=bool(keys),
    )


def _broken_links(history: History) -> Iterator[Finding]:
    digests = {known.id: known.stored.digest for known in history.present if known.stored is not None}
    for known in history.present:
        manifest = None if known.stored is None else known.stored.manifest
        if manifest is None:
            continue
        previous = manifest.previous
        if previous is None:
            if manifest.sequence == 1:
                continue
            message = f"it is number {manifest.sequence} and names no manifest before it"
        elif digests.get(previous.id, previous.sha256) not in (previous.sha256, None):
            message = f"{previous.id} is not the manifest that this one was written after"
        else:
            continue
        yield Finding(
            "chain-broken",
            message,
            integrity=True,
            repository=history.name,
            backup=known.id,
            evidence=history.manifest_key(known.id),
        )


def _forks(history: History) -> Iterator[Finding]:
    """Two backups of one number: taken at once by nodes that did not see each other."""
    by_number = defaultdict(list)
    for known in history.present:
        by_number[known.sequence].append(known.id)
    for number, ids in by_number.items():
        if number is not None and len(ids) > 1:
            yield Finding(
                "chain-forked",
                f"number {number} was given to {len(ids)} backups: {', '.join(ids)}",
                "notice",
                repository=history.name,
                backup=ids[-1],
                evidence=history.manifest_key(ids[-1]),
            )


def _missing_numbers(history: History, elsewhere: set[int]) -> Iterator[Finding]:
    """Numbers between the first and the last known here that no manifest, announcement or deletion has.

    What another repository knows was never here, which is a matter of its copies.
    """
    numbers = {known.sequence for known in history.known.values() if known.sequence is not None}
    if not numbers:
        return
    readable = all(known.sequence is not None for known in history.present)
    missing = [n for n in range(min(numbers), max(numbers)) if n not in numbers and n not in elsewhere]
    if not readable:
        # A damaged manifest has a number too, which it does not tell.
        damaged = sum(known.sequence is None for known in history.present)
        missing = missing[damaged:]
    for number in missing[:_MOST_NUMBERS]:
        yield Finding(
            "sequence-missing",
            f"number {number} of the chain is missing, and no record says that it was deleted",
            integrity=True,
            repository=history.name,
        )
    if len(missing) > _MOST_NUMBERS:
        yield Finding(
            "sequence-missing",
            f"{len(missing) - _MOST_NUMBERS} more numbers up to {missing[-1]} are missing",
            integrity=True,
            repository=history.name,
        )


def deletions(case: Case) -> Control:
    """Every backup that was announced is there, or was deleted by somebody, for a reason, on record."""
    findings: list[Finding] = []
    keys: list[str] = []
    recorded = 0
    for history in case.readable:
        for known in history.known.values():
            where: Where = {
                "repository": history.name,
                "backup": known.id,
                "evidence": history.manifest_key(known.id),
            }
            deletion = known.deletion
            if known.stored is None and deletion is None:
                message = "it was announced, its manifest is gone, and no record says that it was deleted"
                findings.append(Finding("manifest-missing", message, integrity=True, **where))
            elif deletion is None:
                continue
            elif known.stored is None:
                recorded += deletion.at in case.period
                keys += [history.evidence(deletion.key)] if deletion.at in case.period else []
            else:
                deleted, written = history.facts.event_keys.get(deletion.key), known.stored.written
                if deleted is not None and written is not None and written > deleted:
                    message = (
                        f"it was deleted by {deletion.actor} and has come back: an old copy was put there"
                    )
                    findings.append(Finding("backup-returned", message, integrity=True, **where))
    return conclude(
        "deletions.recorded",
        "Every deletion is on record with actor and reason",
        f"{recorded} backups were deleted in the period, on record",
        findings=findings,
        evidence=keys,
        applicable=any(history.known for history in case.readable),
    )


def complete(case: Case) -> Control:
    """No event is missing that a later one names, and each is signed by a trusted signer."""
    findings: list[Finding] = []
    keys: list[str] = []
    wrong = {
        "missing": ("event-unsigned", "its signature is missing"),
        "invalid": ("event-untrusted", "its signature is by no trusted signer, or it was changed"),
        "displaced": ("event-displaced", "it does not stand where it was written: it is a copy"),
    }
    for history in case.readable:
        facts = history.facts
        prefix = f"{facts.folder}events/"
        named: dict[str, str] = {}
        for event in facts.events:
            keys.append(history.evidence(event.key))
            for name in event.facts.get("after", ()):
                named.setdefault(prefix + str(name), event.key)
            where: Where = {"repository": history.name, "evidence": history.evidence(event.key)}
            if event.trust == "newer":
                message = "it is in a format that this version does not know"
                findings.append(Finding("event-unknown", message, "notice", **where))
            elif event.trust in wrong and case.expectation.must_be_signed:
                code, message = wrong[event.trust]
                findings.append(Finding(code, message, integrity=True, **where))
        for key in sorted(named.keys() - facts.event_keys.keys()):
            findings.append(
                Finding(
                    "event-missing",
                    f"it was there when {named[key].rpartition('/')[2]} was written, and is gone",
                    integrity=True,
                    repository=history.name,
                    evidence=history.evidence(key),
                )
            )
    return conclude(
        "trail.complete",
        "The audit trail is complete and signed",
        f"{len(keys)} events were read",
        findings=findings,
        evidence=keys,
        applicable=bool(keys),
    )


def held(case: Case) -> Control:
    """Every hold is kept: its backup is there, and none was taken off but on record."""
    findings: list[Finding] = []
    keys: list[str] = []
    total = 0
    for history in case.readable:
        standing = {hold.id for hold in history.facts.holds.values()}
        total += len(standing)
        for place, hold in history.facts.holds.items():
            key = history.evidence(place)
            keys.append(key)
            known = history.known.get(hold.id)
            if known is None or known.stored is None:
                message = "the backup on hold is not there"
                findings.append(
                    Finding(
                        "held-backup-missing",
                        message,
                        integrity=True,
                        repository=history.name,
                        backup=hold.id,
                        evidence=key,
                    )
                )
        last = {change.backup: change for change in history.holds}
        for backup_id, change in last.items():
            keys.append(history.evidence(change.key))
            if change.added and backup_id not in standing:
                findings.append(
                    Finding(
                        "hold-missing",
                        f"the hold that {change.actor} put on it is gone, and no record says so",
                        integrity=True,
                        repository=history.name,
                        backup=backup_id,
                        evidence=history.evidence(change.key),
                    )
                )
    return conclude(
        "holds.kept",
        "What is on hold is there, and holds ended on record",
        f"{total} holds stand",
        findings=findings,
        evidence=keys,
        applicable=bool(keys),
    )
