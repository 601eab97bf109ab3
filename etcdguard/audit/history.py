"""What the trail and the manifests of one repository tell together, about every backup it ever knew. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from etcdguard.audit.facts import RepositoryFacts, StoredBackup
from etcdguard.audit.promise import Promise
from etcdguard.catalog.events import Event, believed
from etcdguard.catalog.standing import Standing
from etcdguard.clock import instant
from etcdguard.model import BackupId

__all__ = ["Check", "Deletion", "History", "HoldChange", "Known", "Promised", "Prune", "standing", "tell"]


@dataclass(frozen=True)
class Deletion:
    """A deletion on record."""

    at: datetime
    actor: str
    reason: str
    key: str
    """Of the event."""
    sequence: int | None


@dataclass(frozen=True)
class Known:
    """One backup: as it is stored, as it was announced, as it was deleted, as far as each is known."""

    id: str
    stored: StoredBackup | None = None
    announced: Event | None = None
    deletion: Deletion | None = None

    @property
    def created_at(self) -> datetime:
        """When the backup began."""
        if self.stored is not None and self.stored.manifest is not None:
            return self.stored.manifest.created_at
        said = self._said("created_at")
        return BackupId.parse(self.id).taken_at if said is None else instant(said)

    @property
    def sequence(self) -> int | None:
        """Its number in the chain."""
        if self.stored is not None and self.stored.manifest is not None:
            return self.stored.manifest.sequence
        if self.announced is None:
            return None if self.deletion is None else self.deletion.sequence
        return int(self.announced.facts["sequence"])

    @property
    def slot(self) -> str | None:
        """The slot of the schedule that it was taken for."""
        if self.stored is not None and self.stored.manifest is not None:
            return self.stored.manifest.slot
        said: str | None = self._said("slot")
        return said

    @property
    def cluster_id(self) -> str | None:
        """Of etcd."""
        if self.stored is not None and self.stored.manifest is not None:
            return self.stored.manifest.cluster.cluster_id
        said: str | None = self._said("cluster_id")
        return said

    @property
    def order(self) -> tuple[int, int, int] | None:
        """As of Manifest.order."""
        if self.stored is not None and self.stored.manifest is not None:
            return self.stored.manifest.order
        if self.announced is None:
            return None
        facts = self.announced.facts
        return int(facts["epoch"]), int(facts["revision"]), int(facts["sequence"])

    @property
    def db_bytes(self) -> int | None:
        """Of the database."""
        if self.stored is not None and self.stored.manifest is not None:
            return self.stored.manifest.snapshot.db_bytes
        said: int | None = self._said("db_bytes")
        return said

    def _said(self, name: str) -> Any:
        """What was announced."""
        return None if self.announced is None else self.announced.facts.get(name)


@dataclass(frozen=True)
class Check:
    """One backup's verification or drill."""

    backup: str
    at: datetime
    level: str
    sound: bool
    actor: str
    key: str
    drill: Mapping[str, Any] | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class HoldChange:
    """A hold that was put on a backup or taken off."""

    backup: str
    at: datetime
    added: bool
    actor: str
    reason: str
    key: str


@dataclass(frozen=True)
class Promised:
    """What was configured when a backup was announced."""

    at: datetime
    actor: str
    promise: Promise
    key: str


@dataclass(frozen=True)
class Prune:
    """A prune that was begun: what it was to remove, by which rules."""

    at: datetime
    actor: str
    removed: tuple[str, ...]
    rules: Mapping[str, Any]
    key: str


@dataclass(frozen=True)
class History:
    """All of one repository, oldest first."""

    facts: RepositoryFacts
    known: Mapping[str, Known] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    holds: tuple[HoldChange, ...] = ()
    promised: tuple[Promised, ...] = ()
    prunes: tuple[Prune, ...] = ()

    @property
    def name(self) -> str:
        """The repository's."""
        return self.facts.name

    @property
    def present(self) -> list[Known]:
        """The backups that have a manifest now."""
        return [one for one in self.known.values() if one.stored is not None]

    def evidence(self, key: str) -> str:
        """A key with its repository's name before it."""
        return f"{self.name}:{key}"

    def manifest_key(self, backup_id: str) -> str:
        """Where a backup's manifest stands or stood."""
        return self.evidence(f"{self.facts.folder}backups/{backup_id}/manifest.json")


def standing(checks: Iterable[Check]) -> dict[str, Standing[Check]]:
    """By backup, after these checks, oldest first."""
    found: dict[str, Standing[Check]] = {}
    for check in checks:
        before: Standing[Check] = found.get(check.backup, Standing())
        found[check.backup] = before.after(check, sound=check.sound)
    return found


def tell(facts: RepositoryFacts) -> History:
    """Only events that can be believed count."""
    events = believed(facts.events)
    known = {one.id: Known(one.id, stored=one) for one in facts.backups}
    for event in _of(events, "backup"):
        backup_id = str(event.facts["id"])
        one = known.get(backup_id, Known(backup_id))
        known[backup_id] = replace(one, announced=one.announced or event)
    prunes = []
    for event in _of(events, "prune"):
        removing = event.facts.get("remove", ())
        for gone in removing:
            one = known.get(gone["id"], Known(gone["id"]))
            deletion = Deletion(
                event.at, event.facts["actor"], gone["reason"], event.key, gone.get("sequence")
            )
            known[gone["id"]] = replace(one, deletion=deletion)
        for backup_id in event.facts.get("stayed", ()):
            if backup_id in known:
                known[backup_id] = replace(known[backup_id], deletion=None)
        if removing:
            ids = tuple(gone["id"] for gone in removing)
            rules = event.facts.get("policy", {})
            prunes.append(Prune(event.at, event.facts["actor"], ids, rules, event.key))
    return History(
        facts,
        dict(sorted(known.items())),
        checks=tuple(_checks(events)),
        holds=tuple(_hold_changes(events)),
        promised=tuple(_promised(events)),
        prunes=tuple(prunes),
    )


def _of(events: Iterable[Event], kind: str) -> Iterator[Event]:
    return (event for event in events if event.facts["kind"] == kind)


def _checks(events: Iterable[Event]) -> Iterator[Check]:
    for event in _of(events, "verify"):
        for one in event.facts.get("results", ()):
            if one["outcome"] in ("ok", "failed"):
                yield Check(
                    backup=one["id"],
                    at=event.at,
                    level=one["level"],
                    sound=one["outcome"] == "ok",
                    actor=event.facts["actor"],
                    key=event.key,
                    drill=one.get("drill"),
                    problems=tuple(one.get("problems", ())),
                )


def _hold_changes(events: Iterable[Event]) -> Iterator[HoldChange]:
    for event in _of(events, "hold"):
        facts = event.facts
        added = facts["change"] == "added"
        yield HoldChange(facts["id"], event.at, added, facts["actor"], facts["reason"], event.key)


def _promised(events: Iterable[Event]) -> Iterator[Promised]:
    for event in _of(events, "backup"):
        promise = Promise.from_facts(event.facts.get("policy") or {})
        if promise is not None:
            yield Promised(event.at.astimezone(timezone.utc), event.facts["actor"], promise, event.key)
