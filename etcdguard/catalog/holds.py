"""One hold as it stands in the store."""

from __future__ import annotations

import json
from dataclasses import dataclass

from etcdguard.catalog.layout import Layout
from etcdguard.catalog.reading import read_small
from etcdguard.errors import Corruption, ObjectNotFound
from etcdguard.storage.base import ObjectStore

__all__ = ["HOLD_FORMAT", "Hold", "read_hold"]

HOLD_FORMAT = "etcdguard-hold/1"


@dataclass(frozen=True)
class Hold:
    """Why a backup must stay. What cannot be read is None; it holds all the same."""

    id: str
    reason: str | None
    at: str | None
    """RFC 3339."""
    actor: str | None


def read_hold(store: ObjectStore, layout: Layout, key: str) -> Hold | None:
    """The hold at that key; None when it was taken off meanwhile. Raises the store's errors."""
    try:
        document = json.loads(read_small(store, key))
    except ObjectNotFound:
        return None
    except (ValueError, RecursionError, Corruption):
        document = None
    known = document if isinstance(document, dict) and document.get("format") == HOLD_FORMAT else {}
    text = {
        name: value if isinstance(value := known.get(name), str) else None
        for name in ("reason", "at", "actor")
    }
    return Hold(layout.held_id(key), **text)
