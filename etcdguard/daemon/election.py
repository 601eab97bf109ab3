"""Which of the daemons acts: the one that holds a lock in etcd."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from etcdguard.daemon.state import Role
from etcdguard.errors import EtcdGuardError, Locked
from etcdguard.log import get_logger

__all__ = ["Alone", "Election", "EtcdElection", "Marks"]

_log = get_logger()

_LEADER_POLL = 0.5
_OTHER_POLL = 3.0


class Election(Protocol):
    """Who acts. Nothing here blocks."""

    def role(self) -> Role:
        """What we are at this moment."""

    def holder(self) -> str | None:
        """Who leads, where that is known."""

    def problem(self) -> str | None:
        """Why no lock can be had; None when it can."""

    def done(self, job: str) -> str | None:
        """The newest slot of a job that any leader finished, as known when we became leader."""

    def mark_done(self, job: str, slot: str) -> None:
        """Let the next leader know."""

    def close(self) -> None:
        """Give the lock up, so that another need not wait for its end."""


class Alone:
    """No election: every daemon acts (``daemon.election: false``)."""

    def __init__(self) -> None:
        self._done: dict[str, str] = {}

    def role(self) -> Role:
        """See Election."""
        return "leader"

    def holder(self) -> str | None:
        """See Election."""
        return None

    def problem(self) -> str | None:
        """See Election."""
        return None

    def done(self, job: str) -> str | None:
        """See Election."""
        return self._done.get(job)

    def mark_done(self, job: str, slot: str) -> None:
        """See Election."""
        self._done[job] = slot

    def close(self) -> None:
        """See Election."""


class _Lock(Protocol):
    def acquire(self, patience: float = 0.0) -> None: ...
    def held(self) -> bool: ...
    def close(self) -> None: ...


class Marks(Protocol):
    """What leaders leave each other, in etcd."""

    def read(self, job: str) -> str | None:
        """The newest slot of that job that was finished."""

    def write(self, job: str, slot: str) -> None:
        """Remember it."""

    def close(self) -> None:
        """Close the connection."""


class EtcdElection:
    """Tries for the lock in a thread of its own, for as long as it lives."""

    def __init__(self, lock: Callable[[], _Lock], marks: Marks, jobs: Sequence[str]) -> None:
        self._make = lock
        self._marks = marks
        self._jobs = tuple(jobs)
        self._guard = threading.Lock()
        self._lock: _Lock | None = None
        self._leading = False
        self._holder: str | None = None
        self._problem: str | None = None  # a standby, until etcd was asked
        self._done: dict[str, str] = {}
        self._unwritten: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="election", daemon=True)
        self._thread.start()

    def role(self) -> Role:
        """See Election."""
        with self._guard:
            if self._leading and self._lock is not None and self._lock.held():
                return "leader"
            return "standby" if self._problem is None else "no_lock"

    def holder(self) -> str | None:
        """See Election."""
        with self._guard:
            return self._holder

    def problem(self) -> str | None:
        """See Election."""
        with self._guard:
            return self._problem

    def done(self, job: str) -> str | None:
        """See Election."""
        with self._guard:
            return self._done.get(job)

    def mark_done(self, job: str, slot: str) -> None:
        """See Election."""
        with self._guard:
            self._done[job] = self._unwritten[job] = slot

    def close(self) -> None:
        """See Election."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._once()
            pause = _LEADER_POLL if self.role() == "leader" else _OTHER_POLL
            self._stop.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311
        self._write_marks()
        if self._lock is not None:
            self._lock.close()
        self._marks.close()

    def _once(self) -> None:
        try:
            if self._lock is None:
                self._lock = self._make()
            if self._leading and self._lock.held():
                self._write_marks()
                return
            with self._guard:
                self._leading, self._holder = False, None
            self._lock.acquire()
            done = {job: slot for job in self._jobs if (slot := self._marks.read(job)) is not None}
            with self._guard:
                self._done |= done
                self._leading, self._problem, self._holder = True, None, "this daemon"
        except Locked as error:
            with self._guard:
                self._problem, self._holder = None, error.holder
        except EtcdGuardError as error:
            with self._guard:
                self._problem = error.message
        except Exception as error:  # noqa: BLE001 - a thread that dies would leave a standby for ever
            _log.exception("election.failed")
            with self._guard:
                self._problem = f"internal: {type(error).__name__}: {error}"

    def _write_marks(self) -> None:
        with self._guard:
            unwritten, self._unwritten = self._unwritten, {}
        for job, slot in unwritten.items():
            try:
                self._marks.write(job, slot)
            except EtcdGuardError as error:
                # The next leader may do once more what is done; the backup is fenced by its repository.
                _log.warning("election.mark_failed", job=job, slot=slot, error=error.message)
