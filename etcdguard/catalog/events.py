"""One event of the audit trail as it stands in the store, and whether it can be believed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from etcdguard.catalog.layout import Layout
from etcdguard.catalog.reading import read_small
from etcdguard.clock import instant
from etcdguard.crypto.signing import TrustedSigners
from etcdguard.errors import Corruption, ObjectNotFound
from etcdguard.storage.base import ObjectStore

__all__ = ["EVENT_FORMAT", "Event", "EventTrust", "believed", "read_event"]

EVENT_FORMAT = "etcdguard-event/1"

EventTrust = Literal["valid", "missing", "invalid", "displaced", "newer"]
"""``missing``: no signature; ``invalid``: by nobody we trust, or changed; ``displaced``: signed, but not what
was written there; ``newer``: in a format of a later version."""


@dataclass(frozen=True)
class Event:
    """``facts`` is the whole document; empty unless ``trust`` is ``valid``."""

    key: str
    trust: EventTrust
    signer: str | None = None
    """Fingerprint of the trusted signer."""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def at(self) -> datetime:
        """When it was written, by its writer's clock; only of a valid one."""
        return instant(self.facts["at"])

    @property
    def name(self) -> str:
        """Its file name, which later events know it by."""
        return self.key.rpartition("/")[2]


def believed(events: Iterable[Event]) -> list[Event]:
    """The valid ones, oldest first: by the moment within them, for keys tell no more than the second."""
    return sorted((one for one in events if one.trust == "valid"), key=lambda one: (one.at, one.key))


def read_event(store: ObjectStore, layout: Layout, trusted: TrustedSigners, key: str) -> Event | None:
    """The event at that key; None when it was deleted meanwhile. Raises the store's errors.

    A copy under a later time would be a lie: what does not stand where it was written is ``displaced``.
    """
    try:
        raw = read_small(store, key)
    except ObjectNotFound:
        return None
    except Corruption:  # larger than anything we wrote
        return Event(key, "invalid")
    try:
        signature = read_small(store, key + ".sig")
    except ObjectNotFound:
        return Event(key, "missing")
    except Corruption:
        return Event(key, "invalid")
    signer = trusted.check(raw, signature)
    if signer is None:
        return Event(key, "invalid")
    document: dict[str, Any] = json.loads(raw)
    if document["format"] != EVENT_FORMAT:
        return Event(key, "newer", signer)
    stem = layout.event_stem(instant(document["at"]), document["kind"])
    if not key.startswith(stem):
        return Event(key, "displaced", signer)
    return Event(key, "valid", signer, document)
