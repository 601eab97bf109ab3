"""Which backup a slot of the schedule belongs to: one create-only object a slot.

It is written when a backup is whole and all its bytes are in the repository, right before its manifest. So a
repository has at most one backup of a slot, whoever made it and however many made one: the second to ask is
told who was first. A slot that passed without a backup gets a record of its own, which decides nothing: what
waits in some node's spool may still come.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from etcdguard.catalog.layout import Layout
from etcdguard.catalog.reading import read_small
from etcdguard.errors import Corruption, ObjectExists, ObjectNotFound
from etcdguard.slots import slot_id
from etcdguard.storage.base import ObjectStore

__all__ = ["Decision", "Ledger", "SLOT_FORMAT"]

SLOT_FORMAT: Final = "etcdguard-slot/1"


@dataclass(frozen=True)
class Decision:
    """The backup a slot belongs to, and the node that took it."""

    slot: str
    backup: str
    node: str


class Ledger:
    """The slots of one cluster in one repository."""

    def __init__(self, store: ObjectStore, layout: Layout) -> None:
        self._store = store
        self._layout = layout

    def decision(self, slot: str) -> Decision | None:
        """Who has that slot; None when nobody has."""
        try:
            raw = read_small(self._store, self._layout.slot(slot))
        except ObjectNotFound:
            return None
        try:
            document = json.loads(raw)
            return Decision(slot, str(document["backup"]), str(document["node"]))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise Corruption(
                f"repository {self._store.name}: the record of slot {slot} is unreadable",
                hint="delete it if no backup names this slot; 'etcdguard list' shows the backups",
            ) from error

    def decide(self, slot: str, backup: str, *, node: str, at: datetime) -> Decision:
        """Claim the slot for that backup, and return who has it. Repeating it is harmless."""
        try:
            self._store.put(
                self._layout.slot(slot), _encoded(slot, node, at, backup=backup), create_only=True
            )
        except ObjectExists:
            found = self.decision(slot)
            if found is not None:
                return found
            raise
        return Decision(slot, backup, node)

    def known(self, since: datetime, until: datetime) -> tuple[set[str], set[str]]:
        """The slots between these days that are decided, and those recorded as missed."""
        decided: set[str] = set()
        missed: set[str] = set()
        for prefix in self._days(since, until):
            for info in self._store.list(prefix):
                slot, is_missed = self._layout.slot_of(info.key)
                (missed if is_missed else decided).add(slot)
        return decided, missed

    def record_missed(self, slot: str, reason: str, *, node: str, at: datetime) -> None:
        """Say why a slot that has passed had no backup; the first reason stays."""
        document = _encoded(slot, node, at, missed=reason)
        try:
            self._store.put(self._layout.missed(slot), document, create_only=True)
        except ObjectExists:
            return  # another node has said so

    def why_missed(self, slot: str) -> str | None:
        """The reason on record; None where there is no record, or none that can be read."""
        try:
            return str(json.loads(read_small(self._store, self._layout.missed(slot)))["missed"])
        except (ObjectNotFound, Corruption, ValueError, TypeError, KeyError, RecursionError):
            return None

    def before(self, moment: datetime) -> list[str]:
        """The keys of every record of a slot before that moment."""
        newest = slot_id(moment)
        found = [info.key for info in self._store.list(self._layout.slots)]
        return [key for key in found if self._layout.slot_of(key)[0] < newest]

    def _days(self, since: datetime, until: datetime) -> Iterable[str]:
        day = since
        while day.date() <= until.date():
            yield self._layout.slots + slot_id(day)[:8]
            day += timedelta(days=1)


def _encoded(slot: str, node: str, at: datetime, **facts: str) -> bytes:
    document: dict[str, Any] = {
        "format": SLOT_FORMAT,
        "slot": slot,
        "node": node,
        "at": at.isoformat(),
        **facts,
    }
    return json.dumps(document, sort_keys=True, indent=2).encode() + b"\n"
