"""A process that dies at its n-th step, wherever that is: a storage operation or a step on the local disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest

from etcdguard.storage.base import ObjectInfo, RepositoryStore
from tests.support.faulty_store import FaultyStore, Operation, Rule, SimulatedCrash

__all__ = ["CrashingStore", "Fuse", "count_disk_steps"]

T = TypeVar("T")


class Fuse:
    """Counts the steps of one process; at step ``limit`` (from 1) the process dies, and stays dead.

    It dies ``before`` the step happens, or ``after`` it happened and before the process learns of it.
    ``limit`` None counts only.
    """

    def __init__(self, limit: int | None = None, when: Literal["before", "after"] = "before") -> None:
        self.steps = 0
        self.burnt = False
        self._limit = limit
        self._when = when
        self._lock = threading.RLock()  # one step may be made of others

    def step(self, action: Callable[[], T]) -> T:
        """Do one step, unless it is the last."""
        with self._lock:
            self._die_if(self.burnt)
            self.steps += 1
            last = self.steps == self._limit
            self._die_if(last and self._when == "before")
            result = action()
            self._die_if(last)
            return result

    def _die_if(self, condition: bool) -> None:
        if condition:
            self.burnt = True
            raise SimulatedCrash(f"at step {self.steps}, {self._when}")


class CrashingStore(FaultyStore):
    """A store whose every operation is a step of the process that ``fuse`` belongs to."""

    def __init__(self, inner: RepositoryStore, fuse: Fuse, script: tuple[Rule, ...] = ()) -> None:
        super().__init__(inner, script)
        self._fuse = fuse

    def perform(self, operation: Operation, key: str, action: Callable[[], T]) -> T:
        """See FaultyStore."""
        return self._fuse.step(lambda: super(CrashingStore, self).perform(operation, key, action))

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See ObjectStore."""
        body = super().get(key, offset=offset, length=length)
        yield from self._fuse.step(lambda: list(body))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        listing = super().list(prefix)
        yield from self._fuse.step(lambda: tuple(listing))


def count_disk_steps(patch: pytest.MonkeyPatch, fuse: Fuse) -> None:
    """Make every step that changes what is durably on the local disk a step of ``fuse``."""

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **options: fuse.step(lambda: original(*args, **options))

    steps = (
        (os, "fsync"),
        (os, "unlink"),
        (os, "rmdir"),
        (Path, "replace"),
        (Path, "unlink"),
        (Path, "mkdir"),
    )
    for owner, name in steps:
        patch.setattr(owner, name, wrapped(getattr(owner, name)))
