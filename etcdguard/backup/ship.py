"""From the spool to the repositories: every byte first, then the signature, then the manifest.

A repository that is down does not hold up the others: the entry stays in the spool until each repository it
was meant for has acknowledged it, and the next run tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from etcdguard.backup.early import Begun
from etcdguard.backup.growing import GrowingObject
from etcdguard.backup.spool import SpooledBackup, SpoolEntry
from etcdguard.backup.upload import abort_orphans, upload_object
from etcdguard.catalog.catalog import Catalog
from etcdguard.catalog.chain import Link, next_position
from etcdguard.catalog.codec import decode_manifest, encode_manifest, manifest_digest
from etcdguard.catalog.reading import read_small
from etcdguard.clock import Clock
from etcdguard.crypto.signing import SigningKey
from etcdguard.errors import Corruption, EtcdGuardError, ObjectNotFound, RepositoryError, StoreUnavailable
from etcdguard.log import get_logger
from etcdguard.model import FORMAT, BackupId, Manifest, Tool
from etcdguard.progress import Progress
from etcdguard.storage.base import ObjectStore, UploadJanitor

__all__ = ["Delivery", "Destination", "Shipper"]

_log = get_logger()


@dataclass(frozen=True)
class Destination:
    """One configured repository as a backup sees it: its catalog, and the same store's janitor."""

    catalog: Catalog
    janitor: UploadJanitor

    @property
    def name(self) -> str:
        """The repository's configured name."""
        return self.catalog.store.name


@dataclass(frozen=True)
class Delivery:
    """How shipping one entry went; ``outcomes`` has None or an error for each repository."""

    backup_id: str
    manifest: Manifest | None
    """None when no repository could be reached, so that the backup has no place in the chain yet."""
    outcomes: Mapping[str, EtcdGuardError | None]
    superseded_by: str | None = None
    """The other backup of the same slot that was first; then no repository has or gets this one."""

    @property
    def committed(self) -> bool:
        """Whether at least one repository holds the backup."""
        return any(error is None for error in self.outcomes.values())

    @property
    def failed(self) -> dict[str, EtcdGuardError]:
        """The repositories still missing it."""
        return {name: error for name, error in self.outcomes.items() if error is not None}


