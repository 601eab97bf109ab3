"""What a backup that is not scheduled does about the maintenance lock: it waits while another holds it.

It does not take the lock itself, which would write into the cluster it is about to back up. A defragmentation
finds out about a snapshot that is being read from the member's metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from etcdguard.clock import Clock
from etcdguard.errors import EtcdGuardError
from etcdguard.log import get_logger

__all__ = ["PATIENCE", "Visible", "await_maintenance"]

_log = get_logger()

PATIENCE = 900.0
_POLL = 1.0


class Visible(Protocol):
    """The part of a lock that is needed here."""

    def holder(self) -> object | None:
        """Who holds it; None when nobody does. Raises EtcdGuardError when etcd cannot be asked."""


def await_maintenance(
    lock: Visible, clock: Clock, sleep: Callable[[float], None], patience: float = PATIENCE
) -> None:
    """Return once nobody holds the lock, after ``patience`` seconds, or at once when that cannot be known.

    A backup never fails for want of it; the log says when it went on regardless.
    """
    deadline = clock.monotonic() + patience
    told = False
    while True:
        try:
            holder = lock.holder()
        except EtcdGuardError as error:
            _log.warning("backup.lock_unknown", error=error.message)
            return
        if holder is None:
            return
        if clock.monotonic() >= deadline:
            _log.warning("backup.without_lock", holder=str(holder), waited_seconds=patience)
            return
        if not told:
            _log.warning("backup.waiting", reason="the maintenance lock is held", holder=str(holder))
            told = True
        sleep(_POLL)
