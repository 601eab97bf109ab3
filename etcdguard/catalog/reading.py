"""Reading the small objects of a repository: whole, but never more than a bound."""

from __future__ import annotations

from etcdguard.errors import Corruption
from etcdguard.storage.base import ObjectStore

__all__ = ["MAX_SMALL_OBJECT", "PARALLEL_READS", "read_small"]

MAX_SMALL_OBJECT = 1024 * 1024
PARALLEL_READS = 16


def read_small(store: ObjectStore, key: str) -> bytes:
    """The whole object; raises Corruption above 1 MiB, so that a hostile store cannot fill our memory."""
    pieces, size = [], 0
    for piece in store.get(key, length=MAX_SMALL_OBJECT + 1):
        size += len(piece)
        if size > MAX_SMALL_OBJECT:
            raise Corruption(f"{key} is larger than any manifest", hint="restore from another backup")
        pieces.append(piece)
    return b"".join(pieces)
