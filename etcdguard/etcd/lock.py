"""A lock that lives in etcd: one key, bound to a lease that its holder keeps renewing.

The key is created by a transaction that wants it absent, so that one competitor wins; the lease takes it away
when its holder is gone. Connections, messages and login are python3-etcd3's. Its own ``Lock`` is not used: it
says nothing of a lease that ran out, and waits by a watcher that ends with a NameError on a broken stream.
So a competitor here asks again instead of watching.

A lock with a lease is advice, not a fence: whoever is paused between looking at it and acting acts without
it. What must happen only once needs a fence of its own where it happens.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol

from etcdguard.errors import EtcdGuardError, Interrupted, Locked
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.lease import LEASE_SECONDS, LeaseClient, impatient
from etcdguard.log import get_logger

__all__ = ["Holder", "LeaseLock", "LockKeys", "lock_key"]

_log = get_logger()

_RETRY_SECONDS = 1.0
"""How often a competitor with patience asks again, give or take a quarter."""


def lock_key(cluster: str, name: str) -> bytes:
    """Where the lock ``name`` of the cluster called ``cluster`` stands in etcd."""
    return f"/etcdguard/{cluster}/lock/{name}".encode()


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, in its own words."""

    owner: str
    since: str
    """RFC 3339, UTC, by the owner's clock."""

    def __str__(self) -> str:
        return f"{self.owner} (since {self.since})"


class LockKeys(Protocol):
    """What a lock asks of etcd; every call raises EtcdGuardError when nobody answers it."""

    def grant(self, seconds: int) -> tuple[int, int]:
        """A new lease: its id, and the seconds it was really given."""

    def keep_alive(self, lease: int) -> int:
        """Renew it; the seconds it has from now, 0 when it is gone."""

    def revoke(self, lease: int) -> None:
        """End it, and its keys with it; an absent one is success."""

    def claim(self, key: bytes, value: bytes, lease: int) -> bytes | None:
        """Create ``key`` under ``lease``: None if it is now ours, else what stands there."""

    def look(self, key: bytes) -> bytes | None:
        """What stands at ``key``, by a linearizable read; None when nothing does."""


