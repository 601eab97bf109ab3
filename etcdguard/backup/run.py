"""The backup use case from end to end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from etcdguard.backup import upload
from etcdguard.backup.backlog import Backlog
from etcdguard.backup.choose import Choice, NoLeader, Preference, choose_member
from etcdguard.backup.early import Begun, EarlyUpload
from etcdguard.backup.growing import GrowingObject
from etcdguard.backup.seal import Sealed, Sealer
from etcdguard.backup.ship import Delivery, Shipper
from etcdguard.backup.spool import Spool, SpooledBackup, SpoolEntry, writing
from etcdguard.catalog.layout import Layout
from etcdguard.clock import Clock
from etcdguard.crypto.recipients import Recipient
from etcdguard.errors import EtcdGuardError, RepositoryError, SpoolFailed
from etcdguard.etcd.source import SnapshotSource, StreamLimits
from etcdguard.log import get_logger
from etcdguard.model import (
    BackupId,
    Cluster,
    ClusterTopology,
    Compression,
    Encryption,
    HashKV,
    MemberStatus,
    ObjectEntry,
)
from etcdguard.progress import Progress

__all__ = ["BackupJob", "BackupOptions", "BackupReport"]

_log = get_logger()

_KUBERNETES_PREFIX = b"/registry/"
_POLL_SECONDS = 0.5
_HASH_RATE = 100_000_000
"""Bytes of database that a member hashes in a second, taken low: a cancelled HashKV goes on in the server."""


@dataclass(frozen=True)
class BackupOptions:
    """What the caller decides. Times in seconds."""

    cluster_name: str
    recipients: Sequence[Recipient]
    """Empty only where encryption is disabled in so many words."""
    compression_level: int = 1
    compression_threads: int = 0
    """Besides the two that read and hash the stream."""
    prefer: Preference = "follower"
    endpoint: str | None = None
    emergency: bool = False
    slot: str | None = None
    """The slot of the schedule it is taken for; a repository takes one backup of a slot."""
    election_patience: float = 0.0
    """How long the members may do without a leader before this counts as a lost quorum."""
    spool_patience: float = 0.0
    """How long another run on this node may keep the spool before this one gives up."""
    hash_kv_seconds: float = 3.0
    """HashKV is asked for only when the database is small enough to be hashed in this time."""
    limits: StreamLimits = field(default_factory=StreamLimits)
    local_hosts: Collection[str] = field(default=frozenset())


@dataclass(frozen=True)
class BackupReport:
    """What one run did. ``shipped`` are older entries that this run delivered from the spool."""

    delivery: Delivery
    backup: SpooledBackup
    seconds: float
    shipped: tuple[Delivery, ...]

    @property
    def failed(self) -> dict[str, EtcdGuardError]:
        """Repositories that still lack this backup or an older one."""
        failed: dict[str, EtcdGuardError] = {}
        for delivery in (*self.shipped, self.delivery):
            failed |= delivery.failed
        return failed


class BackupJob:
    """Takes one backup: ``run``. Needs no more memory for a large database than for a small one.

    ``shipper`` is asked for when it is first needed and may still be in the making until then; it serves the
    ``repositories`` named.
    """

    def __init__(
        self,
        source: SnapshotSource,
        spool: Spool,
        shipper: Callable[[], Shipper],
        repositories: Sequence[str],
        options: BackupOptions,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self._source = source
        self._spool = spool
        self._shipper = shipper
        self._repositories = tuple(repositories)
        self._options = options
        self._clock = clock
        self._progress = progress

    def run(self) -> BackupReport:
        """Take and spool a new backup, then ship what earlier runs left, oldest first, and the new one.

        A repository that fails is in the report; RepositoryError is raised when all of them fail, with the
        backup safe in the spool. Raises Locked, SpoolFailed, EtcdUnreachable, ClusterUnhealthy or Corruption.
        """
        started = self._clock.monotonic()
        backlog = self._backlog()
        with self._spool.locked(self._options.spool_patience), ExitStack() as stack:
            shipped: list[Delivery] = []
            waiting = len(self._spool.entries())
            try:  # before what waits for a repository: one that does not answer takes minutes
                taken = self._spooled(stack.enter_context(EarlyUpload()))
            except EtcdGuardError as error:
                if self._ships_after(error):
                    shipped = backlog.ship_all()
                if not isinstance(error, SpoolFailed) or len(self._spool.entries()) >= waiting:
                    raise
                _log.warning("backup.repeated", reason=error.message)  # there may be room now
                taken = self._spooled(stack.enter_context(EarlyUpload()))
            entry, backup, begun = taken
            shipped += backlog.ship_all(but=entry)
            delivery = backlog.ship(entry, backup, begun)
        if not delivery.committed and delivery.superseded_by is None:
            raise _not_delivered(delivery)
        return BackupReport(delivery, backup, self._clock.monotonic() - started, tuple(shipped))

    def ship(self) -> tuple[Delivery, ...]:
        """Deliver what earlier runs left in the spool, and take nothing new."""
        with self._spool.locked(self._options.spool_patience):
            return tuple(self._backlog().ship_all())

    def _backlog(self) -> Backlog:
        return Backlog(self._spool, self._options.cluster_name, self._shipper, self._progress)

    def _ships_after(self, error: EtcdGuardError) -> bool:
        """Whether what waits is shipped although there is no new backup.

        A schedule sees to it otherwise, and has a slot to keep; but what waits may be what is in its way.
        """
        return self._options.slot is None or isinstance(error, SpoolFailed)

    def _spooled(self, early: EarlyUpload) -> tuple[SpoolEntry, SpooledBackup, Begun | None]:
        entry = self._spool.new_entry()
        try:
            return entry, *self._take(entry, early)
        except BaseException:
            early.abandon()
            entry.discard()
            raise

    def _take(self, entry: SpoolEntry, early: EarlyUpload) -> tuple[SpooledBackup, Begun | None]:
        choice, topology = self._chosen()
        created_at = self._clock.now()
        _log.info("backup.member_chosen", endpoint=choice.status.endpoint, reason=choice.reason)
        kubernetes = self._source.holds_prefix(choice.status.endpoint, _KUBERNETES_PREFIX)
        sealed = self._seal(entry, created_at, choice, early)
        self._shipper()  # what is wrong with how a store is configured shall leave nothing behind
        begun = early.settle(sealed.facts.revision)
        backup_id = BackupId.new(created_at, sealed.facts.revision) if begun is None else begun.id
        backup = self._describe(str(backup_id), created_at, choice, topology, sealed, kubernetes=kubernetes)
        entry.complete(backup)
        _log.info(
            "backup.spooled", backup=backup.id, revision=backup.snapshot.revision, bytes=backup.stored.bytes
        )
        return backup, begun

    def _chosen(self) -> tuple[Choice, ClusterTopology]:
        """The member to read; the members are asked again while they may be electing a leader."""
        deadline = self._clock.monotonic() + self._options.election_patience
        told = False
        while True:
            try:
                return self._choice()
            except NoLeader as error:
                if self._clock.monotonic() >= deadline:
                    raise
                if not told:
                    _log.warning("backup.waiting", reason=error.message)
                told = True
            time.sleep(_POLL_SECONDS)

    def _choice(self) -> tuple[Choice, ClusterTopology]:
        options = self._options
        statuses = self._source.statuses()
        topology = self._source.topology()
        choice = choose_member(
            statuses,
            topology,
            prefer=options.prefer,
            endpoint=options.endpoint,
            emergency=options.emergency,
            local_hosts=options.local_hosts,
        )
        return choice, topology

    def _seal(self, entry: SpoolEntry, created_at: datetime, choice: Choice, early: EarlyUpload) -> Sealed:
        options, status = self._options, choice.status
        self._progress.phase("snapshot", status.db_size)
        with writing(self._spool.path), entry.create() as out:
            sealer = Sealer(
                out,
                options.recipients,
                options.compression_level,
                compression_threads=options.compression_threads,
            )
            self._prepare(early, entry, created_at, status)
            with self._source.snapshot(status.endpoint, options.limits) as stream:
                for piece in stream:
                    sealer.update(piece)
                    early.grown()
                    self._progress.advance(len(piece))
            sealed = sealer.finish()
            out.flush()
            os.fsync(out.fileno())
        self._progress.done()
        return sealed

    def _prepare(
        self, early: EarlyUpload, entry: SpoolEntry, created_at: datetime, status: MemberStatus
    ) -> None:
        """Let the upload begin early, if the member's revision stands still while its snapshot is opened."""
        if status.db_size <= upload.PART_SIZE:
            return  # too small to be worth a question
        try:
            before = self._source.status(status.endpoint).revision
        except EtcdGuardError as error:
            # Whether that member is really gone, its snapshot tells.
            _log.info("backup.early_upload_skipped", endpoint=status.endpoint, error=error.message)
            return

        def identify() -> BackupId | None:
            after = self._source.status(status.endpoint).revision
            return BackupId.new(created_at, before) if after == before else None

        # Twice the database: zstd and age never add that much.
        source = GrowingObject(entry.object_path, most_bytes=2 * status.db_size)
        early.prepare(source, identify, partial(self._begin_upload, entry))

    def _begin_upload(self, entry: SpoolEntry, backup_id: BackupId, source: GrowingObject) -> Begun:
        layout, key = Layout(self._options.cluster_name), self._key(str(backup_id))
        entry.begin_upload(layout.absolute(key))
        _log.info("backup.upload_begun", backup=str(backup_id))
        return self._shipper().begin(backup_id, key, source)

    def _key(self, backup_id: str) -> str:
        encrypted = bool(self._options.recipients)
        return Layout(self._options.cluster_name).snapshot(backup_id, encrypted=encrypted)

    def _describe(
        self,
        backup_id: str,
        created_at: datetime,
        choice: Choice,
        topology: ClusterTopology,
        sealed: Sealed,
        *,
        kubernetes: bool,
    ) -> SpooledBackup:
        options, status, facts = self._options, choice.status, sealed.facts
        member = topology.by_id(status.member_id)
        recipients = tuple(recipient.fingerprint for recipient in options.recipients)
        return SpooledBackup(
            id=backup_id,
            created_at=created_at,
            cluster=Cluster(
                name=options.cluster_name,
                cluster_id=status.cluster_id,
                member_id=status.member_id,
                member_name=member.name if member else "",
                etcd_version=status.version,
                storage_version=sealed.pages.facts.storage_version,
                kubernetes=kubernetes,
            ),
            members=topology.members,
            snapshot=facts,
            hash_kv=self._hash_kv(status.endpoint, sealed),
            stored=ObjectEntry(
                key=self._key(backup_id), bytes=sealed.stored_bytes, sha256=sealed.stored_sha256
            ),
            compression=Compression(algorithm="zstd", level=options.compression_level),
            encryption=Encryption(format="age-encryption.org/v1", recipients=recipients)
            if recipients
            else None,
            slot=options.slot,
            repositories=self._repositories,
        )

    def _hash_kv(self, endpoint: str, sealed: Sealed) -> HashKV | None:
        budget = self._options.hash_kv_seconds
        if sealed.facts.db_bytes / _HASH_RATE > budget:
            _log.info("backup.hash_kv_skipped", db_bytes=sealed.facts.db_bytes, budget_seconds=budget)
            return None
        try:
            return self._source.hash_kv(endpoint, sealed.facts.revision, budget)
        except EtcdGuardError as error:
            # The snapshot is whole; a member that fails now must not cost us the backup.
            _log.warning("backup.hash_kv_failed", endpoint=endpoint, error=error.message)
            return None


def _not_delivered(delivery: Delivery) -> RepositoryError:
    reasons = "; ".join(f"{name}: {error.message}" for name, error in delivery.failed.items())
    hints = {error.hint for error in delivery.failed.values()}
    what_to_do = f"{hints.pop()}; " if len(hints) == 1 else ""
    return RepositoryError(
        f"no repository took the backup ({reasons})",
        hint=f"{what_to_do}the backup is whole in the spool and the next run ships it",
    )
