"""The audit trail: append-only, signed events beside the backups."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

from etcdguard.catalog.events import EVENT_FORMAT, Event, believed, read_event
from etcdguard.catalog.layout import Layout
from etcdguard.catalog.reading import PARALLEL_READS
from etcdguard.catalog.standing import Standing, Verified
from etcdguard.clock import instant
from etcdguard.crypto.signing import SigningKey, TrustedSigners
from etcdguard.storage.base import ObjectStore

__all__ = ["EVENT_FORMAT", "NAMED_BEFORE", "Trail"]

NAMED_BEFORE = 16
"""So many events before it each event names: whoever takes one away must take all that came after."""

_OF_BACKUPS = ("backup", "verify", "hold", "prune")


class Trail:
    """Events of one cluster in one repository."""

    def __init__(self, store: ObjectStore, layout: Layout, trusted: TrustedSigners) -> None:
        self._store = store
        self._layout = layout
        self._trusted = trusted

    def record(
        self, kind: str, facts: Mapping[str, Any], *, at: datetime, actor: str, signer: SigningKey | None
    ) -> str:
        """Append one event, signed like a manifest when there is a key; returns its key in the store."""
        document = {
            "format": EVENT_FORMAT,
            "kind": kind,
            "at": at.isoformat(),
            "actor": actor,
            "after": self._latest(at),
            **facts,
        }
        raw = (
            json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False).encode()
            + b"\n"
        )
        key = self._layout.event(at, kind, secrets.token_hex(4))
        if signer is not None:
            self._store.put(key + ".sig", signer.sign(raw), create_only=True)
        self._store.put(key, raw, create_only=True)
        return key

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Events of one kind, oldest first.

        Left out: those without a signature we trust, those in a format we do not know, and those that do not
        stand where they were written, for a copy under a later time would be a lie.
        """
        keys = [info.key for info in self._store.list(self._layout.events)]
        wanted = [key for key in keys if self._layout.event_kind(key) == kind]
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            there = [event for event in pool.map(self.read, wanted) if event is not None]
        return [dict(event.facts) for event in believed(there)]

    def knows_backups(self) -> bool:
        """Whether a backup was ever taken, verified, held or pruned here, believed or not."""
        kinds = {self._layout.event_kind(info.key) for info in self._store.list(self._layout.events)}
        return not kinds.isdisjoint(_OF_BACKUPS)

    def standing(self) -> dict[str, Standing[Verified]]:
        """Per backup id what its verifications found."""
        found: dict[str, Standing[Verified]] = {}
        for event in self.events("verify"):
            at = instant(event["at"])
            for result in event["results"]:
                before: Standing[Verified] = found.get(result["id"], Standing())
                look = Verified(result["level"], at)
                found[result["id"]] = before.after(look, sound=result["outcome"] == "ok")
        return found

    def read(self, key: str) -> Event | None:
        """One event, believable or not; None when there is none at that key."""
        return read_event(self._store, self._layout, self._trusted, key)

    def _latest(self, at: datetime) -> list[str]:
        """The names of the newest events, looked for on that day, then in its month, its year, anywhere."""
        stamp = at.astimezone(timezone.utc).strftime("%Y%m%d")
        names: list[str] = []
        for digits in (8, 6, 4, 0):
            found = [info.key for info in self._store.list(self._layout.events + stamp[:digits])]
            names = [key.removeprefix(self._layout.events) for key in found if self._layout.event_kind(key)]
            if len(names) >= NAMED_BEFORE:
                break
        return names[-NAMED_BEFORE:]
