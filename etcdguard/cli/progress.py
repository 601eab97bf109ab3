"""Progress for whoever watches: a bar on a terminal, else a log line now and then."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from etcdguard.log import get_logger
from etcdguard.progress import Progress

__all__ = ["LogProgress", "watch"]

LOG_EVERY = 30.0
"""Seconds between log lines."""


class LogProgress:
    """Logs ``progress`` every 30 s of a phase, nothing for a shorter one. ``clock``: monotonic seconds."""

    def __init__(self, clock: Callable[[], float], every: float = LOG_EVERY) -> None:
        self._clock = clock
        self._every = every
        self._lock = threading.Lock()
        self._log = get_logger()
        self.phase("", None)

    def phase(self, name: str, total_bytes: int | None) -> None:
        """See Progress."""
        with self._lock:
            self._name, self._total, self._count = name, total_bytes, 0
            self._began = self._logged = self._clock()

    def advance(self, count: int) -> None:
        """See Progress."""
        with self._lock:
            self._count += count
            now = self._clock()
            if now - self._logged >= self._every:
                self._logged = now
                self._log.info("progress", **self._facts(now))

    def done(self) -> None:
        """See Progress."""

    def _facts(self, now: float) -> dict[str, str | int]:
        facts: dict[str, str | int] = {"phase": self._name, "bytes": self._count}
        if self._total:
            facts |= {"total_bytes": self._total, "percent": min(100, 100 * self._count // self._total)}
        return facts | {"bytes_per_second": round(self._count / (now - self._began))}


@contextmanager
def watch(*, bar: bool, clock: Callable[[], float]) -> Iterator[Progress]:
    """A sink for the time of a command; the terminal is as it was afterwards, whatever happened."""
    progress = _bar() if bar else LogProgress(clock)
    try:
        yield progress
    finally:
        progress.done()


def _bar() -> Progress:
    from etcdguard.cli.bars import BarProgress

    return BarProgress()
