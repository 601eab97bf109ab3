"""All of the audit's reading: one listing of a cluster's folder, then its small objects, many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from etcdguard.audit.facts import RepositoryFacts, StoredBackup
from etcdguard.audit.period import Span
from etcdguard.catalog import Catalog, manifest_digest
from etcdguard.catalog.catalog import Backup, check_sizes, keys_of
from etcdguard.catalog.events import Event
from etcdguard.catalog.holds import read_hold
from etcdguard.catalog.reading import PARALLEL_READS
from etcdguard.errors import (
    Corruption,
    ObjectNotFound,
    StoreUnavailable,
    UnsupportedFormat,
)
from etcdguard.slots import slot_id
from etcdguard.storage.base import Lock, LockRule, ObjectInfo, RepositoryStore

__all__ = ["gather"]

_TRIES = 3
_KNOWN = ("backups/", "events/", "holds/", "slots/", "checks/", "log/")

_One = TypeVar("_One")
_Read = TypeVar("_Read")


def gather(
    catalog: Catalog, store: RepositoryStore, period: Span, now: datetime, lock: LockRule | None
) -> RepositoryFacts:
    """Everything a report on that period needs of this repository; raises its errors.

    Others may write meanwhile: what a prune took away between the listing and the reading makes us look
    anew, and what seems to be missing is looked for once more by its key.
    """
    for _ in range(_TRIES):
        found = _Reader(catalog, store, period, now, lock).read()
        if found is not None:
            return found
    raise StoreUnavailable(
        f"repository {store.name}: backups are being deleted faster than they can be read",
        hint="run the audit when no prune is under way",
    )


class _Reader:
    def __init__(
        self, catalog: Catalog, store: RepositoryStore, period: Span, now: datetime, lock: LockRule | None
    ) -> None:
        self._catalog = catalog
        self._layout = catalog.layout
        self._store = store
        self._period = period
        self._now = now
        self._lock = lock
        self._infos: dict[str, ObjectInfo] = {}

    def read(self) -> RepositoryFacts | None:
        """None: a backup was deleted since the listing."""
        layout = self._layout
        self._infos = {info.key: info for info in self._store.list(layout.folder)}
        folders = self._folders()
        committed = [name for name, keys in folders.items() if layout.manifest(name) in keys]
        with ThreadPoolExecutor(PARALLEL_READS) as pool:

            def each(read: Callable[[_One], _Read], wanted: Iterable[_One]) -> list[_Read]:
                return list(pool.map(read, wanted))

            backups = each(self._backup, committed)
            if None in backups:
                return None
            stored = {one.id: one for one in backups if one is not None}
            events = self._events(each)
            stored |= self._late_backups(events, stored, each)
            kept = each(self._with_locks, stored.values())
            keys = [key for key in self._infos if key.startswith(layout.holds)]
            holds = zip(keys, each(partial(read_hold, self._store, layout), keys), strict=True)
            decided, missed = self._slots(each)
        return RepositoryFacts(
            name=self._store.name,
            folder=layout.folder,
            backups=tuple(sorted(kept, key=lambda one: one.id)),
            bare=frozenset(folders) - stored.keys(),
            events=tuple(sorted(events.values(), key=lambda event: event.key)),
            event_keys={
                key: info.modified for key, info in self._infos.items() if layout.event_kind(key) is not None
            },
            holds={key: hold for key, hold in holds if hold is not None},
            decided=decided,
            missed=missed,
            unknown=tuple(sorted(self._unknown())),
            lock=self._lock,
        )

    # -- backups -----------------------------------------------------------------------------------------

    def _folders(self) -> dict[str, set[str]]:
        """The keys of each backup's folder."""
        folders: dict[str, set[str]] = {}
        for key in self._infos:
            backup_id = self._layout.backup_of(key)
            if backup_id is not None:
                folders.setdefault(backup_id, set()).add(key)
        return folders

    def _backup(self, backup_id: str) -> StoredBackup | None:
        manifest = self._infos.get(self._layout.manifest(backup_id))
        written = None if manifest is None else manifest.modified
        try:
            found = self._catalog.get(backup_id)
        except ObjectNotFound:
            return None
        except (Corruption, UnsupportedFormat) as error:
            return StoredBackup(backup_id, None, problem=error.message, written=written)
        return self._stored(found, written)

    def _stored(self, backup: Backup, written: datetime | None) -> StoredBackup:
        manifest = backup.manifest
        keys = [self._layout.absolute(entry.key) for entry in manifest.objects]
        there = [self._infos[key] for key in keys if key in self._infos]
        problem = None
        try:
            check_sizes(self._layout, manifest, {info.key: info.size for info in there})
        except Corruption as error:
            problem = error.message
        moments = [info.modified for info in there if info.modified is not None]
        return StoredBackup(
            id=backup.id,
            manifest=manifest,
            digest=manifest_digest(backup.raw),
            signature=backup.signature,
            signer=backup.signer,
            problem=problem,
            written=written,
            objects_written=max(moments, default=None),
        )

    def _late_backups(
        self,
        events: Mapping[str, Event],
        stored: Mapping[str, StoredBackup],
        each: Callable[[Callable[[str], StoredBackup | None], Iterable[str]], list[StoredBackup | None]],
    ) -> dict[str, StoredBackup]:
        """Backups that were announced and not listed: they may have been written while we listed."""
        announced = {
            str(event.facts.get("id")) for event in events.values() if _is(event, "backup")
        } - stored.keys()
        gone = {
            one["id"]
            for event in events.values()
            if _is(event, "prune")
            for one in event.facts.get("remove", ())
        }
        suspects = [one for one in sorted(announced - gone) if self._layout.backup_of(self._manifest(one))]
        for backup_id in suspects:
            for info in self._store.list(f"{self._layout.backups}{backup_id}/"):
                self._infos[info.key] = info
        return {one.id: one for one in each(self._backup, suspects) if one is not None}

    def _manifest(self, backup_id: str) -> str:
        return self._layout.manifest(backup_id)

    def _with_locks(self, backup: StoredBackup) -> StoredBackup:
        """With the locks as the store has them, where there should be some now."""
        if self._lock is None or backup.manifest is None:
            return backup
        length = timedelta(days=self._lock.days)
        locks: dict[str, Lock | None] = {}
        for key in keys_of(self._layout, backup.manifest):
            info = self._infos.get(key)
            since = backup.manifest.created_at if info is None or info.modified is None else info.modified
            if info is not None and since + length > self._now:
                try:
                    locks[key] = self._store.lock(key)
                except ObjectNotFound:
                    continue
        return replace(backup, locks=locks)

    # -- events ------------------------------------------------------------------------------------------

    def _events(
        self, each: Callable[[Callable[[str], Event | None], Iterable[str]], list[Event | None]]
    ) -> dict[str, Event]:
        """By key. Of those that tell of backups: the first, the last before the period, and all since."""
        keys = sorted(key for key in self._infos if self._layout.event_kind(key) is not None)
        begin = self._layout.events + slot_id(self._period.start)
        told = [key for key in keys if self._layout.event_kind(key) == "backup"]
        old = [key for key in told if key < begin]
        left_out = set(old[1:-1])
        read = self._catalog.trail.read
        events = {
            event.key: event
            for event in each(read, [key for key in keys if key not in left_out])
            if event is not None
        }
        named = {
            self._layout.events + str(name)
            for event in events.values()
            for name in event.facts.get("after", ())
        }
        for event in each(read, sorted(named - self._infos.keys())):
            if event is not None:
                events[event.key] = event
                self._infos[event.key] = self._store.head(event.key)
        return events

    # -- what else there is ------------------------------------------------------------------------------

    def _slots(
        self, each: Callable[[Callable[[str], str | None], Iterable[str]], list[str | None]]
    ) -> tuple[frozenset[str], dict[str, str]]:
        """Of the period: those that are a backup's, and why the missed ones were."""
        first, last = slot_id(self._period.start), slot_id(self._period.end)
        told = [self._layout.slot_of(key) for key in self._infos if key.startswith(self._layout.slots)]
        here = [(slot, was_missed) for slot, was_missed in told if first <= slot <= last]
        missed = [slot for slot, was_missed in here if was_missed]
        reasons = zip(missed, each(self._catalog.ledger.why_missed, missed), strict=True)
        return (
            frozenset(slot for slot, was_missed in here if not was_missed),
            {slot: why or "the record of it cannot be read" for slot, why in reasons},
        )

    def _unknown(self) -> Iterable[str]:
        for key in self._infos:
            relative = key.removeprefix(self._layout.folder)
            misplaced = relative.startswith("backups/") and self._layout.backup_of(key) is None
            if misplaced or not relative.startswith(_KNOWN):
                yield key


def _is(event: Event, kind: str) -> bool:
    return event.trust == "valid" and event.facts.get("kind") == kind