class Shipper:
    """Delivers spool entries. ``finished_at`` and the place in the chain are fixed at the first commit.

    ``policy`` is what was configured when the backup was brought; the audit trail keeps it with each.

    One serves one run: a repository that could not be reached is not asked again for the next entry, because
    insisting takes minutes each time.
    """

    def __init__(
        self,
        destinations: Sequence[Destination],
        signer: SigningKey | None,
        tool: Tool,
        node: str,
        clock: Clock,
        policy: Mapping[str, Any] | None = None,
    ) -> None:
        self._destinations = {destination.name: destination for destination in destinations}
        self._signer = signer
        self._tool = tool
        self._node = node
        self._clock = clock
        self._policy = policy or {}
        self._unreachable: dict[str, StoreUnavailable] = {}

    def ship(
        self,
        entry: SpoolEntry,
        backup: SpooledBackup,
        progress: Progress,
        *,
        known: Sequence[Link] = (),
        begun: Begun | None = None,
    ) -> Delivery:
        """Bring one complete entry to every repository that lacks it; removes it when none does.

        ``known`` are manifests of this cluster that the repositories in reach may lack; ``begun`` are uploads
        of it that ``begin`` began. Errors of a repository are returned, not raised; what is wrong with the
        spool itself is raised.
        """
        delivered = entry.delivered()
        done = delivered | entry.superseded()
        wanted = [name for name in backup.repositories if name not in done and name in self._destinations]
        if entry.frozen() is None:
            other = self._taken(wanted, backup)
            if other is not None:
                return self._superseded(entry, backup, other, wanted)
        outcomes: dict[str, EtcdGuardError | None] = dict.fromkeys(delivered)
        progress.phase("upload", backup.stored.bytes * len(wanted))
        if begun is not None:
            begun.whole(backup.stored, progress)
        outcomes |= self._each(wanted, lambda there: self._bring(there, entry, backup, progress, begun))
        progress.done()
        frozen = entry.frozen()
        if frozen is None:
            links, unread = self._links(name for name in wanted if outcomes[name] is None)
            outcomes |= unread
        stored = [name for name in wanted if outcomes[name] is None]
        if frozen is None and stored and backup.slot is not None:
            other, failures = self._decide(stored, backup)
            outcomes |= failures
            if other is not None:
                return self._superseded(entry, backup, other, stored)
            stored = [name for name in stored if outcomes[name] is None]
        if frozen is None and stored:
            frozen = self._freeze(entry, backup, [*links, *known])
        manifest = None
        if frozen is not None:
            raw, signature = frozen
            manifest = decode_manifest(raw, backup.id)
            outcomes |= self._each(stored, lambda there: self._commit(there, entry, backup, raw, signature))
            for name in entry.superseded() & outcomes.keys():
                del outcomes[name]
        self._log_outcomes(backup.id, outcomes)
        delivery = Delivery(backup.id, manifest, outcomes)
        if delivery.committed and not delivery.failed:
            entry.discard()
        return delivery

    def begin(self, backup_id: BackupId, key: str, source: GrowingObject) -> Begun:
        """Begin to upload an object that is not whole yet, to every repository; ``key`` as in manifests.

        One that could not be reached in this run is left out.
        """
        uploads = {
            name: partial(self._upload, there, key, source)
            for name, there in self._destinations.items()
            if name not in self._unreachable
        }
        return Begun(backup_id, source, uploads)

    def forget(self, key: str) -> None:
        """Abort what a run that died had begun to upload to that key of the stores, wherever in reach."""

        def abort(there: Destination) -> None:
            abort_orphans(there.janitor, key, key, self._clock.now())

        for name, error in self._each(list(self._destinations), abort).items():
            if error is not None:  # after a day any run takes it for abandoned
                _log.info("upload.abort_failed", repository=name, key=key, error=error.message)

    def _each(
        self, names: Sequence[str], step: Callable[[Destination], None]
    ) -> dict[str, EtcdGuardError | None]:
        def attempt(name: str) -> EtcdGuardError | None:
            if name in self._unreachable:
                return self._unreachable[name]
            try:
                step(self._destinations[name])
            except StoreUnavailable as error:
                self._unreachable[name] = error
                return error
            except (RepositoryError, Corruption) as error:
                return error
            return None

        if not names:
            return {}
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(attempt, names), strict=True))

    def _bring(
        self,
        there: Destination,
        entry: SpoolEntry,
        backup: SpooledBackup,
        progress: Progress,
        begun: Begun | None,
    ) -> None:
        if begun is not None and there.name in begun:
            return begun.finish(there.name)
        frozen = entry.frozen()
        if frozen is not None and _holds(
            there.catalog.store, there.catalog.layout.manifest(backup.id), frozen[0]
        ):
            return None  # committed by a run that died before it noted so: never touched again
        source = GrowingObject(entry.object_path, backup.stored)
        return self._upload(there, backup.stored.key, source, progress)

    def _upload(self, there: Destination, key: str, source: GrowingObject, progress: Progress) -> None:
        layout = there.catalog.layout
        absolute = layout.absolute(key)
        abort_orphans(there.janitor, layout.folder, absolute, self._clock.now())
        upload_object(there.catalog.store, absolute, source, progress)

    def _links(self, names: Iterable[str]) -> tuple[list[Link], dict[str, EtcdGuardError]]:
        """The chain as the repositories in reach know it; one that cannot be read is not committed to."""
        links: list[Link] = []
        failures: dict[str, EtcdGuardError] = {}
        for name in names:
            try:
                links.extend(self._destinations[name].catalog.links())
            except RepositoryError as error:
                failures[name] = error
        return links, failures

    def _freeze(
        self, entry: SpoolEntry, backup: SpooledBackup, links: Iterable[Link]
    ) -> tuple[bytes, bytes | None]:
        """Fix the manifest behind the end of the chain, before any repository sees it."""
        position = next_position(links, backup.cluster.cluster_id)
        manifest = Manifest(
            format=FORMAT,
            id=backup.id,
            sequence=position.sequence,
            epoch=position.epoch,
            previous=position.previous,
            created_at=backup.created_at,
            finished_at=self._clock.now(),
            tool=self._tool,
            node=self._node,
            cluster=backup.cluster,
            members=backup.members,
            snapshot=backup.snapshot,
            hash_kv=backup.hash_kv,
            objects=(backup.stored,),
            compression=backup.compression,
            encryption=backup.encryption,
            slot=backup.slot,
        )
        raw = encode_manifest(manifest)
        signature = None if self._signer is None else self._signer.sign(raw)
        entry.freeze(raw, signature)
        entry.remember(backup.cluster.name, raw)
        return raw, signature

    def _commit(
        self,
        there: Destination,
        entry: SpoolEntry,
        backup: SpooledBackup,
        raw: bytes,
        signature: bytes | None,
    ) -> None:
        if backup.slot is not None and (first := self._claim(there, backup)) != backup.id:
            # Two nodes took this slot at once, and each reached a repository that the other did not.
            _log.warning(
                "backup.superseded", backup=backup.id, repository=there.name, slot=backup.slot, by=first
            )
            entry.mark_superseded(there.name)
            self._remove(there, backup)
            return
        there.catalog.commit(backup.id, raw, signature)
        self._announce(there, decode_manifest(raw, backup.id), raw)
        entry.mark_delivered(there.name)

    def _announce(self, there: Destination, manifest: Manifest, raw: bytes) -> None:
        """Tell the trail, which remembers the backup when it is long deleted, and whatever deleted it.

        Before the entry counts as delivered: a crash in between tells it twice, never not at all.
        """
        if self._signer is None:
            return  # an unsigned event would be believed by nobody
        there.catalog.trail.record(
            "backup",
            {
                "id": manifest.id,
                "sequence": manifest.sequence,
                "epoch": manifest.epoch,
                "cluster_id": manifest.cluster.cluster_id,
                "revision": manifest.snapshot.revision,
                "created_at": manifest.created_at.isoformat(),
                "slot": manifest.slot,
                "db_bytes": manifest.snapshot.db_bytes,
                "stored_bytes": manifest.stored_bytes,
                "manifest_sha256": manifest_digest(raw),
                "policy": self._policy,
            },
            at=self._clock.now(),
            actor=self._node,
            signer=self._signer,
        )

    # -- the slot of the schedule that a backup was taken for ----------------------------------------------

    def _taken(self, names: Sequence[str], backup: SpooledBackup) -> str | None:
        """The other backup that has the slot in any repository in reach, before anything is uploaded."""
        slot = backup.slot
        if slot is None:
            return None
        found: dict[str, str] = {}

        def look(there: Destination) -> None:
            decision = there.catalog.ledger.decision(slot)
            if decision is not None and decision.backup != backup.id:
                found[there.name] = decision.backup

        self._each(names, look)
        return next((found[name] for name in names if name in found), None)

    def _decide(
        self, names: Sequence[str], backup: SpooledBackup
    ) -> tuple[str | None, dict[str, EtcdGuardError | None]]:
        """The first repository that answers decides: the other backup that has the slot there, or None.

        Also the errors of those that did not answer.
        """
        others: list[str] = []
        failures: dict[str, EtcdGuardError | None] = {}
        for name in names:
            failure = self._each([name], lambda there: others.append(self._claim(there, backup)))
            if failure[name] is None:
                return (None if others[0] == backup.id else others[0]), failures
            failures |= failure
        return None, failures

    def _claim(self, there: Destination, backup: SpooledBackup) -> str:
        """The backup that has the slot in that repository: this one, unless another was first."""
        assert backup.slot is not None  # noqa: S101  (asked for scheduled backups only)
        ledger = there.catalog.ledger
        return ledger.decide(backup.slot, backup.id, node=self._node, at=self._clock.now()).backup

    def _superseded(
        self, entry: SpoolEntry, backup: SpooledBackup, other: str, names: Iterable[str]
    ) -> Delivery:
        """Drop a backup whose slot another has."""
        _log.warning("backup.superseded", backup=backup.id, slot=backup.slot, by=other)
        self._each(list(names), lambda there: self._remove(there, backup))
        entry.discard()
        return Delivery(backup.id, None, {}, superseded_by=other)

    def _remove(self, there: Destination, backup: SpooledBackup) -> None:
        """Take back an object that will never have a manifest; where that is locked, nobody reads it."""
        try:
            there.catalog.store.delete(there.catalog.layout.absolute(backup.stored.key))
        except RepositoryError as error:
            _log.info("backup.object_left", backup=backup.id, repository=there.name, error=error.message)

    def _log_outcomes(self, backup_id: str, outcomes: Mapping[str, EtcdGuardError | None]) -> None:
        for name, error in outcomes.items():
            if error is None:
                _log.info("backup.delivered", backup=backup_id, repository=name)
            else:
                _log.warning("backup.delivery_failed", backup=backup_id, repository=name, error=error.message)


def _holds(store: ObjectStore, key: str, data: bytes) -> bool:
    try:
        return read_small(store, key) == data
    except ObjectNotFound:
        return False
