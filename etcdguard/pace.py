"""Reading no faster than wished, over all threads together, and not at all once it is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Pace", "Stopped"]


class Stopped(Exception):
    """Whoever is in the midst of something shall leave off."""


class Pace:
    """At most ``rate`` bytes a second (None: as fast as it goes). ``wait`` and ``clock`` are for tests.

    After ``stop`` every ``take`` raises Stopped, also one that waits.
    """

    def __init__(
        self,
        rate: int | None = None,
        *,
        wait: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._over = threading.Event()
        self._wait = wait or self._over.wait
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, count: int) -> None:
        """Account for so many bytes; returns when their turn has come."""
        if self._rate is not None:
            with self._lock:
                now = self._clock()
                turn = max(now, self._free_at)
                self._free_at = turn + count / self._rate
            if turn > now:
                self._wait(turn - now)
        if self._over.is_set():
            raise Stopped

    def stop(self) -> None:
        """Nobody goes on."""
        self._over.set()
