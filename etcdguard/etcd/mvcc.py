"""etcd's own records inside bbolt: revision keys, the meta bucket, and what a store's revision is."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from etcdguard.etcd.bolt import BoltError

__all__ = ["StoreFacts", "main_revision", "revision_key_size", "store_facts"]

_U64 = struct.Struct(">Q")
_SEPARATOR = 0x5F
_KEY, _TOMBSTONE = 17, 18
NEVER_COMPACTED = -1


@dataclass(frozen=True)
class StoreFacts:
    """A store as etcd would report it after opening this database.

    ``compact_revision`` is -1 when never compacted.
    """

    revision: int
    compact_revision: int
    consistent_index: int
    storage_version: str | None


def revision_key_size(data: bytes, at: int, size: int) -> bool:
    """Whether ``size`` bytes at ``at`` have a revision key's shape: 8 bytes, ``_``, 8 bytes, maybe ``t``."""
    return size in (_KEY, _TOMBSTONE) and data[at + 8] == _SEPARATOR


def main_revision(data: bytes, at: int) -> int:
    """The main revision of the revision key at ``at``."""
    revision: int = _U64.unpack_from(data, at)[0]
    return revision


def store_facts(meta: Mapping[bytes, bytes], newest_key: int) -> StoreFacts:
    """What etcd derives on opening: a scheduled compaction counts; the revision is at least that, and 1."""
    compacted = max(_compaction(meta, b"finishedCompactRev"), _compaction(meta, b"scheduledCompactRev"))
    version = meta.get(b"storageVersion")
    return StoreFacts(
        revision=max(newest_key, compacted, 1),
        compact_revision=compacted,
        consistent_index=_number(meta, b"consistent_index"),
        storage_version=None if version is None else version.decode("ascii", "backslashreplace"),
    )


def _number(meta: Mapping[bytes, bytes], name: bytes) -> int:
    value = meta.get(name)
    if value is None:
        return 0
    if len(value) != _U64.size:
        raise BoltError(f"{name.decode()} has {len(value)} bytes instead of 8")
    return main_revision(value, 0)


def _compaction(meta: Mapping[bytes, bytes], name: bytes) -> int:
    value = meta.get(name)
    if value is None:
        return NEVER_COMPACTED
    if len(value) < _KEY:
        raise BoltError(f"{name.decode()} is not a revision")
    return main_revision(value, 0)
