"""How a backup keeps out of the way: of other work on its node, and of maintenance.

What one that is not scheduled does about the maintenance lock: it waits for it, and never fails.
Somebody who types `backup` wants one, whatever else goes on. A defragmentation finds out about a snapshot
that is read without the lock from the member's metrics. Why the lock's key may lie in the backup itself: see
docs/adr/0009-the-maintenance-lock.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from etcdguard.errors import EtcdGuardError, Locked
from etcdguard.log import get_logger

__all__ = ["PATIENCE", "SPOOL_PATIENCE", "Gate", "maintenance", "step_back"]

_log = get_logger()

PATIENCE = 900.0

SPOOL_PATIENCE = 180.0
"""Seconds that it waits for the spool of its node; what is scheduled insists on a repository for 120."""

_NICE = 5
"""As in systemd/etcdguard-backup.service."""


def step_back() -> None:
    """Let etcd and the apiserver on this node go first; to be called before any thread is started.

    A thread has the niceness of the one that starts it.
    """
    if os.getpriority(os.PRIO_PROCESS, 0) < _NICE:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


class Gate(Protocol):
    """A lock, as ``etcd.lock.LeaseLock``."""

    def acquire(self, patience: float = 0.0) -> None:
        """Take it; raises Locked when another keeps it, another EtcdGuardError when nobody can have it."""

    def release(self) -> None:
        """Give it up; harmless when it is not held."""


@contextmanager
def maintenance(lock: Gate, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock inside, or do without after ``patience`` seconds, at once where nobody can have it.

    The log says so when it is done without.
    """
    try:
        _acquire(lock, patience)
    except Locked as error:
        _log.warning("backup.without_lock", reason=error.message, waited_seconds=patience)
    except EtcdGuardError as error:  # no quorum, no space, no right to write there
        _log.warning("backup.without_lock", reason=error.message)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: Gate, patience: float) -> None:
    try:
        lock.acquire()
    except Locked as error:
        _log.warning("backup.waiting", reason=error.message)
        lock.acquire(patience)
