"""A node that takes backups of a fake cluster with everything else real, and what must hold of its stores."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from etcdguard.audit.promise import Promise
from etcdguard.backup import BackupJob, BackupOptions, BackupReport
from etcdguard.backup.ship import Destination, Shipper
from etcdguard.backup.spool import Spool
from etcdguard.catalog import Catalog, Listing, manifest_digest
from etcdguard.catalog.chain import link_problem
from etcdguard.crypto.recipients import generate_identity
from etcdguard.crypto.signing import SigningKey, TrustedSigners
from etcdguard.etcd.source import SnapshotSource
from etcdguard.fetch import open_plain
from etcdguard.model import Manifest, Tool
from etcdguard.progress import NoProgress, Progress
from etcdguard.storage.base import RepositoryStore
from tests.support.bolt_writer import Shape, revision_key, with_trailer, write_database
from tests.support.fake_source import FakeSource

__all__ = [
    "CLUSTER", "IDENTITY", "SIGNER", "START", "TRUSTED", "ManualClock", "Node", "catalog_of",
    "chain_problems", "database", "plaintext", "violations",
]  # fmt: skip

CLUSTER = "prod"
IDENTITY = generate_identity()
SIGNER = SigningKey.generate()
TRUSTED = TrustedSigners([SIGNER.public])
START = datetime(2026, 11, 21, 2, 0, tzinfo=timezone.utc)


def database(revision: int = 20, *, value_bytes: int = 300, shape: Shape | None = None) -> bytes:
    """A sound etcd database whose newest revision is ``revision``; its values do not compress."""
    source = random.Random(revision)
    elements = [(revision_key(number), source.randbytes(value_bytes)) for number in range(2, revision + 1)]
    return write_database(elements, {b"consistent_index": revision.to_bytes(8, "big")}, shape)


class ManualClock:
    """Moves on by one second each time ``now`` is read, and by what a test adds to ``moment``."""

    def __init__(self, moment: datetime = START) -> None:
        self.moment = moment

    def now(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment

    def monotonic(self) -> float:
        return (self.moment - START).total_seconds()


@dataclass
class Node:
    """One machine with a spool. ``run`` is a process of its own: nothing but disk and stores outlives it."""

    spool_path: Path
    clock: ManualClock = field(default_factory=ManualClock)
    signer: SigningKey | None = SIGNER
    cluster: str = CLUSTER
    options: Mapping[str, Any] = field(default_factory=dict)
    promise: Promise = field(default_factory=Promise)

    @property
    def spool(self) -> Spool:
        return Spool(self.spool_path)

    def destinations(self, stores: Sequence[RepositoryStore]) -> list[Destination]:
        return [Destination(Catalog(store, self.cluster, TRUSTED), store) for store in stores]

    def shipper(self, stores: Sequence[RepositoryStore]) -> Shipper:
        tool = Tool(name="etcdguard", version="1.0")
        return Shipper(self.destinations(stores), self.signer, tool, "node-1", self.clock, self.promise.facts)

    def job(
        self, source: SnapshotSource, *stores: RepositoryStore, progress: Progress | None = None
    ) -> BackupJob:
        options = BackupOptions(
            **{"cluster_name": self.cluster, "recipients": [IDENTITY.recipient], **self.options}
        )
        shipper = self.shipper(stores)
        return BackupJob(
            source,
            self.spool,
            lambda: shipper,
            [store.name for store in stores],
            options,
            self.clock,
            progress or NoProgress(),
        )

    def run(self, source: SnapshotSource, *stores: RepositoryStore) -> BackupReport:
        return self.job(source, *stores).run()

    def backup(self, revision: int, *stores: RepositoryStore) -> BackupReport:
        """Run against a cluster that holds ``database(revision)``."""
        return self.run(FakeSource(database(revision)), *stores)


def catalog_of(store: RepositoryStore) -> Catalog:
    return Catalog(store, CLUSTER, TRUSTED)


def plaintext(store: RepositoryStore, manifest: Manifest) -> bytes:
    """The verified snapshot with its trailer."""
    return b"".join(open_plain(store, catalog_of(store).layout, manifest, [IDENTITY]))


def violations(store: RepositoryStore) -> list[str]:
    """Listed implies restorable, and nothing partial is shown: what breaks that, in words."""
    listing = catalog_of(store).list()
    found = [f"{problem.id}: {problem.error}" for problem in listing.problems]
    for backup in listing.backups:
        if backup.signature != "valid":
            found.append(f"{backup.id}: signature {backup.signature}")
        if plaintext(store, backup.manifest) != with_trailer(database(backup.manifest.snapshot.revision)):
            found.append(f"{backup.id}: another snapshot came back")
    return found


def chain_problems(listing: Listing) -> list[str]:
    """What breaks the chain from its first manifest to its last."""
    backups = sorted(listing.backups, key=lambda backup: backup.manifest.sequence)
    found = []
    raws = {backup.id: backup.raw for backup in backups}
    for number, backup in enumerate(backups, start=1):
        if backup.manifest.sequence != number:
            found.append(f"{backup.id} has sequence {backup.manifest.sequence} at place {number}")
        problem = link_problem(backup.manifest, raws)
        if problem is not None:
            found.append(problem)
    for before, after in itertools.pairwise(backups):
        previous = after.manifest.previous
        if previous is None or (previous.id, previous.sha256) != (before.id, manifest_digest(before.raw)):
            found.append(f"{after.id} does not name {before.id}")
    return found
