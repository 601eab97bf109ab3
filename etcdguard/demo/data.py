"""The data of the demo: a history with revisions, deletes, a lease and a compaction in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from etcdguard.demo.gateway import Gateway, Lease, StoredKey

__all__ = ["PREFIX", "Contents", "History", "read_contents", "write_history", "write_late"]

PREFIX = "/demo/"
"""Not /registry/: that would make it a Kubernetes cluster, whose revisions a restore bumps."""

_ITEMS = 200
_LEASE_SECONDS = 3600


@dataclass(frozen=True)
class History:
    """What was written, and the revision after it."""

    deleted: tuple[str, ...]
    lease_id: int
    compacted_at: int
    revision: int


@dataclass(frozen=True)
class Contents:
    """What a cluster holds below the demo's prefix."""

    keys: Mapping[str, StoredKey]
    lease: Lease


def write_history(gateway: Gateway) -> History:
    """Write every key, then some again, delete some, attach a lease to some, compact, and write once more."""
    names = [f"{PREFIX}settings/{number:03d}" for number in range(_ITEMS)]
    for name in names:
        gateway.put(name, f"first value of {name}")
    for name in names[1::2]:
        compacted_at = gateway.put(name, f"second value of {name}")
    deleted = tuple(names[::12])
    for name in deleted:
        gateway.delete(name)
    lease_id = gateway.grant(_LEASE_SECONDS)
    for number in range(3):
        gateway.put(f"{PREFIX}holders/{number}", f"alive as long as lease {lease_id:x}", lease_id)
    gateway.compact(compacted_at)
    for name in names[1::3]:
        revision = gateway.put(name, f"third value of {name}")
    return History(deleted, lease_id, compacted_at, revision)


def write_late(gateway: Gateway) -> str:
    """Write one key more, which no earlier backup can bring back; returns its name."""
    name = f"{PREFIX}too-late"
    gateway.put(name, "written after the backup")
    return name


def read_contents(gateway: Gateway, lease_id: int) -> Contents:
    """Everything below the prefix, and the lease."""
    return Contents(gateway.keys(PREFIX), gateway.lease(lease_id))
