"""Prune: what retention lets go of is deleted from one repository. A plan first, then its deeds.

Nothing is removed on half a view: a listing that fails ends the prune. What cannot be judged (a manifest of
another version, a damaged one, one that nobody trusted here has signed) stays and takes no other's place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from etcdguard.catalog import Backup, Catalog
from etcdguard.catalog.catalog import keys_of
from etcdguard.errors import AccessDenied, EtcdGuardError, ObjectNotFound, Refused
from etcdguard.log import get_logger
from etcdguard.retention import Candidate, Policy, decide
from etcdguard.storage.base import RepositoryStore, StaleUpload

__all__ = ["Kept", "Limits", "PrunePlan", "PruneResult", "Pruner", "Removed"]

_log = get_logger()

_EVENT_BACKUPS = 2000
"""In one event, so that it stays far below the 1 MiB that readers allow."""


@dataclass(frozen=True)
class Limits:
    """What a prune refuses to go beyond."""

    max_fraction: float = 0.5
    """Of the backups in the repository, at most so many may go at once."""
    orphans_after: timedelta = timedelta(hours=24)
    """What belongs to no backup is left alone for so long: it may be a backup in the making."""
    slots_after: timedelta = timedelta(days=90)
    """So long the record of a slot stays: a node that comes back must not ship a second backup of it."""
    clock_skew: timedelta = timedelta(minutes=5)
    """Between this machine and the store."""


@dataclass(frozen=True)
class Kept:
    """A backup that stays, and why."""

    id: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Removed:
    """A backup that goes, or is gone, and why."""

    id: str
    reason: str
    sequence: int
    """Its number in the chain, which shows a gap from now on."""


@dataclass(frozen=True)
class PrunePlan:
    """What a prune would do. ``orphans`` are keys of objects that belong to no backup."""

    keep: tuple[Kept, ...]
    remove: tuple[Removed, ...]
    orphans: tuple[str, ...]
    uploads: tuple[StaleUpload, ...]
    slots: tuple[str, ...]
    """Keys of records of slots that are of no use any more."""
    too_much: str | None
    """Why it is refused to be carried out, if it is."""


@dataclass(frozen=True)
class PruneResult:
    """What was done. ``kept_after_all`` were to go, and stay because of what happened meanwhile."""

    removed: tuple[Removed, ...] = ()
    kept_after_all: tuple[Kept, ...] = ()
    orphans: tuple[str, ...] = ()
    uploads: int = 0
    failed: dict[str, EtcdGuardError] = field(default_factory=dict)
    """By backup id or key."""


class Pruner:
    """One repository, one policy. ``must_be_signed``: what nobody trusted has signed is not judged.

    ``record`` is told what goes before anything does, and again what came otherwise than planned.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: RepositoryStore,
        policy: Policy,
        *,
        must_be_signed: bool,
        record: Callable[[Mapping[str, Any]], object],
        limits: Limits | None = None,
    ) -> None:
        self._catalog = catalog
        self._layout = catalog.layout
        self._store = store
        self._policy = policy
        self._must_be_signed = must_be_signed
        self._record = record
        self._limits = limits or Limits()

    @property
    def repository(self) -> str:
        """The repository's configured name."""
        return self._store.name

    # -- looking -----------------------------------------------------------------------------------------

    def plan(self, now: datetime) -> PrunePlan:
        """Judge everything in the repository; changes nothing.

        Raises Refused when the clocks are too far apart, and the store's errors: half a view is no view.
        """
        self._check_clock(now)
        listing = self._catalog.list()
        backups = {backup.id: backup for backup in listing.backups}
        keep = [Kept(problem.id, (problem.error.message,)) for problem in listing.problems]
        remove = []
        for decision in decide(self._candidates(listing.backups), self._policy, now):
            reasons = decision.reasons or tuple(self._locks(backups[decision.id], now))
            if reasons:
                keep.append(Kept(decision.id, reasons))
            else:
                sequence = backups[decision.id].manifest.sequence
                remove.append(Removed(decision.id, "no retention rule keeps it", sequence))
        orphans, uploads = self._leftovers(now)
        return PrunePlan(
            keep=tuple(keep),
            remove=tuple(remove),
            orphans=tuple(orphans),
            uploads=tuple(uploads),
            slots=tuple(self._catalog.ledger.before(now - self._limits.slots_after)),
            too_much=self._too_much(len(remove), len(keep) + len(remove)),
        )

    def _check_clock(self, now: datetime) -> None:
        theirs = self._store.time()
        if theirs is not None and abs(theirs - now) > self._limits.clock_skew:
            raise Refused(
                f"this machine's clock and that of repository {self._store.name} are "
                f"{abs(theirs - now).total_seconds():.0f} s apart",
                hint="set the clock: what is old enough to go is told by it",
            )

    def _candidates(self, backups: Iterable[Backup]) -> Iterator[Candidate]:
        for backup in backups:
            manifest = backup.manifest
            yield Candidate(
                id=backup.id,
                cluster_id=manifest.cluster.cluster_id,
                created_at=manifest.created_at,
                order=manifest.order,
                verified=backup.standing.proven("data") is not None,
                held=backup.held,
                unjudged=None if self._trusted(backup) else "nobody trusted here has signed it",
            )

    def _trusted(self, backup: Backup) -> bool:
        return backup.signature == "valid" or (backup.signature == "missing" and not self._must_be_signed)

    def _locks(self, backup: Backup, now: datetime) -> Iterator[str]:
        """A deletion under an object lock would only hide the backup: it stays visible until it can go."""
        for key in keys_of(self._layout, backup.manifest):
            try:
                lock = self._store.lock(key)
            except ObjectNotFound:
                continue  # deleted by another prune: that is no lock
            if lock is not None and lock.until > now:
                yield f"locked by the store until {lock.until.isoformat(timespec='seconds')}"
                return

    def _leftovers(self, now: datetime) -> tuple[list[str], list[StaleUpload]]:
        """What no backup's manifest vouches for, and nobody has touched for long."""
        before = now - self._limits.orphans_after
        found = list(self._store.list(self._layout.backups))
        committed = {
            backup_id
            for info in found
            if (backup_id := self._layout.backup_of(info.key))
            and info.key == self._layout.manifest(backup_id)
        }
        orphans = [
            info.key
            for info in found
            if (backup_id := self._layout.backup_of(info.key)) is not None
            and backup_id not in committed
            and info.modified is not None
            and info.modified < before
        ]
        uploads = [one for one in self._store.stale_uploads(self._layout.folder) if one.started_at < before]
        return orphans, uploads

    def _too_much(self, remove: int, total: int) -> str | None:
        allowed = int(total * self._limits.max_fraction)
        if remove <= allowed:
            return None
        return f"{remove} of {total} backups would go, more than the {self._limits.max_fraction:.0%} allowed"

    # -- doing -------------------------------------------------------------------------------------------

    def execute(self, plan: PrunePlan, now: datetime) -> PruneResult:
        """Carry out a plan made just now; what fails is in the result and does not hold up the rest.

        Raises Refused for a plan that goes too far, and AccessDenied when not even the first backup may go.
        """
        if plan.too_much is not None:
            raise Refused(
                plan.too_much,
                hint="check the retention rules; --max-fraction allows more, this once",
            )
        for start in range(0, len(plan.remove), _EVENT_BACKUPS):
            part = plan.remove[start : start + _EVENT_BACKUPS]
            removing = [{"id": one.id, "reason": one.reason, "sequence": one.sequence} for one in part]
            self._record({"phase": "begun", "policy": self._policy.facts, "remove": removing})
        going_ids = {one.id for one in plan.remove}
        removed: list[Removed] = []
        kept, orphans = [], []
        uploads = 0
        failed: dict[str, EtcdGuardError] = {}
        for going in plan.remove:
            try:
                reason = self._remove(going.id)
            except EtcdGuardError as error:
                if isinstance(error, AccessDenied) and not removed and self._stands(going.id):
                    raise self._may_not_delete(plan, error) from error
                failed[going.id] = error
                continue
            if reason is None:
                removed.append(going)
                _log.info("prune.removed", backup=going.id, repository=self._store.name, reason=going.reason)
            else:
                kept.append(Kept(going.id, (reason,)))
        for key in plan.orphans:
            try:
                if self._remove_orphan(key, now):
                    orphans.append(key)
            except EtcdGuardError as error:
                failed[key] = error
        for key in plan.slots:
            try:
                self._store.delete(key)
            except EtcdGuardError as error:
                failed[key] = error
        for upload in plan.uploads:
            try:
                self._store.abort_upload(upload)
                uploads += 1
            except EtcdGuardError as error:
                failed[upload.key] = error
        stayed = [one.id for one in kept] + [one for one in failed if one in going_ids and self._stands(one)]
        if stayed:
            self._record({"phase": "ended", "stayed": stayed})
        return PruneResult(tuple(removed), tuple(kept), tuple(orphans), uploads, failed)

    def _may_not_delete(self, plan: PrunePlan, error: AccessDenied) -> AccessDenied:
        """Nothing has been deleted, and with these credentials nothing will be: that goes on record."""
        self._record({"phase": "ended", "stayed": [one.id for one in plan.remove if self._stands(one.id)]})
        return AccessDenied(
            f"nothing was deleted: {error.message}",
            hint="these credentials may not delete: prune with a pruner's (docs/s3-policies.md)",
        )

    def _remove(self, backup_id: str) -> str | None:
        """Delete a backup; answers why it stays if somebody has put a hold on it meanwhile."""
        try:
            backup = self._catalog.get(backup_id)
        except ObjectNotFound:
            return None  # another prune was first; what it left is collected as an orphan
        if self._exists(self._layout.hold(backup_id)):
            return "on hold"
        for key in keys_of(self._layout, backup.manifest):
            self._store.delete(key)
        return None

    def _remove_orphan(self, key: str, now: datetime) -> bool:
        """Looks again: the spool of some node may have shipped that very backup since."""
        backup_id = self._layout.backup_of(key)
        if backup_id is None or self._exists(self._layout.manifest(backup_id)):
            return False
        try:
            modified = self._store.head(key).modified
        except ObjectNotFound:
            return False
        if modified is None or modified >= now - self._limits.orphans_after:
            return False
        self._store.delete(key)
        return True

    def _stands(self, backup_id: str) -> bool:
        """Whether a backup that could not be removed to the end still is one, as far as can be told."""
        try:
            return self._exists(self._layout.manifest(backup_id))
        except EtcdGuardError:
            return True

    def _exists(self, key: str) -> bool:
        try:
            self._store.head(key)
        except ObjectNotFound:
            return False
        return True
