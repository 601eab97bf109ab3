"""Holds: an object whose mere presence forbids deleting a backup, in every repository that has it."""

from __future__ import annotations

import json
from datetime import datetime

from etcdguard.catalog import Catalog
from etcdguard.catalog.holds import HOLD_FORMAT, Hold, read_hold
from etcdguard.crypto.signing import SigningKey
from etcdguard.errors import ObjectExists, ObjectNotFound

__all__ = ["Keeper"]


class Keeper:
    """The holds of one cluster in one repository. Changes are told in its audit trail."""

    def __init__(self, catalog: Catalog, signer: SigningKey | None) -> None:
        self._catalog = catalog
        self._signer = signer

    def add(self, backup_id: str, reason: str, *, at: datetime, actor: str) -> bool:
        """Hold a backup; False if it is held already, which is left as it stands.

        Raises UsageError for what is no id and ObjectNotFound for a backup that is not there.
        """
        self._catalog.get(backup_id)
        document = {
            "format": HOLD_FORMAT,
            "id": backup_id,
            "reason": reason,
            "at": at.isoformat(),
            "actor": actor,
        }
        raw = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False).encode() + b"\n"
        try:
            self._catalog.store.put(self._catalog.layout.hold(backup_id), raw, create_only=True)
        except ObjectExists:
            return False
        self._record("added", backup_id, reason, at, actor)
        return True

    def remove(self, backup_id: str, reason: str, *, at: datetime, actor: str) -> bool:
        """Let go of a backup; False if nothing held it. The trail is told first: no hold goes unnoticed."""
        key = self._catalog.layout.hold(backup_id)
        try:
            self._catalog.store.head(key)
        except ObjectNotFound:
            return False
        self._record("removed", backup_id, reason, at, actor)
        self._catalog.store.delete(key)
        return True

    def list(self) -> list[Hold]:
        """Every hold, also of a backup that is not there (any more), by id."""
        layout, store = self._catalog.layout, self._catalog.store
        found = (read_hold(store, layout, info.key) for info in store.list(layout.holds))
        return [hold for hold in found if hold is not None]

    def _record(self, change: str, backup_id: str, reason: str, at: datetime, actor: str) -> None:
        facts = {"change": change, "id": backup_id, "reason": reason}
        self._catalog.trail.record("hold", facts, at=at, actor=actor, signer=self._signer)
