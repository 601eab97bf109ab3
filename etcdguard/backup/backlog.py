"""What waits in the spool of one cluster: shipped oldest first, and counted in the chain while it waits."""

from __future__ import annotations

import json
from collections.abc import Callable

from etcdguard.backup.early import Begun
from etcdguard.backup.ship import Delivery, Shipper
from etcdguard.backup.spool import Spool, SpooledBackup, SpoolEntry
from etcdguard.catalog.chain import Link
from etcdguard.catalog.codec import decode_manifest
from etcdguard.errors import Corruption
from etcdguard.log import get_logger
from etcdguard.progress import Progress

__all__ = ["Backlog"]

_log = get_logger()


class Backlog:
    """The spool as one run sees it; the caller holds its lock."""

    def __init__(
        self, spool: Spool, cluster: str, shipper: Callable[[], Shipper], progress: Progress
    ) -> None:
        self._spool = spool
        self._cluster = cluster
        self._shipper = shipper
        self._progress = progress

    def ship_all(self, *, but: SpoolEntry | None = None) -> list[Delivery]:
        """Deliver complete entries of earlier runs, oldest first; discard what a crash left incomplete.

        ``but`` is this run's own entry.

        Entries of another cluster are left for its own runs: they belong into another folder. One that cannot
        be read is left for a person, and must not keep new backups from being taken.
        """
        deliveries = []
        for entry in self._spool.entries():
            if entry == but:
                continue
            try:
                backup = entry.backup()
            except Corruption as error:
                _log.error("spool.damaged", entry=entry.path.name, error=error.message, hint=error.hint)
                continue
            if backup is None:
                _log.info("spool.discarded", entry=entry.path.name)
                key = entry.upload_begun()
                if key is not None:
                    self._shipper().forget(key)
                entry.discard()
            elif backup.cluster.name == self._cluster:
                _log.info("spool.resumed", entry=entry.path.name, backup=backup.id)
                deliveries.append(self.ship(entry, backup))
            else:
                _log.warning("spool.other_cluster", entry=entry.path.name, cluster=backup.cluster.name)
        return deliveries

    def ship(self, entry: SpoolEntry, backup: SpooledBackup, begun: Begun | None = None) -> Delivery:
        """Deliver one complete entry behind everything known of the chain; ``begun`` are its uploads."""
        return self._shipper().ship(entry, backup, self._progress, known=self._known(), begun=begun)

    def _known(self) -> list[Link]:
        """Manifests of this cluster that the repositories in reach may lack: waiting, or last to leave."""
        raws = [frozen[0] for entry in self._spool.entries() if (frozen := entry.frozen()) is not None]
        last = self._spool.last(self._cluster)
        links = []
        for raw in raws if last is None else [*raws, last]:
            try:
                manifest = decode_manifest(raw, str(json.loads(raw)["id"]))
            except (Corruption, ValueError, KeyError, TypeError) as error:
                _log.error("spool.manifest_damaged", error=str(error))
                continue
            if manifest.cluster.name == self._cluster:
                links.append(Link(manifest, raw))
        return links