class LeaseLock:
    """One lock as one holder sees it; acquire again after ``release`` or a loss.

    ``held()`` believes only what is certain: the lease counted from before its last renewal was *sent*, by a
    clock of this machine that goes on while the process is stopped or the machine sleeps. A holder who wakes
    after a pause therefore knows at once, without asking anybody, and a lock once lost never comes back.
    ``owner`` is what competitors are told.
    """

    def __init__(
        self,
        keys: LockKeys,
        key: bytes,
        owner: str,
        now: Callable[[], datetime],
        *,
        lease_seconds: int = LEASE_SECONDS,
        elapsed: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._keys = keys
        self._key = key
        self._owner = owner
        self._now = now
        self._lease_seconds = lease_seconds
        self._elapsed = elapsed
        self._guard = threading.Lock()
        self._lease: int | None = None
        self._good_until = 0.0
        self._stop = threading.Event()
        self._renewer: threading.Thread | None = None

    @classmethod
    def on(
        cls,
        options: ConnectionOptions,
        key: bytes,
        owner: str,
        now: Callable[[], datetime],
        *,
        lease_seconds: int = LEASE_SECONDS,
    ) -> LeaseLock:
        """A lock with a client of its own."""
        keys = LeaseClient(impatient(options, lease_seconds))
        return cls(keys, key, owner, now, lease_seconds=lease_seconds)

    def __enter__(self) -> LeaseLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release, and close the client where it is our own."""
        self.release()
        if isinstance(self._keys, LeaseClient):
            self._keys.close()

    def acquire(self, patience: float = 0.0, *, cancelled: threading.Event | None = None) -> None:
        """Take the lock within ``patience`` seconds; 0 asks once.

        Raises Locked when another has it, Interrupted when ``cancelled`` is set meanwhile, and what
        LockKeys raises when etcd cannot be asked: without a quorum there is no lock.
        """
        if self.held():
            return
        self.release()
        deadline = self._elapsed() + patience
        waiting = cancelled or threading.Event()
        while (other := self._attempt()) is not None:
            remaining = deadline - self._elapsed()
            if remaining <= 0:
                raise Locked(
                    f"the lock {self._key.decode()} is held by {other}",
                    hint=f"wait for it to end; a holder that is gone loses it within {self._lease_seconds} s",
                    holder=str(other),
                )
            if waiting.wait(min(remaining, _RETRY_SECONDS * random.uniform(0.75, 1.25))):  # noqa: S311
                raise Interrupted("waiting for the lock was cancelled", hint="nothing was changed")

    def held(self) -> bool:
        """Whether the lock is certainly ours at this moment."""
        return self.remaining() > 0

    def remaining(self) -> float:
        """Seconds for which it is certainly ours even if etcd is never heard of again; 0: it is not."""
        with self._guard:
            return 0.0 if self._lease is None else max(0.0, self._good_until - self._elapsed())

    def require(self) -> None:
        """Raise Locked unless ``held``."""
        if not self.held():
            raise Locked(
                f"the lock {self._key.decode()} was lost",
                hint="etcd did not renew it in time; whoever holds it now goes on, start again",
            )

    def holder(self) -> Holder | None:
        """Who holds it at this moment, as etcd knows; None when nobody does."""
        found = self._keys.look(self._key)
        return None if found is None else _read(found)

    def release(self) -> None:
        """Give it up; harmless when it is not held. What etcd is not told lapses with the lease."""
        renewer, self._renewer = self._renewer, None
        if renewer is not None:
            self._stop.set()
            renewer.join()
        with self._guard:
            lease, self._lease = self._lease, None
        if lease is not None:
            self._revoke(lease)

    def _attempt(self) -> Holder | None:
        found = self._keys.look(self._key)  # spares etcd a lease for every look
        if found is not None:
            return _read(found)
        before = self._elapsed()
        lease, seconds = self._keys.grant(self._lease_seconds)
        value = json.dumps({"owner": self._owner, "since": self._now().isoformat(timespec="seconds")})
        try:
            found = self._keys.claim(self._key, value.encode(), lease)
        except EtcdGuardError:
            self._revoke(lease)  # the claim may have been heard
            raise
        if found is not None:
            self._revoke(lease)
            return _read(found)
        with self._guard:
            self._lease, self._good_until = lease, before + seconds
        self._stop = threading.Event()
        self._renewer = threading.Thread(
            target=self._renew, args=(lease, self._stop), name="etcd-lock", daemon=True
        )
        self._renewer.start()
        _log.debug("lock.acquired", key=self._key.decode(), owner=self._owner)
        return None

    def _renew(self, lease: int, stop: threading.Event) -> None:
        pause = self._lease_seconds / 3
        while not stop.wait(pause):
            before = self._elapsed()
            try:
                seconds = self._keys.keep_alive(lease)
            except EtcdGuardError as error:
                _log.warning("lock.renewal_failed", key=self._key.decode(), error=error.message)
                seconds = None
            with self._guard:
                # Late is lost, even if etcd has kept the lease: held() has said no meanwhile.
                kept = self._elapsed() < self._good_until and seconds != 0
                if kept and seconds is not None:
                    self._good_until = before + seconds
                elif not kept:
                    self._good_until = 0.0
            if not kept:
                _log.error("lock.lost", key=self._key.decode(), owner=self._owner)
                self._revoke(lease)  # if etcd has kept it, nobody else need wait for it
                return
            pause = self._lease_seconds / (15 if seconds is None else 3)

    def _revoke(self, lease: int) -> None:
        try:
            self._keys.revoke(lease)
        except EtcdGuardError as error:
            _log.debug("lock.not_revoked", key=self._key.decode(), error=error.message)


def _read(value: bytes) -> Holder:
    try:
        told = json.loads(value)
        return Holder(str(told["owner"]), str(told["since"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return Holder("somebody who left no name", "an unknown time")
