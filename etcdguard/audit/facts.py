"""What a repository holds of one cluster, as an audit sees it. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from etcdguard.catalog import Signature
from etcdguard.catalog.events import Event
from etcdguard.catalog.holds import Hold
from etcdguard.model import Manifest
from etcdguard.storage.base import Lock, LockRule

__all__ = ["RepositoryFacts", "StoredBackup"]


@dataclass(frozen=True)
class StoredBackup:
    """A backup that has a manifest. Moments are of the store's clock, None where it tells none."""

    id: str
    manifest: Manifest | None
    """None: it cannot be read; ``problem`` says why."""
    digest: str | None = None
    """sha256 of the manifest's bytes."""
    signature: Signature | None = None
    signer: str | None = None
    problem: str | None = None
    """Why it cannot be restored: a damaged manifest, or objects that are not there with their sizes."""
    written: datetime | None = None
    """When the manifest was."""
    objects_written: datetime | None = None
    """When the newest of the objects it names was."""
    locks: Mapping[str, Lock | None] = field(default_factory=dict)
    """How the store keeps each of its objects, by key; only where a lock is to be expected still."""


@dataclass(frozen=True)
class RepositoryFacts:
    """One cluster in one repository; with an ``error`` nothing else is known."""

    name: str
    folder: str = ""
    """What its keys begin with."""
    error: str | None = None
    backups: tuple[StoredBackup, ...] = ()
    """Oldest first by id."""
    bare: frozenset[str] = frozenset()
    """Backups' folders without a manifest."""
    events: tuple[Event, ...] = ()
    """Oldest first. Those of kind ``backup`` that are older than the period are left out but for two."""
    event_keys: Mapping[str, datetime | None] = field(default_factory=dict)
    """Every event that is there, and when it was written by the store's clock."""
    holds: Mapping[str, Hold] = field(default_factory=dict)
    """By key."""
    decided: frozenset[str] = frozenset()
    """Slots of the period that are recorded as a backup's."""
    missed: Mapping[str, str] = field(default_factory=dict)
    """Slots of the period recorded as missed, and why."""
    unknown: tuple[str, ...] = ()
    """Keys in the cluster's folder that mean nothing to this version."""
    lock: LockRule | None = None
