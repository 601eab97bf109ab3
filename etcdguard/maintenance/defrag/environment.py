"""What a defragmentation works with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from etcdguard.clock import Clock
from etcdguard.maintenance.defrag.facts import History
from etcdguard.maintenance.defrag.plan import DefragReport, FreshBackup
from etcdguard.maintenance.defrag.survey import DefragCluster, Observer

__all__ = ["Environment", "MaintenanceLock"]


class MaintenanceLock(Protocol):
    """The one lock of the cluster's maintenance, as ``etcd.lock.LeaseLock``."""

    def acquire(self) -> None:
        """Take it; raises Locked when another has it, ClusterUnhealthy when etcd gives no leases."""

    def require(self) -> None:
        """Raise Locked when it was lost."""

    def holder(self) -> object | None:
        """Who has it."""

    def release(self) -> None:
        """Give it up."""


@dataclass(frozen=True)
class Environment:
    """What a run works with. Every call may raise EtcdGuardError."""

    cluster: DefragCluster
    lock: MaintenanceLock
    observe: Observer
    history: Callable[[str], History]
    """What earlier runs on that cluster id have left."""
    fresh_backup: Callable[[str], FreshBackup | None]
    """The newest verified backup of that cluster id that is young enough."""
    take_backup: Callable[[], FreshBackup]
    """Take one now and verify it."""
    record: Callable[[DefragReport], None]
    shield: Callable[[str, float], AbstractContextManager[None]]
    """Holds an interrupt back until the block ends, then lets it go: the member's name, and its timeout."""
    clock: Clock
    sleep: Callable[[float], None]
    tell: Callable[[str], None]
